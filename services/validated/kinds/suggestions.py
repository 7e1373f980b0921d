"""Workers who do exist and would qualify, for those who do not: what the model can use in its next attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
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
    fit: list[Worker] = []
    for found in candidates:
        if time.monotonic() > ends_at:
            break
        if terms.met_by(found):
            fit.append(found.worker)
    given: set[str] = set()
    for position, wanted in strangers.items():
        if time.monotonic() > ends_at:
            break
        # A name mismatch takes its own id: the bearer of the id may be who was meant.
        free = [each for each in fit if each.worker_id not in taken or each.worker_id == wanted.worker_id]
        nearest = _nearest(wanted, free, given)
        if not nearest:
            continue
        given.update(worker.worker_id for _, worker in nearest)
        finding = findings.kept[position]
        findings.kept[position] = replace(
            finding,
            message=f"{finding.message}; {_told(nearest)}",
            suggestions=tuple(Suggestion(worker.worker_id, worker.name) for _, worker in nearest),
        )


def _nearest(
    wanted: Wanted, candidates: Sequence[Worker], given: Collection[str]
) -> list[tuple[float, Worker]]:
    name, worker_id = fold(wanted.name)[:200], plain_id(wanted.worker_id)
    ratio = fuzz.ratio
    if name:
        by_names = [ratio(name, fold(worker.name)) for worker in candidates]
    else:
        by_names = [0.0] * len(candidates)
    # Ids that differ in one digit are common and mean little: a like name weighs more.
    by_ids = [ratio(worker_id, worker.worker_id) - 5 for worker in candidates]
    scored = [
        (by_name + by_id / 100 if by_name > by_id else by_id + by_name / 100, worker)
        for by_name, by_id, worker in zip(by_names, by_ids, candidates, strict=True)
    ]
    # Who was suggested for another stranger comes last, so that one model's answer can use them all; who is meant by
    # name or id stays in place.
    scored.sort(key=lambda each: (each[0] < _NEAR and each[1].worker_id in given, -each[0], each[1].worker_id))
    return scored[:SUGGESTIONS_MAX]


def _told(nearest: list[tuple[float, Worker]]) -> str:
    near = [worker for score, worker in nearest if score >= _NEAR]
    shown = (near or [worker for _, worker in nearest])[:_TOLD_IN_MESSAGE]
    names = ", ".join(f"{quoted(worker.worker_id)} {quoted(worker.name)}" for worker in shown)
    return f"did you mean {names}?" if near else f"workers who would qualify: {names}"
