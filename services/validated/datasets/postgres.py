"""``PostgresRoster``: a roster in a table, asked once a validation.

A look-up is one statement, so that one snapshot of the database answers all of it. Only where somebody is not found
a second one follows, for the suggestions: it is advice, has its own short time, and may fail without harm.
Names of tables and columns are composed as identifiers, everything of an artifact travels as a parameter.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from lakehouse.server.ended_task import end_task
from validated.config import RosterTable
from validated.datasets.names import full_name_key
from validated.datasets.postgres_advice import PostgresAdvice
from validated.datasets.postgres_audit import find_strays, notes_of
from validated.datasets.postgres_draw import Asked, PostgresDraw
from validated.datasets.postgres_replica import BEHIND, ReplicaBehindError, check_lag
from validated.datasets.postgres_rows import (
    FoundById,
    first_line,
    found_of,
    keys_of,
    parameters_of,
    version_of,
)
from validated.datasets.postgres_shape import Shape, read_shape
from validated.datasets.postgres_statements import Statements
from validated.datasets.postgres_table import ShapeError
from validated.datasets.worker import (
    Candidates,
    Criteria,
    Draw,
    Drawn,
    Found,
    Question,
    RosterUnavailable,
    RosterVersion,
    Wanted,
    Worker,
)

_log = structlog.get_logger()
_RETRY_S: Final = 2.0
_REPLAY_S: Final = 0.05
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")


class PostgresAnswer:
    """See Answer."""

    def __init__(self, advice: PostgresAdvice, question: Question, version: RosterVersion) -> None:
        self.version = version
        self.found: dict[str, Found] = {}
        self.namesakes: list[Worker] = []
        self._advice = advice
        self._question = question

    async def near(self, wanted: Sequence[Wanted], criteria: Criteria) -> Candidates:
        """See Answer."""
        return await self._advice.near(self._question, wanted, criteria)


class PostgresRoster:
    """A WorkerLookup on tables (or views). Their shape is read at the start, beside the look-ups, and whenever a
    look-up finds that it has changed; while it cannot be used, look-ups raise RosterUnavailable.
    """

    def __init__(self, table: RosterTable, conninfo: str, *, near_ms: int) -> None:
        self._table = table
        self._settings = table.postgres
        self._problem = ""
        """Why nothing can be answered, whatever the tables look like."""
        try:
            conninfo_to_dict(conninfo)
        except psycopg.Error:
            # What libpq says of it may quote a password.
            self._problem = "roster.postgres.conninfo is no connection string: libpq cannot read it"
            conninfo = "host=127.0.0.1 port=1"
        self._pool = AsyncConnectionPool(
            conninfo,
            min_size=0 if self._problem else 1,
            max_size=table.postgres.pool_max,
            # A waiter is an RPC, and RPCs are bounded; the time that one waits is bounded below.
            timeout=table.postgres.connect_timeout_ms / 1000,
            configure=self._configure,
            open=False,
            name="roster",
        )
        self._conninfo = conninfo
        self._statements: Statements | None = None
        self._needed: frozenset[str] = frozenset()
        self._stray = ""
        """Why the companions cannot be trusted, by the last audit."""
        self._said = ""
        self._ready = False
        self._last_problem = ""
        self._counts = {
            "lookups": 0,
            "lookup_failures": 0,
            "suggestion_failures": 0,
            "shape_changes": 0,
            "duplicate_ids": 0,
        }
        self._advice = PostgresAdvice(self._pool, self._prepared, self._counts, near_ms=near_ms)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[PostgresRoster]:
        """Connect for the time of the block, and say what is wrong. A database that cannot be used does not keep it
        from opening: it is tried again beside the look-ups.
        """
        await self._pool.open(wait=False)
        await self._audit()
        watch = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            await end_task(watch)
            await self._pool.close(timeout=2)

    def is_ready(self) -> bool:
        """Whether the last look at the tables found them good, and no look-up has found otherwise since."""
        return self._ready

    def unready(self) -> Sequence[str]:
        """Why nobody can be looked up now; nothing where somebody can."""
        if self._ready:
            return ()
        source = f"{self._settings.schema_name}.{self._settings.table}"
        return (f"the roster {source} cannot be read: {self._last_problem or 'its shape has changed'}",)

    async def look_up(self, question: Question) -> PostgresAnswer:
        """See WorkerLookup."""
        names = frozenset(await keys_of(question))
        rows, statements = await self.ask(
            lambda it: (it.by_id_and_name if names else it.by_id, parameters_of(question, it, names))
        )
        version = version_of(rows, statements)
        answer = PostgresAnswer(self._advice, question, version)
        asked = frozenset(question.worker_ids)
        by_id = FoundById()
        for row in rows:
            found = found_of(row[2:], question.client_id)
            if found is None:
                continue
            worker = found.worker
            # By code points, whatever the column's collation calls equal.
            if worker.worker_id in asked:
                by_id.add(row[2:], found)
            if names and full_name_key(worker.name) in names:
                answer.namesakes.append(worker)
        answer.found = by_id.found
        self._counts["duplicate_ids"] += by_id.duplicates
        return answer

    async def draw(self, draw: Draw, qualifies: Callable[[Found], bool]) -> Drawn:
        """See WorkerLookup. One statement, and a short one before it where names are asked for; another one, of all
        that can fit, where too few qualify by the first.
        """
        work = PostgresDraw(draw, qualifies, await self._advice.ids_of(await keys_of(draw.question)))
        drawn = work.drawn(*await self.ask(work.near_at_hand))
        if len(drawn.qualified) < draw.needed:
            try:
                drawn = work.drawn(*await self.ask(work.all_that_can_fit), is_superset=True)
            except RosterUnavailable as error:
                # That takes long where the table is large: then it is not known whether there are others.
                _log.info("draw cut short", problem=str(error))
        self._counts["duplicate_ids"] += work.duplicates
        return drawn

    async def ask(self, make: Callable[[Statements], Asked]) -> tuple[list[tuple[Any, ...]], Statements]:
        """Return the rows of a statement, and the statements that it is one of. Raises RosterUnavailable."""
        self._counts["lookups"] += 1
        try:
            return await self._ask(make)
        except (psycopg.Error, PoolTimeout, ShapeError, ReplicaBehindError) as error:
            self._counts["lookup_failures"] += 1
            if isinstance(error, ShapeError):
                self._statements, self._ready = None, False
            raise RosterUnavailable(f"{type(error).__name__}: {first_line(error)}") from error

    async def _ask(self, make: Callable[[Statements], Asked]) -> tuple[list[tuple[Any, ...]], Statements]:
        """Return the rows of a look-up, which saw the very shape that its statement was written for. Asked a second
        time where a connection was lost or the tables were altered.
        """
        for attempt in (1, 2):
            try:
                async with self._pool.connection() as connection:
                    try:
                        statements = await self._prepared(connection)
                        cursor = await connection.execute(*make(statements))
                        rows = await cursor.fetchall()
                    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedObject):
                        # What was prepared on it was prepared for another table.
                        await connection.close()
                        raise
            except psycopg.errors.QueryCanceled:
                raise
            except psycopg.OperationalError:
                if attempt == 2:
                    raise
                await self._pool.check()
            except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.DataError):
                if attempt == 2:
                    raise
                self._statements = None
            else:
                if rows[0][1] == statements.mark:
                    return rows, statements
                if rows[0][1] == BEHIND:
                    if attempt == 2:
                        raise ReplicaBehindError(self._settings.replica_lag_max_ms)
                    # After a quiet hour the first transaction is an hour ahead, until it is replayed in a moment.
                    await asyncio.sleep(_REPLAY_S)
                    continue
                self._counts["shape_changes"] += 1
                self._statements = None
        raise ShapeError(f"{self._settings.schema_name}.{self._settings.table}: its columns change while it is asked")

    def counts(self) -> Mapping[str, int]:
        """Look-ups, failed ones, suggestions that were cut short, changes of shape, ids found twice, and whether the
        tables can be used, for metrics.
        """
        return {**self._counts, "ready": int(self.is_ready())}

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
        if self._problem or self._stray:
            raise ShapeError(self._problem or self._stray)
        if self._statements is None:
            self._statements = Statements(self._table, await self._shape(connection))
        return self._statements

    async def _shape(self, connection: psycopg.AsyncConnection[Any]) -> Shape:
        shape = await read_shape(connection, self._table, self._needed)
        self._needed = frozenset(shape.workers.matched.used)
        return shape

    async def _watch(self) -> None:
        audited_at = time.monotonic()
        while True:
            await asyncio.sleep(min(_RETRY_S, self._settings.audit_s))
            # What cannot be used is looked at each time: it is to come back by itself.
            if not self._ready or not await self._answers() or time.monotonic() - audited_at >= self._settings.audit_s:
                await self._audit()
                audited_at = time.monotonic()

    async def _answers(self) -> bool:
        """Whether the server answers and has the table: both may go while nobody is looked up."""
        table = Identifier(self._settings.schema_name, self._settings.table)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_ms / 1000), self._pool.connection() as connection:
                await connection.execute(SQL("SELECT FROM {} LIMIT 0").format(table))
        except (psycopg.Error, PoolTimeout, TimeoutError, OSError):
            return False
        return True

    async def _audit(self) -> None:
        """Look at the shape and at the companions, and say what is wrong or noteworthy when it changes."""
        problem, notes = self._problem, [""]
        if not problem:
            try:
                async with (
                    asyncio.timeout(self._settings.connect_timeout_ms / 1000),
                    await self._connect() as connection,
                ):
                    shape = await self._shape(connection)
                    statements = Statements(self._table, shape)
                    await check_lag(connection, self._settings.replica_lag_max_ms)
                    notes = notes_of(shape)
                    self._stray = problem = await find_strays(connection, self._table, shape, statements)
                    self._statements = statements
            except TimeoutError:
                problem = f"no answer in {self._settings.connect_timeout_ms} ms"
            except (psycopg.Error, ShapeError, ReplicaBehindError, OSError) as error:
                if isinstance(error, ShapeError):
                    self._statements = None
                problem = first_line(error)
        self._ready, self._last_problem = not problem, problem
        said = problem or "; ".join(notes)
        if said == self._said:
            return
        self._said = said
        source = f"{self._settings.schema_name}.{self._settings.table}"
        if problem:
            _log.error("roster not ready", source=source, problem=problem, advice="it is tried again by itself")
        else:
            _log.info("roster ready", source=source, notes=notes)

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        """Return a connection of its own: the pool's errors are not ours to read, and its connections are for
        look-ups."""
        connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        try:
            await self._configure(connection)
        except BaseException:  # a limit of time, too
            await connection.close()
            raise
        return connection
