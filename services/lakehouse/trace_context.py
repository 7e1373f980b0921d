"""Names and rules of the trace metadata that travels between callers and the three services.

A session has one trace id of 32 lowercase hexadecimal digits. A caller may choose it with
`x-lakehouse-trace-id`, and may name its own span with a W3C `traceparent`. Whatever a caller sends, reading
it never fails: what cannot be used is left out, a sentence says so in `TraceContext.warnings`, and an id is
minted. The warnings name the header and the rule and never repeat the caller's bytes: they are safe to log.

This module belongs to the client half: it imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

TRACE_ID_HEADER = "x-lakehouse-trace-id"
SESSION_ID_HEADER = "x-lakehouse-session-id"
TRACEPARENT_HEADER = "traceparent"
CALLER_HEADER = "x-lakehouse-caller"
"""Whom iterate calls for; believed from a caller that the callers' file trusts with it, and from nobody else."""

CALLER_TRACE_CHARS_MAX = 200
SESSION_ID_CHARS_MAX = 128

_ZERO_TRACE_ID = "0" * 32
_ZERO_SPAN_ID = "0" * 16
_HEX_32 = re.compile(r"[0-9a-fA-F]{32}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_PRINTABLE = re.compile(rf"[ -~]{{1,{CALLER_TRACE_CHARS_MAX}}}")
_SESSION_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{SESSION_ID_CHARS_MAX}}}")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.DOTALL)


class TraceContext(NamedTuple):
    """What one call's metadata says about its trace.

    Attributes:
        trace_id: 32 lowercase hex digits, never all zeros.
        parent_span_id: 16 lowercase hex digits of the span to hang under; None for a root.
        caller_trace: The caller's own trace string, set only when it had to be mapped to an id.
        session_id: A valid `x-lakehouse-session-id`, else None.
        warnings: One fixed sentence for each thing that was ignored; safe to log.
        minted: True when the trace id was made here, because the caller sent none that could be used.
    """

    trace_id: str
    parent_span_id: str | None = None
    caller_trace: str | None = None
    session_id: str | None = None
    warnings: tuple[str, ...] = ()
    minted: bool = False


def is_valid_trace_id(value: str) -> bool:
    """Return True for the native form: 32 lowercase hex digits, not all zeros."""
    return _TRACE_ID.fullmatch(value) is not None and value != _ZERO_TRACE_ID


def is_valid_span_id(value: str) -> bool:
    """Return True for 16 lowercase hex digits, not all zeros."""
    return _SPAN_ID.fullmatch(value) is not None and value != _ZERO_SPAN_ID


def is_valid_session_id(value: str) -> bool:
    """Return True for 1 to 128 characters of `[A-Za-z0-9._-]`."""
    return _SESSION_ID.fullmatch(value) is not None


def mint_trace_id() -> str:
    """Return a new trace id.

    `os.urandom` keeps no state that a fork could copy, so two processes never mint the same sequence. The low
    64 bits are never all zeros: they name the implied span that `chatd` and `validated` hang under when they
    get the id alone.
    """
    while True:
        trace_id = os.urandom(16).hex()
        if trace_id[16:] != _ZERO_SPAN_ID:
            return trace_id


def mint_span_id() -> str:
    """Return a new span id, never all zeros, from the same source as the trace ids."""
    while True:
        span_id = os.urandom(8).hex()
        if span_id != _ZERO_SPAN_ID:
            return span_id


def implied_span_id(trace_id: str) -> str | None:
    """Return the span that a bare trace id stands for: its last 16 digits, or None where they are zero."""
    span_id = trace_id[16:]
    return None if span_id == _ZERO_SPAN_ID else span_id


def normalise_trace_id(value: str) -> tuple[str, str | None] | None:
    """Turn a caller's trace string into `(trace_id, caller_trace)`, or None where it cannot be used.

    32 hex digits and UUIDs with dashes are the id itself, in lower case; `caller_trace` is then None. Other
    printable ASCII of 1 to 200 characters maps to the first 16 bytes of its SHA-256, which is also what
    Langfuse's `create_trace_id(seed=...)` gives; `caller_trace` is then the string itself.
    """
    if _HEX_32.fullmatch(value) or _UUID.fullmatch(value):
        trace_id = value.replace("-", "").lower()
        return None if trace_id == _ZERO_TRACE_ID else (trace_id, None)
    if _PRINTABLE.fullmatch(value):
        return hashlib.sha256(value.encode("ascii")).digest()[:16].hex(), value
    return None


def parse_traceparent(value: str) -> tuple[str, str] | None:
    """Read a W3C `traceparent`; return `(trace_id, span_id)`, or None where it is invalid.

    Version ff is invalid, version 00 has exactly 55 characters, later versions may go on after a dash. The
    sampled flag is not returned: a caller's choice not to record does not blind our operators.
    """
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if trace_id == _ZERO_TRACE_ID or span_id == _ZERO_SPAN_ID:
        return None
    return trace_id, span_id


def root_span_id(trace_id: str, session_id: str, try_number: int = 1) -> str:
    """Return the span id of a session's root: 16 hex digits, always the same for one use of a session's id.

    So whoever finds the session in a journal can send the root that its process could not send, with the children
    that were sent already below it; and a root that is sent twice replaces itself.
    """
    digest = hashlib.sha256(f"root {trace_id} {session_id} {try_number}".encode()).hexdigest()[:16]
    return digest if digest != _ZERO_SPAN_ID else _ZERO_SPAN_ID[:-1] + "1"


