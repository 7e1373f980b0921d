"""The queue of rows and the thread that empties it; a row that nothing holds up never gets there.

``put`` is called on the event loop and never waits. It appends the row there and then if no row is queued, the row is
short and the log's lock is free: a few system calls, and the row is in the kernel's hands when it returns. Everything
else (another process holds the lock, a long row, a disk that refuses, an fsync) is the thread's.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from iterate.session_log.counts import MinuteWarning, SessionLogCounts, errno_name
from lakehouse.sessions.store.append import LogFile

FsyncPolicy = Literal["never", "interval", "row"]

# A longer row is copied into the page cache by the thread, since that holds up the event loop for too long.
INLINE_BYTES_MAX: Final = 256 * 1024
# One hold of the lock: long enough to empty a queue quickly, short enough for the other processes' 20 ms.
_BATCH_ROWS_MAX: Final = 64
_BATCH_BYTES_MAX: Final = 4 * 1024 * 1024

_LOCK_STEP_MIN_S: Final = 0.0005
_LOCK_STEP_MAX_S: Final = 0.008
_BACKOFF_MIN_S: Final = 0.05
_BACKOFF_MAX_S: Final = 2.0
# With the lock held by others for so long, somebody should know.
_LOCK_WARN_S: Final = 5.0

# `unsynced`: the row stands in the log, and the fsync that was to make it durable failed.
Fate = Literal["written", "unsynced", "dropped"]

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class QueuedRow:
    """One LF-ended line on its way. ``on_settled`` is called once, by the writer's thread, and must not raise."""

    line: bytes
    on_settled: Callable[[Fate], None]


