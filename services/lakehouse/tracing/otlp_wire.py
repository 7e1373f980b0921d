"""Writes the protobuf bytes of an OTLP trace request without building its messages.

OpenTelemetry's span, then protobuf's, then its bytes take ten times as long. The field numbers are those of
opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto, which never change; a test reads what is written
here with the official classes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

# A tag is a field's number and how its value is laid out: as a varint, eight bytes, length and bytes, or four bytes.
_REQUEST_RESOURCE_SPANS: Final = b"\x0a"  # 1
_RESOURCE_SPANS_SCOPE_SPANS: Final = b"\x12"  # 2
_SCOPE_SPANS_SPAN: Final = b"\x12"  # 2

_TRACE_ID: Final = b"\x0a\x10"  # 1, and the length of 16
_SPAN_ID: Final = b"\x12\x08"  # 2, and the length of 8
_PARENT_SPAN_ID: Final = b"\x22\x08"  # 4, and the length of 8
_NAME: Final = b"\x2a"  # 5
_KIND_INTERNAL: Final = b"\x30\x01"  # 6
_TIMES: Final = struct.Struct("<cQcQ")
_START_TIME: Final = b"\x39"  # 7
_END_TIME: Final = b"\x41"  # 8
_ATTRIBUTE: Final = b"\x4a"  # 9
_STATUS: Final = b"\x7a"  # 15
_PARENT_IS_LOCAL: Final = b"\x85\x01\x00\x01\x00\x00"  # 16: flags, here that it is known whether the parent is remote
_PARENT_IS_REMOTE: Final = b"\x85\x01\x00\x03\x00\x00"

_STATUS_MESSAGE: Final = b"\x12"  # 2
_STATUS_CODE_ERROR: Final = b"\x18\x02"  # 3
_KEY: Final = b"\x0a"  # 1
_VALUE: Final = b"\x12"  # 2
_TEXT: Final = b"\x0a"  # 1
_TRUE: Final = b"\x10\x01"  # 2
_ARRAY: Final = b"\x2a"  # 5
_ARRAY_ITEM: Final = b"\x0a"  # 1

STATUS_UNSET: Final = _STATUS + b"\x00"


def trace_request(resource_spans: bytes, scope_spans: bytes, spans: Sequence[bytes]) -> bytes:
    """Return an ExportTraceServiceRequest with spans of one scope of one resource.

    `resource_spans` and `scope_spans` are the bytes of the messages of these names without what they repeat.
    """
    scope_spans_size = len(scope_spans) + sum(map(len, spans))
    scope_spans_head = _RESOURCE_SPANS_SCOPE_SPANS + varint(scope_spans_size)
    resource_spans_size = len(resource_spans) + len(scope_spans_head) + scope_spans_size
    resource_spans_head = _REQUEST_RESOURCE_SPANS + varint(resource_spans_size)
    return b"".join((resource_spans_head, resource_spans, scope_spans_head, scope_spans, *spans))


def span_message(
    *,
    trace_id: str,
    span_id: str,
    parent_span_id: str | None,
    parent_is_remote: bool,
    name: str,
    start_unix_ns: int,
    end_unix_ns: int,
    attributes: list[bytes],
    status: bytes,
) -> bytes:
    """Return one span as `trace_request` takes it; ids in hexadecimal."""
    body = b"".join(
        (
            _TRACE_ID,
            bytes.fromhex(trace_id),
            _SPAN_ID,
            bytes.fromhex(span_id),
            b"" if parent_span_id is None else _PARENT_SPAN_ID + bytes.fromhex(parent_span_id),
            delimited(_NAME, name.encode()),
            _KIND_INTERNAL,
            _TIMES.pack(_START_TIME, start_unix_ns, _END_TIME, end_unix_ns),
            *attributes,
            status,
            _PARENT_IS_REMOTE if parent_is_remote and parent_span_id is not None else _PARENT_IS_LOCAL,
        )
    )
    return delimited(_SCOPE_SPANS_SPAN, body)


def attribute_key(name: str) -> bytes:
    """Return what the functions below take as `key`: made once, used for many spans."""
    return delimited(_KEY, name.encode())


def text_attribute(key: bytes, text: bytes) -> bytes:
    """Return an attribute whose value is a text; `text` is its UTF-8."""
    size = len(text)
    if len(key) + size + 4 < 0x80:  # each of the three lengths takes one byte
        return b"\x4a%c%b\x12%c\x0a%c%b" % (len(key) + size + 4, key, size + 2, size, text)
    text_head = _TEXT + varint(size)
    value_head = _VALUE + varint(len(text_head) + size)
    head = _ATTRIBUTE + varint(len(key) + len(value_head) + len(text_head) + size)
    return b"".join((head, key, value_head, text_head, text))


def true_attribute(key: bytes) -> bytes:
    """Return an attribute whose value is true."""
    return delimited(_ATTRIBUTE, key + delimited(_VALUE, _TRUE))


def texts_attribute(key: bytes, texts: Sequence[str]) -> bytes:
    """Return an attribute whose value is a list of texts."""
    items = b"".join(delimited(_ARRAY_ITEM, delimited(_TEXT, text.encode())) for text in texts)
    return delimited(_ATTRIBUTE, key + delimited(_VALUE, delimited(_ARRAY, items)))


def error_status(message: bytes) -> bytes:
    """Return a span's status of an error; `message` is UTF-8 and may be empty."""
    return delimited(_STATUS, (delimited(_STATUS_MESSAGE, message) if message else b"") + _STATUS_CODE_ERROR)


def delimited(tag: bytes, value: bytes) -> bytes:
    """Return a field that is a text, bytes or a message."""
    return b"".join((tag, varint(len(value)), value))


def varint(number: int) -> bytes:
    """Return a number as protobuf writes lengths; it is not negative."""
    if number < 0x80:
        return b"%c" % number
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7)
