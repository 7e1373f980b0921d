"""``Knowledge``: what validated answered to Brief, and what of it can be used.

It is checked once, where it enters. What comes out fits a request to chatd, the conversation and the row, whatever
validated said: a brief helps, and must not be what ends a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from iterate.limits import Limits
from iterate.task import Task
from lakehouse.strict_json.parser import BYTES_MAX, DEPTH_MAX, JsonBreach, JsonValue, canonicalize, parse_json
from lakehouse.strict_json.plain import read_plain
from lakehouse.strict_json.rules import check_depth, too_large
from lakehouse.validated.v1.validated_pb2 import Finding

# Far above 400 candidates.
_CANDIDATES_BYTES_MAX: Final = 1024 * 1024
_FINDINGS_BYTES_MAX: Final = 64 * 1024
_ROSTER_CHARS_MAX: Final = 1000

Facts = tuple[Mapping[str, JsonValue], ...]


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

    def without_candidates(self) -> Knowledge:
        """Return the form alone, and nothing that only those know who have looked for candidates."""
        return replace(
            self,
            candidates_schema_json="",
            candidates_json="",
            candidates_total=0,
            candidates_total_is_floor=False,
            infeasible=False,
            findings=(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableKnowledge:
    """The part of an answer that can be used."""

    knowledge: Knowledge
    candidates: Facts = ()
    """The facts of each."""
    problems: tuple[str, ...] = ()
    """What was left out and why, in words without anything of the answer; then the candidates are left out too."""
    is_whole: bool = True
    """Whether nothing was left out: neither for `problems` nor for want of room."""


def usable_knowledge(answer: Knowledge, task: Task, limits: Limits) -> UsableKnowledge:
    """Return what a session of `task` can use of `answer`. Schemas are JSON objects within the bounds of what chatd
    reads, or empty: ``true`` and ``false`` are schemas, but no form to hold a model to."""
    problems: list[str] = []
    instructions = answer.instructions
    if _size(instructions) > min(limits.context_bytes_max // 2, BYTES_MAX):
        problems.append("instructions: too long")
        instructions = ""
    roster = answer.roster
    if roster is not None and len(roster) > _ROSTER_CHARS_MAX:
        problems.append("roster: too long")
        roster = None
    if answer.candidates_total < 0:
        problems.append("candidates_total: negative")
    if sum(each.ByteSize() for each in answer.findings) > _FINDINGS_BYTES_MAX:
        problems.append("findings: too long")
    knowledge = replace(
        answer,
        instructions=instructions,
        roster=roster,
        form_schema_json=_schema("form_schema_json", answer.form_schema_json, problems),
        candidates_schema_json=_schema("candidates_schema_json", answer.candidates_schema_json, problems),
    )
    fits = _fits(knowledge, task, limits)
    candidates = _facts(knowledge.candidates_json, problems) if fits and knowledge.candidates_json else ()
    if problems:
        # Who errs in one thing is not taken at his word in what could end the session.
        knowledge, candidates = knowledge.without_candidates(), ()
    elif not fits:
        knowledge = replace(knowledge, candidates_json="", candidates_schema_json="")
    return UsableKnowledge(
        knowledge=knowledge, candidates=candidates, problems=tuple(problems), is_whole=fits and not problems
    )


def _schema(name: str, text: str, problems: list[str]) -> str:
    if not text:
        return ""
    try:
        canonical = _canonical(text)
    except JsonBreach as breach:
        problems.append(f"{name}: {breach.kind}")
        return ""
    if canonical.startswith("{"):
        return canonical
    if canonical not in {"true", "false"}:
        problems.append(f"{name}: no JSON Schema")
    return ""


def _facts(text: str, problems: list[str]) -> Facts:
    try:
        plain = _read_plain(text, _CANDIDATES_BYTES_MAX)
        read = parse_json(text, bytes_max=_CANDIDATES_BYTES_MAX) if plain is None else plain[0]
    except JsonBreach as breach:
        problems.append(f"candidates_json: {breach.kind}")
        return ()
    facts = tuple(each for each in read if isinstance(each, dict)) if isinstance(read, list) else ()
    if not isinstance(read, list) or len(facts) != len(read):
        problems.append("candidates_json: no array of objects")
    return facts


def _canonical(text: str) -> str:
    """Raise JsonBreach, also where the canonical text is too long."""
    plain = _read_plain(text, BYTES_MAX)
    if plain is None:
        return canonicalize(text)
    if _size(plain[1]) > BYTES_MAX:
        raise too_large(BYTES_MAX)
    return plain[1]


def _read_plain(text: str, bytes_max: int) -> tuple[JsonValue, str] | None:
    """As ``read_plain``. Raises JsonBreach."""
    # Depth is counted in brackets there, of which each candidate has some: here it is looked at by itself.
    plain = read_plain(text, bytes_max, bytes_max)
    if plain is not None:
        check_depth(text, DEPTH_MAX)
    return plain


def _fits(knowledge: Knowledge, task: Task, limits: Limits) -> bool:
    """Whether the facts take at most half of what the rest of the opening leaves of the context: they stay in it, and
    what follows needs room."""
    if not knowledge.candidates_json:
        return True
    rest = sum(_size(each) for each in (knowledge.instructions, task.prompt, task.spec.text or ""))
    return _size(knowledge.candidates_json) <= (limits.context_bytes_max - rest) // 2


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
