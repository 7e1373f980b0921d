"""Turns an ended span into the OpenTelemetry span that Langfuse's exporter takes.

The attributes are those that the SDK's own observations write, down to the separators of the JSON; a test
compares the exported bytes. What the SDK does on the caller's thread happens here, on the export thread, and
what it does besides does not happen at all: no bounded-attribute cleaning, no app-root bookkeeping, no walk
through objects that are strings already.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from lakehouse.tracing.masking import MASK, Capture, Masker
from lakehouse.tracing.span import MetadataValue, RecordedSpan

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

AttributeValue = str | bool | tuple[str, ...]

OBSERVATION_TYPE: Final = "langfuse.observation.type"
OBSERVATION_INPUT: Final = "langfuse.observation.input"
OBSERVATION_OUTPUT: Final = "langfuse.observation.output"
OBSERVATION_LEVEL: Final = "langfuse.observation.level"
OBSERVATION_STATUS_MESSAGE: Final = "langfuse.observation.status_message"
OBSERVATION_MODEL: Final = "langfuse.observation.model.name"
OBSERVATION_MODEL_PARAMETERS: Final = "langfuse.observation.model.parameters"
OBSERVATION_USAGE_DETAILS: Final = "langfuse.observation.usage_details"
OBSERVATION_COST_DETAILS: Final = "langfuse.observation.cost_details"
OBSERVATION_COMPLETION_START_TIME: Final = "langfuse.observation.completion_start_time"
OBSERVATION_METADATA: Final = "langfuse.observation.metadata"
TRACE_NAME: Final = "langfuse.trace.name"
TRACE_TAGS: Final = "langfuse.trace.tags"
TRACE_METADATA: Final = "langfuse.trace.metadata"
SESSION_ID: Final = "session.id"
IS_APP_ROOT: Final = "langfuse.internal.is_app_root"

_JS_SAFE_MAX: Final = 2**53 - 1
_STATUS_UNSET = Status(StatusCode.UNSET)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class SpanEncoder:
    """Builds OpenTelemetry spans of one service; used by its export thread alone."""

    def __init__(self, resource: Resource, scope: InstrumentationScope, masker: Masker, capture: Capture) -> None:
        self._resource = resource
        self._scope = scope
        self._masker = masker
        self._capture = capture

    def encode(self, span: RecordedSpan) -> ReadableSpan:
        """Return the span to export: masked, cut, and with its attributes as Langfuse reads them."""
        trace_id = int(span.trace_id, 16)
        parent = None
        if span.parent_span_id is not None:
            parent = SpanContext(trace_id, int(span.parent_span_id, 16), span.parent_is_remote, trace_flags=_SAMPLED)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=_SAMPLED),
            parent=parent,
            resource=self._resource,
            attributes=self._attributes(span),
            start_time=span.start_unix_ns,
            end_time=span.end_unix_ns,
            status=self._status(span),
            instrumentation_scope=self._scope,
        )

    def _status(self, span: RecordedSpan) -> Status:
        if span.level != "ERROR":
            return _STATUS_UNSET
        return Status(StatusCode.ERROR, self._text(span.status_message) or None)

    def _attributes(self, span: RecordedSpan) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {OBSERVATION_TYPE: span.type}
        # A span without a parent heads its trace whoever started it; besides it only a session's root, which a
        # caller's span may hold, says so.
        if span.is_root or span.parent_span_id is None:
            attributes[IS_APP_ROOT] = True
        if span.session_id is not None:
            attributes[SESSION_ID] = span.session_id
        if span.input:
            attributes[OBSERVATION_INPUT] = self._capture.finish(span.input, span.input_chars)
        if span.output:
            attributes[OBSERVATION_OUTPUT] = self._capture.finish(span.output, span.output_chars)
        if span.level:
            attributes[OBSERVATION_LEVEL] = span.level
        if span.status_message:
            attributes[OBSERVATION_STATUS_MESSAGE] = self._text(span.status_message)
        if span.type == "generation":
            self._add_generation(attributes, span)
        if span.metadata:
            self._add_metadata(attributes, OBSERVATION_METADATA, span.metadata)
        if span.is_root:
            attributes[TRACE_NAME] = span.name
            if span.tags:
                attributes[TRACE_TAGS] = span.tags
            if span.trace_metadata:
                self._add_metadata(attributes, TRACE_METADATA, span.trace_metadata)
        return attributes

    def _add_generation(self, attributes: dict[str, AttributeValue], span: RecordedSpan) -> None:
        if span.model:
            attributes[OBSERVATION_MODEL] = self._text(span.model)
        if span.model_parameters:
            attributes[OBSERVATION_MODEL_PARAMETERS] = self._text(span.model_parameters)
        if span.usage_details:
            attributes[OBSERVATION_USAGE_DETAILS] = json.dumps(dict(span.usage_details))
        if span.cost_details:
            # NaN and infinity are not JSON: one of them would cost the server the whole mapping.
            costs = {key: value for key, value in span.cost_details.items() if math.isfinite(value)}
            attributes[OBSERVATION_COST_DETAILS] = json.dumps(costs)
        if span.completion_start_unix_ns is not None:
            attributes[OBSERVATION_COMPLETION_START_TIME] = _quoted_time(span.completion_start_unix_ns)

    def _add_metadata(
        self, attributes: dict[str, AttributeValue], prefix: str, metadata: Mapping[str, MetadataValue]
    ) -> None:
        for key, value in metadata.items():
            shown = value
            if self._masker.masks_key(key):
                shown = MASK
            elif isinstance(value, str):
                shown = self._text(value)
            elif not -_JS_SAFE_MAX <= value <= _JS_SAFE_MAX:
                shown = str(value)  # as the SDK does: the server reads numbers as doubles
            attributes[f"{prefix}.{key}"] = json.dumps(shown, separators=(",", ":"), ensure_ascii=False)

    def _text(self, text: str) -> str:
        kept, chars = self._capture.shorten(text)
        return self._capture.finish(kept, chars)


def _quoted_time(unix_ns: int) -> str:
    """Return a time as the SDK writes it: a JSON string of ISO 8601 in UTC, to the microsecond."""
    moment = datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC)
    moment = moment.replace(microsecond=unix_ns % 1_000_000_000 // 1_000)
    return f'"{moment.isoformat().replace("+00:00", "Z")}"'
