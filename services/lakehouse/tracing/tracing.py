"""Tracing for one service."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from lakehouse.trace_context import root_span_id
from lakehouse.tracing.losses import ExportCounts
from lakehouse.tracing.masking import Capture, Masker
from lakehouse.tracing.sampling import TraceSampler
from lakehouse.tracing.span import NOOP_SPAN, MetadataValue, RecordedSpan, Span

if TYPE_CHECKING:
    from lakehouse.trace_context import TraceContext
    from lakehouse.tracing.config import TracingConfig
    from lakehouse.tracing.langfuse_client import LangfuseConnection
    from lakehouse.tracing.score_export import ScoreExport
    from lakehouse.tracing.span_export import SpanExport
    from lakehouse.wall_clock import ClockAnchor

_logger = logging.getLogger("lakehouse.tracing")

# Which of the names in `Tracing.counts` may fall.
GAUGES: Final = ("spans_queued", "spans_queued_bytes", "scores_queued")

ServiceName = Literal["iterate", "chatd", "validated"]

# The part of the shutdown that is kept for closing the connections.
_CONNECTION_SHUTDOWN_S: Final = 0.05


class Tracing:
    """Starts a service's spans and sends them to Langfuse, as well as it goes.

    Without keys it is off: every span is the shared one that records nothing, and `langfuse` is not imported. On
    or off, no method but `flush` and `close` waits for anything, and none raises, whatever Langfuse does.

    Nothing of it is shared: no global OpenTelemetry state is read or set, and a foreign current span is nobody's
    parent.
    """

    def __init__(self, config: TracingConfig, *, service: ServiceName) -> None:
        """Set up the connection and the threads; nothing is sent yet."""
        self._config = config
        self._sampler = TraceSampler(config.sample_rate) if config.sample_rate < 1.0 else None
        self._counts = ExportCounts(self._last_problem)
        self._spans: SpanExport | None = None
        self._scores: ScoreExport | None = None
        self._connection: LangfuseConnection | None = None
        self._close_lock = threading.Lock()
        self._closed = False
        if not config.enabled:
            return
        try:
            self._start(config, service)
        except Exception as error:  # noqa: BLE001 - a service starts without its traces rather than not at all
            _logger.warning("tracing is off: %s: %s", type(error).__name__, error)
            return
        atexit.register(self.close)

    def _start(self, config: TracingConfig, service: ServiceName) -> None:
        from lakehouse.tracing.langfuse_client import LangfuseConnection  # noqa: PLC0415 - costs nothing while off
        from lakehouse.tracing.score_export import ScoreExport  # noqa: PLC0415 - as above
        from lakehouse.tracing.span_encoding import SpanEncoder  # noqa: PLC0415 - as above
        from lakehouse.tracing.span_export import SpanExport  # noqa: PLC0415 - as above

        connection = LangfuseConnection(config, service)
        masker = Masker(config.mask_keys, config.mask_patterns)
        capture = Capture(masker, config.capture_bytes_max)
        encoder = SpanEncoder(connection.resource, connection.scope, masker, capture)
        self._connection = connection
        self._scores = ScoreExport(connection.send_scores, self._counts, config)
        self._spans = SpanExport(connection.send_spans, encoder, capture, self._counts, config)

    @property
    def enabled(self) -> bool:
        """True when spans go somewhere."""
        return self._spans is not None

    def start_root(
        self,
        name: str,
        *,
        context: TraceContext,
        session_id: str,
        input: str,  # noqa: A002 - the word of Langfuse and of this API
        kind: str,
        tags: Sequence[str] = (),
        user_id: str | None = None,
        begun: ClockAnchor | None = None,
        try_number: int = 1,
    ) -> Span:
        """Start a session's root, an agent; `begun` is when, now without it.

        It has no parent, or the caller's span where `context` (of `read_root_context`) names one and `caller_span` is
        `parent`. Without a parent it alone carries the trace's name, tags, user and metadata: the kind, and the
        caller's own trace string if it was mapped. Its id is `root_span_id`'s.
        """
        if self._spans is None or (self._sampler and not self._sampler.is_sampled(context.trace_id)):
            return NOOP_SPAN
        trace_metadata: dict[str, MetadataValue] = {"kind": kind}
        if context.caller_trace is not None:
            trace_metadata["caller_trace"] = context.caller_trace
        return RecordedSpan(
            self._spans,
            name,
            "agent",
            context.trace_id,
            None if self._config.caller_span == "ignore" else context.parent_span_id,
            session_id,
            input,
            parent_is_remote=True,
            is_root=True,
            tags=tuple(tags),
            user_id=user_id,
            trace_metadata=trace_metadata,
            span_id=root_span_id(context.trace_id, session_id, try_number),
            anchor=begun,
        )

    def start_remote(
        self,
        name: str,
        *,
        type: Literal["generation", "guardrail", "retriever"],  # noqa: A002 - the word of Langfuse and of this API
        context: TraceContext,
        session_id: str | None,
        input: str = "",  # noqa: A002 - as above
        model: str = "",
        model_parameters: str = "",
    ) -> Span:
        """Start a hop's span under the sender's span that `context` (of `read_hop_context`) names.

        It sets nothing of the trace. Where the context was minted, nobody called with a trace, and the span
        stands alone at the top of its own.
        """
        if self._spans is None or (self._sampler and not self._sampler.is_sampled(context.trace_id)):
            return NOOP_SPAN
        return RecordedSpan(
            self._spans,
            name,
            type,
            context.trace_id,
            context.parent_span_id,
            session_id,
            input,
            parent_is_remote=True,
            model=model,
            model_parameters=model_parameters,
        )

    def score_session(self, root: Span, *, accepted: bool, iterations: int, grounded_in_roster: bool | None) -> None:
        """Score a session on its root, which has ended: `accepted`, `iterations` and, unless None,
        `grounded_in_roster`. Nothing for a root that records nothing."""
        if self._scores is None or not isinstance(root, RecordedSpan):
            return
        self._scores.submit(root, accepted=accepted, iterations=iterations, grounded_in_roster=grounded_in_roster)

    def counts(self) -> Mapping[str, int]:
        """Return what was exported and dropped since the start, by cause, and what waits now.

        Spans are counted singly, scores by session. Those in `GAUGES` rise and fall, all others only grow. What
        follows a colon is the cause of a drop.
        """
        queued_spans, queued_bytes = self._spans.queued() if self._spans is not None else (0, 0)
        queued_scores = self._scores.queued() if self._scores is not None else 0
        return {
            **self._counts.snapshot(),
            "spans_queued": queued_spans,
            "spans_queued_bytes": queued_bytes,
            "scores_queued": queued_scores,
        }

    def flush(self, timeout_s: float) -> bool:
        """Send what has ended so far; return False if it took longer. It blocks: never call it on a loop."""
        if self._spans is None or self._scores is None:
            return True
        deadline_s = time.monotonic() + timeout_s
        flushed = self._spans.flush(timeout_s)
        return self._scores.flush(max(deadline_s - time.monotonic(), 0.0)) and flushed

    def close(self) -> None:
        """Send what is left and stop, within `shutdown_ms`; what does not make it is dropped and counted.

        It blocks: call it in a thread. Spans that end later are dropped and counted. Further calls do nothing.
        """
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
        if self._spans is None or self._scores is None or self._connection is None:
            return
        atexit.unregister(self.close)
        deadline_s = time.monotonic() + self._config.shutdown_ms / 1_000
        self._spans.start_closing()
        self._scores.start_closing()
        self._spans.finish_closing(deadline_s - _CONNECTION_SHUTDOWN_S - time.monotonic())
        self._scores.finish_closing(deadline_s - _CONNECTION_SHUTDOWN_S - time.monotonic())
        self._connection.close(max(deadline_s - time.monotonic(), _CONNECTION_SHUTDOWN_S))
        self._counts.log_losses(at_end=True)

    def _last_problem(self) -> str:
        return self._connection.last_problem if self._connection is not None else ""
