"""Counts what was exported and what was lost, and logs losses once a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Literal

_logger = logging.getLogger("lakehouse.tracing")

LOG_INTERVAL_S: Final = 60.0

CountName = Literal[
    "spans_exported",
    "spans_dropped:queue_full",
    "spans_dropped:export_failed",
    "spans_dropped:encode_failed",
    "spans_dropped:shutdown",
    "scores_exported",
    "scores_dropped:queue_full",
    "scores_dropped:export_failed",
    "scores_dropped:shutdown",
]
COUNT_NAMES: Final[tuple[CountName, ...]] = (
    "spans_exported",
    "spans_dropped:queue_full",
    "spans_dropped:export_failed",
    "spans_dropped:encode_failed",
    "spans_dropped:shutdown",
    "scores_exported",
    "scores_dropped:queue_full",
    "scores_dropped:export_failed",
    "scores_dropped:shutdown",
)


class ExportCounts:
    """Totals since the start, by outcome; safe from any thread."""

    def __init__(
        self,
        last_problem: Callable[[], str],
        *,
        log_interval_s: float = LOG_INTERVAL_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`last_problem` gives why the newest request failed, "" where none did, for the log line."""
        self._lock = threading.Lock()
        self._counts: Counter[CountName] = Counter()
        self._logged: Counter[CountName] = Counter()
        self._logged_problem = ""
        self._last_problem = last_problem
        self._log_interval_s = log_interval_s
        self._clock_s = clock_s
        self._next_log_s = clock_s()

    def add(self, name: CountName, count: int) -> None:
        """Add to one total."""
        with self._lock:
            self._counts[name] += count

    def snapshot(self) -> Mapping[str, int]:
        """Return all totals, zeros included."""
        with self._lock:
            return {name: self._counts[name] for name in COUNT_NAMES}

    def log_losses(self, *, at_end: bool = False) -> None:
        """Write one warning for everything lost since the last one, at most once a minute.

        `at_end` writes what is left without regard to the minute; it is for the shutdown.
        """
        now_s = self._clock_s()
        with self._lock:
            if now_s < self._next_log_s and not at_end:
                return
            lost = {
                name: self._counts[name] - self._logged[name]
                for name in COUNT_NAMES
                if "_dropped:" in name and self._counts[name] > self._logged[name]
            }
            problem = self._last_problem()
            if not lost and (not problem or problem == self._logged_problem):
                return
            self._next_log_s = now_s + self._log_interval_s
            self._logged = Counter(self._counts)
            self._logged_problem = problem
        summary = ", ".join(f"{name}={count}" for name, count in lost.items()) or "nothing lost"
        _logger.warning(
            "tracing export is in trouble; requests are not affected: %s; last problem: %s",
            summary,
            problem or "none reported",
        )
