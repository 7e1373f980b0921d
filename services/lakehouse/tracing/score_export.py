"""The scores of a session, and the thread that hands them to the SDK."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from lakehouse.tracing.langfuse_client import SCORES_PER_REQUEST_MAX

if TYPE_CHECKING:
    from lakehouse.tracing.config import TracingConfig
    from lakehouse.tracing.langfuse_client import LangfuseConnection
    from lakehouse.tracing.losses import ExportCounts

_SCORES_PER_SESSION_MAX: Final = 3
_SESSIONS_PER_REQUEST_MAX: Final = SCORES_PER_REQUEST_MAX // _SCORES_PER_SESSION_MAX


@dataclass(frozen=True, slots=True)
class SessionScores:
    """What is said about a whole trace at its end."""

    trace_id: str
    unix_ns: int
    accepted: bool
    iterations: int
    grounded_in_roster: bool | None

    def as_score_arguments(self) -> list[Mapping[str, Any]]:
        """Return the arguments of `create_score`, one mapping a score.

        The ids follow from the trace id: sent twice, a score replaces itself.
        """
        values: list[tuple[str, float, str]] = [
            ("accepted", float(self.accepted), "BOOLEAN"),
            ("iterations", float(self.iterations), "NUMERIC"),
        ]
        if self.grounded_in_roster is not None:
            values.append(("grounded_in_roster", float(self.grounded_in_roster), "BOOLEAN"))
        timestamp = datetime.fromtimestamp(self.unix_ns / 1_000_000_000, UTC)
        return [
            {
                "score_id": f"{self.trace_id}-{name}",
                "trace_id": self.trace_id,
                "name": name,
                "value": value,
                "data_type": data_type,
                "timestamp": timestamp,
            }
            for name, value, data_type in values
        ]


class ScoreExport:
    """Takes sessions' scores from any thread; its own thread, started by the first one, sends them.

    The SDK's queue takes 100,000 scores and reports nothing back. So this queue is the bounded one, and the SDK
    is given one request's worth at a time and flushed before the next.
    """

    def __init__(self, connection: LangfuseConnection, counts: ExportCounts, config: TracingConfig) -> None:
        self._connection = connection
        self._counts = counts
        self._sessions_max = config.queue_scores_max
        self._flush_interval_s = config.flush_interval_ms / 1_000
        self._queue: deque[SessionScores] = deque()
        self._in_flight = 0
        self._flush_waiters = 0
        self._closing = False
        self._abandoned = False
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, scores: SessionScores) -> None:
        """Queue the scores of one session, or drop and count them."""
        with self._lock:
            if self._closing:
                self._counts.add("scores_dropped:shutdown", 1)
                return
            if len(self._queue) >= self._sessions_max:
                self._counts.add("scores_dropped:queue_full", 1)
                return
            self._queue.append(scores)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lakehouse-tracing-scores", daemon=True)
                self._thread.start()

    def queued(self) -> int:
        """Return how many sessions' scores wait."""
        with self._lock:
            return len(self._queue)

    def flush(self, timeout_s: float) -> bool:
        """Send what is queued now; return False if that took longer than `timeout_s`."""
        with self._lock:
            self._flush_waiters += 1
            self._wake.set()
            try:
                return self._idle.wait_for(lambda: not self._queue and not self._in_flight, timeout_s)
            finally:
                self._flush_waiters -= 1

    def start_closing(self) -> None:
        """Refuse further scores and let the thread end once the queue is empty."""
        with self._lock:
            self._closing = True
        self._wake.set()

    def finish_closing(self, timeout_s: float) -> None:
        """Wait for the thread at most `timeout_s`; what it has not sent by then is dropped and counted."""
        if self._thread is not None:
            self._thread.join(max(timeout_s, 0.0))
        with self._lock:
            left = len(self._queue) + self._in_flight
            self._abandoned = left > 0
            self._queue.clear()
        if left:
            self._counts.add("scores_dropped:shutdown", left)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._flush_interval_s)
            self._wake.clear()
            with self._lock:
                closing = self._closing
            while batch := self._take():
                delivered = self._send(batch)
                with self._lock:
                    if self._abandoned:
                        return  # `finish_closing` has counted them
                    self._in_flight = 0
                self._counts.add("scores_exported" if delivered else "scores_dropped:export_failed", len(batch))
                self._counts.log_losses()
                with self._lock:
                    if not self._queue:
                        self._idle.notify_all()
            if closing:
                return

    def _take(self) -> list[SessionScores]:
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _SESSIONS_PER_REQUEST_MAX))]
            self._in_flight = len(batch)
        return batch

    def _send(self, batch: list[SessionScores]) -> bool:
        try:
            return self._connection.send_scores([score for scores in batch for score in scores.as_score_arguments()])
        except Exception:  # noqa: BLE001 - whatever the SDK does, the thread lives on
            return False
