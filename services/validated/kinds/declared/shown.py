"""What a model may see of the rows of a dataset."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from lakehouse.strict_json.parser import JsonValue
from validated.config import CANDIDATE_FACTS
from validated.datasets.dataset_index import Row
from validated.datasets.worker import Worker
from validated.kinds.declared.values import written
from validated.kinds.facts import Facts


class Shown:
    """The columns of one reference's dataset that a model may see, in candidates, findings and suggestions."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns: Final = tuple(columns)

    def facts(self, row: Row) -> dict[str, JsonValue] | None:
        """Return what may be said of `row`; None: nothing, and it is no candidate."""
        return {name: written(held)[0] for name in self.columns if (held := row.values[name]) is not None}

    def has(self, row: Row, columns: Collection[str]) -> bool:
        """Whether the values of `columns` may be said."""
        facts = self.facts(row)
        return facts is not None and all(name in facts or self._says_none(row, name) for name in columns)

    def _says_none(self, row: Row, name: str) -> bool:
        return name in self.columns and row.values[name] is None


class ShownPeople(Shown):
    """The same of the roster: never more than `candidate_facts`, and no phone number, wherever it stands."""

    def __init__(self, columns: Sequence[str], people: People) -> None:
        super().__init__([name for name in columns if name in people.columns])
        self._facts = people.facts

    def facts(self, row: Row) -> dict[str, JsonValue] | None:
        """See Shown."""
        known = self._facts.of(_worker(row))
        return None if known is None else {name: known[name] for name in self.columns if name in known}


class People:
    """What a deployment lets models know of a worker."""

    def __init__(self, candidate_facts: Collection[str] = CANDIDATE_FACTS, region: str = "US") -> None:
        self.columns: Final = frozenset(("worker_id", "name", *candidate_facts))
        self.facts: Final = Facts(candidate_facts, region)


def _worker(row: Row) -> Worker:
    def text(name: str) -> str:
        held = row.values[name]
        return held if isinstance(held, str) else ""

    held = row.values["certifications"]
    return Worker(
        worker_id=text("worker_id"),
        name=text("name"),
        role=text("role"),
        city=text("city"),
        state=text("state"),
        certifications=held if isinstance(held, tuple) else (),
        phone=text("phone"),
    )
