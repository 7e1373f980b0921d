"""Turns ended spans into the OTLP request that Langfuse takes, by protobuf's own messages.

The attributes are those that the SDK's own observations write, down to the separators of the JSON; a test
compares the exported bytes. What the SDK does on the caller's thread happens here, on the export thread, and
what it does besides does not happen at all: no bounded-attribute cleaning, no app-root bookkeeping, no walk
through objects that are strings already, no OpenTelemetry span.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, get_args

import orjson
from langfuse import LangfuseOtelSpanAttributes as Key
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import (
    SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK,
    SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK,
    Status,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from lakehouse.tracing.masking import MASK, Capture, Masker
from lakehouse.tracing.span import Level, MetadataValue, RecordedSpan, SpanType

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope


def _text_attribute(key: str, text: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=text))


_TYPES: Final = {each: _text_attribute(Key.OBSERVATION_TYPE, each) for each in get_args(SpanType)}
_LEVELS: Final = {each: _text_attribute(Key.OBSERVATION_LEVEL, each) for each in get_args(Level)}
_IS_APP_ROOT: Final = KeyValue(key=Key.IS_APP_ROOT, value=AnyValue(bool_value=True))

_INTERNAL: Final = SpanMessage.SPAN_KIND_INTERNAL
_PARENT_IS_LOCAL: Final = SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_PARENT_IS_REMOTE: Final = SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK

# The keys of what is written for nearly every span, looked up once.
_INPUT: Final = Key.OBSERVATION_INPUT
_OUTPUT: Final = Key.OBSERVATION_OUTPUT
_SESSION_ID: Final = Key.TRACE_SESSION_ID
_MODEL: Final = Key.OBSERVATION_MODEL
_MODEL_PARAMETERS: Final = Key.OBSERVATION_MODEL_PARAMETERS
_USAGE_DETAILS: Final = Key.OBSERVATION_USAGE_DETAILS
_COST_DETAILS: Final = Key.OBSERVATION_COST_DETAILS
_COMPLETION_START_TIME: Final = Key.OBSERVATION_COMPLETION_START_TIME

_JS_SAFE_MAX: Final = 2**53 - 1
_REPEATED_MAX: Final = 512
_REPEATED_CHARS_MAX: Final = 128
_MASKED: Final = json.dumps(MASK)


class SpanEncoder:
    """Writes the spans of one service; used by its export thread alone."""

    def __init__(self, resource: Resource, scope: InstrumentationScope, masker: Masker, capture: Capture) -> None:
        self._masks_key = masker.masks_key
        self._text = capture.finish_whole
        self._long_text = capture.finish
        self._frame = _frame(resource, scope)
        # Names, models, roster versions, counts: what is short is said over and over.
        self._repeated_text = lru_cache(_REPEATED_MAX)(self._shown_text)
        self._repeated_metadata = lru_cache(_REPEATED_MAX, typed=True)(self._shown_metadata)

    def encode(self, spans: Sequence[RecordedSpan]) -> tuple[bytes, int]:
        """Return an ExportTraceServiceRequest with the spans, and how many of them are in it.

        Masked, cut, and with their attributes as Langfuse reads them. A span that cannot be encoded is left out.
        Several results, one after another, are a request with all their spans: so protobuf reads bytes that follow
        each other.
        """
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._frame)
        messages = request.resource_spans[0].scope_spans[0].spans
        for span in spans:
            message = messages.add()
            try:
                self._write(span, message)
            except Exception:  # noqa: BLE001 - one odd span must not cost those beside it
                del messages[-1]
        return request.SerializeToString(), len(messages)

    def _write(self, span: RecordedSpan, message: SpanMessage) -> None:
        message.trace_id = bytes.fromhex(span.trace_id)
        message.span_id = bytes.fromhex(span.span_id)
        message.flags = _PARENT_IS_LOCAL
        if span.parent_span_id is not None:
            message.parent_span_id = bytes.fromhex(span.parent_span_id)
            if span.parent_is_remote:
                message.flags = _PARENT_IS_REMOTE
        message.name = span.name
        message.kind = _INTERNAL
        message.start_time_unix_nano = span.start_unix_ns
        message.end_time_unix_nano = span.end_unix_ns
        self._write_attributes(span, message)
        status = message.status
        status.SetInParent()
        if span.level == "ERROR":
            status.code = Status.STATUS_CODE_ERROR
            status.message = self._text(span.status_message)

    def _write_attributes(self, span: RecordedSpan, message: SpanMessage) -> None:
        attributes = message.attributes
        append, add = attributes.append, attributes.add
        append(_TYPES[span.type])
        # Under a caller's span the trace is the caller's: its name, its tags and its root stay what he made them.
        is_top = span.parent_span_id is None
        if is_top:
            append(_IS_APP_ROOT)
        if span.session_id is not None:
            add(key=_SESSION_ID).value.string_value = span.session_id
        if span.input:
            add(key=_INPUT).value.string_value = self._long_text(span.input, span.input_chars)
        if span.output:
            add(key=_OUTPUT).value.string_value = self._long_text(span.output, span.output_chars)
        if span.level:
            append(_LEVELS[span.level])
        if span.status_message:
            append(self._made_text(Key.OBSERVATION_STATUS_MESSAGE, span.status_message))
        if span.type == "generation":
            self._write_generation(span, attributes)
        metadata = span.metadata
        if span.is_root and span.trace_metadata and not is_top:
            metadata = {**(metadata or {}), **span.trace_metadata}
        if metadata:
            self._write_metadata(Key.OBSERVATION_METADATA, metadata, append)
        if span.is_root and is_top:
            self._write_trace(span, attributes)

    def _write_trace(self, span: RecordedSpan, attributes: RepeatedCompositeFieldContainer[KeyValue]) -> None:
        append = attributes.append
        append(_text_attribute(Key.TRACE_NAME, span.name))
        if span.tags:
            tags = ArrayValue(values=[AnyValue(string_value=tag) for tag in span.tags])
            append(KeyValue(key=Key.TRACE_TAGS, value=AnyValue(array_value=tags)))
        if span.user_id is not None:
            append(_text_attribute(Key.TRACE_USER_ID, span.user_id))
        if span.trace_metadata:
            self._write_metadata(Key.TRACE_METADATA, span.trace_metadata, append)

    def _write_generation(self, span: RecordedSpan, attributes: RepeatedCompositeFieldContainer[KeyValue]) -> None:
        append, add = attributes.append, attributes.add
        if span.model:
            append(self._made_text(_MODEL, span.model))
        if span.model_parameters:
            append(self._made_text(_MODEL_PARAMETERS, span.model_parameters))
        if span.usage_details:
            add(key=_USAGE_DETAILS).value.string_value = json.dumps(dict(span.usage_details))
        if span.cost_details:
            # NaN and infinity are not JSON: one of them would cost the server the whole mapping.
            costs = {key: value for key, value in span.cost_details.items() if math.isfinite(value)}
            add(key=_COST_DETAILS).value.string_value = json.dumps(costs)
        if span.completion_start_unix_ns is not None:
            add(key=_COMPLETION_START_TIME).value.string_value = _quoted_time(span.completion_start_unix_ns)

    def _write_metadata(
        self, prefix: str, metadata: Mapping[str, MetadataValue], append: Callable[[KeyValue], None]
    ) -> None:
        for name, value in metadata.items():
            short = not isinstance(value, str) or len(value) <= _REPEATED_CHARS_MAX
            append((self._repeated_metadata if short else self._shown_metadata)(prefix, name, value))

    def _made_text(self, key: str, text: str) -> KeyValue:
        return (self._repeated_text if len(text) <= _REPEATED_CHARS_MAX else self._shown_text)(key, text)

    def _shown_text(self, key: str, text: str) -> KeyValue:
        return _text_attribute(key, self._text(text))

    def _shown_metadata(self, prefix: str, name: str, value: MetadataValue) -> KeyValue:
        return _text_attribute(f"{prefix}.{name}", _MASKED if self._masks_key(name) else self._json(value))

    def _json(self, value: MetadataValue) -> str:
        if isinstance(value, str):
            return orjson.dumps(self._text(value)).decode()
        if not -_JS_SAFE_MAX <= value <= _JS_SAFE_MAX:
            return f'"{value}"'  # as the SDK does: the server reads numbers as doubles
        return json.dumps(value)


def _frame(resource: Resource, scope: InstrumentationScope) -> ExportTraceServiceRequest:
    """Return what every request says around its spans: written once, by OpenTelemetry itself."""
    nothing = ReadableSpan(
        "", context=SpanContext(1, 1, is_remote=False), resource=resource, instrumentation_scope=scope
    )
    request = encode_spans([nothing])
    request.resource_spans[0].scope_spans[0].ClearField("spans")
    return request


def _quoted_time(unix_ns: int) -> str:
    """Return a time as the SDK writes it: a JSON string of ISO 8601 in UTC, to the microsecond."""
    moment = datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC)
    moment = moment.replace(microsecond=unix_ns % 1_000_000_000 // 1_000)
    return f'"{moment.isoformat().replace("+00:00", "Z")}"'
