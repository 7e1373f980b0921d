"""``Attempt``: one turn of the loop, while it is being made (`Draft`) and as it was (`Attempt`).

What the two hops answer stands here too, in plain values: a `ModelAnswer` of chatd, a `Judgement` of validated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

from iterate.task import ModelTarget
from lakehouse.errors import Fault
from lakehouse.sessions.record import (
    AttemptVerdict,
    DatasetRecord,
    ErrorRecord,
    FindingRecord,
    SessionAttemptRecord,
    Where,
)
from lakehouse.sessions.row import cut_raw
from lakehouse.strict_json.parser import JsonBreach, canonicalize, print_canonical
from lakehouse.validated.v1.validated_pb2 import Finding, Suggestion

AnswerEnd = Literal["whole", "cut_short", "filtered", "refused", "malformed"]
"""How an answer ended: by the model; by the token limit; by the endpoint's filter; as a refusal; as output that the
endpoint itself calls invalid."""
NAMED_FACTS: Final = tuple(field.name for field in Suggestion.DESCRIPTOR.fields if field.name != "facts_json")
"""The facts of a suggestion that have a field of their own as well."""
_CUT_SHORT: Final = "it was cut off at the token limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What chatd answered."""

    text: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    end: AnswerEnd = "whole"
    reasoned: bool = False
    """Whether the model showed reasoning, which is no part of `text`."""
    calls_tools: bool = False
    """Whether the model called a tool; it has none."""
    cost_nano_usd: int | None = None
    """None: not known."""
    from_reasoning: bool = False
    """Whether the endpoint gave `text` as reasoning."""
    saw_restricted: bool = False
    """Whether the model was shown facts of the ground truth, so that `text` may repeat them."""

    @property
    def problem(self) -> str:
        """Why there is nothing to read for an artifact; "" where the text is to be read."""
        if self.end == "refused":
            return "the model refused to answer"
        if self.end == "malformed":
            return "the model endpoint reported that the model made no valid output"
        if self.text.strip():
            return ""
        if self.end == "cut_short":
            return f"the answer is empty: {_CUT_SHORT}{' while the model was still reasoning' * self.reasoned}"
        if self.calls_tools:
            return "the answer is empty: the model called a tool, and there is none; answer in text"
        if self.reasoned:
            return "the answer is empty: the model's reasoning did not end in an answer"
        return "the answer is empty"

    def read_problem(self, problem: str) -> str:
        """`problem`, which was found in the text, or what explains it."""
        if self.end == "cut_short":
            return f"{_CUT_SHORT}, so answer more briefly ({problem})"
        if self.end == "filtered":
            return f"the model endpoint's content filter cut it short ({problem})"
        return problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What validated answered."""

    passed: bool
    findings: tuple[Finding, ...]
    findings_left_out: int
    grounded_in_roster: bool | None
    roster: str | None
    datasets: tuple[DatasetRecord, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A finished attempt: its row, and what only the caller gets."""

    record: SessionAttemptRecord
    findings: tuple[Finding, ...] = ()
    from_reasoning: bool = False
    artifact: str | None = None
    """What was rejected, canonical text."""


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
    artifact: str | None = None
    """What was rejected, canonical text."""
    parse_problem: str = ""
    withheld: bool = False
    """Whether the answer is kept out of the conversation."""
    input_tokens: int = 0
    output_tokens: int = 0
    chat_ms: int = 0
    validate_ms: int = 0
    roster: str | None = None
    datasets: tuple[DatasetRecord, ...] | None = None
    cost_nano_usd: int | None = None
    from_reasoning: bool = False
    saw_restricted: bool = False
    """Whether the answer may repeat facts of the ground truth."""

    def finish(self, error: ErrorRecord | None) -> Attempt:
        raw, truncated = cut_raw(self.raw)
        findings = None
        if self.judged:
            findings = finding_records(self.findings)
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
            datasets=self.datasets,
            cost_nano_usd=self.cost_nano_usd,
            parse_problem=self.parse_problem or None,
        )
        return Attempt(
            record=record, findings=self.findings, from_reasoning=self.from_reasoning, artifact=self.artifact
        )


def finding_records(findings: Iterable[Finding]) -> tuple[FindingRecord, ...]:
    """Return `findings` as a row holds them."""
    return tuple(FindingRecord(each.code, each.path, each.message, _facts(each)) for each in findings)


def _facts(finding: Finding) -> tuple[str, ...] | None:
    """Return what would pass in its place: of each suggestion its facts, as the row's own canonical text."""
    facts = []
    for each in finding.suggestions:
        with contextlib.suppress(JsonBreach):
            if each.facts_json:
                facts.append(canonicalize(each.facts_json))
            elif any((named := {name: getattr(each, name) for name in NAMED_FACTS}).values()):
                facts.append(print_canonical(named))  # of a validated that is older than facts
    return tuple(each for each in facts if each.startswith("{")) or None


def error_record(fault: Fault) -> ErrorRecord:
    """`fault`, which has a reason, as a row holds it."""
    where = cast("Where", fault.where) if fault.where in {"chatd", "validated"} else "iterate"
    return ErrorRecord(code=fault.code, reason=str(fault.reason), where=where, message=fault.message)
