"""A draw from a table: what ``postgres_statements`` is asked for it, and what its rows say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from psycopg import sql

from validated.datasets.columns import ACTIVE
from validated.datasets.names import name_key
from validated.datasets.postgres_rows import FoundById, found_of, parameters_of, storable, storable_text, version_of
from validated.datasets.postgres_statements import Statements
from validated.datasets.texts import fold
from validated.datasets.worker import Draw, Drawn, Found, place_in_draw

_DRAWN_MAX: Final = 1_000
_ALL_MAX: Final = 4_000
# Of those who fit role and place and seem to be active, most qualify.
_SPARE: Final = 100
_TRUES: Final = [text for text, active in ACTIVE.items() if active]

Asked: TypeAlias = tuple[sql.Composed, dict[str, Any]]


class PostgresDraw:
    """One draw."""

    def __init__(self, draw: Draw, qualifies: Callable[[Found], bool]) -> None:
        self._draw = draw
        self._qualifies = qualifies
        self._drawn_max = 0
        self.duplicates = 0

    def near_at_hand(self, statements: Statements) -> Asked:
        """Who fits role and place as the database compares them, for which it may have an index."""
        return statements.draw, self._parameters(statements, min(2 * self._draw.wanted + _SPARE, _DRAWN_MAX))

    def all_that_can_fit(self, statements: Statements) -> Asked:
        """Everybody who can fit them as the gate compares them."""
        return statements.draw_all, self._parameters(statements, _ALL_MAX)

    def drawn(self, rows: Sequence[Sequence[Any]], statements: Statements, *, is_superset: bool = False) -> Drawn:
        """What the rows say. `is_superset`: they are of `all_that_can_fit`."""
        by_id = FoundById()
        for row in rows:
            found = found_of(row[3:])
            if found is not None:
                by_id.add(row[3:], found)
        self.duplicates += by_id.duplicates
        question = self._draw.question
        asked, keys = frozenset(question.worker_ids), frozenset(question.names)

        def in_draw(found: Found) -> bytes:
            return place_in_draw(self._draw.seed, found.worker.worker_id)

        named: list[Found] = []
        qualified: list[Found] = []
        others: list[Found] = []
        for found in sorted(by_id.found.values(), key=in_draw):
            if found.worker.worker_id in asked or name_key(found.worker.name) in keys:
                named.append(found)
            (qualified if self._qualifies(found) else others).append(found)
        # One more was asked for than is used: it says that there are others.
        is_whole = is_superset and int(rows[0][2]) <= self._drawn_max
        return Drawn(version_of(rows, statements), named, qualified, others, is_whole)

    def _parameters(self, statements: Statements, drawn_max: int) -> dict[str, Any]:
        self._drawn_max = drawn_max
        draw, places = self._draw, self._draw.criteria.places
        seed = hashlib.blake2b(draw.seed.encode(), digest_size=8).digest()
        return parameters_of(draw.question, statements) | {
            "seed": int.from_bytes(seed, "big", signed=True),
            "drawn_max": drawn_max + 1,
            "trues": _TRUES,
            "held": storable(draw.certifications),
            "role": storable_text(draw.criteria.role),
            "cities": [storable_text(city).lower() for city, _ in places],
            "states": [storable_text(state).lower() for _, state in places],
            "folded_role": storable_text(fold(draw.criteria.role)),
            "folded_cities": [storable_text(fold(city)) for city, _ in places],
            "folded_states": [storable_text(fold(state)) for _, state in places],
        }
