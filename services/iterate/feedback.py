"""What the model reads after an attempt that did not pass: what was wrong, where, and what would be right.

Names of the ground truth (who would pass, whose id it is) stand in the restricted text alone: chatd sends that one to
those who may see candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from iterate.brief import Brief
from iterate.candidates import CandidatePool
from iterate.conversation import Turn
from lakehouse.validated.v1.validated_pb2 import Finding

_FINDINGS_MAX: Final = 20
_OFFERS_MAX: Final = 10


class Feedback:
    """Of one session: no candidate is offered twice."""

    def __init__(self, brief: Brief | None) -> None:
        """`brief`: what the models of the session got to know; None: nothing, and what the findings suggest is said in
        their words alone."""
        self._brief = brief
        self._pool: CandidatePool | None = None

    def rejected(self, artifact: str, findings: Sequence[Finding], left_out: int = 0) -> Turn:
        """The turn after validated rejected `artifact`, canonical text."""
        shown = findings[:_FINDINGS_MAX]
        more = max(len(findings) - _FINDINGS_MAX, 0) + left_out
        unrestricted = [each.unrestricted_message or each.message for each in shown]
        content = _rejected(shown, unrestricted, more)
        if self._brief is None:
            whole = _rejected(shown, [each.message for each in shown], more)
            return Turn("user", content, whole if whole != content else "")
        if self._pool is None:
            self._pool = CandidatePool(self._brief.candidates)
        suggested = [each.facts_json for finding in shown for each in finding.suggestions if each.facts_json]
        offers = self._pool.offer(artifact, suggested, min(2 * len(shown), _OFFERS_MAX))
        # A finding whose suggestions stand among the offers, or did so before, has no need to name them itself.
        messages = [
            words if any(each.facts_json for each in finding.suggestions) else finding.message
            for finding, words in zip(shown, unrestricted, strict=True)
        ]
        restricted = _rejected(shown, messages, more, offers)
        return Turn("user", content, restricted if restricted != content else "")


def unparsable_feedback(problem: str) -> str:
    """What is said after an answer from which no artifact could be read."""
    return f"Your answer could not be read: {problem}. Answer with exactly one JSON object and nothing else."


def refused_feedback() -> str:
    """What is said after the model refused; what it said in refusing is not shown to it again."""
    return (
        "You refused to answer. If the task can be answered as it is asked, answer it now with exactly one JSON object "
        "and nothing else."
    )


def _rejected(findings: Sequence[Finding], messages: Sequence[str], more: int, offers: Sequence[str] = ()) -> str:
    lines = [
        f"{number}. {finding.code} at {finding.path or 'the whole answer'}: {message}"
        for number, (finding, message) in enumerate(zip(findings, messages, strict=True), start=1)
    ]
    if more:
        lines.append(f"… and {more} more.")
    if offers:
        lines.append("What would pass where your answer did not, each to be taken as it is:")
        lines.append(f"[{','.join(offers)}]")
    return (
        "Your answer was checked against the ground truth and rejected:\n"
        + "\n".join(lines)
        + "\nAnswer again with the whole JSON object, corrected. What is not named above may stay as it was."
    )
