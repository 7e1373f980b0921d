"""What ``lakehouse roster check`` says of a roster in PostgreSQL; it looks at the tables as the service does."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from lakehouse.settings import ConfigError, read_secret
from validated.config import RosterTable
from validated.datasets.columns import ACTIVE
from validated.datasets.dataset import Problem
from validated.datasets.nobody import is_odd, why_odd
from validated.datasets.postgres_shape import Shape, read_shape
from validated.datasets.postgres_statements import Statements
from validated.datasets.postgres_table import ShapeError, TableShape
from validated.datasets.report import Likeness
from validated.datasets.worker import Worker

_FETCH_ROWS: Final = 10_000
_STATEMENT_S: Final = 120


async def check_postgres(table: RosterTable) -> dict[str, Any]:
    """Return the report: as that of files, {source, backend, row_count, rows, problems, problems_left_out, warnings,
    unknown, columns, confusable_ids, confusable_names, one_person_under_two_ids}.
    """
    source = f"{table.postgres.schema_name}.{table.postgres.table}"
    check = _Check(table, source)
    try:
        conninfo = read_secret(table.postgres.conninfo, table.postgres.conninfo_file)
        try:
            conninfo_to_dict(conninfo)
        except psycopg.Error:
            # What libpq says of it may quote a password.
            check.add(source, "roster.postgres.conninfo is no connection string: libpq cannot read it")
            return check.report()
        async with await psycopg.AsyncConnection.connect(conninfo, connect_timeout=10) as connection:
            await connection.execute(f"SET statement_timeout = {_STATEMENT_S * 1000}")
            await connection.execute("SET TRANSACTION READ ONLY")
            await check.run(connection)
    except ConfigError as error:
        check.add(source, str(error))
    except ShapeError as error:
        for each in error.problems:
            check.add(source, each.removeprefix(f"{source}: "))
    except psycopg.Error as error:
        check.add(source, (str(error).splitlines() or [type(error).__name__])[0][:300])
    return check.report()


class _Check:
    def __init__(self, table: RosterTable, source: str) -> None:
        self._table = table
        self._source = source
        self._problems: list[Problem] = []
        self._warnings: list[str] = []
        self._unknown: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._columns: dict[str, Any] = {}
        self._likeness = Likeness()

    def add(self, shown: str, text: str, column: str = "") -> None:
        self._problems.append(Problem(shown, 0, column, text))

    def report(self) -> dict[str, Any]:
        return {
            "source": self._source,
            "backend": "postgres",
            "row_count": self._rows.get("workers", 0),
            "rows": self._rows,
            "problems": [problem._asdict() for problem in self._problems],
            "problems_left_out": 0,
            "warnings": self._warnings,
            "unknown": self._unknown,
            "columns": self._columns,
            **self._likeness.report(),
        }

    async def run(self, connection: psycopg.AsyncConnection[Any]) -> None:
        shape = await read_shape(connection, self._table, frozenset())
        statements = Statements(self._table, shape)
        for each in shape.tables():
            ignored = [name for name in each.matched.ignored if name not in each.unread]
            self._columns[each.dataset.name] = {
                "used": each.matched.used,
                "ignored": ignored,
                "not_readable": list(each.unread),
                "defaulted": each.matched.defaulted,
            }
            if each.row_security:
                self._warnings.append(f"{each.shown}: row-level security may hide rows; who is hidden is a phantom")
        await self._workers(connection, shape)
        for companion in shape.companions.values():
            await self._companion(connection, statements, companion)

    async def _workers(self, connection: psycopg.AsyncConnection[Any], shape: Shape) -> None:
        used = shape.workers.matched.used
        picked = [
            sql.SQL("{}::text").format(sql.Identifier(used[name])) if name in used else sql.SQL("NULL::text")
            for name in ("worker_id", "name", "active", "latitude", "longitude", "phone")
        ]
        query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(picked), shape.workers.name)
        counts = {"NULL or empty worker_id": 0, "NULL or empty name": 0, "worker_id with spaces around it": 0}
        unread_active, seen, twice, rows, odd = 0, set[str](), dict[str, None](), 0, _Odd()
        async with connection.cursor(name="roster_check") as cursor:
            cursor.itersize = _FETCH_ROWS
            await cursor.execute(query)
            async for worker_id, name, active, latitude, longitude, phone in cursor:
                rows += 1
                counts["NULL or empty worker_id"] += not (worker_id or "").strip()
                counts["NULL or empty name"] += not (name or "").strip()
                counts["worker_id with spaces around it"] += bool(worker_id) and worker_id.strip() != worker_id
                unread_active += "active" in used and (active or "").strip().lower() not in ACTIVE
                if worker_id in seen:
                    twice[worker_id] = None
                seen.add(worker_id)
                odd.note(worker_id, name)
                if worker_id and name:
                    self._likeness.add(_worker(worker_id, name, latitude, longitude, phone))
        self._rows["workers"] = rows
        shown = shape.workers.shown
        if not rows:
            self.add(shown, "has no rows that this role can see: everybody would be a phantom")
        for worker_id in list(twice)[:20]:
            self.add(
                shown,
                f"{worker_id!r} stands in several rows; keep one (where they differ, nobody with it is accepted)",
                "worker_id",
            )
        for what, count in counts.items():
            if count:
                self._warnings.append(f"{shown}: {count} rows with {what}; they can never be accepted")
        self._warnings += [f"{shown}: {text}" for text in odd.said()]
        if unread_active:
            self._warnings.append(
                f"{shown}: {unread_active} rows are neither active nor inactive; they count as inactive"
            )

    async def _companion(
        self, connection: psycopg.AsyncConnection[Any], statements: Statements, companion: TableShape
    ) -> None:
        rows, spaced, unknown = (await (await connection.execute(statements.strays(companion))).fetchall())[0]
        name = companion.dataset.name
        self._rows[name], self._unknown[name] = rows, unknown
        if spaced:
            what = "have no text, one for all, spaces around it or what does not print; mend them"
            self.add(companion.shown, f"{spaced} of {rows} rows {what}")
        if unknown:
            total = f"{unknown} of {rows} rows name a worker who is not in the roster"
            if unknown > self._table.companions_unknown_max * rows:
                self.add(companion.shown, f"{total}; write the ids as the roster does", "worker_id")
            else:
                self._warnings.append(f"{companion.shown}: {total}; ignored")


class _Odd:
    """Ids and names that are none. A file that has them is refused; a table is read as it stands."""

    def __init__(self) -> None:
        self._rows = {"worker_id": 0, "name": 0}
        self._first: dict[str, str] = {}

    def note(self, worker_id: str | None, name: str | None) -> None:
        for column, value in (("worker_id", worker_id), ("name", name)):
            if value and is_odd(value, is_id=column == "worker_id"):
                self._rows[column] += 1
                self._first.setdefault(column, why_odd(value, is_id=column == "worker_id"))

    def said(self) -> list[str]:
        return [
            f"{self._rows[column]} rows with a {column} that is none, such as: {first}"
            for column, first in self._first.items()
        ]


def _worker(worker_id: str, name: str, latitude: str | None, longitude: str | None, phone: str | None) -> Worker:
    try:
        at = (float(latitude), float(longitude)) if latitude and longitude else (None, None)
    except ValueError:
        at = (None, None)
    return Worker(worker_id, name, latitude=at[0], longitude=at[1], phone=phone or "")
