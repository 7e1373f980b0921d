"""Whether the log takes rows now: tried again sooner or later after each refusal, and said to whoever must know."""

from __future__ import annotations

import os
import time
from typing import Final

import structlog

from iterate.session_log.counts import MinuteWarning, SessionLogCounts, errno_name
from lakehouse.sessions.store.append import LogFile

_LOCK_STEP_MIN_S: Final = 0.0005
_LOCK_STEP_MAX_S: Final = 0.008
_BACKOFF_MIN_S: Final = 0.05
_BACKOFF_MAX_S: Final = 2.0
# With the lock held by others for so long, somebody should know.
_LOCK_WARN_S: Final = 5.0

_log = structlog.get_logger(__name__)


class LogHealth:
    """The log's state as the writer's thread finds it. ``failing`` may be read by any thread."""

    def __init__(self, log: LogFile, *, counts: SessionLogCounts, warning: MinuteWarning) -> None:
        self.failing = False
        """From a refusal of the disk until the next row or probe succeeds."""
        self.retry_at = 0.0
        """When the log may be tried next (time.monotonic)."""
        self._log = log
        self._counts = counts
        self._warning = warning
        self._backoff_s = _BACKOFF_MIN_S
        self._lock_step_s = _LOCK_STEP_MIN_S
        self._locked_since: float | None = None

    def probe(self) -> None:
        """Find out whether the log can be opened. Raises nothing."""
        try:
            if self._log.try_lock():
                self._log.unlock()
        except OSError as error:
            self.refused(error, rows_waiting=0)
        else:
            self.accepted(rows_waiting=0)

    def accepted(self, *, rows_waiting: int) -> None:
        if self.failing:
            _log.info("session_log_recovered", path=self._log.path, rows_queued=rows_waiting)
        self.failing = False
        self._locked_since = None
        self._backoff_s, self._lock_step_s, self.retry_at = _BACKOFF_MIN_S, _LOCK_STEP_MIN_S, 0.0

    def locked_out(self, *, rows_waiting: int) -> None:
        """Another process holds the lock."""
        now = time.monotonic()
        self._counts.add("lock_waits")
        if self._locked_since is None:
            self._locked_since = now
        elif now - self._locked_since > _LOCK_WARN_S:
            self._warning.warn("session_log_locked", "EAGAIN", path=self._log.path, rows_queued=rows_waiting)
        self.retry_at = now + self._lock_step_s
        self._lock_step_s = min(2 * self._lock_step_s, _LOCK_STEP_MAX_S)

    def refused(self, error: OSError, *, rows_waiting: int) -> None:
        self.failing = True
        self._counts.add_error("append_errors", error)
        self._warning.warn(
            "session_log_unavailable",
            errno_name(error),
            path=self._log.path,
            detail=os.strerror(error.errno or 0),
            rows_queued=rows_waiting,
        )
        self.retry_at = time.monotonic() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_MAX_S)

    def hold_off(self) -> None:
        """After a bug of ours: not at once again."""
        self.retry_at = time.monotonic() + _BACKOFF_MAX_S
