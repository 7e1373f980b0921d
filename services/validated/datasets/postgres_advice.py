"""What a table is asked for beside the truth: who is near to a stranger, and whom a prompt names. It has a short time
of its own, and may fail without harm.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from validated.datasets.near import id_variants
from validated.datasets.postgres_rows import first_line, found_of, ids_of, parameters_of, storable, storable_text
from validated.datasets.postgres_statements import Statements
from validated.datasets.postgres_table import ShapeError
from validated.datasets.texts import fold
from validated.datasets.worker import Candidates, Criteria, Question, Wanted

_log = structlog.get_logger()
_ID_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
_VARIANTS_MAX: Final = 400
_NAMES_AGAIN_S: Final = 60


class PostgresAdvice:
    """Asks on the connections of a roster's pool."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        prepared: Callable[[psycopg.AsyncConnection[Any]], Awaitable[Statements]],
        counts: dict[str, int],
        *,
        near_ms: int,
    ) -> None:
        """Take `prepared`, which gives the statements for a connection; failures are counted in `counts`."""
        self._pool = pool
        self._prepared = prepared
        self._counts = counts
        self._near_ms = near_ms
        self._names_after = 0.0
        """When names are to be looked up again: they took too long."""

    async def near(self, question: Question, wanted: Sequence[Wanted], criteria: Criteria) -> Candidates:
        """See Answer. Nothing where the database is too slow for it."""
        ids: dict[str, None] = {}
        for each in wanted:
            ids.update(dict.fromkeys(itertools.islice(id_variants(each.worker_id, _ID_ALPHABET), _VARIANTS_MAX)))
        names = tuple({fold(each.name)[:200]: None for each in wanted if each.name})
        rows: list[tuple[Any, ...]] = []
        try:
            async with asyncio.timeout(self._near_ms / 1000), self._pool.connection() as connection:
                statements = await self._prepared(connection)
                parameters = parameters_of(question, statements) | {
                    "ids": ids_of(list(ids), statements),
                    "names": storable(names),
                    "role": storable_text(criteria.role),
                    "cities": [storable_text(city).lower() for city, _ in criteria.places],
                    "states": [storable_text(state).lower() for _, state in criteria.places],
                }
                rows += await (await connection.execute(statements.near, parameters)).fetchall()
                if names:
                    rows += await (await connection.execute(statements.near_names, parameters)).fetchall()
        except (psycopg.Error, PoolTimeout, ShapeError, TimeoutError) as error:
            self._counts["suggestion_failures"] += 1
            _log.info("suggestions cut short", problem=f"{type(error).__name__}: {first_line(error)}")
        return Candidates.of([found for row in rows if (found := found_of(row, question.client_id)) is not None])

    async def ids_of(self, names: Sequence[str]) -> Sequence[str]:
        """Return the ids of workers with these names; nobody's where the database takes long to say so: who is named
        would come first, no more depends on it.
        """
        if not names or time.monotonic() < self._names_after:
            return ()
        try:
            async with asyncio.timeout(self._near_ms / 1000), self._pool.connection() as connection:
                statements = await self._prepared(connection)
                parameters = parameters_of(Question(()), statements, names)
                rows = await (await connection.execute(statements.ids_of_names, parameters)).fetchall()
        except TimeoutError:
            self._names_after = time.monotonic() + _NAMES_AGAIN_S
            advice = "make the index that `python -m validated.datasets.names` prints, or raise limits.suggestions_ms"
            _log.warning("names not looked up", longer_than_ms=self._near_ms, again_in_s=_NAMES_AGAIN_S, advice=advice)
            return ()
        except (psycopg.Error, PoolTimeout, ShapeError):
            # What is wrong will show in what comes next.
            return ()
        return [str(row[0]) for row in rows if row[0] is not None]
