"""Tasks drawn from the example roster by a seed: a spec that some meet, and a soft wish that some of those meet."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from lakehouse.validated.v1.validated_pb2 import FillSpec

COUNT_MAX: Final = 5
# Every so many tasks have fewer than twice as many candidates as they need: no slots, so choices from one list.
SCARCE_EVERY: Final = 4
# The wish divides those who qualify: neither nearly all meet it, as what is demanded, nor nearly nobody.
_SHARE_MIN, _SHARE_MAX = 0.25, 0.75
_SHIFT: Final = ("2026-12-05T07:00:00-05:00", "2026-12-05T15:00:00-05:00")
_STATES: Final = {
    "OH": "Ohio", "MI": "Michigan", "IN": "Indiana", "IL": "Illinois", "PA": "Pennsylvania", "KY": "Kentucky",
    "NM": "New Mexico", "MO": "Missouri",
}  # fmt: skip
_CERTIFIED: Final = {
    "reach truck": "certified for reach trucks",
    "forklift": "certified for forklifts",
    "RF scanner": "certified for RF scanners",
    "OSHA-10": "with OSHA-10",
    "OSHA-30": "with OSHA-30",
    "AWS D1.1": "certified by AWS D1.1",
    "MIG": "certified for MIG welding",
    "TIG": "certified for TIG welding",
    "CDL-A": "with a CDL-A",
    "hazmat": "certified for hazmat",
    "TWIC": "with a TWIC card",
    "DOT medical card": "with a DOT medical card",
    "lockout/tagout": "certified for lockout/tagout",
    "EPA 608": "certified by EPA 608",
    "ISO 9001 auditor": "certified as ISO 9001 auditor",
    "GD&T": "certified for GD&T",
    "first aid": "certified in first aid",
}
_TRIES_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Worker:
    """What the tasks are drawn from."""

    worker_id: str
    name: str
    role: str
    city: str
    state: str
    certifications: frozenset[str]
    is_free: bool
    """Active, and at no other work during the shift that tasks ask for."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the prompt prefers: a certification, or a city. Nothing in the spec demands it."""

    words: str
    certification: str = ""
    city: str = ""

    def met_by(self, city: str, certifications: Sequence[str] | frozenset[str]) -> bool:
        """Whether a worker with these facts is whom the prompt prefers."""
        return city == self.city if self.city else self.certification in certifications


@dataclass(frozen=True, slots=True)
class Task:
    """One order."""

    number: int
    """From 0."""
    prompt: str
    spec: FillSpec
    wish: Wish


def read_workers(folder: Path) -> list[Worker]:
    """Return the example roster in `folder`."""
    start, end = map(datetime.fromisoformat, _SHIFT)
    busy = {
        row["worker_id"]
        for row in _rows(folder / "assignments.csv")
        if datetime.fromisoformat(row["shift_start"]) < end and start < datetime.fromisoformat(row["shift_end"])
    }
    return [
        Worker(
            row["worker_id"], row["name"], row["role"], row["city"], row["state"],
            frozenset(filter(None, row["certifications"].split(";"))),
            row["active"] == "true" and row["worker_id"] not in busy,
        )
        for row in _rows(folder / "workers.csv")
    ]  # fmt: skip


def draw_tasks(workers: Sequence[Worker], count: int, seed: int, *, candidates: int) -> list[Task]:
    """`count` tasks. The first ones of a longer drawing are a shorter drawing: each has a generator of its own.

    `candidates`: how many are offered at most. Of every ``SCARCE_EVERY`` tasks one is met by fewer than twice as many
    as it needs, the others by enough for slots.
    """
    return [_task(workers, number, random.Random(f"{seed}/{number}"), candidates) for number in range(count)]


def is_scarce(number: int) -> bool:
    """Whether the task of that number has too few candidates for slots."""
    return number % SCARCE_EVERY == SCARCE_EVERY - 1


def _task(workers: Sequence[Worker], number: int, source: random.Random, candidates: int) -> Task:
    scarce = is_scarce(number)
    for _ in range(_TRIES_MAX):
        one = source.choice(workers)
        needed = source.randint(3 if scarce else 1, COUNT_MAX)
        within_city = source.random() < 0.5
        demanded = _one_of(source, sorted(one.certifications)) if scarce or source.random() < 0.3 else ""
        pool = [
            each
            for each in workers
            if each.is_free
            and (each.role, each.state) == (one.role, one.state)
            and (not within_city or each.city == one.city)
            and (not demanded or demanded in each.certifications)
        ]
        if not (needed < len(pool) < 2 * needed if scarce else len(pool) >= max(candidates, 2 * needed)):
            continue
        wishes = [wish for wish in _wishes(pool, within_city=within_city) if _divides(wish, pool, needed)]
        if not wishes:
            continue
        wish = source.choice(wishes)
        spec = FillSpec(role=one.role, count=needed, state=one.state, shift_start=_SHIFT[0], shift_end=_SHIFT[1])
        if within_city:
            spec.city = one.city
        if demanded:
            spec.required_certifications.append(demanded)
        place = f"{one.city}, {one.state}" if within_city else _STATES[one.state]
        who = f"{needed} {one.role}{'s' if needed > 1 else ''}"
        must = f" Only people {_CERTIFIED[demanded]}." if demanded else ""
        return Task(number, f"Fill {who} in {place} for Saturday morning.{must} {wish.words}", spec, wish)
    raise ValueError(f"no task {number} in this roster")


def _wishes(pool: Sequence[Worker], *, within_city: bool) -> Iterator[Wish]:
    for held in sorted({each for worker in pool for each in worker.certifications}):
        yield Wish(f"Prefer somebody {_CERTIFIED[held]}.", certification=held)
    if not within_city:
        for city in sorted({worker.city for worker in pool}):
            yield Wish(f"Prefer somebody from {city}.", city=city)


def _divides(wish: Wish, pool: Sequence[Worker], needed: int) -> bool:
    met = sum(wish.met_by(each.city, each.certifications) for each in pool)
    return _SHARE_MIN <= met / len(pool) <= _SHARE_MAX and met >= min(needed, 2)


def _one_of(source: random.Random, names: Sequence[str]) -> str:
    return source.choice(names) if names else ""


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
