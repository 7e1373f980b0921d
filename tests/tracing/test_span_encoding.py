"""The bytes written here are those that OpenTelemetry's own classes and encoder give for the same span."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args

from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from lakehouse.tracing import DEFAULT_MASK_KEYS, DEFAULT_MASK_PATTERNS
from lakehouse.tracing.masking import MASK, Capture, Masker
from lakehouse.tracing.span import Level, RecordedSpan, SpanType
from lakehouse.tracing.span_encoding import SpanEncoder

# Attributes of every kind that a resource may have, and a schema's address, which ours have not.
RESOURCE = Resource(
    {
        "service.name": "chatd é",
        "empty": "",
        "process.pid": 2**40,
        "below": -1,
        "share": 0.25,
        "yes": True,
        "no": False,
        "texts": ["a", "", "🙂"],
        "numbers": [1, -2],
    },
    "https://schemas.example/resource",
)
SCOPE = InstrumentationScope(
    "langfuse-sdk", "5.0.4", "https://schemas.example/scope", {"public_key": "pk-" + "x" * 200}
)
MASKER = Masker(DEFAULT_MASK_KEYS, DEFAULT_MASK_PATTERNS)
CAPTURE = Capture(MASKER, 40_000)
ENCODER = SpanEncoder(RESOURCE, SCOPE, MASKER, CAPTURE)
JS_SAFE_MAX = 2**53 - 1


class Kept:
    """A sink that keeps the span that ended last."""

    text_chars_max = CAPTURE.chars_kept
    span: RecordedSpan

    def submit(self, span: RecordedSpan) -> None:
        self.span = span


def shown(text: str) -> str:
    return CAPTURE.finish_whole(text)


def expected_request(spans: list[RecordedSpan]) -> ExportTraceServiceRequest:
    """Return what OpenTelemetry makes of spans with the attributes that the SDK's observations have."""
    return encode_spans([readable(span) for span in spans])


def readable(span: RecordedSpan) -> ReadableSpan:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    trace_id = int(span.trace_id, 16)
    parent = None
    if span.parent_span_id is not None:
        parent = SpanContext(trace_id, int(span.parent_span_id, 16), span.parent_is_remote, trace_flags=sampled)
    failed = span.level == "ERROR"
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=sampled),
        parent=parent,
        resource=RESOURCE,
        attributes=attributes(span),
        start_time=span.start_unix_ns,
        end_time=span.end_unix_ns,
        status=Status(StatusCode.ERROR, shown(span.status_message) or None) if failed else Status(StatusCode.UNSET),
        instrumentation_scope=SCOPE,
    )


def attributes(span: RecordedSpan) -> dict[str, Any]:
    made: dict[str, Any] = {"langfuse.observation.type": span.type}
    if span.parent_span_id is None:
        made["langfuse.internal.is_app_root"] = True
    if span.session_id is not None:
        made["session.id"] = span.session_id
    if span.input:
        made["langfuse.observation.input"] = CAPTURE.finish(span.input, span.input_chars)
    if span.output:
        made["langfuse.observation.output"] = CAPTURE.finish(span.output, span.output_chars)
    if span.level:
        made["langfuse.observation.level"] = span.level
    if span.status_message:
        made["langfuse.observation.status_message"] = shown(span.status_message)
    if span.type == "generation":
        made |= generation(span)
    top = span.parent_span_id is None
    of_trace = span.trace_metadata or {} if span.is_root else {}
    made |= metadata("langfuse.observation.metadata", {**(span.metadata or {}), **({} if top else of_trace)})
    if span.is_root and top:
        made["langfuse.trace.name"] = span.name
        if span.tags:
            made["langfuse.trace.tags"] = span.tags
        made |= metadata("langfuse.trace.metadata", of_trace)
    return made


