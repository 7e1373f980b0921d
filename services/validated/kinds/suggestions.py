"""Workers who do exist and would qualify, for those who do not: what the model can use in its next attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
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
    await asyncio.to_thread(_rank, findings, first, candidates, terms, taken, ends_at)


def _rank(
    findings: Findings,
    strangers: Mapping[int, Wanted],
    candidates: Iterable[Found],
    terms: FillTerms,
    taken: Collection[str],
    ends_at: float,
) -> None:
    fit: list[tuple[Worker, str]] = []
    for found in candidates:
        if time.monotonic() > ends_at:
            break
        worker = found.worker
        # A name mismatch takes its own id: the bearer of the id may be who was meant.
        if next(terms.breaches(found), None) is None:
            fit.append((worker, fold(worker.name)))
    given: set[str] = set()
    for position, wanted in strangers.items():
        if time.monotonic() > ends_at:
            break
        free = [each for each in fit if each[0].worker_id not in taken or each[0].worker_id == wanted.worker_id]
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
    wanted: Wanted, candidates: Iterable[tuple[Worker, str]], given: Collection[str]
) -> list[tuple[float, Worker]]:
    name, worker_id = fold(wanted.name)[:200], plain_id(wanted.worker_id)
    scored: list[tuple[float, Worker]] = []
    for worker, folded in candidates:
        by_name = fuzz.ratio(name, folded) if name else 0.0
        # Ids that differ in one digit are common and mean little: a like name weighs more.
        by_id = fuzz.ratio(worker_id, worker.worker_id) - 5
        scored.append((max(by_name, by_id) + min(by_name, by_id) / 100, worker))
    # Who was suggested for another stranger comes last, so that one model's answer can use them all; who is meant by
    # name or id stays in place.
    scored.sort(key=lambda each: (each[0] < _NEAR and each[1].worker_id in given, -each[0], each[1].worker_id))
    return scored[:SUGGESTIONS_MAX]


def _told(nearest: list[tuple[float, Worker]]) -> str:
    near = [worker for score, worker in nearest if score >= _NEAR]
    shown = (near or [worker for _, worker in nearest])[:_TOLD_IN_MESSAGE]
    names = ", ".join(f"{quoted(worker.worker_id)} {quoted(worker.name)}" for worker in shown)
    return f"did you mean {names}?" if near else f"workers who would qualify: {names}"
