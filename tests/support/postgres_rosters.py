"""Rosters of tests as tables, in a schema of their own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence

import psycopg
from psycopg import sql
from rosters import POSTGRES

from validated.config import RosterTable

Rows = Sequence[dict[str, str]]
_COLUMNS = ("worker_id", "name", "role", "city", "state", "active", "certifications", "latitude", "longitude", "phone")


@contextlib.asynccontextmanager
async def table_of(people: Rows, assignments: Rows, do_not_send: Rows) -> AsyncIterator[RosterTable]:
    """Yield the settings of a roster with these rows, for the time of the block. Needs LAKEHOUSE_TEST_POSTGRES."""
    schema = f"brief_{uuid.uuid4().hex[:8]}"
    async with await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True) as connection:
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        try:
            await connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
            for name, columns, rows in (
                ("workers", _COLUMNS, people),
                ("assignments", ("worker_id", "shift_start", "shift_end"), assignments),
                ("do_not_send", ("client_id", "worker_id"), do_not_send),
            ):
                kinds = {"active": "boolean", "latitude": "float8", "longitude": "float8"}
                kinds |= {"shift_start": "timestamptz", "shift_end": "timestamptz"}
                defined = ", ".join(f"{column} {kinds.get(column, 'text')}" for column in columns)
                await connection.execute(f"CREATE TABLE {name} ({defined})".encode())
                statement = f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(columns))})"
                for row in rows:
                    await connection.execute(statement.encode(), [row[column] or None for column in columns])
            yield RosterTable.model_validate(
                {
                    "backend": "postgres",
                    "postgres": {
                        "conninfo": POSTGRES,
                        "schema_name": schema,
                        "assignments_table": "assignments",
                        "do_not_send_table": "do_not_send",
                    },
                }
            )
        finally:
            await connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
