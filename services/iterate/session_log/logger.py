"""``SessionLogger``: the only writer of the session log. One row for every session that began, however it ended.

What a session does with it, all on the event loop::

    session = logger.begin(begun)            # in the kernel's hands when it returns, before the first model call
    session.attempt_finished(attempt)        # after each attempt
    handover = session.hand_over(record)     # in a `finally`, before any await there: no cancellation cuts it short
    await handover.written()                 # before the answer leaves; at most `append_wait_ms`

The order of the writes is what makes a SIGKILL between any two instructions harmless: beginning (journal), attempts
(journal), the whole row (journal), the row (log), the mark that it stands (journal). Killed before the third, the
session gets a PROCESS_DIED row, and no answer had left; after it, its own row, once.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from iterate.session_log.config import SessionLogConfig
from iterate.session_log.counts import MinuteWarning, SessionLogCounts, errno_name
from iterate.session_log.handover import Handover, HandoverOutcome
from iterate.session_log.journal import Journal, JournalEntry
from iterate.session_log.sweep import OnRecovered, ignore_recovered, sweep
from iterate.session_log.writer import Fate, LogWriter, QueuedRow
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import ErrorRecord, SessionAttemptRecord, SessionRecord
from lakehouse.sessions.row import encode_attempt, encode_row

__all__ = [
    "Handover",
    "HandoverOutcome",
    "OpenSession",
    "SessionLogConfig",
    "SessionLogUnavailable",
    "SessionLogger",
]

# Journal and log stand on one disk: these say that it takes neither.
_DISK_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
# Rows that the full queue dropped stay in the journal, for the sweep after this process's end, up to so many bytes.
_PARKED_BYTES_MAX: Final = 64 * 1024 * 1024
# A first sweep that takes longer goes on beside the traffic.
_START_WAIT_S: Final = 10.0

_log = structlog.get_logger(__name__)


class SessionLogUnavailable(Exception):  # noqa: N818  the reason's name in the contract
    """Guarantee ``strict``: the session cannot begin, since its row could not be written."""


class OpenSession:
    """One session between its beginning and its hand-over. No method raises or waits for a disk that refuses."""

    __slots__ = ("_begun", "_entry", "_handover", "_logger")

    def __init__(self, logger: SessionLogger, begun: SessionRecord, entry: JournalEntry | None) -> None:
        self._logger = logger
        self._begun = begun
        self._entry = entry
        self._handover: Handover | None = None

    def attempt_finished(self, attempt: SessionAttemptRecord) -> None:
        """Writes the attempt into the journal, for the row of a killed session."""
        if self._entry is not None and self._handover is None:
            self._logger._journal_attempt(self._entry, attempt)  # noqa: SLF001  two halves of one object

    def hand_over(self, record: SessionRecord) -> Handover:
        """Hands the session's row over: the record that it began with, and what is known now in place of what was not.
        A second call changes nothing and returns the first one's result."""
        if self._handover is None:
            self._handover = self._logger._hand_over(self._begun, self._entry, record)  # noqa: SLF001  as above
        return self._handover


