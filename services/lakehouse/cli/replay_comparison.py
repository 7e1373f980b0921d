"""What the gate said of a recorded session's answers then, and what it says of them now."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.sessions.record import SessionAttemptRecord, SessionRecord

Outcome = Literal["same", "different", "refused", "skipped", "failed"]
"""``refused``: today's gate does not take the request; ``skipped``: there is nothing to judge again; ``failed``: a
fault of the system kept it from being judged."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate said of one attempt."""

    verdict: str
    codes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.verdict} ({', '.join(self.codes)})" if self.codes else self.verdict

    def as_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "findings": list(self.codes)}


@dataclass(frozen=True, slots=True)
class AttemptComparison:
    """None where that run did not get so far."""

    iteration: int
    then: Judged | None
    now: Judged | None

    @property
    def is_same(self) -> bool:
        return self.then == self.now

    def __str__(self) -> str:
        return f"attempt {self.iteration}: {self.then or 'not reached'}  →  {self.now or 'not reached'}"

    def as_json(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "then": self.then.as_json() if self.then else None,
            "now": self.now.as_json() if self.now else None,
            "same": self.is_same,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One session's run: how it compares, or in ``reason`` why it does not."""

    session_id: str
    timestamp: str
    kind: str
    model: str
    outcome: Outcome
    reason: str = ""
    then: str
    """The verdict of then: an outcome, or ``infra_error``, which was not the gate's and is compared with nothing."""
    now: str = ""
    roster_then: str | None = None
    roster_now: str | None = None
    attempts: tuple[AttemptComparison, ...] = field(default=())
    duration_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        compared: dict[str, Any] = {
            "session_id": self.session_id,
            "timestamp": self.timestamp,
            "kind": self.kind,
            "model": self.model,
            "outcome": self.outcome,
        }
        if self.reason:
            compared["reason"] = self.reason
        return {
            **compared,
            "final_verdict": {"then": self.then, "now": self.now or None},
            "roster": {"then": self.roster_then, "now": self.roster_now},
            "attempts": [each.as_json() for each in self.attempts],
            "same": self.outcome == "same",
        }

    def differences(self) -> list[str]:
        """Return what is not as it was, in sentences without a full stop."""
        if self.outcome != "different":
            return [f"{self.outcome}: {self.reason}"] if self.reason else []
        found = [str(each) for each in self.attempts if not each.is_same]
        if self.then not in (self.now, "infra_error"):
            found.append(f"verdict: {self.then}  →  {self.now}")
        return found


def judged_attempts(record: SessionRecord) -> list[SessionAttemptRecord]:
    """Return the attempts of which the gate, or the reading before it, said something: not one that a fault ended."""
    return list(takewhile(lambda attempt: attempt.verdict != "infra_error", record.attempts))


def compare(record: SessionRecord, response: iterate_pb2.IterateResponse) -> Replayed:
    """Compare attempt by attempt, and the outcomes."""
    then = [_then(attempt) for attempt in judged_attempts(record)]
    now = [_now(attempt) for attempt in response.attempts]
    attempts = tuple(
        AttemptComparison(
            place + 1, then[place] if place < len(then) else None, now[place] if place < len(now) else None
        )
        for place in range(max(len(then), len(now)))
    )
    final = response.WhichOneof("outcome") or ""
    is_same = record.final_verdict in (final, "infra_error") and all(each.is_same for each in attempts)
    return replayed(
        record,
        "same" if is_same else "different",
        now=final,
        roster_now=next((attempt.roster for attempt in reversed(response.attempts) if attempt.roster), None),
        attempts=attempts,
    )


def compare_outcomes(record: SessionRecord, response: iterate_pb2.IterateResponse) -> Replayed:
    """Compare what the sessions came to: other answers take other attempts."""
    final = response.WhichOneof("outcome") or ""
    roster = next((attempt.roster for attempt in reversed(response.attempts) if attempt.roster), None)
    return replayed(record, "same" if final == record.final_verdict else "different", now=final, roster_now=roster)


def replayed(record: SessionRecord, outcome: Outcome, **facts: Any) -> Replayed:
    """Return the result of a recorded session."""
    return Replayed(
        session_id=record.session_id,
        timestamp=record.timestamp,
        kind=record.kind,
        model=record.model,
        outcome=outcome,
        then=record.final_verdict,
        roster_then=next((attempt.roster for attempt in reversed(record.attempts) if attempt.roster), None),
        **facts,
    )


def _then(attempt: SessionAttemptRecord) -> Judged:
    return Judged(attempt.verdict, tuple(finding.code for finding in attempt.findings or ()))


def _now(attempt: iterate_pb2.Attempt) -> Judged:
    verdict = iterate_pb2.Verdict.Name(attempt.verdict).removeprefix("VERDICT_").lower()
    return Judged(verdict, tuple(finding.code for finding in attempt.findings))
