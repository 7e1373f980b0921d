"""The brief: what validated says before the first attempt, in a time of its own.

It must not be a new point of failure: where the candidates are not to be had in time, the session goes on with the
form, and without it where validated gives not even that. Only what would end the session at its first Validate as well
ends it here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from iterate.attempt import finding_records
from iterate.limits import Limits
from iterate.task import Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import BriefGrounding, BriefRecord
from lakehouse.strict_json.parser import JsonBreach, JsonValue, parse_json
from lakehouse.strict_json.plain import read_plain
from lakehouse.trace_context import TraceContext
from lakehouse.validated.v1.validated_pb2 import Finding

# The share of the time in which the candidates must come; the rest is kept for the form, which needs no ground truth.
_CANDIDATES_SHARE: Final = 0.75
# Far above 400 candidates.
_CANDIDATES_BYTES_MAX: Final = 1024 * 1024
_ENDING_REASONS: Final = frozenset(
    {Reason.VALIDATED_UNREACHABLE, Reason.OVERLOADED, Reason.SHUTTING_DOWN, Reason.BUG, Reason.CALLER_GONE}
)
# Of statuses without a reason of ours: what a bug or the call's own end looks like, and the two that `ask_brief` names.
_ENDING_CODES: Final = frozenset({"INTERNAL", "UNKNOWN", "CANCELLED", "INVALID_ARGUMENT", "UNIMPLEMENTED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What validated answered."""

    instructions: str = ""
    form_schema_json: str = ""
    """Empty: the kind has no form."""
    candidates_schema_json: str = ""
    candidates_json: str = ""
    """A JSON array of objects. Both are empty where there are none, or none were asked for."""
    candidates_total: int = 0
    candidates_total_is_floor: bool = False
    infeasible: bool = False
    findings: tuple[Finding, ...] = ()
    roster: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What the models of one session get to know."""

    grounding: BriefGrounding
    """As asked for."""
    knowledge: Knowledge
    candidates: tuple[Mapping[str, JsonValue], ...] = ()
    """The facts of each."""
    degraded: bool = False
    """Whether it is less than was asked for."""
    brief_ms: int

    @property
    def infeasible(self) -> bool:
        """Whether no artifact can pass. Nobody knows who has not looked for candidates."""
        return self.grounding == "candidates" and self.knowledge.infeasible

    @property
    def record(self) -> BriefRecord:
        """As the row holds it."""
        knowledge = self.knowledge
        counted = self.grounding == "candidates" and not self.degraded
        return BriefRecord(
            grounding=self.grounding,
            candidates=len(self.candidates) if counted else None,
            candidates_total=knowledge.candidates_total if counted else None,
            candidates_total_is_floor=counted and knowledge.candidates_total_is_floor,
            infeasible=self.infeasible,
            degraded=self.degraded,
            findings=finding_records(knowledge.findings) if self.infeasible else None,
            roster=knowledge.roster,
            brief_ms=self.brief_ms,
        )


class BriefSource(Protocol):
    async def brief(
        self, task: Task, *, candidates_max: int, trace: TraceContext, span_id: str | None, timeout_s: float
    ) -> Knowledge: ...


def refuses_request(fault: Fault) -> bool:
    """Whether `fault`, out of ``ask_brief``, says that the request itself cannot be used: it makes no session then."""
    return fault.reason is not None and fault.code == "INVALID_ARGUMENT"


async def ask_brief(
    source: BriefSource, task: Task, limits: Limits, *, trace: TraceContext, span_id: str | None, deadline_s: float
) -> Brief | None:
    """The brief of `task`, within ``brief_ms_max`` and by `deadline_s` (time.monotonic). None where the model gets
    nothing: for grounding ``none``, where validated is asked all the same whether the request can be used, and where
    validated is too old to know of briefs.

    Raises Fault where the request is refused, and where the session ends here.
    """
    started = time.monotonic()
    ends_at = min(started + limits.brief_ms_max / 1000, deadline_s)

    async def asked(candidates_max: int, until: float) -> Knowledge | None:
        """None where it was not to be had in time."""
        try:
            return await source.brief(
                task,
                candidates_max=candidates_max,
                trace=trace,
                span_id=span_id,
                timeout_s=max(until - time.monotonic(), 0.0),
            )
        except Fault as fault:
            if fault.reason in _ENDING_REASONS or refuses_request(fault):
                raise
            if fault.reason is None and fault.code in _ENDING_CODES:
                raise
            return None

    knowledge: Knowledge | None = None
    try:
        if task.grounding == "candidates":
            knowledge = await asked(limits.candidates_max, started + (ends_at - started) * _CANDIDATES_SHARE)
        degraded = task.grounding == "candidates" and knowledge is None
        if knowledge is None:
            knowledge = await asked(0, ends_at)
    except Fault as fault:
        if fault.reason is None and fault.code == "UNIMPLEMENTED":
            return None
        raise
    if knowledge is None and time.monotonic() >= deadline_s:
        raise Fault(Reason.DEADLINE, where="validated")
    if task.grounding == "none":
        return None
    brief = Brief(
        grounding=task.grounding,
        knowledge=knowledge or Knowledge(),
        degraded=degraded or knowledge is None,
        brief_ms=int((time.monotonic() - started) * 1000),
    )
    return brief if task.grounding == "form" or brief.degraded else _with_candidates(brief, task, limits)


def _with_candidates(brief: Brief, task: Task, limits: Limits) -> Brief:
    """`brief` with the facts of its candidates read; without them, degraded, where they cannot be used."""
    knowledge = brief.knowledge
    if not knowledge.candidates_json:
        return brief
    try:
        facts = _read_facts(knowledge.candidates_json) if _fit(knowledge, task, limits) else None
    except JsonBreach:
        facts = None
    if facts is None:
        bare = replace(knowledge, candidates_json="", candidates_schema_json="")
        return replace(brief, knowledge=bare, degraded=True)
    return replace(brief, candidates=facts)


def _read_facts(text: str) -> tuple[Mapping[str, JsonValue], ...] | None:
    """The facts of each candidate; None where it is no array of objects. Raises JsonBreach."""
    # Depth is counted in brackets there, and each candidate has some.
    plain = read_plain(text, _CANDIDATES_BYTES_MAX, _CANDIDATES_BYTES_MAX)
    read = parse_json(text, bytes_max=_CANDIDATES_BYTES_MAX) if plain is None else plain[0]
    if not isinstance(read, list):
        return None
    facts = tuple(each for each in read if isinstance(each, dict))
    return facts if len(facts) == len(read) else None


def _fit(knowledge: Knowledge, task: Task, limits: Limits) -> bool:
    """Whether the facts take at most half of what the rest of the opening leaves of the context: they stay in it, and
    what follows needs room."""
    rest = sum(_size(each) for each in (knowledge.instructions, task.prompt, task.spec.text or ""))
    return _size(knowledge.candidates_json) <= (limits.context_bytes_max - rest) // 2


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
