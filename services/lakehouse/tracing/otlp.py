"""What crosses the wire to Langfuse: its two paths, and spans as its server reads them from an OTLP request's bytes.

It imports neither `langfuse` nor grpc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

TRACES_PATH: Final = "/api/public/otel/v1/traces"
SCORES_PATH: Final = "/api/public/scores"

Attributes = Mapping[str, Any]


class OtlpDecodeError(ValueError):
    """The bytes are no OTLP trace request, or a span in it has an id of the wrong length or of zeros."""


@dataclass(frozen=True, slots=True)
class ExportedSpan:
    """One span as it was exported.

    `type`, `level` and `status_message` are the Langfuse attributes of these names; level is `DEFAULT` where the
    span has none. `parent_span_id` is None for a span without a parent.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    type: str
    level: str
    status_message: str
    start_unix_ns: int
    end_unix_ns: int
    attributes: Attributes = field(default_factory=dict)
    resource: Attributes = field(default_factory=dict)
    scope: Attributes = field(default_factory=dict)

    @property
    def duration_ms(self) -> float:
        """Milliseconds from start to end."""
        return (self.end_unix_ns - self.start_unix_ns) / 1_000_000

    def as_json(self) -> dict[str, Any]:
        """Return the span as a mapping that `json.dumps` takes."""
        shown = asdict(self)
        del shown["scope"]
        return shown


def decode_spans(body: bytes) -> list[ExportedSpan]:
    """Return the spans of one request body, already decompressed, in its order.

    Raises:
        OtlpDecodeError: As Langfuse, it refuses the whole request for one bad id.
    """
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise OtlpDecodeError("the body is not an OTLP trace request") from error
    spans: list[ExportedSpan] = []
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = {
                "name": scope_spans.scope.name,
                "version": scope_spans.scope.version,
                **_attributes(scope_spans.scope.attributes),
            }
            for span in scope_spans.spans:
                attributes = _attributes(span.attributes)
                spans.append(
                    ExportedSpan(
                        trace_id=_id(span.trace_id, 16),
                        span_id=_id(span.span_id, 8),
                        parent_span_id=_id(span.parent_span_id, 8) if span.parent_span_id else None,
                        name=span.name,
                        type=str(attributes.get("langfuse.observation.type", "span")),
                        level=str(attributes.get("langfuse.observation.level", "DEFAULT")),
                        status_message=str(attributes.get("langfuse.observation.status_message", "")),
                        start_unix_ns=span.start_time_unix_nano,
                        end_unix_ns=span.end_time_unix_nano,
                        attributes=attributes,
                        resource=resource,
                        scope=scope,
                    )
                )
    return spans


def _id(value: bytes, length: int) -> str:
    if len(value) != length or not any(value):
        raise OtlpDecodeError(f"a trace or span id must have {length} bytes that are not all zero")
    return value.hex()


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return None if kind is None else getattr(value, kind)