class LogWriter:
    """Appends rows in the order of their ``put``. ``put`` belongs to one thread, the event loop's."""

    def __init__(
        self,
        path: str,
        *,
        fsync: FsyncPolicy,
        fsync_interval_s: float,
        queue_rows_max: int,
        queue_bytes_max: int,
        counts: SessionLogCounts,
        warning: MinuteWarning,
    ) -> None:
        self._log = LogFile(path, synced=fsync != "never")
        self._fsync = fsync
        self._fsync_interval_s = fsync_interval_s
        self._queue_rows_max = queue_rows_max
        self._queue_bytes_max = queue_bytes_max
        self._counts = counts
        self._warning = warning
        self._wake = threading.Condition()
        self._file_lock = threading.Lock()  # around every use of self._log; the event loop only ever tries it
        self._queue: deque[QueuedRow] = deque()
        self._queued_bytes = 0
        self._awaiting_sync: list[QueuedRow] = []
        self._failing = False
        self._backoff_s = _BACKOFF_MIN_S
        self._lock_step_s = _LOCK_STEP_MIN_S
        self._locked_since: float | None = None
        self._retry_at = 0.0
        self._sync_at = 0.0
        self._closing = False
        self._drain_until = 0.0
        self._on_closed: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="session-log-writer", daemon=True)

    @property
    def log(self) -> LogFile:
        """For ``position`` alone; the rest is guarded here."""
        return self._log

    @property
    def failing(self) -> bool:
        """True from a refusal of the disk until the next row or probe succeeds."""
        return self._failing

    @property
    def rows_queued(self) -> int:
        return len(self._queue)

    @property
    def bytes_queued(self) -> int:
        return self._queued_bytes

    def start(self) -> None:
        self._thread.start()

    def probe(self) -> None:
        """Finds out whether the log can be opened, so that ``failing`` tells. Raises nothing."""
        with self._file_lock:
            try:
                if self._log.try_lock():
                    self._log.unlock()
            except OSError as error:
                self._refused(error)
            else:
                self._accepted()

    def put(self, row: QueuedRow) -> Fate | None:
        """Takes a row over. Returns its fate where that is known at once; otherwise ``on_settled`` tells."""
        if self._closing:
            self._counts.add_cause("rows_dropped", "closed")
            return "dropped"
        if (
            not self._queue
            and not self._failing
            and len(row.line) <= INLINE_BYTES_MAX
            and self._file_lock.acquire(blocking=False)
        ):
            try:
                if self._append_inline(row):
                    return "written" if self._fsync != "row" else self._await_sync(row)
            finally:
                self._file_lock.release()
        with self._wake:
            if len(self._queue) >= self._queue_rows_max or self._queued_bytes + len(row.line) > self._queue_bytes_max:
                self._counts.add_cause("rows_dropped", "queue_full")
                self._warning.warn("session_log_queue_full", "queue_full", rows_queued=len(self._queue))
                return "dropped"
            self._queue.append(row)
            self._queued_bytes += len(row.line)
            self._wake.notify()
        return None

    def close(self, drain_s: float, on_closed: Callable[[], None]) -> None:
        """Has the thread empty the queue for at most ``drain_s``, fsync as configured, and end with ``on_closed``.
        Rows that are left get the fate `dropped`. Returns at once."""
        with self._wake:
            self._on_closed = on_closed
            self._drain_until = time.monotonic() + drain_s
            self._retry_at = 0.0
            self._closing = True
            self._wake.notify()

    # On the event loop, with self._file_lock held.

    def _append_inline(self, row: QueuedRow) -> bool:
        try:
            if not self._log.try_lock():
                self._counts.add("lock_waits")
                return False
            try:
                self._log.append(row.line)
            finally:
                self._log.unlock()
        except OSError as error:
            self._refused(error)
            return False
        self._counts.add_row(len(row.line))
        return True

    def _await_sync(self, row: QueuedRow) -> Fate | None:
        with self._wake:
            if len(self._awaiting_sync) >= self._queue_rows_max:
                self._counts.add("fsync_errors")
                return "unsynced"  # the disk's fsync hangs
            row.line = b""
            self._awaiting_sync.append(row)
            self._wake.notify()
        return None

    # In the thread.

    def _run(self) -> None:
        self._sync_at = time.monotonic() + self._fsync_interval_s
        while not self._is_over():
            try:
                self._wait_until_due()
                if time.monotonic() >= self._retry_at:
                    if self._queue:
                        self._append_batch()
                    elif self._failing:
                        self.probe()
                if self._awaiting_sync or (self._fsync == "interval" and time.monotonic() >= self._sync_at):
                    self._sync()
            except Exception:  # noqa: BLE001  a bug must not end the only thread that empties the queue
                _log.exception("session_log_writer_bug")
                self._retry_at = time.monotonic() + _BACKOFF_MAX_S
        self._finish()

    def _is_over(self) -> bool:
        if not self._closing:
            return False
        return not (self._queue or self._awaiting_sync) or time.monotonic() >= self._drain_until

    def _wait_until_due(self) -> None:
        with self._wake:
            while not self._awaiting_sync and not self._is_over():
                due = []
                if self._queue or self._failing:
                    due.append(self._retry_at)
                if self._fsync == "interval":
                    due.append(self._sync_at)
                if self._closing:
                    due.append(self._drain_until)
                wait_s = min(due) - time.monotonic() if due else None
                if wait_s is not None and wait_s <= 0:
                    return
                self._wake.wait(wait_s)

    def _append_batch(self) -> None:
        appended: list[tuple[QueuedRow, int]] = []
        try:
            with self._file_lock:
                if not self._log.try_lock():
                    self._locked_out()
                    return
                try:
                    size = 0
                    while self._queue and len(appended) < _BATCH_ROWS_MAX and size < _BATCH_BYTES_MAX:
                        row = self._queue[0]
                        self._log.append(row.line)
                        size += len(row.line)
                        appended.append((row, len(row.line)))
                        with self._wake:
                            self._queue.popleft()
                            self._queued_bytes -= len(row.line)
                            if self._fsync == "row":
                                row.line = b""
                                self._awaiting_sync.append(row)
                finally:
                    self._log.unlock()
                self._accepted()
        except OSError as error:
            self._refused(error)
        for row, size in appended:
            self._counts.add_row(size)
            if self._fsync != "row":
                row.on_settled("written")

    def _locked_out(self) -> None:
        now = time.monotonic()
        self._counts.add("lock_waits")
        if self._locked_since is None:
            self._locked_since = now
        elif now - self._locked_since > _LOCK_WARN_S:
            self._warning.warn("session_log_locked", "EAGAIN", path=self._log.path, rows_queued=len(self._queue))
        self._retry_at = now + self._lock_step_s
        self._lock_step_s = min(2 * self._lock_step_s, _LOCK_STEP_MAX_S)

    def _accepted(self) -> None:
        if self._failing:
            _log.info("session_log_recovered", path=self._log.path, rows_queued=len(self._queue))
        self._failing = False
        self._locked_since = None
        self._backoff_s, self._lock_step_s, self._retry_at = _BACKOFF_MIN_S, _LOCK_STEP_MIN_S, 0.0

    def _refused(self, error: OSError) -> None:
        self._failing = True
        self._counts.add_error("append_errors", error)
        self._warning.warn(
            "session_log_unavailable",
            errno_name(error),
            path=self._log.path,
            detail=os.strerror(error.errno or 0),
            rows_queued=len(self._queue),
        )
        self._retry_at = time.monotonic() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_MAX_S)

    def _sync(self) -> None:
        self._sync_at = time.monotonic() + self._fsync_interval_s
        fate: Fate = "written"
        rows: list[QueuedRow] = []
        descriptors: list[int] = []
        try:
            with self._file_lock:
                rows, self._awaiting_sync = self._awaiting_sync, []
                if self._log.needs_sync:
                    descriptors = self._log.take_unsynced()
            for fd in descriptors:
                os.fsync(fd)
                self._counts.add("fsyncs")
        except OSError as error:
            # The kernel forgets the failed pages: a second fsync would succeed and prove nothing.
            fate = "unsynced"
            self._counts.add("fsync_errors")
            self._warning.warn("session_log_fsync_failed", errno_name(error), path=self._log.path)
        finally:
            for fd in descriptors:
                os.close(fd)
        for row in rows:
            row.on_settled(fate)

    def _finish(self) -> None:
        if self._fsync != "never":
            self._sync()
        with self._wake:
            left, self._queue = [*self._queue, *self._awaiting_sync], deque()
            self._queued_bytes = 0
        for row in left:
            self._counts.add_cause("rows_dropped", "drain")
            row.on_settled("dropped")
        with self._file_lock:
            self._log.close()
        if self._on_closed is not None:
            self._on_closed()
