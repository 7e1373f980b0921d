"""How far a standby of PostgreSQL is behind, and what it may answer then."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql

BEHIND: Final = "behind"
"""In place of the mark of a shape: the server is a standby, and too far behind."""
REPLAYED_AT: Final = (
    "CASE WHEN pg_is_in_recovery() THEN "
    "to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') END"
)
"""SQL: on a standby the time of the last transaction that it replayed, NULL on a primary."""
_IS_FRESH: Final = (
    "(NOT pg_is_in_recovery() OR (pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() "
    # Who receives nothing has replayed everything, too.
    "AND EXISTS (SELECT FROM pg_stat_wal_receiver)) "
    "OR coalesce(clock_timestamp() - pg_last_xact_replay_timestamp() <= {} * interval '1 ms', false))"
)


class ReplicaBehindError(Exception):
    """The server is a standby that is further behind than it may be."""

    def __init__(self, lag_max_ms: int) -> None:
        limit = f"roster.postgres.replica_lag_max_ms ({lag_max_ms})"
        super().__init__(f"the standby is further behind than {limit} allows: its replay is paused, slow or cut off")


def is_fresh_sql(lag_max_ms: int) -> sql.Composable:
    """Return SQL for whether the server that is asked may answer. 0: it may, and nothing is asked."""
    return sql.SQL(_IS_FRESH).format(sql.Literal(lag_max_ms)) if lag_max_ms else sql.SQL("true")


async def check_lag(connection: psycopg.AsyncConnection[Any], lag_max_ms: int) -> None:
    """Raise ReplicaBehindError."""
    cursor = await connection.execute(sql.SQL("SELECT {}").format(is_fresh_sql(lag_max_ms)))
    if await cursor.fetchone() != (True,):
        raise ReplicaBehindError(lag_max_ms)
