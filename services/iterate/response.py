"""A session's response, made of its row alone: so that a recalled one is the first one, `recalled` aside."""

from __future__ import annotations

import json
from typing import Final

from iterate.attempt import NAMED_FACTS
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.sessions.record import BriefRecord, FindingRecord, SessionAttemptRecord, SessionRecord
from lakehouse.validated.v1.validated_pb2 import DatasetVersion, Finding, Suggestion

_VERDICTS: Final = {
    "accepted": iterate_pb2.VERDICT_ACCEPTED,
    "rejected": iterate_pb2.VERDICT_REJECTED,
    "unparsable": iterate_pb2.VERDICT_UNPARSABLE,
    "infra_error": iterate_pb2.VERDICT_INFRA_ERROR,
}


def response_of(record: SessionRecord, *, recalled: bool) -> iterate_pb2.IterateResponse:
    """Of a session that ended by an outcome."""
    response = iterate_pb2.IterateResponse(
        session_id=record.session_id,
        trace_id=record.trace_id,
        attempts=[attempt_of(each) for each in record.attempts],
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        duration_ms=record.duration_ms,
        recalled=recalled,
    )
    if record.cost_nano_usd is not None:
        response.cost_nano_usd = record.cost_nano_usd
    if record.grounded_in_roster is not None:
        response.grounded_in_roster = record.grounded_in_roster
    if record.final_verdict == "accepted":
        response.accepted.artifact_json = record.artifact or ""
    else:
        response.max_iter_exhausted.artifact_json = record.artifact or ""
        response.max_iter_exhausted.token_budget_spent = record.token_budget_spent
        response.max_iter_exhausted.no_progress = record.no_progress
        response.max_iter_exhausted.infeasible = record.is_infeasible
    if record.brief is not None:
        response.brief.CopyFrom(brief_of(record.brief))
    return response


def brief_of(record: BriefRecord) -> iterate_pb2.Brief:
    return iterate_pb2.Brief(
        grounding=f"GROUNDING_{record.grounding.upper()}",
        candidates=record.candidates,
        candidates_total=record.candidates_total,
        candidates_total_is_floor=record.candidates_total_is_floor,
        infeasible=record.infeasible,
        degraded=record.degraded,
        findings=[_finding(each) for each in record.findings or ()],
        roster=record.roster or "",
        brief_ms=record.brief_ms,
    )


def attempt_of(record: SessionAttemptRecord) -> iterate_pb2.Attempt:
    return iterate_pb2.Attempt(
        iteration=record.iteration,
        provider=record.provider,
        model=record.model,
        verdict=_VERDICTS[record.verdict],
        raw=record.raw,
        raw_truncated=record.raw_truncated,
        findings=[_finding(each) for each in record.findings or ()],
        parse_problem=record.parse_problem,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        chat_ms=record.chat_ms,
        validate_ms=record.validate_ms,
        roster=record.roster or "",
        datasets=[DatasetVersion(name=each.name, version=each.version) for each in record.datasets or ()],
        span_id=record.span_id or "",
        cost_nano_usd=record.cost_nano_usd,
    )


def _finding(record: FindingRecord) -> Finding:
    return Finding(
        code=record.code,
        path=record.path,
        message=record.message,
        suggestions=[_suggestion(facts) for facts in record.suggestions or ()],
    )


def _suggestion(facts_json: str) -> Suggestion:
    facts = json.loads(facts_json)
    named = {name: fact for name in NAMED_FACTS if isinstance(fact := facts.get(name), str)}
    if len(named) < len(NAMED_FACTS):
        named = {}
    return Suggestion(facts_json=facts_json, **named)
