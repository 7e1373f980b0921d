"""A roster on a standby of PostgreSQL: what it answers is as old as its version says, and never too old."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from postgres_standby import standby_of
from rosters import POSTGRES

from validated.config import RosterTable
from validated.datasets.postgres import PostgresAnswer, PostgresRoster
from validated.datasets.worker import Question, RosterUnavailable

pytestmark = pytest.mark.skipif(
    not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set: no PostgreSQL server (deploy/ci_postgres.sh starts one)"
)
SCHEMA = f"replica_{uuid.uuid4().hex[:8]}"
ANA = Question(("W-1",))


async def connected(conninfo: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)


@pytest.fixture
async def servers() -> AsyncIterator[tuple[psycopg.AsyncConnection[Any], psycopg.AsyncConnection[Any], str]]:
    """Yield the primary, its standby and how to reach that one; in both a roster in which W-1 is active by version
    v1."""
    async with await connected(POSTGRES) as primary:
        try:
            await primary.execute(
                f"CREATE SCHEMA {SCHEMA}; SET search_path TO {SCHEMA}; "
                "CREATE TABLE workers (worker_id text PRIMARY KEY, name text, active boolean); "
                "CREATE TABLE versions (version text); INSERT INTO versions VALUES ('v0'); "
                "INSERT INTO workers VALUES ('W-1', 'Ana Silva', true)"
            )
            with standby_of(POSTGRES) as conninfo:
                # A standby that has replayed no transaction yet does not know how old it is.
                await primary.execute("UPDATE versions SET version = 'v1'")
                async with await connected(conninfo) as standby:
                    yield primary, standby, conninfo
        finally:
            await primary.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


def roster_on(conninfo: str, **settings: Any) -> PostgresRoster:
    given = {"conninfo": conninfo, "schema_name": SCHEMA, "audit_s": 1, **settings}
    table = RosterTable.model_validate({"backend": "postgres", "postgres": given})
    return PostgresRoster(table, conninfo, near_ms=100)


async def answered(roster: PostgresRoster, version: str) -> PostgresAnswer:
    """Return the first answer by `version`, within 30 seconds."""
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await roster.look_up(ANA)
            except RosterUnavailable:
                answer = None
            if answer is not None and answer.version.version == version:
                return answer
            await asyncio.sleep(0.02)


async def unavailable(roster: PostgresRoster) -> str:
    """Return what a look-up says once none is answered, within 30 seconds."""
    async with asyncio.timeout(30):
        while True:
            try:
                await roster.look_up(ANA)
            except RosterUnavailable as error:
                return str(error)
            await asyncio.sleep(0.02)


async def test_a_standby_answers_by_its_own_version_and_not_at_all_when_it_is_too_far_behind(
    servers: tuple[psycopg.AsyncConnection[Any], psycopg.AsyncConnection[Any], str],
) -> None:
    primary, standby, conninfo = servers
    by_table = f"SELECT version FROM {SCHEMA}.versions"
    async with AsyncExitStack() as stack:
        patient = await stack.enter_async_context(
            roster_on(conninfo, version_query=by_table, replica_lag_max_ms=3_600_000).open()
        )
        strict = await stack.enter_async_context(
            roster_on(conninfo, version_query=by_table, replica_lag_max_ms=1).open()
        )
        unnamed = await stack.enter_async_context(roster_on(conninfo, replica_lag_max_ms=3_600_000).open())
        # Nothing was written for longer than the limit; the standby is not behind for that.
        for roster in (patient, strict):
            assert (await answered(roster, "v1")).found["W-1"].worker.active

        await standby.execute("SELECT pg_wal_replay_pause()")
        written = await (
            await primary.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
        ).fetchone()
        assert written is not None
        await primary.execute(
            f"UPDATE {SCHEMA}.workers SET active = false; UPDATE {SCHEMA}.versions SET version = 'v2'"
        )
        assert "replica_lag_max_ms" in await unavailable(strict)
        async with asyncio.timeout(30):
            while not any("replica_lag_max_ms" in each for each in strict.unready()):
                await asyncio.sleep(0.02)
        # Whoever allows so much gets the old rows by the old version, never by another.
        old = await patient.look_up(ANA)
        assert (old.found["W-1"].worker.active, old.version.version) == (True, "v1")
        # A version that nobody names is the time of what was replayed, not of the question.
        assert (await unnamed.look_up(ANA)).version.version < written[0]

        await standby.execute("SELECT pg_wal_replay_resume()")
        for roster in (patient, strict):
            assert not (await answered(roster, "v2")).found["W-1"].worker.active
        async with asyncio.timeout(30):
            while strict.unready():
                await asyncio.sleep(0.02)

        # Cut off, it has replayed all that it received: that is no sign of being up to date.
        await standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        await standby.execute("SELECT pg_reload_conf()")
        assert "cut off" in await unavailable(strict)
        assert (await patient.look_up(ANA)).version.version == "v2"


async def test_a_primary_is_never_behind_and_no_limit_asks_nothing() -> None:
    async with await connected(POSTGRES) as primary:
        schema = f"{SCHEMA}_b"
        await primary.execute(
            f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.workers (worker_id text, name text, active boolean); "
            f"INSERT INTO {schema}.workers VALUES ('W-1', 'Ana Silva', true)"
        )
        try:
            for limit in (0, 1):
                async with roster_on(POSTGRES, schema_name=schema, replica_lag_max_ms=limit).open() as roster:
                    assert (await roster.look_up(ANA)).found["W-1"].worker.active
        finally:
            await primary.execute(f"DROP SCHEMA {schema} CASCADE")
