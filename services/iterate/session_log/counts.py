"""What the session log counts, and the warnings that it gives at most once a minute."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

WARN_INTERVAL_S: Final = 60.0

_log = structlog.get_logger(__name__)


GAUGES: Final = ("rows_queued", "bytes_queued", "sessions_open", "journal_bytes", "spill_bytes")
"""Names in ``SessionLogger.counts()`` that go up and down; all others only grow."""

_TOTALS: Final = (
    "rows_written",  # rows of this process's own sessions that stand in the log
    "bytes_written",  # of those rows, LF included
    "rows_late",  # answers that left before their row was in the log or in the spill
    "rows_spilled",  # ends that the log's disk refused and the spill took; each is a row of the log in the end
    "rows_lost",  # rows given up of which nothing is left on any disk
    "sessions_unjournaled",  # sessions that went on before their beginning was in the journal or in the spill
    "attempts_dropped",  # attempts that the full queue did not take on the way to the journal
    "lock_waits",  # tries that found the log locked by another process
    "fsyncs",
    "fsync_errors",
    "sessions_recovered",  # rows that this process's sweeps wrote for sessions of dead processes
    "journals_swept",
    "journal_lines_skipped",  # lines of dead journals that could not be read: torn by the kill, or corrupt
)
_CAUSES: Final = {
    # Rows given up. One whose journal entry stands is written by the next sweep after this process's end, and then
    # counts as recovered there.
    "rows_dropped": ("queue_full", "drain", "closed", "unencodable"),
    "append_errors": (),  # failed tries to append, by errno name
    "journal_errors": (),  # journal entries and files that could not be written, by errno name
    "spill_errors": (),  # the same of the spill
    "sweep_errors": (),  # journals left to a later sweep, by errno name or POSTPONED
}


class SessionLogCounts:
    """The live counters; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, int] = dict.fromkeys(_TOTALS, 0)
        for name, causes in _CAUSES.items():
            self._values |= {f"{name}:{cause}": 0 for cause in causes}

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._values[name] += amount

    def add_row(self, size_bytes: int) -> None:
        with self._lock:
            self._values["rows_written"] += 1
            self._values["bytes_written"] += size_bytes

    def add_cause(self, name: str, cause: str) -> None:
        key = f"{name}:{cause}"
        with self._lock:
            self._values[key] = self._values.get(key, 0) + 1

    def add_error(self, name: str, error: OSError) -> None:
        self.add_cause(name, errno_name(error))

    def snapshot(self) -> dict[str, int]:
        """Return every counter; one by cause is ``name:cause``."""
        with self._lock:
            return dict(self._values)


def errno_name(error: OSError) -> str:
    """``ENOSPC`` for 28, and so on; ``UNKNOWN`` where the error carries no number."""
    return errno.errorcode.get(error.errno or 0, "UNKNOWN")


class MinuteWarning:
    """A structured warning that is given at most once a minute for each event and cause; what was held back since the
    last one stands in its ``held_back``. The number of causes is bounded by the number of errnos."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next_at: dict[tuple[str, str], float] = {}
        self._held_back: Counter[tuple[str, str]] = Counter()

    def warn(self, event: str, cause: str, **fields: object) -> None:
        key = (event, cause)
        now = self._monotonic()
        with self._lock:
            if now < self._next_at.get(key, 0.0):
                self._held_back[key] += 1
                return
            self._next_at[key] = now + WARN_INTERVAL_S
            held_back = self._held_back.pop(key, 0)
        _log.warning(event, cause=cause, held_back=held_back, **fields)
