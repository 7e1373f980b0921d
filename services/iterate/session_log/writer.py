"""The thread that does all disk work of the log and the journal, and the queue before it.

The event loop puts jobs (beginning, attempt, end) and never waits for the thread. The thread takes what is queued,
does it in order, appends the rows that are due, and reports all outcomes to the event loop by one wake-up. What
becomes of a session, each arrow a step of the thread::

    queued ──B──▶ begun ──A──▶ … ──E──▶ ended ──row──▶ appended ──D──▶ marked, "written"
      │            in the journal, or         │  │
      │            where its disk refuses     │  └─ the log refuses ──▶ spilled (E in the spill, D in the journal),
      │            in the spill               │                        "spilled", tried again until it is appended
      └─ the queue is full: dropped           └─ locked by another process: tried again; too many such rows: dropped

A kill between any two steps is recovered from (``sweep``): before E the session gets a PROCESS_DIED row, and no answer
had left; from E on its own row, which the sweep looks for in the log first. A row that is dropped although its E
stands is the next process's to write. What stands nowhere is lost, and counted as such.

At the end (``close``) the thread goes on until the queue is empty or the time is over, then spills what is left. Where
it hangs in the log's disk, ``rescue`` spills from another thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import structlog

from iterate.session_log.counts import MinuteWarning, SessionLogCounts
from iterate.session_log.exchange import HandoverOutcome, JobQueue, Receipt
from iterate.session_log.fsync import FsyncPolicy, SyncedRows, Syncer, SyncFate
from iterate.session_log.in_flight import InFlightFiles, SessionInFlight
from iterate.session_log.log_health import LogHealth
from lakehouse.sessions.store.append import LogFile

Settled = list[tuple[Receipt[Any], Any]]

# One hold of the lock: long enough to empty a queue quickly, short enough for the other processes' 20 ms.
_BATCH_ROWS_MAX: Final = 64
_BATCH_BYTES_MAX: Final = 4 * 1024 * 1024

# Jobs that are still queued when the drain is over are done for so long: their ends get into the journal.
_LAST_JOBS_S: Final = 0.25

_log = structlog.get_logger(__name__)


class LogWriter:
    """See the module. ``begin``, ``attempt``, ``end``, ``withdraw`` and ``close`` belong to one thread, the loop's."""

    def __init__(
        self,
        path: str,
        *,
        files: InFlightFiles,
        fsync: FsyncPolicy,
        fsync_interval_s: float,
        queue_rows_max: int,
        queue_bytes_max: int,
        counts: SessionLogCounts,
        warning: MinuteWarning,
        report: Callable[[Settled], None],
    ) -> None:
        """``report`` takes the outcomes to the event loop; the thread calls it at most once a turn."""
        self._log = LogFile(path, synced=fsync != "never")
        self._health = LogHealth(self._log, counts=counts, warning=warning)
        self._files = files
        self._fsync = fsync
        self._queue_rows_max = queue_rows_max
        self._queue_bytes_max = queue_bytes_max
        self._counts = counts
        self._warning = warning
        self._report = report
        self._jobs = JobQueue()
        self._rows: deque[SessionInFlight] = deque()
        self._rows_bytes = 0
        self._spilled: deque[SessionInFlight] = deque()
        self._newly_spilled: list[SessionInFlight] = []
        self._unsettled: dict[int, SessionInFlight] = {}
        self._settled: Settled = []
        self._syncer = Syncer(self._log, fsync, fsync_interval_s, self._on_synced, counts=counts, warning=warning)
        self._closing = False
        self._drain_until = 0.0
        self._on_closed: Callable[[], None] | None = None
        self.opened = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session-log-writer", daemon=True)

    @property
    def failing(self) -> bool:
        """True from a refusal of the disk until the next row or probe succeeds."""
        return self._health.failing

    @property
    def rows_queued(self) -> int:
        """Beginnings and rows that are held in memory for the disk."""
        return self._jobs.rows + len(self._rows)

    @property
    def bytes_queued(self) -> int:
        return self._jobs.size_bytes + self._rows_bytes

    def start(self) -> None:
        self._syncer.start()
        self._thread.start()

    # On the event loop. False: the queue is full, and nothing was put.

    def begin(self, session: SessionInFlight, row: bytes, parent_span_id: str | None) -> bool:
        return self._put(self._begin, (session, row, parent_span_id), 1, len(row))

    def attempt(self, session: SessionInFlight, attempt: str, unix_us: int) -> bool:
        """Queue the attempt; the thread is not woken for it alone, but by the next job or ``wake``."""
        return self._put(self._files.attempt, (session, attempt, unix_us), 0, len(attempt), wake=False)

    def end(self, session: SessionInFlight) -> bool:
        """``session.row`` is its row."""
        self._unsettled[id(session)] = session
        if self._put(self._end, (session,), 1, len(session.row)):
            return True
        self._unsettled.pop(id(session), None)
        return False

    def withdraw(self, session: SessionInFlight) -> None:
        """Leave no row of the session: what the journal holds of it, or is about to hold, is marked."""
        if len(self._jobs) < 2 * self._queue_rows_max:
            self._jobs.add(self._files.mark, session)

    def wake(self) -> None:
        """Have the thread look at the queue; from any thread."""
        if len(self._jobs):
            self._jobs.wake()

    @property
    def closing(self) -> bool:
        return self._closing

    def close(self, drain_s: float, on_closed: Callable[[], None]) -> None:
        """Have the thread empty the queue for at most ``drain_s``, spill what is left, fsync as configured, close its
        files and end with ``on_closed``. Returns at once."""
        self._on_closed = on_closed
        self._drain_until = time.monotonic() + drain_s
        self._health.retry_at = 0.0
        self._closing = True
        self._jobs.wake()

    def _put(
        self, do: Callable[..., None], arguments: tuple[Any, ...], rows: int, size: int, *, wake: bool = True
    ) -> bool:
        # Rows that wait for the log's lock do not keep new ones out of the journal: a part of the bound is theirs.
        return self._jobs.put(
            do,
            arguments,
            rows=rows,
            size=size,
            rows_max=max(self._queue_rows_max - len(self._rows), min(self._queue_rows_max, _BATCH_ROWS_MAX)),
            bytes_max=max(self._queue_bytes_max - self._rows_bytes, self._queue_bytes_max // 16),
            wake=wake,
        )

    # In another thread, while the writer's hangs in the log's disk.

    def rescue(self) -> None:
        """Spill every row that is not settled; what the spill does not take either is lost unless its end stands."""
        for session in list(self._unsettled.values()):
            row = session.row
            if row and not self._files.rescue(session, row):
                self._counts.add_cause("rows_dropped", "drain")
                if session.entry is None or not session.entry.has_end:
                    self._counts.add("rows_lost")

    # In the thread.

    def _run(self) -> None:
        self._health.probe()
        self._files.open()
        self.opened.set()
        while not self._is_over():
            try:
                self._wait_until_due()
                self.turn()
            except Exception:  # noqa: BLE001  a bug must not end the only thread that empties the queue
                _log.exception("session_log_writer_bug")
                self._health.hold_off()
        try:
            self._finish()
        finally:
            self._syncer.close()
            if self._on_closed is not None:
                self._on_closed()

    def turn(self) -> None:
        """Do the jobs that are queued, then what is due, then reports."""
        try:
            for _ in range(min(len(self._jobs), _BATCH_ROWS_MAX)):
                self._jobs.do_one()
            if time.monotonic() >= self._health.retry_at:
                if self._rows or self._spilled:
                    self._append_batch()
                elif self._health.failing:
                    self._health.probe()
            if self._health.failing:
                self._spill_rows()
            self._synced(self._syncer.sync_if_due(closing=self._closing), "unsynced")
        finally:
            self._answer_spilled()
            if self._settled:
                settled, self._settled = self._settled, []
                self._report(settled)

    def _is_over(self) -> bool:
        if not self._closing:
            return False
        if time.monotonic() >= self._drain_until:
            return True
        if len(self._jobs) or self._rows or not self._syncer.is_idle:
            return False
        return self._health.failing or not self._spilled

    def _wait_until_due(self) -> None:
        if len(self._jobs):
            return
        due = []
        if self._rows or self._spilled or self._health.failing:
            due.append(self._health.retry_at)
        if (sync_at := self._syncer.due_at(closing=self._closing)) is not None:
            due.append(sync_at)
        if self._closing:
            due.append(self._drain_until)
        wait_s = min(due) - time.monotonic() if due else None
        if wait_s is None or wait_s > 0:
            self._jobs.wait(wait_s)

    def _begin(self, session: SessionInFlight, row: bytes, parent_span_id: str | None) -> None:
        outcome = self._files.begin(session, row, self._log.position(), parent_span_id)
        self._settled.append((session.begun, outcome))

    def _end(self, session: SessionInFlight) -> None:
        try:
            self._files.end(session)
        finally:
            size = len(session.row)
            if self._files.is_spilled(session):
                self._hold_spilled(session)
            elif len(self._rows) < self._queue_rows_max and self._rows_bytes + size <= self._queue_bytes_max:
                self._rows.append(session)
                self._rows_bytes += size
            else:
                self._warning.warn("session_log_queue_full", "queue_full", rows_queued=len(self._rows))
                self._give_up(session, "queue_full")

    def _hold_spilled(self, session: SessionInFlight) -> None:
        self._spilled.append(session)
        self._newly_spilled.append(session)

    def _take_row(self) -> SessionInFlight:
        session = self._rows.popleft()
        self._rows_bytes -= len(session.row)
        return session

    def _append_batch(self) -> None:
        appended: list[SessionInFlight] = []
        try:
            if not self._log.try_lock():
                self._health.locked_out(rows_waiting=len(self._rows))
                return
            try:
                self._append_to(appended)
            finally:
                self._log.unlock()
            self._health.accepted(rows_waiting=len(self._rows) + len(self._spilled))
        except OSError as error:
            self._health.refused(error, rows_waiting=len(self._rows))
        finally:
            for session in appended:
                if self._fsync != "row":
                    self._synced([session], "written")
                elif len(self._syncer.waiting) < self._queue_rows_max:
                    self._syncer.waiting.append(session)
                else:  # the disk's fsync hangs
                    self._counts.add("fsync_errors")
                    self._synced([session], "unsynced")

    def _append_to(self, appended: list[SessionInFlight]) -> None:
        """One batch: rows in memory first, since answers wait for them; then what is spilled."""
        left = _BATCH_BYTES_MAX
        while (self._rows or self._spilled) and len(appended) < _BATCH_ROWS_MAX and left > 0:
            waiting = self._rows or self._spilled
            session = waiting[0]
            row = session.row if waiting is self._rows else self._files.read_spilled(session)
            if row is None:
                self._spilled.popleft()  # what the spill does not give back now is left to a sweep
                continue
            self._log.append(row)
            if waiting is self._rows:
                self._take_row()
            else:
                self._spilled.popleft()
            session.row = b""
            appended.append(session)
            self._counts.add_row(len(row))
            left -= len(row)

    def _synced(self, rows: SyncedRows, fate: SyncFate) -> None:
        for session in rows:
            self._files.mark(session)
            self._settle(session, "written" if fate == "written" else "late")

    def _settle(self, session: SessionInFlight, outcome: HandoverOutcome) -> None:
        self._unsettled.pop(id(session), None)
        self._settled.append((session.ended, outcome))

    def _give_up(self, session: SessionInFlight, cause: str) -> None:
        self._counts.add_cause("rows_dropped", cause)
        if not self._files.keeps(session):
            self._counts.add("rows_lost")
        session.row = b""
        self._settle(session, "dropped")

    def _spill_rows(self) -> None:
        while self._rows and self._files.move_to_spill(self._rows[0]):
            self._hold_spilled(self._take_row())

    def _answer_spilled(self) -> None:
        for session in self._newly_spilled:
            if session.row:  # not appended in the same turn
                session.row = b""
                self._settle(session, "spilled")
        self._newly_spilled.clear()

    def _on_synced(self, rows: SyncedRows, fate: SyncFate) -> None:  # in the syncer's thread
        self._jobs.add(self._synced, rows, fate)

    def _finish(self) -> None:
        until = time.monotonic() + _LAST_JOBS_S
        while len(self._jobs) and time.monotonic() < until:
            self._jobs.do_one()
        self._spill_rows()
        self._answer_spilled()
        self._rows.clear()
        for session in list(self._unsettled.values()):
            if session.row:
                self._give_up(session, "drain")
            else:  # it stands in the log, and its fsync hangs
                self._synced([session], "unsynced")
        if self._settled:
            self._report(self._settled)
        self._files.close()
        self._log.close()
