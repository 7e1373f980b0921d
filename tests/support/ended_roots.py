"""Roots of sessions that have ended, for what is done with them afterwards; they are exported nowhere."""

from __future__ import annotations

from lakehouse.trace_context import root_span_id
from lakehouse.tracing.span import RecordedSpan


class _NoSink:
    text_chars_max = 0

    def submit(self, span: RecordedSpan) -> None:
        """Take it and keep nothing."""


def ended_root(trace_id: str, session_id: str = "s") -> RecordedSpan:
    span_id = root_span_id(trace_id, session_id)
    root = RecordedSpan(
        _NoSink(), "r", "agent", trace_id, None, session_id, "", parent_is_remote=True, is_root=True, span_id=span_id
    )
    root.end()
    return root