class SessionLogger:
    """See the module. One per process; everything but ``counts`` belongs to the event loop of ``start``."""

    def __init__(
        self,
        config: SessionLogConfig,
        *,
        counts: SessionLogCounts | None = None,
        on_recovered: OnRecovered = ignore_recovered,
        monotonic: Callable[[], float] = time.monotonic,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.config = config
        self._counts = counts or SessionLogCounts()
        self._warning = MinuteWarning(monotonic=monotonic)
        self._unix_ns = unix_ns
        self._on_recovered = on_recovered
        self._append_wait_s = config.append_wait_ms / 1000
        self._sessions_open = 0
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: LogWriter | None = None
        self._journal: Journal | None = None
        self._sweeper: threading.Thread | None = None
        if config.session_log_path:
            self._writer = LogWriter(
                config.session_log_path,
                fsync=config.fsync,
                fsync_interval_s=config.fsync_interval_ms / 1000,
                queue_rows_max=config.queue_rows_max,
                queue_bytes_max=config.queue_bytes_max,
                counts=self._counts,
                warning=self._warning,
            )
            if config.journal:
                self._journal = Journal(config.session_log_path)

    @property
    def strict(self) -> bool:
        """Guarantee ``strict``: an answer whose row is not ``written`` must not leave."""
        return self.config.session_log_guarantee == "strict"

    async def start(self) -> None:
        """Opens log and journal, recovers dead processes' sessions, and starts the two threads. Never fails for a
        missing folder, a permission or a disk: it warns, and rows flow when the cause is gone."""
        self._loop = asyncio.get_running_loop()
        if self._writer is None:
            return
        ready = self._loop.create_future()
        self._writer.start()
        self._sweeper = threading.Thread(
            target=self._sweep_now_and_then, args=(ready,), name="session-log-sweeper", daemon=True
        )
        self._sweeper.start()
        await asyncio.wait((ready,), timeout=_START_WAIT_S)

    def begin(self, begun: SessionRecord, *, parent_span_id: str | None = None) -> OpenSession:
        """Writes the beginning into the journal; it is in the kernel's hands when this returns.

        ``begun`` is the row to write if the process died now: ``infra_error`` by ``PROCESS_DIED``, with the beginning
        as its timestamp, no attempts and a duration of 0. ``parent_span_id`` is the caller's span, for its trace.

        Raises SessionLogUnavailable in ``strict`` alone, when the log is known not to take rows now, or when the disk
        that it shares with the journal did not take the beginning.
        """
        entry = None
        if self._writer is not None:
            if self.strict and self._writer.failing:
                raise SessionLogUnavailable("the session log does not take rows now")
            if self._journal is not None:
                try:
                    entry = self._journal.begin(encode_row(begun), self._writer.log.position(), parent_span_id)
                except OSError as error:
                    self._journal_refused(error)
                    if self.strict and error.errno in _DISK_ERRNOS:
                        raise SessionLogUnavailable("the session log's disk takes nothing now") from error
                except ValueError:
                    self._unencodable("session_log_beginning_unencodable", begun.session_id)
        self._sessions_open += 1
        return OpenSession(self, begun, entry)

    async def close(self) -> None:
        """Writes the queued rows within ``log_drain_ms``, fsyncs as configured, and removes the journal if every
        session has its row; what is left in it is for the next process's sweep. Idempotent."""
        writer = self._writer
        if writer is None or self._loop is None or self._stopping.is_set():
            return
        self._stopping.set()
        drained = self._loop.create_future()
        writer.close(self.config.log_drain_ms / 1000, lambda: self._on_loop(_resolve, drained))
        # The last fsync may outlast the drain; it is the disk's, and the process does not wait for it.
        await asyncio.wait((drained,), timeout=self.config.log_drain_ms / 1000 + 0.5)
        # A thread that hangs in a write may still append: as long as it lives, the journal must stay locked, or a
        # sibling would append the same row.
        if drained.done() and self._journal is not None:
            self._journal.close()

    def counts(self) -> dict[str, int]:
        """Returns the counters and gauges of ``counts`` at this moment; from any thread."""
        writer, journal = self._writer, self._journal
        return {
            **self._counts.snapshot(),
            "rows_queued": writer.rows_queued if writer is not None else 0,
            "bytes_queued": writer.bytes_queued if writer is not None else 0,
            "sessions_open": self._sessions_open,
            "journal_bytes": journal.size_bytes if journal is not None else 0,
        }

    def _journal_attempt(self, entry: JournalEntry, attempt: SessionAttemptRecord) -> None:
        if self._journal is None:
            return
        try:
            self._journal.attempt(entry, encode_attempt(attempt), unix_us=self._unix_ns() // 1000)
        except OSError as error:
            self._journal_refused(error)
        except ValueError:
            self._unencodable("session_log_attempt_unencodable", str(entry.number))

    def _hand_over(self, begun: SessionRecord, entry: JournalEntry | None, record: SessionRecord) -> Handover:
        self._sessions_open -= 1
        handover = Handover(None, time.monotonic() + self._append_wait_s, self._counts)
        if self._writer is None:
            handover.settle("disabled")
            return handover
        line = self._encode(begun, record)
        if line is None:
            self._counts.add_cause("rows_dropped", "unencodable")
            handover.settle("dropped")
            if entry is not None:
                self._mark_done(entry)
            return handover
        if self._journal is not None:
            try:
                entry = self._journal.end(entry, line)
            except OSError as error:
                self._journal_refused(error)

        def settled(fate: Fate) -> None:  # in the writer's thread
            self._on_loop(handover.settle, self._outcome(fate, entry))

        fate = self._writer.put(QueuedRow(line, settled))
        if fate is not None:
            handover.settle(self._outcome(fate, entry))
        return handover

    def _encode(self, begun: SessionRecord, record: SessionRecord) -> bytes | None:
        try:
            return encode_row(record)
        except ValueError:
            self._unencodable("session_log_row_unencodable", record.session_id)
        # A bug of the loop still leaves a row: what was asked, and that we failed.
        bug = Fault(Reason.BUG)
        try:
            return encode_row(
                replace(
                    begun,
                    timestamp=record.timestamp,
                    error=ErrorRecord(code=bug.code, reason=Reason.BUG, where="iterate", message=bug.message),
                )
            )
        except ValueError:
            return None

    def _outcome(self, fate: Fate, entry: JournalEntry | None) -> HandoverOutcome:
        if fate == "written":
            if entry is not None:
                self._mark_done(entry)
            return "written"
        if entry is not None and (
            fate == "unsynced"
            or not entry.has_end
            or (self._journal is not None and self._journal.live_bytes > _PARKED_BYTES_MAX)
        ):
            self._mark_done(entry)
        return "late" if fate == "unsynced" else "dropped"

    def _mark_done(self, entry: JournalEntry) -> None:
        if self._journal is None:
            return
        try:
            self._journal.done(entry)
        except OSError as error:
            self._journal_refused(error)

    def _journal_refused(self, error: OSError) -> None:
        self._counts.add_error("journal_errors", error)
        self._warning.warn("session_log_journal_unavailable", errno_name(error), path=self.config.session_log_path)

    def _unencodable(self, event: str, session_id: str) -> None:
        _log.exception(event, session_id=session_id)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(call, *arguments)
            except RuntimeError:
                return  # the event loop is closed: nobody waits any more

    def _sweep_now_and_then(self, ready: asyncio.Future[None]) -> None:
        if self._writer is not None:
            self._writer.probe()
        if self._journal is not None:
            try:
                self._journal.open()
            except OSError as error:
                self._journal_refused(error)
        self._sweep()
        self._on_loop(_resolve, ready)
        while not self._stopping.wait(self.config.sweep_interval_ms / 1000):
            self._sweep()

    def _sweep(self) -> None:
        try:
            sweep(
                self.config.session_log_path,
                counts=self._counts,
                warning=self._warning,
                stop=self._stopping,
                synced=self.config.fsync != "never",
                on_recovered=self._on_recovered,
            )
        except Exception:  # noqa: BLE001  a bug in a sweep must not end later ones
            _log.exception("session_log_sweep_bug")


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
