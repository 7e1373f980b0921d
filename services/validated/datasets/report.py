"""What a person should look at in a good roster: ids and names that may be taken for each other, and people who look
like one person under two ids.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

from validated.datasets.near import plain_id
from validated.datasets.texts import fold
from validated.datasets.worker import Worker

SHOWN_MAX: Final = 50


class Likeness:
    """Collects workers, one after the other; memory grows with them, as a tool's may."""

    def __init__(self) -> None:
        self._ids: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, set[str]] = defaultdict(set)
        self._people: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, worker: Worker) -> None:
        """Take a worker into account."""
        self._ids[_skeleton(worker.worker_id)].append(worker.worker_id)
        self._names[_skeleton(worker.name)].add(worker.name)
        digits = "".join(each for each in worker.phone if each.isdigit())[-10:]
        for same in filter(None, (digits, _home(worker))):
            self._people[fold(worker.name), same].append(worker.worker_id)

    def report(self) -> dict[str, Any]:
        """Return groups, the first SHOWN_MAX of each sort, and how many there are of it."""
        return {
            "confusable_ids": _groups(self._ids.values()),
            "confusable_names": _groups(sorted(each) for each in self._names.values()),
            "one_person_under_two_ids": _groups({tuple(dict.fromkeys(each)): None for each in self._people.values()}),
        }


def _skeleton(text: str) -> str:
    """Return what the eye keeps of a text: no case, no composition, no script, no zero width, no 0 for O or 1 for l."""
    latin = plain_id(unicodedata.normalize("NFKC", text)) if not text.isascii() else text
    return fold(latin).replace(" ", "").replace("0", "o").replace("1", "l").replace("i", "l")


def _home(worker: Worker) -> str:
    return "" if worker.latitude is None else f"{worker.latitude:.4f} {worker.longitude:.4f}"


def _groups(groups: Iterable[Iterable[str]]) -> dict[str, Any]:
    several = sorted(_several(groups))
    return {"total": len(several), "shown": several[:SHOWN_MAX]}


def _several(groups: Iterable[Iterable[str]]) -> Iterator[list[str]]:
    for group in groups:
        members = list(group)
        if len(members) > 1:
            yield members