def generation(span: RecordedSpan) -> dict[str, str]:
    made = {}
    if span.model:
        made["langfuse.observation.model.name"] = shown(span.model)
    if span.model_parameters:
        made["langfuse.observation.model.parameters"] = shown(span.model_parameters)
    if span.usage_details:
        made["langfuse.observation.usage_details"] = json.dumps(span.usage_details)
    if span.cost_details:
        costs = {key: value for key, value in span.cost_details.items() if math.isfinite(value)}
        made["langfuse.observation.cost_details"] = json.dumps(costs)
    if span.completion_start_unix_ns is not None:
        moment = datetime.fromtimestamp(span.completion_start_unix_ns // 1_000_000_000, UTC)
        moment = moment.replace(microsecond=span.completion_start_unix_ns % 1_000_000_000 // 1_000)
        made["langfuse.observation.completion_start_time"] = f'"{moment.isoformat().replace("+00:00", "Z")}"'
    return made


def metadata(prefix: str, values: Mapping[str, str | int | bool]) -> dict[str, str]:
    made = {}
    for key, value in values.items():
        shown_value: object = value
        if MASKER.masks_key(key):
            shown_value = MASK
        elif isinstance(value, str):
            shown_value = shown(value)
        elif not -JS_SAFE_MAX <= value <= JS_SAFE_MAX:
            shown_value = str(value)
        made[f"{prefix}.{key}"] = json.dumps(shown_value, separators=(",", ":"), ensure_ascii=False)
    return made


def sized(lengths: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    return st.builds(lambda unit, length: unit * length, st.sampled_from(["x", "é", "🙂"]), lengths)


# The lengths at which protobuf's own lengths grow by a byte.
AROUND_A_STEP = st.integers(0, 300) | st.integers(16_200, 16_500) | st.integers(65_400, 65_600)
text = st.text(max_size=60)  # any that has UTF-8
words = (
    text
    | sized(st.integers(0, 300))
    | st.sampled_from(["Bearer abcdefgh12", '{"password":"x"}', 'a\x00b\x7f\u2028\\"'])
)
long = words | sized(AROUND_A_STEP) | st.text(st.characters(), max_size=20)  # lone surrogates as well
ids = st.integers(1, 2**64 - 1).map("{:016x}".format)
facts = st.dictionaries(words, words | st.integers(-(2**70), 2**70) | st.booleans(), max_size=5)


@st.composite
def ended_spans(draw: st.DrawFn) -> RecordedSpan:
    sink = Kept()
    span = RecordedSpan(
        sink,
        draw(words),
        draw(st.sampled_from(get_args(SpanType))),
        draw(st.integers(1, 2**128 - 1).map("{:032x}".format)),
        draw(st.none() | ids),
        draw(st.none() | words),
        draw(long),
        parent_is_remote=draw(st.booleans()),
        is_root=draw(st.booleans()),
        tags=tuple(draw(st.lists(words, max_size=3))),
        trace_metadata=draw(st.none() | facts),
        model=draw(words),
        model_parameters=draw(words),
    )
    span.start_unix_ns = draw(st.integers(0, 2**62))
    span.end(
        output=draw(long),
        level=draw(st.sampled_from(get_args(Level))),
        status_message=draw(words),
        model=draw(words),
        usage_details=draw(st.none() | st.dictionaries(text, st.integers(0, 2**70), max_size=3)),
        cost_details=draw(st.none() | st.dictionaries(text, st.floats(), max_size=3)),
        metadata=draw(st.none() | facts),
        trace_metadata=draw(st.none() | facts),
    )
    span.completion_start_unix_ns = draw(st.none() | st.integers(0, 2**55))
    return sink.span


@campaign(100)
@given(st.lists(ended_spans(), min_size=1, max_size=3))
def test_spans_are_written_as_opentelemetry_writes_them(spans: list[RecordedSpan]) -> None:
    body, count = ENCODER.encode(spans)
    assert count == len(spans)
    assert ExportTraceServiceRequest.FromString(body) == expected_request(spans)


def test_requests_one_after_another_are_one_request() -> None:
    """So the export thread joins its slices: protobuf appends what is repeated."""
    sink = Kept()
    joined = b""
    for name in ("a", "b"):
        RecordedSpan(sink, name, "span", "1" * 32, None, None, "", parent_is_remote=False).end()
        joined += ENCODER.encode([sink.span])[0]
    request = ExportTraceServiceRequest.FromString(joined)
    assert [each.scope_spans[0].spans[0].name for each in request.resource_spans] == ["a", "b"]
    assert request.resource_spans[0].resource == request.resource_spans[1].resource


def test_a_span_that_cannot_be_encoded_is_left_out_whole() -> None:
    sink = Kept()
    spans: list[RecordedSpan] = []
    for name in ("a", "has no UTF-8 \ud800", "b"):
        RecordedSpan(sink, name, "span", "1" * 32, None, None, "", parent_is_remote=False).end()
        spans.append(sink.span)
    body, count = ENCODER.encode(spans)
    assert count == 2
    assert ExportTraceServiceRequest.FromString(body) == expected_request([spans[0], spans[2]])


def test_what_is_said_over_and_over_keeps_its_type() -> None:
    """Python takes 1 and True for the same key."""
    sink = Kept()
    for value, written in ((1, "1"), (True, "true"), (0, "0"), (False, "false"), ("1", '"1"')):
        RecordedSpan(sink, "x", "span", "1" * 32, None, None, "", parent_is_remote=False).end(metadata={"n": value})
        request = ExportTraceServiceRequest.FromString(ENCODER.encode([sink.span])[0])
        pairs = {pair.key: pair.value for pair in request.resource_spans[0].scope_spans[0].spans[0].attributes}
        assert pairs["langfuse.observation.metadata.n"].string_value == written
