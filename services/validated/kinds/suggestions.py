"""Workers who do exist and would qualify, for those who do not: what the model can use in its next attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Final

from rapidfuzz import fuzz

from lakehouse.server.specs import quoted
from validated.config import LimitsTable
from validated.findings import SUGGESTIONS_MAX, Findings, Suggestion
from validated.kinds.fill_terms import FillTerms
from validated.roster.near import plain_id
from validated.roster.texts import fold
from validated.roster.worker import Answer, Found, Wanted, Worker

# From here on a likeness is worth the question "did you mean"; below, a worker is only one who would do.
_NEAR: Final = 80.0
_TOLD_IN_MESSAGE: Final = 3
# So many comparisons take some 0.3 ms. A thread would hold the interpreter no shorter, and be waited for.
_INLINE_PAIRS_MAX: Final = 400


async def suggest(
    findings: Findings,
    strangers: Mapping[int, Wanted],
    answer: Answer,
    terms: FillTerms,
    *,
    taken: Collection[str],
    limits: LimitsTable,
) -> None:
    """Give the findings of `strangers` (by their position in `findings.kept`) suggestions, nearest first.

    `taken` are the ids that the artifact uses already. At most `limits.suggestions_strangers_max` findings get some, in
    at most about `limits.suggestions_ms`: advice is never worth a late verdict.
    """
    first = dict(list(strangers.items())[: limits.suggestions_strangers_max])
    if not first:
        return
    ends_at = time.monotonic() + limits.suggestions_ms / 1000
    candidates = await answer.near(tuple(first.values()), terms.criteria())
    if len(first) * len(candidates) <= _INLINE_PAIRS_MAX:
        _rank(findings, first, candidates, terms, taken, ends_at)
    else:
        await asyncio.to_thread(_rank, findings, first, candidates, terms, taken, ends_at)


def _rank(
    findings: Findings,
    strangers: Mapping[int, Wanted],
    candidates: Sequence[Found],
    terms: FillTerms,
    taken: Collection[str],
    ends_at: float,
) -> None:
    folded = [fold(found.worker.name) for found in candidates]
    given: set[str] = set()
    for position, wanted in strangers.items():
        nearest: list[tuple[float, Worker]] = []
        for score, found in _nearest_first(wanted, candidates, folded, given):
            if len(nearest) == SUGGESTIONS_MAX or time.monotonic() > ends_at:
                break
            worker = found.worker
            # A name mismatch takes its own id: the bearer of the id may be who was meant.
            if (worker.worker_id not in taken or worker.worker_id == wanted.worker_id) and terms.met_by(found):
                nearest.append((score, worker))
        if not nearest:
            continue
        given.update(worker.worker_id for _, worker in nearest)
        finding = findings.kept[position]
        findings.kept[position] = replace(
            finding,
            message=f"{finding.message}; {_told(nearest)}",
            suggestions=tuple(Suggestion(worker.worker_id, worker.name) for _, worker in nearest),
        )


def _nearest_first(
    wanted: Wanted, candidates: Sequence[Found], folded: Sequence[str], given: Collection[str]
) -> list[tuple[float, Found]]:
    """The candidates, whose names are `folded`, with how like each is to whom was wanted, the likest first."""
    name, worker_id = fold(wanted.name)[:200], plain_id(wanted.worker_id)
    by_names = map(partial(fuzz.ratio, name), folded) if name else repeat(0.0)
    by_ids = [fuzz.ratio(worker_id, found.worker.worker_id) - 5 for found in candidates]
    # Ids that differ in one digit are common and mean little: a like name weighs more.
    scores = [
        max(name, id_) + min(name, id_) / 100 for name, id_ in zip(by_names, by_ids, strict=False)
    ]  # names may be endless

    # Who was suggested for another stranger comes last, so that one model's answer can use them all; who is meant by
    # name or id stays in place.
    def place(at: int) -> tuple[bool, float, str]:
        found_id = candidates[at].worker.worker_id
        return scores[at] < _NEAR and found_id in given, -scores[at], found_id

    return [(scores[at], candidates[at]) for at in sorted(range(len(scores)), key=place)]


def _told(nearest: list[tuple[float, Worker]]) -> str:
    near = [worker for score, worker in nearest if score >= _NEAR]
    shown = (near or [worker for _, worker in nearest])[:_TOLD_IN_MESSAGE]
    names = ", ".join(f"{quoted(worker.worker_id)} {quoted(worker.name)}" for worker in shown)
    return f"did you mean {names}?" if near else f"workers who would qualify: {names}"
