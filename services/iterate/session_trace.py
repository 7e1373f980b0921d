"""The root of a session's tree and its scores: by the session itself, or by the sweep for a process that died."""

from __future__ import annotations

from iterate.span_texts import outcome_text, request_text
from lakehouse.sessions.record import SessionRecord, parse_rfc3339
from lakehouse.trace_context import TraceContext
from lakehouse.tracing import Span, Tracing
from lakehouse.tracing.span import MetadataValue
from lakehouse.wall_clock import ClockAnchor, StoppedClock


def start_session_trace(tracing: Tracing, begun: SessionRecord, context: TraceContext, clock: ClockAnchor) -> Span:
    """Start the root of the session whose row would be `begun` if the process died now; it began at `clock`."""
    return tracing.start_root(
        f"iterate.{begun.kind}",
        context=context,
        session_id=begun.session_id,
        input=request_text(begun) if tracing.enabled else "",
        kind=begun.kind,
        tags=(f"kind:{begun.kind}",) if begun.caller is None else (f"kind:{begun.kind}", f"caller:{begun.caller}"),
        user_id=begun.caller,
        begun=clock,
        try_number=begun.try_number,
    )


def end_session_trace(tracing: Tracing, root: Span, record: SessionRecord) -> None:
    """End the root with the session's outcome, and score it."""
    if not root.recording:
        return
    error = record.error
    root.end(
        output=outcome_text(record),
        level="ERROR" if error else "",
        status_message=error.message if error else _why_no_model(record),
        metadata=_facts(record) or None,
        trace_metadata={"kind": record.kind, "final_verdict": record.final_verdict},
    )
    tracing.score_session(
        root,
        accepted=record.final_verdict == "accepted",
        iterations=record.iterations,
        grounded_in_roster=record.grounded_in_roster,
    )


def _why_no_model(record: SessionRecord) -> str:
    return "no model was asked: no answer can pass" if record.is_infeasible else ""


def _facts(record: SessionRecord) -> dict[str, MetadataValue]:
    """Return what to filter sessions by."""
    facts: dict[str, MetadataValue] = {}
    if record.cost_nano_usd is not None:
        facts["cost_nano_usd"] = record.cost_nano_usd
    if record.caller is not None:
        facts["caller"] = record.caller
    brief = record.brief
    if brief is not None:
        facts["grounding"] = brief.grounding
        if brief.candidates is not None:
            facts["candidates"] = brief.candidates
        if brief.degraded:
            facts["degraded"] = True
        if brief.infeasible:
            facts["infeasible"] = True
    if record.no_progress:
        facts["no_progress"] = True
    return facts


def trace_recovered_session(
    tracing: Tracing, record: SessionRecord, begun_unix_us: int, parent_span_id: str | None
) -> None:
    """Send the root and the scores of a session whose row a sweep wrote: its process may have died with them unsent.

    What was sent already replaces itself, since ids and beginning are the same. Any thread may call it.
    """
    duration_ns = (parse_rfc3339(record.timestamp) - begun_unix_us) * 1_000
    clock = StoppedClock.lasted(begun_unix_us * 1_000, duration_ns)
    context = TraceContext(trace_id=record.trace_id, parent_span_id=parent_span_id, caller_trace=record.caller_trace)
    end_session_trace(tracing, start_session_trace(tracing, record, context, clock), record)
