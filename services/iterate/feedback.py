"""What the model reads after an attempt that did not pass: what was wrong, where, and what would be right.

Names of the ground truth (who would pass, whose id it is) stand in the restricted text alone: chatd sends that one to
those who may see candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from iterate.brief import Brief
from iterate.candidates import CandidatePool
from iterate.conversation import Turn
from lakehouse.strict_json.parser import JsonBreach, parse_json
from lakehouse.validated.v1.validated_pb2 import Finding

_FINDINGS_MAX: Final = 20
_OFFERS_MAX: Final = 10
_PART: Final = "; "
_OFFERED: Final = (
    "In place of what cannot stay, choose among these; the form of the answer stays as it was, and a name that it does "
    "not have is left out:"
)


class Feedback:
    """Of one session: no candidate is offered twice."""

    def __init__(self, brief: Brief | None) -> None:
        """`brief`: what the models of the session got to know; None: nothing, and what the findings suggest is said in
        their words alone."""
        self._brief = brief
        self._pool: CandidatePool | None = None

    def rejected(self, artifact: str, findings: Sequence[Finding], left_out: int = 0) -> Turn:
        """Return the turn after validated rejected `artifact`, canonical text."""
        shown = findings[:_FINDINGS_MAX]
        more = max(len(findings) - _FINDINGS_MAX, 0) + left_out
        unrestricted = [each.unrestricted_message or each.message for each in shown]
        content = _rejected(shown, unrestricted, more)
        if self._brief is None:
            whole = _rejected(shown, [each.message for each in shown], more)
            return Turn("user", content, whole if whole != content else "")
        if self._pool is None:
            self._pool = CandidatePool(
                self._brief.candidates,
                form_schema=self._brief.knowledge.form_schema_json,
                candidates_schema=self._brief.knowledge.candidates_schema_json,
            )
        suggested = [[each.facts_json for each in finding.suggestions if each.facts_json] for finding in shown]
        # That somebody else may take the place is for validated to say, and its suggestions say it: nobody mends a text
        # that is too long.
        count = min(2 * sum(map(bool, suggested)), _OFFERS_MAX)
        offers = self._pool.offer(artifact, chain.from_iterable(suggested), count)
        restricted = _rejected(shown, [_without_suggestions(each) for each in shown], more, offers)
        return Turn("user", content, restricted if restricted != content else "")


def unparsable_feedback(problem: str) -> str:
    """Return what is said after an answer from which no artifact could be read."""
    return f"Your answer could not be read: {problem}. Answer with exactly one JSON object and nothing else."


def refused_feedback() -> str:
    """Return what is said after the model refused; what it said in refusing is not shown to it again."""
    return (
        "You refused to answer. If the task can be answered as it is asked, answer it now with exactly one JSON object "
        "and nothing else."
    )


def _without_suggestions(finding: Finding) -> str:
    """Return the message without the part that lists the suggestions: they stand among the offers, did so before, or
    cannot be taken. What else the unrestricted message leaves out (whose id it is) stays."""
    suggested = frozenset(_suggested_texts(finding))
    if not finding.unrestricted_message or not suggested:
        return finding.message
    unrestricted = finding.unrestricted_message.split(_PART)
    first, *parts = finding.message.split(_PART)
    kept = [part for part in parts if part in unrestricted or not any(text in part for text in suggested)]
    return _PART.join([first, *kept])


def _suggested_texts(finding: Finding) -> Iterator[str]:
    for each in finding.suggestions:
        try:
            facts = parse_json(each.facts_json, bytes_max=len(each.facts_json) * 4) if each.facts_json else None
        except JsonBreach:
            continue
        if isinstance(facts, dict):
            yield from (value for value in facts.values() if isinstance(value, str) and value)


def _rejected(findings: Sequence[Finding], messages: Sequence[str], more: int, offers: Sequence[str] = ()) -> str:
    lines = [
        f"{number}. {finding.code} at {finding.path or 'the whole answer'}: {message}"
        for number, (finding, message) in enumerate(zip(findings, messages, strict=True), start=1)
    ]
    if more:
        lines.append(f"… and {more} more.")
    if offers:
        lines.append(_OFFERED)
        lines.append(f"[{','.join(offers)}]")
    return (
        "Your answer was checked against the ground truth and rejected:\n"
        + "\n".join(lines)
        + "\nAnswer again with the whole JSON object, corrected. What is not named above may stay as it was."
    )
