"""The spans that the services hold."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

from lakehouse.trace_context import mint_span_id
from lakehouse.wall_clock import ClockAnchor

SpanType = Literal["agent", "span", "generation", "guardrail", "tool", "chain", "retriever", "evaluator"]
Level = Literal["", "WARNING", "ERROR"]
MetadataValue = str | int | bool


class Span:
    """One observation of a trace, open until `end`.

    Starting and ending a span keeps references to what it is given and no more: nothing is serialised, masked
    or sent on the caller's thread, and neither call waits or raises. Texts are handed over as they are to be
    shown, JSON already serialised. Mappings must not change afterwards.

    This class is the span that records nothing: what a service gets while tracing is off, or for a trace that
    is not sampled. It costs nothing and has no id, so nothing points to a span that does not exist.

    Attributes:
        recording: False when this span goes nowhere; a caller can then save itself serialising an input.
        span_id: 16 lowercase hex digits, or None when nothing is recorded.
    """

    __slots__ = ()

    recording: ClassVar[bool] = False
    span_id: str | None = None

    def start_child(self, name: str, *, type: SpanType = "span", input: str = "") -> Span:  # noqa: A002 - the words of Langfuse and of this API
        """Start a span under this one, in the same process."""
        return self

    def end(
        self,
        *,
        output: str = "",
        level: Level = "",
        status_message: str = "",
        model: str = "",
        usage_details: Mapping[str, int] | None = None,
        cost_details: Mapping[str, float] | None = None,
        completion_start_monotonic_ns: int | None = None,
        metadata: Mapping[str, MetadataValue] | None = None,
        trace_metadata: Mapping[str, MetadataValue] | None = None,
        input: str | None = None,  # noqa: A002 - as above
    ) -> None:
        """End the span and hand it over for export; only the first call counts.

        Args:
            output: Text or serialised JSON.
            level: "" for a normal outcome.
            status_message: What went wrong, in one sentence.
            model: Who answered; "" keeps what `start_remote` was given.
            usage_details: Tokens by kind, such as `input` and `output`.
            cost_details: US dollars by kind; give `total` as well.
            completion_start_monotonic_ns: When the first token came, on `time.monotonic_ns`.
            metadata: Facts to filter on.
            trace_metadata: Facts about the whole trace; they are kept on a span of `start_root` alone.
            input: What it was asked, in the place of the input at its start, where only its end knows; None keeps that.
        """


class SpanSink(Protocol):
    """Takes ended spans; implemented by `SpanExport`.

    Attributes:
        text_chars_max: How much of an input or an output is to be kept.
    """

    text_chars_max: int

    def submit(self, span: RecordedSpan) -> None:
        """Take an ended span, or drop and count it; never waits, never raises."""


class RecordedSpan(Span):
    """A span that will be exported. Its attributes are read by the export thread after `end`.

    `input_chars` and `output_chars` are the lengths of the whole texts.
    """

    __slots__ = (
        "_anchor",
        "_ended",
        "_sink",
        "completion_start_unix_ns",
        "cost_details",
        "end_unix_ns",
        "input",
        "input_chars",
        "is_root",
        "level",
        "metadata",
        "model",
        "model_parameters",
        "name",
        "output",
        "output_chars",
        "parent_is_remote",
        "parent_span_id",
        "session_id",
        "span_id",
        "start_unix_ns",
        "status_message",
        "tags",
        "trace_id",
        "trace_metadata",
        "type",
        "usage_details",
        "user_id",
    )

    recording: ClassVar[bool] = True
    span_id: str

    def __init__(
        self,
        sink: SpanSink,
        name: str,
        type: SpanType,  # noqa: A002 - the word of Langfuse and of this API
        trace_id: str,
        parent_span_id: str | None,
        session_id: str | None,
        input: str,  # noqa: A002 - the word of Langfuse and of this API
        *,
        parent_is_remote: bool,
        is_root: bool = False,
        tags: tuple[str, ...] = (),
        user_id: str | None = None,
        trace_metadata: Mapping[str, MetadataValue] | None = None,
        model: str = "",
        model_parameters: str = "",
        span_id: str | None = None,
        anchor: ClockAnchor | None = None,
        start_monotonic_ns: int | None = None,
    ) -> None:
        self._sink = sink
        self._ended = False
        self.span_id = span_id or mint_span_id()
        self.name = name
        self.type = type
        self.trace_id = trace_id
        self.parent_span_id = parent_span_id
        self.parent_is_remote = parent_is_remote
        self.session_id = session_id
        self.is_root = is_root
        self.tags = tags
        self.user_id = user_id
        self.trace_metadata = trace_metadata
        self.model = model
        self.model_parameters = model_parameters
        self.input = input[: sink.text_chars_max]  # the same object unless it is longer
        self.input_chars = len(input)
        self._anchor = anchor or ClockAnchor.now()
        self.start_unix_ns = (
            self._anchor.unix_ns if start_monotonic_ns is None else self._anchor.unix_ns_at(start_monotonic_ns)
        )

    def start_child(self, name: str, *, type: SpanType = "span", input: str = "") -> Span:  # noqa: A002 - as above
        return RecordedSpan(
            self._sink,
            name,
            type,
            self.trace_id,
            self.span_id,
            self.session_id,
            input,
            parent_is_remote=False,
            anchor=self._anchor,
            start_monotonic_ns=time.monotonic_ns(),
        )

    def end(
        self,
        *,
        output: str = "",
        level: Level = "",
        status_message: str = "",
        model: str = "",
        usage_details: Mapping[str, int] | None = None,
        cost_details: Mapping[str, float] | None = None,
        completion_start_monotonic_ns: int | None = None,
        metadata: Mapping[str, MetadataValue] | None = None,
        trace_metadata: Mapping[str, MetadataValue] | None = None,
        input: str | None = None,  # noqa: A002 - as above
    ) -> None:
        if self._ended:
            return
        self._ended = True
        # A step of the wall clock must not turn a duration or an order around: the root's anchor counts for all below.
        self.end_unix_ns = self._anchor.unix_ns_now()
        if input is not None:
            self.input = input[: self._sink.text_chars_max]
            self.input_chars = len(input)
        self.output = output[: self._sink.text_chars_max]
        self.output_chars = len(output)
        self.level = level
        self.status_message = status_message
        if model:
            self.model = model
        self.usage_details = usage_details
        self.cost_details = cost_details
        self.completion_start_unix_ns = (
            None if completion_start_monotonic_ns is None else self._anchor.unix_ns_at(completion_start_monotonic_ns)
        )
        self.metadata = metadata
        if trace_metadata:
            self.trace_metadata = {**(self.trace_metadata or {}), **trace_metadata}
        self._sink.submit(self)


NOOP_SPAN = Span()
