"""The brief: what validated says before the first attempt, in a time of its own.

It must not be a new point of failure: where the candidates are not to be had in time, the session goes on with the
form, and without it where validated gives not even that. Only what would end the session at its first Validate as well
ends it here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from iterate.attempt import finding_records
from iterate.knowledge import Facts, Knowledge, UsableKnowledge, usable_knowledge
from iterate.limits import Limits
from iterate.task import Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import BriefGrounding, BriefRecord
from lakehouse.trace_context import TraceContext

# The share of the time in which the candidates must come; the rest is kept for the form, which needs no ground truth.
_CANDIDATES_SHARE: Final = 0.75
# The share of the session's time that the brief may take at most: the rest is for the model.
_SESSION_SHARE: Final = 1 / 3
# CALLER_NOT_ALLOWED: Validate would refuse as well, after a model call that was paid for.
_ENDING_REASONS: Final = frozenset(
    {
        Reason.VALIDATED_UNREACHABLE,
        Reason.OVERLOADED,
        Reason.SHUTTING_DOWN,
        Reason.BUG,
        Reason.CALLER_GONE,
        Reason.CALLER_NOT_ALLOWED,
    }
)
# Of statuses without a reason of ours: what a bug or the call's own end looks like, and the two that `ask_brief` names.
_ENDING_CODES: Final = frozenset({"INTERNAL", "UNKNOWN", "CANCELLED", "INVALID_ARGUMENT", "UNIMPLEMENTED"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What the models of one session get to know."""

    grounding: BriefGrounding
    """As asked for."""
    knowledge: Knowledge
    candidates: Facts = ()
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
    """Return the brief of `task`, within ``brief_ms_max`` and a third of the time until `deadline_s` (time.monotonic).
    None where the model gets nothing: for grounding ``none``, where validated is asked all the same whether the request
    can be used, and where validated is too old to know of briefs.

    Raises Fault where the request is refused, and where the session ends here.
    """
    started = time.monotonic()
    ends_at = started + min(limits.brief_ms_max / 1000, max(deadline_s - started, 0.0) * _SESSION_SHARE)

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
    with_candidates = task.grounding == "candidates" and not degraded
    usable = _usable(knowledge, task, limits, with_candidates=with_candidates)
    return Brief(
        grounding=task.grounding,
        knowledge=usable.knowledge,
        candidates=usable.candidates,
        degraded=degraded or knowledge is None or not usable.is_whole,
        brief_ms=int((time.monotonic() - started) * 1000),
    )


def _usable(knowledge: Knowledge | None, task: Task, limits: Limits, *, with_candidates: bool) -> UsableKnowledge:
    if knowledge is None:
        return UsableKnowledge(knowledge=Knowledge())
    if not with_candidates:
        knowledge = knowledge.without_candidates()
    usable = usable_knowledge(knowledge, task, limits)
    if usable.problems:
        _log.warning("brief_unusable", session_id=task.session_id, kind=task.kind, problems=usable.problems)
    return usable
