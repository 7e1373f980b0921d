"""The scores of a session, and the thread that sends them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from langfuse.api import ScoreDataType

from lakehouse.tracing.export_thread import ExportThread

if TYPE_CHECKING:
    from lakehouse.tracing.config import TracingConfig
    from lakehouse.tracing.losses import ExportCounts
    from lakehouse.tracing.span import RecordedSpan

# Some 600 bytes each: far below the 1 MB that a request may have.
_SESSIONS_PER_REQUEST_MAX: Final = 128


class SessionScores(NamedTuple):
    """What is said about a session at its end, on its root observation."""

    trace_id: str
    root_span_id: str
    session_id: str
    unix_ns: int
    accepted: bool
    iterations: int
    grounded_in_roster: bool | None

    def as_json(self, environment: str) -> list[dict[str, Any]]:
        """Return the scores as Langfuse's API names things. Their ids follow from session and name, so that sessions
        on one trace keep a set each, and a set that is sent twice replaces itself."""
        common = {
            "traceId": self.trace_id,
            "observationId": self.root_span_id,
            "timestamp": datetime.fromtimestamp(self.unix_ns / 1_000_000_000, UTC),
        }
        if environment:
            common["environment"] = environment
        values: list[tuple[str, float, str]] = [
            ("accepted", float(self.accepted), ScoreDataType.BOOLEAN),
            ("iterations", float(self.iterations), ScoreDataType.NUMERIC),
        ]
        if self.grounded_in_roster is not None:
            values.append(("grounded_in_roster", float(self.grounded_in_roster), ScoreDataType.BOOLEAN))
        return [
            {
                "id": f"{self.session_id}-{self.root_span_id}-{name}",
                "name": name,
                "value": value,
                "dataType": data_type,
                **common,
            }
            for name, value, data_type in values
        ]


def encode_scores(scores: SessionScores, environment: str) -> list[bytes]:
    """Return one JSON object for each score, the bytes of the SDK's values; `environment` may be "".

    Sent twice, a score replaces itself.
    """
    return [orjson.dumps(score, option=orjson.OPT_UTC_Z) for score in scores.as_json(environment)]


class ScoreExport(ExportThread[SessionScores]):
    """Takes sessions' scores from any thread; its own thread, started by the first one, sends them.

    The SDK's queue takes 100,000 scores and reports nothing back, and it encodes each score three times. So this
    queue stands in its place.
    """

    def __init__(
        self, send: Callable[[Sequence[bytes]], list[bool]], counts: ExportCounts, config: TracingConfig
    ) -> None:
        super().__init__(
            "lakehouse-tracing-scores",
            counts,
            dropped_at_shutdown="scores_dropped:shutdown",
            flush_interval_ms=config.flush_interval_ms,
        )
        self._send_scores = send
        self._environment = config.environment
        self._sessions_max = config.queue_scores_max

    def submit(self, root: RecordedSpan, *, accepted: bool, iterations: int, grounded_in_roster: bool | None) -> None:
        """Queue the scores of the session whose root has ended, or drop and count them."""
        scores = SessionScores(
            root.trace_id,
            root.span_id,
            root.session_id or "",
            root.end_unix_ns,
            accepted,
            iterations,
            grounded_in_roster,
        )
        with self._lock:
            if self._closing:
                self._counts.add("scores_dropped:shutdown", 1)
                return
            if len(self._queue) >= self._sessions_max:
                self._counts.add("scores_dropped:queue_full", 1)
                return
            self._queue.append(scores)
            if self._thread.ident is None:
                self._thread.start()

    def queued(self) -> int:
        """Return how many sessions' scores wait."""
        with self._lock:
            return len(self._queue)

    def _export_queued(self) -> None:
        while batch := self._take():
            taken = self._send(batch)
            with self._lock:
                if self._abandoned:
                    return
                self._in_flight = 0
            self._counts.add("scores_exported", taken)
            self._counts.add("scores_dropped:export_failed", len(batch) - taken)
            self._counts.log_losses()
            with self._lock:
                if not self._queue:
                    self._idle.notify_all()

    def _take(self) -> list[SessionScores]:
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _SESSIONS_PER_REQUEST_MAX))]
            self._in_flight = len(batch)
        return batch

    def _send(self, batch: list[SessionScores]) -> int:
        """Return of how many sessions Langfuse took every score."""
        sessions = [encode_scores(scores, self._environment) for scores in batch]
        try:
            taken = iter(self._send_scores([score for scores in sessions for score in scores]))
        except Exception:  # noqa: BLE001 - whatever the sending does, the thread lives on
            return 0
        return sum(all(list(itertools.islice(taken, len(scores)))) for scores in sessions)
