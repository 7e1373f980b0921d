"""``PostgresRoster``: a roster in a table, asked once a validation.

A look-up is one statement, so that one snapshot of the database answers all of it. Only where somebody is not found
a second one follows, for the suggestions: it is advice, has its own short time, and may fail without harm.
Names of tables and columns are composed as identifiers, everything of an artifact travels as a parameter.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import structlog
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from validated.config import RosterTable
from validated.roster.columns import read_active, read_certifications
from validated.roster.names import name_key, table_key
from validated.roster.near import id_variants
from validated.roster.postgres_statements import Statements
from validated.roster.texts import fold
from validated.roster.worker import (
    Candidates,
    Criteria,
    Found,
    Question,
    RosterUnavailable,
    RosterVersion,
    Shift,
    Wanted,
    Worker,
)

_log = structlog.get_logger()
_ID_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
_VARIANTS_MAX: Final = 400


class PostgresAnswer:
    """See Answer."""

    def __init__(self, roster: PostgresRoster, question: Question, version: RosterVersion) -> None:
        self.version = version
        self.found: dict[str, Found] = {}
        self.namesakes: list[Worker] = []
        self._roster = roster
        self._question = question

    async def near(self, wanted: Sequence[Wanted], criteria: Criteria) -> Candidates:
        """See Answer."""
        return await self._roster.near(self._question, wanted, criteria)


class PostgresRoster:
    """A WorkerLookup on a table (or view) whose id column is of type text or varchar."""

    def __init__(self, table: RosterTable, conninfo: str, *, near_ms: int) -> None:
        self._table = table
        self._settings = table.postgres
        self._near_ms = near_ms
        self._pool = AsyncConnectionPool(
            conninfo,
            min_size=1,
            max_size=table.postgres.pool_max,
            # A waiter is an RPC, and RPCs are bounded; the time that one waits is bounded below.
            timeout=table.postgres.connect_timeout_ms / 1000,
            configure=self._configure,
            open=False,
            name="roster",
        )
        self._statements: Statements | None = None
        self._counts = {"lookups": 0, "lookup_failures": 0, "suggestion_failures": 0}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[PostgresRoster]:
        """Connect for the time of the block. A database that cannot be reached does not keep it from opening."""
        await self._pool.open(wait=False)
        try:
            yield self
        finally:
            await self._pool.close(timeout=2)

    async def look_up(self, question: Question) -> PostgresAnswer:
        """See WorkerLookup."""
        self._counts["lookups"] += 1
        try:
            async with self._pool.connection() as connection:
                statements = await self._prepared(connection)
                statement = statements.by_id_and_name if question.names else statements.by_id
                cursor = await connection.execute(statement, _parameters(question))
                rows = await cursor.fetchall()
        except (psycopg.Error, PoolTimeout) as error:
            self._counts["lookup_failures"] += 1
            # The table may have changed under us: look at its columns again next time.
            self._statements = None
            raise RosterUnavailable(f"{type(error).__name__}: {_first_line(error)}") from error
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        version = RosterVersion(statements.source, str(rows[0][0]) if rows[0][0] is not None else now, 0, now)
        answer = PostgresAnswer(self, question, version)
        asked = frozenset(question.worker_ids)
        names = frozenset(question.names)
        for row in rows:
            found = _found(row[1:])
            if found is None:
                continue
            # By code points, whatever the column's collation calls equal.
            if found.worker.worker_id in asked:
                answer.found[found.worker.worker_id] = found
            if names and name_key(found.worker.name) in names:
                answer.namesakes.append(found.worker)
        return answer

    async def near(self, question: Question, wanted: Sequence[Wanted], criteria: Criteria) -> Candidates:
        """See Answer. Nothing where the database is too slow for it."""
        ids: dict[str, None] = {}
        for each in wanted:
            ids.update(dict.fromkeys(itertools.islice(id_variants(each.worker_id, _ID_ALPHABET), _VARIANTS_MAX)))
        names = tuple({fold(each.name)[:200]: None for each in wanted if each.name})
        parameters = _parameters(question) | {
            "ids": [each for each in ids if "\x00" not in each],
            "names": _storable(names),
            "role": _text(criteria.role),
            "cities": [_text(city).lower() for city, _ in criteria.places],
            "states": [_text(state).lower() for _, state in criteria.places],
        }
        rows: list[tuple[Any, ...]] = []
        try:
            async with asyncio.timeout(self._near_ms / 1000), self._pool.connection() as connection:
                statements = await self._prepared(connection)
                rows += await (await connection.execute(statements.near, parameters)).fetchall()
                if statements.like_name is not None and names:
                    rows += await (await connection.execute(statements.like_name, parameters)).fetchall()
        except (psycopg.Error, PoolTimeout, TimeoutError) as error:
            self._counts["suggestion_failures"] += 1
            _log.info("suggestions cut short", problem=f"{type(error).__name__}: {_first_line(error)}")
        return Candidates.of([found for row in rows if (found := _found(row)) is not None])

    def counts(self) -> Mapping[str, int]:
        """Look-ups, failed ones, and suggestions that were cut short, for metrics."""
        return self._counts

    async def _configure(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.set_autocommit(True)
        settings = {
            "statement_timeout": f"{self._settings.statement_timeout_ms}ms",
            "default_transaction_read_only": "on",
            "application_name": "validated",
        }
        for name, value in settings.items():
            await connection.execute("SELECT set_config(%s, %s, false)", (name, value))

    async def _prepared(self, connection: psycopg.AsyncConnection[Any]) -> Statements:
        if self._statements is None:
            table = sql.Identifier(self._settings.schema_name, self._settings.table)
            empty = await connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table))
            have = frozenset(column.name for column in empty.description or ())
            similar = False
            if self._settings.similarity == "auto":
                found = await connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
                similar = await found.fetchone() is not None
            self._statements = Statements(self._table, have, similar=similar)
        return self._statements


def _parameters(question: Question) -> dict[str, Any]:
    return {
        "ids": _storable(question.worker_ids),
        "names": list(dict.fromkeys(map(table_key, question.names))),
        "start": question.shift.start if question.shift else None,
        "end": question.shift.end if question.shift else None,
        "client_id": _text(question.client_id) or None,
    }


def _storable(texts: Sequence[str]) -> list[str]:
    # PostgreSQL's text cannot hold U+0000: no such id can stand in the table, and asking for it would be an error.
    return [text for text in texts if "\x00" not in text]


def _text(text: str) -> str:
    return text.replace("\x00", "")


def _found(row: Sequence[Any]) -> Found | None:
    worker_id, name, role, city, state, active, held, latitude, longitude, phone, start, end, refused = row
    if worker_id is None or name is None:
        return None
    known = latitude is not None and longitude is not None
    worker = Worker(
        worker_id=str(worker_id),
        name=str(name),
        role=role or "",
        city=city or "",
        state=state or "",
        # What is neither is not active: a gate does not guess in favour.
        active=read_active(active) is True,
        certifications=read_certifications(held) or (),
        latitude=latitude if known else None,
        longitude=longitude if known else None,
        phone=phone or "",
    )
    overlap = Shift(start.astimezone(UTC), end.astimezone(UTC)) if start is not None else None
    return Found(worker, overlap, bool(refused))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]
