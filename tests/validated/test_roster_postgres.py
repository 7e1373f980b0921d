"""The PostgreSQL backend, on a real server: LAKEHOUSE_TEST_POSTGRES names it (deploy/ci_postgres.sh starts one)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from rosters import ASSIGNMENTS, DO_NOT_SEND, LIMITS, POSTGRES, judge, people
from structlog.testing import capture_logs
from validated_server import serving

from lakehouse.errors import Reason
from validated.config import RosterTable
from validated.datasets.postgres import PostgresRoster
from validated.datasets.worker import Question
from validated.kinds.email import EmailValidator
from validated.kinds.fill import FillValidator
from validated.kinds.validator import Tools

pytestmark = pytest.mark.skipif(
    not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set: no PostgreSQL server (deploy/ci_postgres.sh starts one)"
)
SPEC: dict[str, Any] = {"role": "FORKLIFT operator", "count": 1, "city": "toledo", "state": "OH"}
SITE = {"latitude": 41.6528, "longitude": -83.5379}
LUKASZ = {"worker_id": "W-000002", "name": "Łukasz Żak"}
ANA = {"worker_id": "W-000001", "name": "Ana Silva"}
# A name that only works where it is quoted.
SCHEMA = f'ro"ster {uuid.uuid4().hex[:8]}'


@pytest.fixture(scope="module")
async def database() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True) as connection:
        schema = sql.Identifier(SCHEMA)
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        await connection.execute(sql.SQL("SET search_path TO {}").format(schema))
        await connection.execute(
            "CREATE TABLE workers (worker_id text PRIMARY KEY, name text, role text, city text, state char(2), "
            "active boolean, certifications text[], latitude float8, longitude numeric, phone text)"
        )
        await connection.execute(
            "CREATE TABLE assignments (worker_id text, shift_start timestamptz, shift_end timestamptz)"
        )
        await connection.execute("CREATE TABLE do_not_send (client_id text, worker_id text)")
        await connection.execute("CREATE TABLE roster_version (version text)")
        await connection.execute("INSERT INTO roster_version VALUES ('2026-12-01%a')")
        for row in people():
            held = [each for each in row["certifications"].split(";") if each]
            await connection.execute(
                "INSERT INTO workers VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (row["worker_id"], row["name"], row["role"], row["city"], row["state"], row["active"] == "true", held,
                 row["latitude"] or None, row["longitude"] or None, row["phone"]),
            )  # fmt: skip
        for row in ASSIGNMENTS:
            await connection.execute("INSERT INTO assignments VALUES (%s, %s, %s)", tuple(row.values()))
        for row in DO_NOT_SEND:
            await connection.execute("INSERT INTO do_not_send VALUES (%s, %s)", tuple(row.values()))
        yield connection
        await connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))


def _shift(start: int, end: int) -> dict[str, str]:
    return {"shift_start": f"2026-12-05T{start:02d}:00:00-05:00", "shift_end": f"2026-12-05T{end:02d}:00:00-05:00"}


def _table(**changes: Any) -> RosterTable:
    columns = changes.pop("columns", {})
    schema = SCHEMA.replace('"', '""')
    given = {
        "conninfo": POSTGRES,
        "schema_name": SCHEMA,
        "assignments_table": "assignments",
        "do_not_send_table": "do_not_send",
        "version_query": f"""SELECT version FROM "{schema}".roster_version WHERE version LIKE '%a'""",
    }
    return RosterTable.model_validate({"backend": "postgres", "columns": columns, "postgres": {**given, **changes}})


@pytest.fixture(scope="module")
async def roster(database: psycopg.AsyncConnection[Any]) -> AsyncIterator[PostgresRoster]:
    async with PostgresRoster(_table(), POSTGRES, near_ms=5000).open() as opened:
        yield opened


@pytest.fixture(scope="module")
def gate(roster: PostgresRoster) -> FillValidator:
    return FillValidator(Tools(roster, LIMITS))


@pytest.mark.parametrize(
    ("worker", "spec", "codes"),
    [
        (ANA, {}, []),
        ({"worker_id": "W-000003", "name": "Omar Khan"}, {}, ["INACTIVE_WORKER"]),
        ({"worker_id": "W-000004", "name": "Mia Wong"}, {}, ["WRONG_ROLE"]),
        ({"worker_id": "W-000006", "name": "Emma Clark"}, {"city": ""}, ["WRONG_STATE"]),
        ({"worker_id": "W-000005", "name": "José Núñez"}, {"site": SITE, "max_distance_km": 12}, ["TOO_FAR"]),
        (LUKASZ, {"required_certifications": ["forklift"]}, ["MISSING_CERTIFICATION"]),
        (LUKASZ, _shift(7, 15), ["SHIFT_OVERLAP"]),
        (LUKASZ, _shift(14, 15), []),
        (ANA, {"client_id": "acme"}, ["DO_NOT_SEND"]),
        (ANA, {"client_id": "me' OR '1'='1"}, []),
        ({**ANA, "worker_id": "w-000001"}, {}, ["NAME_MISMATCH"]),
        ({**ANA, "worker_id": "W-000001 "}, {}, ["PHANTOM_WORKER"]),
        ({**ANA, "worker_id": "W-000001\x00"}, {}, ["PHANTOM_WORKER"]),
        ({**ANA, "worker_id": "W-00000%"}, {}, ["PHANTOM_WORKER"]),
        ({**ANA, "worker_id": "' OR '1'='1"}, {}, ["PHANTOM_WORKER"]),
        ({"worker_id": "'); DROP TABLE workers; --", "name": "%s %(ids)s \x00"}, {}, ["PHANTOM_WORKER"]),
    ],
)
async def test_the_rules_hold_on_a_table_as_on_a_file(
    gate: FillValidator, worker: Any, spec: Any, codes: list[str]
) -> None:
    findings, ground = await judge(gate, {"workers": [worker]}, **{**SPEC, **spec})
    assert [finding.code for finding in findings.kept] == codes
    assert ground is not None
    assert ground.roster is not None
    assert ground.roster.source == f"{SCHEMA}.workers"
    assert ground.roster.version == "2026-12-01%a"


async def test_the_table_still_stands_after_all_that(
    database: psycopg.AsyncConnection[Any], gate: FillValidator
) -> None:
    cursor = await database.execute("SELECT count(*) FROM workers")
    assert await cursor.fetchone() == (8,)


async def test_one_statement_answers_a_validation_and_a_second_only_suggests(
    roster: PostgresRoster, gate: FillValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await judge(gate, {"workers": [ANA]}, **SPEC)
    statements: list[Any] = []
    original = psycopg.AsyncConnection.execute

    async def recorded(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        statements.append(query)
        return await original(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", recorded)
    findings, _ = await judge(gate, {"workers": [ANA]}, **SPEC)
    assert not findings.any
    assert len(statements) == 1
    findings, _ = await judge(gate, {"workers": [{"worker_id": "W-000010", "name": "ana silva"}]}, **SPEC)
    assert len(statements) in (2 + 1, 2 + 2)
    assert findings.kept[0].suggestions[0].worker_id in ("W-000001", "W-000007")
    assert "did you mean" in findings.kept[0].message


async def test_messages_to_workers_are_checked_against_the_table(roster: PostgresRoster) -> None:
    email = EmailValidator(Tools(roster, LIMITS))
    message = {"to_worker_id": "W-000002", "subject": "s", "body": "Łukasz Żak works with OMAR khan and Ana Silva"}
    findings, _ = await judge(email, message, kind="email", worker_ids=["W-000002", "W-000007"])
    assert [(finding.code, '"omar khan"' in finding.message.lower()) for finding in findings.kept] == [
        ("FOREIGN_WORKER", True)
    ]


async def test_other_column_names_and_missing_optional_columns_do(database: psycopg.AsyncConnection[Any]) -> None:
    await database.execute('CREATE TABLE slim ("Emp No" text, full_name text)')
    await database.execute("INSERT INTO slim VALUES ('A1', 'Ana Silva')")
    table = _table(
        table="slim",
        columns={"worker_id": "Emp No", "name": "full_name"},
        assignments_table="",
        do_not_send_table="",
        version_query="",
    )
    async with PostgresRoster(table, POSTGRES, near_ms=1000).open() as roster:
        answer = await roster.look_up(Question(("A1", "A2")))
        assert list(answer.found) == ["A1"]
        assert answer.found["A1"].worker.active is True
        assert answer.version.version == answer.version.loaded_at


async def test_a_collation_that_ignores_case_does_not_soften_the_gate(database: psycopg.AsyncConnection[Any]) -> None:
    await database.execute("CREATE COLLATION soft (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    await database.execute("CREATE TABLE soft_workers (worker_id text COLLATE soft, name text)")
    await database.execute("INSERT INTO soft_workers VALUES ('W-1', 'Ana Silva')")
    table = _table(table="soft_workers", assignments_table="", do_not_send_table="")
    async with PostgresRoster(table, POSTGRES, near_ms=1000).open() as roster:
        assert list((await roster.look_up(Question(("W-1",)))).found) == ["W-1"]
        assert list((await roster.look_up(Question(("w-1",)))).found) == []


async def test_a_column_that_is_missing_is_named_in_the_log(database: psycopg.AsyncConnection[Any]) -> None:
    with capture_logs() as logs:
        async with serving(roster=_table(columns={"name": "nom"})) as client:
            fault = await client.fault("fill", {"workers": [ANA]}, **SPEC)
    assert fault.reason is Reason.ROSTER_UNAVAILABLE
    assert any('no column "nom" for name' in str(entry.get("problem")) for entry in logs)


async def test_a_slow_database_ends_within_its_timeout(database: psycopg.AsyncConnection[Any]) -> None:
    table = _table(version_query="SELECT pg_sleep(30)::text", statement_timeout_ms=200)
    with capture_logs() as logs:
        async with serving(roster=table) as client:
            fault = await client.fault("fill", {"workers": [ANA]}, **SPEC)
            assert fault.reason is Reason.ROSTER_UNAVAILABLE
    assert any("QueryCanceled" in str(entry.get("problem")) for entry in logs)


async def test_the_callers_deadline_ends_a_slow_query(database: psycopg.AsyncConnection[Any]) -> None:
    table = _table(version_query="SELECT pg_sleep(30)::text", statement_timeout_ms=60_000)
    async with serving(roster=table) as client:
        fault = await client.fault("fill", {"workers": [ANA]}, timeout_s=0.5, **SPEC)
    assert fault.code == "DEADLINE_EXCEEDED"
    assert fault.where == "validated"


async def test_a_database_that_is_away_is_a_fault_and_no_crash() -> None:
    postgres = {"conninfo": "postgresql://nobody@127.0.0.1:1/none", "connect_timeout_ms": 200}
    async with serving(roster={"backend": "postgres", "postgres": postgres}) as client:
        for _ in range(2):
            fault = await client.fault("fill", {"workers": [ANA]}, **SPEC)
            assert fault.reason is Reason.ROSTER_UNAVAILABLE
        assert "127.0.0.1:1" not in str(fault)
        assert (await client.validate("json_schema", "1", schema_json="true")).passed
