"""``Attempt``: one turn of the loop, while it is being made (`Draft`) and as it was (`Attempt`).

What the two hops answer stands here too, in plain values: a `ModelAnswer` of chatd, a `Judgement` of validated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from iterate.task import ModelTarget
from lakehouse.errors import Fault
from lakehouse.sessions.record import AttemptVerdict, ErrorRecord, FindingRecord, SessionAttemptRecord, Where
from lakehouse.sessions.row import cut_raw
from lakehouse.validated.v1.validated_pb2 import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What chatd answered."""

    text: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cut_short: bool
    """Whether the token limit ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What validated answered."""

    passed: bool
    findings: tuple[Finding, ...]
    findings_left_out: int
    grounded_in_roster: bool | None
    roster: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A finished attempt: its row, and what only the caller gets."""

    record: SessionAttemptRecord
    findings: tuple[Finding, ...] = ()
    parse_problem: str = ""


@dataclass(slots=True)
class Draft:
    """An attempt in the making."""

    iteration: int
    target: ModelTarget
    provider: str = ""
    model: str = ""
    verdict: AttemptVerdict = "infra_error"
    span_id: str | None = None
    raw: str = ""
    judged: bool = False
    findings: tuple[Finding, ...] = ()
    parse_problem: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    chat_ms: int = 0
    validate_ms: int = 0
    roster: str | None = None

    def finish(self, error: ErrorRecord | None) -> Attempt:
        raw, truncated = cut_raw(self.raw)
        findings = None
        if self.judged:
            findings = tuple(FindingRecord(each.code, each.path, each.message) for each in self.findings)
        record = SessionAttemptRecord(
            iteration=self.iteration,
            provider=self.provider or self.target.provider,
            model=self.model or self.target.model,
            verdict=self.verdict,
            span_id=self.span_id,
            raw=raw,
            raw_truncated=truncated,
            findings=findings,
            error=error,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            chat_ms=self.chat_ms,
            validate_ms=self.validate_ms,
            roster=self.roster,
        )
        return Attempt(record=record, findings=self.findings, parse_problem=self.parse_problem)


def error_record(fault: Fault) -> ErrorRecord:
    """`fault`, which has a reason, as a row holds it."""
    where = cast("Where", fault.where) if fault.where in {"chatd", "validated"} else "iterate"
    return ErrorRecord(code=fault.code, reason=str(fault.reason), where=where, message=fault.message)
