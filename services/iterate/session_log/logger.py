"""``SessionLogger``: the only writer of the session log. One row for every session that began, however it ended.

What a session does with it, all on the event loop::

    session = logger.begin(begun)            # queued
    await session.begun()                    # in the kernel's hands, before the ids are sent and the model is asked
    session.attempt_finished(attempt)        # after each attempt
    handover = session.hand_over(record)     # in a `finally`, before any await there: no cancellation cuts it short
    await handover.written()                 # before the answer leaves

Each of the two waits takes at most ``append_wait_ms``, whatever the disk does: ``writer`` does the disk's work in a
thread. The order of its writes is what makes a SIGKILL between any two instructions harmless: beginning (journal),
attempts (journal), the whole row (journal), the row (log), the mark that it stands (journal). Killed before the third,
the session gets a PROCESS_DIED row, and no answer had left; after it, its own row, once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from iterate.session_log.config import SessionLogConfig
from iterate.session_log.counts import MinuteWarning, SessionLogCounts
from iterate.session_log.exchange import Handover, HandoverOutcome, Receipt, resolve, settle_all
from iterate.session_log.in_flight import InFlightFiles, SessionInFlight
from iterate.session_log.journal import Journal
from iterate.session_log.sweep import OnRecovered, ignore_recovered, sweep
from iterate.session_log.writer import LogWriter, Settled
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import ErrorRecord, SessionAttemptRecord, SessionRecord
from lakehouse.sessions.row import encode_attempt, encode_row
from lakehouse.sessions.store.journal import new_owner

__all__ = [
    "Handover",
    "HandoverOutcome",
    "OpenSession",
    "SessionLogConfig",
    "SessionLogUnavailable",
    "SessionLogger",
]

# A first sweep that takes longer goes on beside the traffic.
_START_WAIT_S: Final = 10.0
# How long the end of the process waits for a thread that the log's disk holds, and then for the spill in its place.
_HUNG_S: Final = 0.5
_RESCUE_S: Final = 2.0
# An attempt wakes the writer's thread so long after it came, unless something else does before.
_ATTEMPT_WAIT_S: Final = 0.005

_log = structlog.get_logger(__name__)


class SessionLogUnavailable(Exception):  # noqa: N818  the reason's name in the contract
    """Guarantee ``strict``: the session cannot begin, since its row could not be written."""


class OpenSession:
    """One session between its beginning and its hand-over. Only ``begun`` raises, and nothing waits for a disk."""

    __slots__ = ("_handover", "_logger", "_record", "_session")

    def __init__(self, logger: SessionLogger, record: SessionRecord, session: SessionInFlight | None) -> None:
        self._logger = logger
        self._record = record
        self._session = session
        self._handover: Handover | None = None

    async def begun(self) -> None:
        """Wait until the beginning stands in the journal, at most until ``append_wait_ms`` after ``begin``.

        Raises SessionLogUnavailable in ``strict`` alone, where it does not stand there by then, or the log is known
        not to take rows: the session is over then, leaves no row and must not be handed over.
        """
        if self._session is not None:
            await self._logger._begun(self._session)  # noqa: SLF001  two halves of one object

    def attempt_finished(self, attempt: SessionAttemptRecord) -> None:
        """Have the attempt written into the journal, for the row of a killed session."""
        if self._session is not None and self._handover is None:
            self._logger._attempt_finished(self._session, attempt)  # noqa: SLF001  as above

    def hand_over(self, record: SessionRecord) -> Handover:
        """Hand the session's row over: the record that it began with, and what is known now in place of what was not.
        A second call changes nothing and returns the first one's result."""
        if self._handover is None:
            self._handover = self._logger._hand_over(self._record, self._session, record)  # noqa: SLF001  as above
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
        self._wait_s = config.append_wait_ms / 1000
        self._sessions_open = 0
        self._wake_planned = False
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: LogWriter | None = None
        path, owner = config.session_log_path, new_owner()
        self._files = InFlightFiles(
            Journal(path, owner=owner) if path and config.journal else None,
            Journal(path, owner=owner, spill_dir=str(config.spill_dir)) if path and config.spill_dir else None,
            counts=self._counts,
            warning=self._warning,
        )
        if path:
            self._writer = LogWriter(
                path,
                files=self._files,
                fsync=config.fsync,
                fsync_interval_s=config.fsync_interval_ms / 1000,
                queue_rows_max=config.queue_rows_max,
                queue_bytes_max=config.queue_bytes_max,
                counts=self._counts,
                warning=self._warning,
                report=self._report,
            )

    @property
    def strict(self) -> bool:
        """Guarantee ``strict``: an answer whose row is not ``written`` must not leave."""
        return self.config.session_log_guarantee == "strict"

    def problem(self) -> str:
        """Why rows are not written now, as far as the writer has found out; empty where they are."""
        failing = self._writer is not None and self._writer.failing
        return f"the session log {self.config.session_log_path} does not take rows" if failing else ""

    async def start(self) -> None:
        """Open log and journal, recover dead processes' sessions, and start the threads. Never fails for a
        missing folder, a permission or a disk: it warns, and rows flow when the cause is gone."""
        self._loop = asyncio.get_running_loop()
        if self._writer is None:
            return
        ready = self._loop.create_future()
        self._writer.start()
        threading.Thread(
            target=self._sweep_now_and_then, args=(self._writer, ready), name="session-log-sweeper", daemon=True
        ).start()
        await asyncio.wait((ready,), timeout=_START_WAIT_S)

    def begin(self, begun: SessionRecord, *, parent_span_id: str | None = None) -> OpenSession:
        """Queue the beginning; await ``begun`` of the result before anything else.

        ``begun`` is the row to write if the process died now: ``infra_error`` by ``PROCESS_DIED``, with the beginning
        as its timestamp, no attempts and a duration of 0. ``parent_span_id`` is the caller's span, for its trace.
        """
        self._sessions_open += 1
        if self._writer is None:
            return OpenSession(self, begun, None)
        session = SessionInFlight(begun.session_id, Receipt(self._wait_s))
        # Nothing is written of a beginning without a journal, but strict finds out whether the thread still works.
        if self._files.journal is None and not self.strict:
            session.begun.settle("journaled")
            return OpenSession(self, begun, session)
        row = self._encode(begun, "session_log_beginning_unencodable")
        if row is None or not self._writer.begin(session, row, parent_span_id):
            session.begun.settle("unjournaled")
        return OpenSession(self, begun, session)

    async def close(self) -> None:
        """Write the queued rows within ``log_drain_ms``, spill what is left, fsync as configured, and remove the
        journal if every session has its row; what is left in it is for the next process's sweep. Idempotent."""
        writer = self._writer
        if writer is None or self._loop is None or self._stopping.is_set():
            return
        self._stopping.set()
        drained = self._loop.create_future()
        drain_s = self.config.log_drain_ms / 1000
        writer.close(drain_s, lambda: self._on_loop(resolve, drained))
        # The last fsync may outlast the drain; it is the disk's, and the process does not wait for it.
        await asyncio.wait((drained,), timeout=drain_s + _HUNG_S)
        if not drained.done():
            # The thread hangs and may still append: the journal stays locked as long as it lives, or a sibling would
            # append the same row.
            rescued = self._loop.create_future()

            def rescue() -> None:
                writer.rescue()
                self._on_loop(resolve, rescued)

            threading.Thread(target=rescue, name="session-log-rescue", daemon=True).start()
            await asyncio.wait((rescued,), timeout=_RESCUE_S)
            if not rescued.done():
                self._counts.add("rows_lost", writer.rows_queued)
        self._say_what_is_left()

    def counts(self) -> dict[str, int]:
        """Return the counters and gauges of ``counts`` at this moment; from any thread."""
        writer, journal, spill = self._writer, self._files.journal, self._files.spill
        return {
            **self._counts.snapshot(),
            "rows_queued": writer.rows_queued if writer is not None else 0,
            "bytes_queued": writer.bytes_queued if writer is not None else 0,
            "sessions_open": self._sessions_open,
            "journal_bytes": journal.size_bytes if journal is not None else 0,
            "spill_bytes": spill.size_bytes if spill is not None else 0,
        }

    async def _begun(self, session: SessionInFlight) -> None:
        outcome = await session.begun.wait()
        failing = self.strict and self._writer is not None and self._writer.failing
        if outcome == "journaled" and not failing:
            return
        if self.strict:
            self._sessions_open -= 1
            if self._writer is not None:
                self._writer.withdraw(session)
            raise SessionLogUnavailable("the session log does not take rows now")
        self._counts.add("sessions_unjournaled")

    def _attempt_finished(self, session: SessionInFlight, attempt: SessionAttemptRecord) -> None:
        if self._writer is None or self._files.journal is None or not session.attempts_whole:
            return
        try:
            text = encode_attempt(attempt)
        except ValueError:
            _log.exception("session_log_attempt_unencodable", session_id=session.session_id)
            session.attempts_whole = False
            return
        if not self._writer.attempt(session, text, self._unix_ns() // 1000):
            session.attempts_whole = False
            self._counts.add("attempts_dropped")
        elif self._loop is not None and not self._wake_planned:
            self._wake_planned = True
            self._loop.call_later(_ATTEMPT_WAIT_S, self._wake)

    def _wake(self) -> None:
        self._wake_planned = False
        if self._writer is not None:
            self._writer.wake()

    def _hand_over(self, begun: SessionRecord, session: SessionInFlight | None, record: SessionRecord) -> Handover:
        self._sessions_open -= 1
        if self._writer is None or session is None:
            return Handover(Receipt(0, "disabled"), self._counts)
        row = self._encode_end(begun, record)
        session.ended = Receipt(self._wait_s)
        cause = ""
        if row is None:
            cause = "unencodable"
        elif self._writer.closing:
            cause = "closed"
        else:
            session.row = row
            if not self._writer.end(session):
                cause = "queue_full"
                self._warning.warn("session_log_queue_full", "queue_full", rows_queued=self._writer.rows_queued)
        if cause:
            self._counts.add_cause("rows_dropped", cause)
            self._counts.add("rows_lost")
            session.ended.settle("dropped")
            # Its beginning must not stand in the journal: the sweep would contradict the answer.
            self._writer.withdraw(session)
        return Handover(session.ended, self._counts)

    def _encode(self, record: SessionRecord, event: str) -> bytes | None:
        """Return the row of `record`, without its brief where that cannot be encoded; None where the rest cannot."""
        try:
            return encode_row(record)
        except ValueError:
            _log.exception(event, session_id=record.session_id)
        try:
            return None if record.brief is None else encode_row(replace(record, brief=None))
        except ValueError:
            return None

    def _encode_end(self, begun: SessionRecord, record: SessionRecord) -> bytes | None:
        row = self._encode(record, "session_log_row_unencodable")
        if row is not None:
            return row
        # A bug of the loop still leaves a row: what was asked, and that we failed.
        bug = Fault(Reason.BUG)
        error = ErrorRecord(code=bug.code, reason=Reason.BUG, where="iterate", message=bug.message)
        begun = replace(begun, timestamp=record.timestamp, error=error)
        return self._encode(begun, "session_log_beginning_unencodable")

    def _say_what_is_left(self) -> None:
        counts = self._counts.snapshot()
        if counts["rows_lost"]:
            _log.error("session_log_rows_lost", rows=counts["rows_lost"], path=self.config.session_log_path)
        dropped = sum(number for name, number in counts.items() if name.startswith("rows_dropped"))
        if dropped > counts["rows_lost"]:
            _log.warning("session_log_rows_left_to_the_next_start", rows=dropped - counts["rows_lost"])

    def _report(self, settled: Settled) -> None:  # in the writer's thread
        self._on_loop(settle_all, settled)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(call, *arguments)
            except RuntimeError:
                return  # the event loop is closed: nobody waits any more

    def _sweep_now_and_then(self, writer: LogWriter, ready: asyncio.Future[None]) -> None:
        writer.opened.wait(_START_WAIT_S)
        self.sweep()
        self._on_loop(resolve, ready)
        while not self._stopping.wait(self.config.sweep_interval_ms / 1000):
            self.sweep()

    def sweep(self) -> None:
        """Give the sessions of dead processes their rows, as far as that can be done now; blocking, in any thread."""
        try:
            sweep(
                self.config.session_log_path,
                spill_dir=str(self.config.spill_dir or ""),
                counts=self._counts,
                warning=self._warning,
                stop=self._stopping,
                synced=self.config.fsync != "never",
                on_recovered=self._on_recovered,
            )
        except Exception:  # noqa: BLE001  a bug in a sweep must not end later ones
            _log.exception("session_log_sweep_bug")