def format_traceparent(trace_id: str, span_id: str) -> str:
    """Return a version 00 `traceparent` with the sampled flag set."""
    return f"00-{trace_id}-{span_id}-01"


def read_root_context(metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext:
    """Read the metadata of a call that starts a session (`iterate`).

    The trace id is the header's, else a valid `traceparent`'s, else minted. The parent is the `traceparent`'s
    span if its trace id is the session's; a trace id alone gives a root without a parent. Never raises.
    """
    return _read(metadata, implied_parent=False)


def read_hop_context(metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext:
    """Read the metadata of a call to `chatd` or `validated`, from `iterate` or from anyone.

    As `read_root_context`, but a trace id that the caller chose with the header alone gets the implied span
    as its parent, so that a generation or a guardrail never poses as a root. Never raises.
    """
    return _read(metadata, implied_parent=True)


def trace_metadata(
    trace_id: str, span_id: str | None = None, session_id: str | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the gRPC metadata that carries a trace to a service.

    Args:
        trace_id: Any form that a service accepts: hex, UUID, or 1 to 200 printable ASCII characters.
        span_id: The sender's span, 16 hex digits; None sends no `traceparent`.
        session_id: 1 to 128 characters of `[A-Za-z0-9._-]`; None sends none.

    Raises:
        ValueError: A value that the service would ignore. Sending it would silently split the trace.
    """
    normalised = normalise_trace_id(trace_id)
    if normalised is None:
        raise ValueError(
            f"trace_id must be 32 hex digits, a UUID, or 1 to {CALLER_TRACE_CHARS_MAX} printable ASCII "
            "characters, and not all zeros"
        )
    pairs = [(TRACE_ID_HEADER, trace_id)]
    if span_id is not None:
        if not is_valid_span_id(span_id):
            raise ValueError("span_id must be 16 lowercase hex digits, not all zeros")
        pairs.append((TRACEPARENT_HEADER, format_traceparent(normalised[0], span_id)))
    if session_id is not None:
        if not is_valid_session_id(session_id):
            raise ValueError(
                f"session_id must be 1 to {SESSION_ID_CHARS_MAX} characters of letters, digits, '.', '_', '-'"
            )
        pairs.append((SESSION_ID_HEADER, session_id))
    return tuple(pairs)


def forward_metadata(
    context: TraceContext, span_id: str | None, session_id: str | None, caller: str | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the metadata for a hop made while serving `context`, for `caller` where callers are known.

    `span_id` is the span that the hop belongs to. Where tracing is off, or this session is not sampled, it is
    None, and the caller's own span travels instead: the hop then hangs under what the caller can see.
    """
    # No check: what a context holds was checked when it was read, and span and session ids of ours are made right.
    pairs = [(TRACE_ID_HEADER, context.trace_id)]
    span_id = span_id or context.parent_span_id
    if span_id is not None:
        pairs.append((TRACEPARENT_HEADER, format_traceparent(context.trace_id, span_id)))
    if session_id is not None:
        pairs.append((SESSION_ID_HEADER, session_id))
    if caller is not None:
        pairs.append((CALLER_HEADER, caller))
    return tuple(pairs)


def _read(metadata: Iterable[tuple[str, str | bytes]], *, implied_parent: bool) -> TraceContext:
    # Backwards, so that of a repeated key the first value counts; gRPC keys arrive in lower case.
    values = dict(tuple(metadata)[::-1])
    trace_header, traceparent = values.get(TRACE_ID_HEADER), values.get(TRACEPARENT_HEADER)
    session_header = values.get(SESSION_ID_HEADER)
    warnings: list[str] = []
    trace_id: str | None = None
    caller_trace: str | None = None
    parent_span_id: str | None = None

    text = None if traceparent is None else _ascii(traceparent)
    parsed = None if text is None else parse_traceparent(text)
    if traceparent is not None and parsed is None:
        warnings.append(f"{TRACEPARENT_HEADER} was ignored: it is not a valid W3C traceparent")

    # The two agree to the letter on every hop of ours: then there is nothing left to look at.
    if trace_header is not None and (parsed is None or trace_header != parsed[0]):
        text = _ascii(trace_header)
        normalised = None if text is None else normalise_trace_id(text)
        if normalised is None:
            warnings.append(
                f"{TRACE_ID_HEADER} was ignored: it must be 1 to {CALLER_TRACE_CHARS_MAX} printable ASCII "
                "characters and not an id of zeros"
            )
        else:
            trace_id, caller_trace = normalised
            if implied_parent:
                parent_span_id = implied_span_id(trace_id)

    if parsed is not None:
        if trace_id is None or parsed[0] == trace_id:
            trace_id, parent_span_id = parsed
        else:
            warnings.append(f"{TRACEPARENT_HEADER} was ignored: its trace id is not that of {TRACE_ID_HEADER}")

    session_id: str | None = None
    if session_header is not None:
        text = _ascii(session_header)
        if text is None or not is_valid_session_id(text):
            warnings.append(
                f"{SESSION_ID_HEADER} was ignored: it must be 1 to {SESSION_ID_CHARS_MAX} characters of "
                "letters, digits, '.', '_', '-'"
            )
        else:
            session_id = text

    return TraceContext(
        trace_id=trace_id or mint_trace_id(),
        parent_span_id=parent_span_id,
        caller_trace=caller_trace,
        session_id=session_id,
        warnings=tuple(warnings),
        minted=trace_id is None,
    )


def _ascii(value: str | bytes) -> str | None:
    if isinstance(value, str):
        return value if value.isascii() else None
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        return None
