"""Workers who exist and would qualify, for those who do not: what the model can use in its next attempt; and whether
there are enough of them at all.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import insort
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from rapidfuzz import fuzz, process

from validated.config import CANDIDATE_FACTS, LimitsTable
from validated.datasets.near import plain_id
from validated.datasets.texts import fold
from validated.datasets.worker import Answer, Candidates, Wanted, Worker
from validated.findings import SUGGESTIONS_MAX, Finding, Findings, Suggestion, quoted
from validated.kinds.facts import Facts
from validated.kinds.fill_terms import FillTerms
from validated.kinds.shortage import shortage_text

# From here on a likeness is worth the question "did you mean"; below, a worker is only one who would do.
_NEAR: Final = 80.0
# Ids that differ in one digit are common and mean little: a like name weighs more.
_ID_HANDICAP: Final = 5.0
# Who is found wanting was meant; who is not found may have been somebody else.
_UNKNOWN: Final = ("PHANTOM_WORKER", "NAME_MISMATCH")
_TOLD_IN_MESSAGE: Final = 3
# So many of the likest by name, and by id, are looked at first: most often five of them do.
_FIRST: Final = 24
# So many comparisons take some 0.1 ms, and a few ms where hardly anybody qualifies. A thread would hold the interpreter
# no shorter, and be waited for.
_INLINE_PAIRS_MAX: Final = 1000
_ALL_FACTS: Final = Facts(CANDIDATE_FACTS, "US")

# One who would qualify: likeness (negative, so that the likest sorts first), id, worker.
_Near = tuple[float, str, Worker]


async def suggest(
    findings: Findings,
    wanted: Mapping[int, Wanted],
    answer: Answer,
    terms: FillTerms,
    *,
    taken: Collection[str],
    limits: LimitsTable,
    facts: Facts = _ALL_FACTS,
) -> None:
    """Give the findings of `wanted` (by their position in `findings.kept`) suggestions, nearest first. Where fewer
    qualify than are asked for, one finding says so, if that is known.

    `taken` are the ids that the artifact uses already. At most `limits.suggestions_strangers_max` findings get some, in
    at most about `limits.suggestions_ms`: advice is never worth a late verdict.
    """
    first = dict(islice(wanted.items(), limits.suggestions_strangers_max))
    if not first:
        return
    ends_at = time.monotonic() + limits.suggestions_ms / 1000
    candidates = await answer.near(tuple(first.values()), terms.criteria())
    search = _Search(candidates, terms, taken, facts, ends_at)
    if len(first) * len(candidates.worker_ids) <= _INLINE_PAIRS_MAX:
        _tell(findings, first, search)
    else:
        await asyncio.to_thread(_tell, findings, first, search)


def _tell(findings: Findings, wanted_at: Mapping[int, Wanted], search: _Search) -> None:
    place: str | None = None
    nearest: list[_Near] = []
    for position, wanted in wanted_at.items():
        code, path, message, _, unrestricted = findings.kept[position]
        is_new = not path or path.rpartition("/")[0] != place
        if is_new:
            place, nearest = path.rpartition("/")[0], search.nearest(wanted)
        if nearest:
            suggestions = tuple([search.suggestion(near) for near in nearest])
            # Somebody with several faults is answered once in words.
            text = f"{message}; {_listed(nearest, meant=code in _UNKNOWN)}" if is_new else message
            unrestricted = unrestricted or (message if is_new else "")
            findings.kept[position] = Finding(code, path, text, suggestions, unrestricted)
    shortage = search.shortage()
    if shortage:
        at = next((at for at, finding in enumerate(findings.kept) if finding.code == "COUNT"), 0)
        code, path, message, suggestions, unrestricted = findings.kept[at]
        if unrestricted:
            unrestricted = f"{unrestricted}; {shortage}"
        findings.kept[at] = Finding(code, path, f"{message}; {shortage}", suggestions, unrestricted)


class _Search:
    """Who is nearest, for one stranger of an artifact after the other."""

    def __init__(
        self, candidates: Candidates, terms: FillTerms, taken: Collection[str], facts: Facts, ends_at: float
    ) -> None:
        self._candidates = candidates
        self._terms = terms
        self._taken = taken
        self._facts = facts
        self._ends_at = ends_at
        self._given: set[str] = set()

    def nearest(self, wanted: Wanted) -> list[_Near]:
        """Return the nearest to `wanted` of those who qualify, at most five; fewer where the time is up."""
        count = len(self._candidates.worker_ids)
        nearest = self._pick(wanted, min(_FIRST, count))
        if nearest is None:
            nearest = self._pick(wanted, count) or []
        self._given.update([near[1] for near in nearest])
        return nearest

    def suggestion(self, near: _Near) -> Suggestion:
        """`near` as it is said."""
        return Suggestion(near[1], near[2].name, self._facts.text_of(near[2]) or "")

    def shortage(self) -> str:
        """Return the words that fewer qualify than are asked for; empty where they do not, or where it is not known in
        time."""
        worker_ids, _, found_at, is_whole = self._candidates
        if not is_whole:
            return ""
        needed = self._terms.count
        if not worker_ids:
            return shortage_text(self._terms, 0, nobody_there=True)
        count = 0
        for at in range(len(worker_ids)):
            if at % 64 == 0 and time.monotonic() > self._ends_at:
                return ""
            count += self._terms.met_by(found_at(at))
            if count >= needed:
                return ""
        return shortage_text(self._terms, count, nobody_there=False)

    def _pick(self, wanted: Wanted, limit: int) -> list[_Near] | None:
        """See `nearest`; None where more than the `limit` likest by name and by id have to be seen to know."""
        worker_ids, names, found_at, _ = self._candidates
        if not worker_ids or time.monotonic() > self._ends_at:
            return []
        name, worker_id = fold(wanted.name)[:200], plain_id(wanted.worker_id)
        by_id = [(score - _ID_HANDICAP, at) for score, at in _likest(worker_id, worker_ids, limit)]
        by_name = _likest(name, names, limit) if name else []
        rest = -math.inf
        if limit < len(worker_ids):
            # Nobody who is in neither list is liker than this.
            rest = max(by_id[-1][0], by_name[-1][0] if by_name else 0.0)
        best: list[_Near] = []
        # Who was suggested for another stranger comes last, so that one model's answer can use them all; who is meant
        # by name or id stays in place.
        last: list[_Near] = []
        seen: set[int] = set()
        for likeness, at in sorted(by_id + by_name, reverse=True):
            # The lesser likeness counts for a hundredth: from here on nobody comes before these.
            if len(best) == SUGGESTIONS_MAX and likeness * 1.01 < -best[-1][0]:
                break
            if likeness <= rest:
                return None
            candidate_id = worker_ids[at]
            # A name mismatch takes its own id: the bearer of the id may be who was meant.
            if at in seen or (candidate_id in self._taken and candidate_id != wanted.worker_id):
                continue
            seen.add(at)
            if time.monotonic() > self._ends_at:
                break
            found = found_at(at)
            if self._terms.met_by(found):
                like_id = fuzz.ratio(worker_id, candidate_id) - _ID_HANDICAP
                like_name = fuzz.ratio(name, names[at]) if name else 0.0
                score = max(like_name, like_id) + min(like_name, like_id) / 100
                into = last if score < _NEAR and candidate_id in self._given else best
                insort(into, (-score, candidate_id, found.worker))
                del into[SUGGESTIONS_MAX:]
        # Somebody of whom nothing may be said is nobody's suggestion.
        return [near for near in (best + last)[:SUGGESTIONS_MAX] if self._facts.text_of(near[2]) is not None]


def _likest(text: str, choices: Sequence[str], limit: int) -> list[tuple[float, int]]:
    found = process.extract(text, choices, scorer=fuzz.ratio, processor=None, limit=limit)
    return [(score, at) for _, score, at in found]


def _listed(nearest: Sequence[_Near], *, meant: bool) -> str:
    near = [each for each in nearest if meant and -each[0] >= _NEAR]
    shown = (near or nearest)[:_TOLD_IN_MESSAGE]
    names = ", ".join([f"{quoted(worker_id)} {quoted(worker.name)}" for _, worker_id, worker in shown])
    return f"did you mean {names}?" if near else f"workers who would qualify: {names}"
