"""A dataset's table (or view) in PostgreSQL as it is watched: whether it has changed, or is gone. Its rows are read by
``dataset_postgres``, beside the service; nothing of an artifact ever reaches the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Hashable
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from lakehouse.settings import ConfigError, read_secret
from validated.config import DatabaseTable, DatasetPostgresTable, DatasetTable, RosterTable
from validated.datasets.postgres_rows import first_line
from validated.datasets.postgres_table import mark_of_tables, version_sql

_LOOK_S: Final = 10.0
_REFRESH_S: Final = 60
_RIGHTS: Final = (
    "(SELECT md5(string_agg(a.attnum::text || has_column_privilege(a.attrelid, a.attnum, 'SELECT')::text, ',' "
    "ORDER BY a.attnum)) FROM pg_attribute a WHERE a.attrelid = to_regclass({}) AND a.attnum > 0 "
    "AND NOT a.attisdropped)"
)


def request_of_database(table: DatasetTable | RosterTable, database: DatabaseTable) -> dict[str, Any]:
    """Return what `PostgresSnapshot` takes. Raises ConfigError."""
    return {
        "conninfo": _conninfo(database),
        "schema": database.schema_name,
        "table": database.table,
        "version_query": _version_query(database),
        "connect_timeout_ms": database.connect_timeout_ms,
        "replica_lag_max_ms": database.replica_lag_max_ms,
        "load_ms": table.load_ms,
        "rows_max": table.rows_max,
    }


class WatchedTable:
    """Asks at each look for the shape of the table and for its version, by one connection that it keeps."""

    def __init__(self, database: DatabaseTable) -> None:
        self._database = database
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._began_at = time.monotonic()
        self.knows_versions = bool(_version_query(database))
        """Whether a look that shows no change means that there is none."""
        self.problem = ""
        """Why the last look failed; empty where it did not."""

    async def look(self) -> Hashable:
        """Return what changes when the table may have other rows or columns; None where it cannot be looked at."""
        database = self._database
        query = _version_query(database)
        mark = mark_of_tables(database.schema_name, (database.table,))
        rights = sql.SQL(_RIGHTS).format(sql.Literal(sql.Identifier(database.schema_name, database.table).as_string()))
        try:
            async with asyncio.timeout(_LOOK_S):
                connection = await self._connected()
                cursor = await connection.execute(
                    sql.SQL("SELECT {}, {}, {}").format(mark, rights, version_sql(query)), ()
                )
                found = await cursor.fetchone()
        except (psycopg.Error, OSError, TimeoutError, ConfigError) as error:
            self.problem = first_line(error) or type(error).__name__
            await self.close()
            return None
        self.problem = ""
        every_s = database.refresh_s if isinstance(database, DatasetPostgresTable) else _REFRESH_S
        return (*(found or ()), None if query else int((time.monotonic() - self._began_at) / every_s))

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            seconds = max(2, -(-self._database.connect_timeout_ms // 1000))
            self._connection = await psycopg.AsyncConnection.connect(
                _conninfo(self._database), autocommit=True, connect_timeout=seconds
            )
            for name, value in (("default_transaction_read_only", "on"), ("application_name", "validated")):
                await self._connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        return self._connection


def _version_query(database: DatabaseTable) -> str:
    # The roster's is a part of its look-ups, and may be made for those: its dataset is known by its rows.
    return database.version_query if isinstance(database, DatasetPostgresTable) else ""


def _conninfo(database: DatabaseTable) -> str:
    conninfo = read_secret(database.conninfo, database.conninfo_file)
    try:
        conninfo_to_dict(conninfo)
    except psycopg.Error:
        # What libpq says of it may quote a password.
        raise ConfigError(["postgres.conninfo is no connection string: libpq cannot read it"]) from None
    return conninfo
