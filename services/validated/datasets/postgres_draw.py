"""A draw from a table: what ``postgres_statements`` is asked for it, and what its rows say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from psycopg import sql

from validated.datasets.columns import ACTIVE
from validated.datasets.postgres_rows import FoundById, found_of, parameters_of, storable, storable_text, version_of
from validated.datasets.postgres_statements import Statements
from validated.datasets.texts import fold
from validated.datasets.worker import Draw, Drawn, Found, place_in_draw

_DRAWN_MAX: Final = 1_000
_ALL_MAX: Final = 4_000
# Of those who fit role and place and seem to be active, most qualify.
_SPARE: Final = 100
_NO_PATTERN: Final = re.compile(r"[\\%_]")
_ESCAPED: Final = r"\\\g<0>"
_TRUES: Final = [text for text, active in ACTIVE.items() if active]

Asked: TypeAlias = tuple[sql.Composed, dict[str, Any]]


class PostgresDraw:
    """One draw."""

    def __init__(self, draw: Draw, qualifies: Callable[[Found], bool], named_ids: Sequence[str]) -> None:
        """`named_ids` are those of workers who have one of the names of the draw's question."""
        question = draw.question
        worker_ids = tuple(dict.fromkeys((*question.worker_ids, *named_ids)))
        self._draw = draw._replace(question=question._replace(worker_ids=worker_ids))
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
        """Return what the rows say. `is_superset`: they are of `all_that_can_fit`."""
        by_id = FoundById()
        for row in rows:
            found = found_of(row[3:], self._draw.question.client_id)
            if found is not None:
                by_id.add(row[3:], found)
        self.duplicates += by_id.duplicates
        question = self._draw.question
        asked = frozenset(question.worker_ids)

        def in_draw(found: Found) -> bytes:
            return place_in_draw(self._draw.seed, found.worker.worker_id)

        named: list[Found] = []
        qualified: list[Found] = []
        others: list[Found] = []
        for found in sorted(by_id.found.values(), key=in_draw):
            if found.worker.worker_id in asked:
                named.append(found)
            (qualified if self._qualifies(found) else others).append(found)
        # One more was asked for than is used: it says that there are others.
        is_whole = is_superset and int(rows[0][2]) <= self._drawn_max
        return Drawn(version_of(rows, statements), named, qualified, others, is_whole)

    def _parameters(self, statements: Statements, drawn_max: int) -> dict[str, Any]:
        self._drawn_max = drawn_max
        draw, places = self._draw, self._draw.criteria.places
        seed = hashlib.blake2b(draw.seed.encode(), digest_size=8).digest()
        return (
            parameters_of(draw.question, statements)
            | {
                "seed": int.from_bytes(seed, "big", signed=True),
                "drawn_max": drawn_max + 1,
                "trues": _TRUES,
                "held": [f"%{_NO_PATTERN.sub(_ESCAPED, each)}%" for each in storable(draw.certifications)],
                "role": storable_text(draw.criteria.role),
                "folded_role": storable_text(fold(draw.criteria.role)),
                # A place that is any: anywhere.
                "is_anywhere": not places or ("", "") in places,
            }
            | _places(places, "", str.lower)
            | _places(places, "folded_", fold)
        )


def _places(places: Sequence[tuple[str, str]], prefix: str, folded: Callable[[str], str]) -> dict[str, list[str]]:
    pairs = [(storable_text(folded(city)), storable_text(folded(state))) for city, state in places]
    both = [(city, state) for city, state in pairs if city and state]
    return {
        f"{prefix}cities": [city for city, _ in both],
        f"{prefix}states": [state for _, state in both],
        f"{prefix}only_cities": [city for city, state in pairs if city and not state],
        f"{prefix}only_states": [state for city, state in pairs if state and not city],
    }
