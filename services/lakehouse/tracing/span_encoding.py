"""Turns an ended span into the bytes that Langfuse's OTLP endpoint takes.

The attributes are those that the SDK's own observations write, down to the separators of the JSON; a test
compares the exported bytes. What the SDK does on the caller's thread happens here, on the export thread, and
what it does besides does not happen at all: no bounded-attribute cleaning, no app-root bookkeeping, no walk
through objects that are strings already, no OpenTelemetry span.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, get_args

import orjson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from lakehouse.tracing.masking import MASK, Capture, Masker
from lakehouse.tracing.otlp_wire import (
    STATUS_UNSET,
    attribute_key,
    error_status,
    span_message,
    text_attribute,
    texts_attribute,
    trace_request,
    true_attribute,
)
from lakehouse.tracing.span import Level, MetadataValue, RecordedSpan, SpanType

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_OBSERVATION_INPUT: Final = attribute_key("langfuse.observation.input")
_OBSERVATION_OUTPUT: Final = attribute_key("langfuse.observation.output")
_OBSERVATION_STATUS_MESSAGE: Final = attribute_key("langfuse.observation.status_message")
_OBSERVATION_MODEL: Final = attribute_key("langfuse.observation.model.name")
_OBSERVATION_MODEL_PARAMETERS: Final = attribute_key("langfuse.observation.model.parameters")
_OBSERVATION_USAGE_DETAILS: Final = attribute_key("langfuse.observation.usage_details")
_OBSERVATION_COST_DETAILS: Final = attribute_key("langfuse.observation.cost_details")
_OBSERVATION_COMPLETION_START_TIME: Final = attribute_key("langfuse.observation.completion_start_time")
_TRACE_NAME: Final = attribute_key("langfuse.trace.name")
_TRACE_TAGS: Final = attribute_key("langfuse.trace.tags")
_SESSION_ID: Final = attribute_key("session.id")
_IS_APP_ROOT: Final = true_attribute(attribute_key("langfuse.internal.is_app_root"))
_OBSERVATION_METADATA: Final = "langfuse.observation.metadata"
_TRACE_METADATA: Final = "langfuse.trace.metadata"

_TYPES: Final = {
    each: text_attribute(attribute_key("langfuse.observation.type"), each.encode()) for each in get_args(SpanType)
}
_LEVELS: Final = {
    each: text_attribute(attribute_key("langfuse.observation.level"), each.encode()) for each in get_args(Level)
}

_JS_SAFE_MAX: Final = 2**53 - 1
_REPEATED_MAX: Final = 512
_REPEATED_CHARS_MAX: Final = 128
_MASKED: Final = json.dumps(MASK).encode()


class SpanEncoder:
    """Writes the spans of one service; used by its export thread alone."""

    def __init__(self, resource: Resource, scope: InstrumentationScope, masker: Masker, capture: Capture) -> None:
        self._masker = masker
        self._capture = capture
        self._resource_spans, self._scope_spans = _frame(resource, scope)
        # Names, models, roster versions, counts: what is short is said over and over.
        self._repeated_text = lru_cache(_REPEATED_MAX)(self._text_attribute)
        self._repeated_metadata = lru_cache(_REPEATED_MAX, typed=True)(self._metadata_attribute)

    def request(self, spans: Sequence[bytes]) -> bytes:
        """Return the body of a request that sends spans of `encode`."""
        return trace_request(self._resource_spans, self._scope_spans, spans)

    def encode(self, span: RecordedSpan) -> bytes:
        """Return the span to export: masked, cut, and with its attributes as Langfuse reads them."""
        return span_message(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_span_id,
            parent_is_remote=span.parent_is_remote,
            name=span.name,
            start_unix_ns=span.start_unix_ns,
            end_unix_ns=span.end_unix_ns,
            attributes=self._attributes(span),
            status=error_status(self._text(span.status_message)) if span.level == "ERROR" else STATUS_UNSET,
        )

    def _attributes(self, span: RecordedSpan) -> list[bytes]:
        attributes = [_TYPES[span.type]]
        # A span without a parent heads its trace whoever started it; besides it only a session's root, which a
        # caller's span may hold, says so.
        if span.is_root or span.parent_span_id is None:
            attributes.append(_IS_APP_ROOT)
        if span.session_id is not None:
            attributes.append(text_attribute(_SESSION_ID, span.session_id.encode()))
        if span.input:
            attributes.append(text_attribute(_OBSERVATION_INPUT, self._capture.finish(span.input, span.input_chars)))
        if span.output:
            attributes.append(text_attribute(_OBSERVATION_OUTPUT, self._capture.finish(span.output, span.output_chars)))
        if span.level:
            attributes.append(_LEVELS[span.level])
        if span.status_message:
            self._add_text(attributes, _OBSERVATION_STATUS_MESSAGE, span.status_message)
        if span.type == "generation":
            self._add_generation(attributes, span)
        if span.metadata:
            self._add_metadata(attributes, _OBSERVATION_METADATA, span.metadata)
        if span.is_root:
            attributes.append(text_attribute(_TRACE_NAME, span.name.encode()))
            if span.tags:
                attributes.append(texts_attribute(_TRACE_TAGS, span.tags))
            if span.trace_metadata:
                self._add_metadata(attributes, _TRACE_METADATA, span.trace_metadata)
        return attributes

    def _add_generation(self, attributes: list[bytes], span: RecordedSpan) -> None:
        if span.model:
            self._add_text(attributes, _OBSERVATION_MODEL, span.model)
        if span.model_parameters:
            self._add_text(attributes, _OBSERVATION_MODEL_PARAMETERS, span.model_parameters)
        if span.usage_details:
            usage = json.dumps(dict(span.usage_details)).encode()
            attributes.append(text_attribute(_OBSERVATION_USAGE_DETAILS, usage))
        if span.cost_details:
            # NaN and infinity are not JSON: one of them would cost the server the whole mapping.
            costs = {key: value for key, value in span.cost_details.items() if math.isfinite(value)}
            attributes.append(text_attribute(_OBSERVATION_COST_DETAILS, json.dumps(costs).encode()))
        if span.completion_start_unix_ns is not None:
            moment = _quoted_time(span.completion_start_unix_ns)
            attributes.append(text_attribute(_OBSERVATION_COMPLETION_START_TIME, moment))

    def _add_text(self, attributes: list[bytes], key: bytes, text: str) -> None:
        made = self._repeated_text if len(text) <= _REPEATED_CHARS_MAX else self._text_attribute
        attributes.append(made(key, text))

    def _add_metadata(self, attributes: list[bytes], prefix: str, metadata: Mapping[str, MetadataValue]) -> None:
        for name, value in metadata.items():
            short = not isinstance(value, str) or len(value) <= _REPEATED_CHARS_MAX
            made = self._repeated_metadata if short else self._metadata_attribute
            attributes.append(made(prefix, name, value))

    def _text_attribute(self, key: bytes, text: str) -> bytes:
        return text_attribute(key, self._text(text))

    def _metadata_attribute(self, prefix: str, name: str, value: MetadataValue) -> bytes:
        shown = _MASKED if self._masker.masks_key(name) else self._json(value)
        return text_attribute(attribute_key(f"{prefix}.{name}"), shown)

    def _json(self, value: MetadataValue) -> bytes:
        if isinstance(value, str):
            return orjson.dumps(self._text(value).decode())
        if not -_JS_SAFE_MAX <= value <= _JS_SAFE_MAX:
            return f'"{value}"'.encode()  # as the SDK does: the server reads numbers as doubles
        return json.dumps(value).encode()

    def _text(self, text: str) -> bytes:
        return self._capture.finish_whole(text)


def _frame(resource: Resource, scope: InstrumentationScope) -> tuple[bytes, bytes]:
    """Return what every request says around its spans, for `trace_request`: written once, by OpenTelemetry itself."""
    nothing = ReadableSpan(
        "", context=SpanContext(1, 1, is_remote=False), resource=resource, instrumentation_scope=scope
    )
    (resource_spans,) = encode_spans([nothing]).resource_spans
    (scope_spans,) = resource_spans.scope_spans
    scope_spans.ClearField("spans")
    scope_spans_bytes = scope_spans.SerializeToString()
    resource_spans.ClearField("scope_spans")
    return resource_spans.SerializeToString(), scope_spans_bytes


def _quoted_time(unix_ns: int) -> bytes:
    """Return a time as the SDK writes it: a JSON string of ISO 8601 in UTC, to the microsecond."""
    moment = datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC)
    moment = moment.replace(microsecond=unix_ns % 1_000_000_000 // 1_000)
    return f'"{moment.isoformat().replace("+00:00", "Z")}"'.encode()
