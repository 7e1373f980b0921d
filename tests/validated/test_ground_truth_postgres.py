"""Tables as people have them, on a real server (LAKEHOUSE_TEST_POSTGRES): never a PASS that the truth forbids."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from psycopg import sql
from rosters import LIMITS, POSTGRES, judge, until
from structlog.testing import capture_logs
from validated_server import Client, serving

from validated.config import RosterTable
from validated.datasets import postgres
from validated.datasets.postgres import PostgresRoster
from validated.datasets.postgres_check import check_postgres
from validated.datasets.worker import Question, RosterUnavailable
from validated.kinds.fill import FillValidator
from validated.kinds.validator import Tools

pytestmark = pytest.mark.skipif(
    not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set: no PostgreSQL server (deploy/ci_postgres.sh starts one)"
)
SPEC: dict[str, Any] = {"role": "welder", "count": 1}
SHIFT = {"shift_start": "2026-12-05T07:00:00Z", "shift_end": "2026-12-05T15:00:00Z"}
ANA = {"worker_id": "W-1", "name": "Ana Silva"}
OMAR = {"worker_id": "W-2", "name": "Omar Khan"}


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_RETRY_S", 0.1)


class Database:
    """A schema of its own, with Ana, who is active, and Omar, who is not."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], schema: str) -> None:
        self.connection = connection
        self.schema = schema

    async def run(self, *statements: str) -> None:
        for statement in statements:
            await self.connection.execute(statement)

    def table(self, conninfo: str = POSTGRES, **changes: Any) -> RosterTable:
        rules = {name: changes.pop(name) for name in ("columns", "ignore_columns") if name in changes}
        given = {"conninfo": conninfo, "schema_name": self.schema, "audit_s": 1, **changes}
        return RosterTable.model_validate({"backend": "postgres", "postgres": given, **rules})


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    name = f"truth_{uuid.uuid4().hex[:8]}"
    async with await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True) as connection:
        database = Database(connection, name)
        await database.run(
            f"CREATE SCHEMA {name}",
            f"SET search_path TO {name}",
            "CREATE TABLE workers (worker_id text, name text, role text, active boolean, phone text)",
            "INSERT INTO workers VALUES ('W-1', 'Ana Silva', 'welder', true), ('W-2', 'Omar Khan', 'welder', false)",
            "CREATE TABLE assignments (worker_id text, shift_start timestamptz, shift_end timestamptz)",
            "CREATE TABLE do_not_send (client_id text, worker_id text)",
        )
        yield database
        await connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@contextlib.asynccontextmanager
async def gate_of(table: RosterTable) -> AsyncIterator[tuple[FillValidator, PostgresRoster]]:
    conninfo = table.postgres.conninfo.get_secret_value()
    async with PostgresRoster(table, conninfo, near_ms=500).open() as roster:
        yield FillValidator(Tools(roster, LIMITS)), roster


async def health_of(client: Client) -> int:
    stub: Any = health_pb2_grpc.HealthStub(client.channel)  # its types name no method
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    return int(answer.status)


async def codes(gate: FillValidator, worker: dict[str, str], **spec: Any) -> list[str]:
    findings, _ = await judge(gate, {"workers": [worker]}, **{**SPEC, **spec})
    return [finding.code for finding in findings.kept]


async def test_a_column_that_is_renamed_and_renamed_back_is_never_passed_over(database: Database) -> None:
    async with gate_of(database.table()) as (gate, _):
        for new in ("was_active", "zzz"):
            for _ in range(8):
                # Often enough for the statement to be prepared.
                assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]
                assert await codes(gate, ANA) == []
            await database.run(f"ALTER TABLE workers RENAME active TO {new}")
            for _ in range(3):
                with pytest.raises(RosterUnavailable, match="active"):
                    await codes(gate, OMAR)
            await database.run(f"ALTER TABLE workers RENAME {new} TO active")
            assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]


async def test_a_rename_under_load_lets_nobody_through(database: Database) -> None:
    seen: dict[str, int] = {"INACTIVE_WORKER": 0, "unavailable": 0}
    stop = asyncio.Event()
    async with gate_of(database.table()) as (gate, _):

        async def ask() -> None:
            while not stop.is_set():
                try:
                    assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]
                    seen["INACTIVE_WORKER"] += 1
                except RosterUnavailable:
                    seen["unavailable"] += 1
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(ask()) for _ in range(8)]
        for turn in range(20):
            await asyncio.sleep(0.02)
            await database.run(f"ALTER TABLE workers RENAME active TO gone{turn}")
            await asyncio.sleep(0.02)
            await database.run(f"ALTER TABLE workers RENAME gone{turn} TO active")
        stop.set()
        await asyncio.gather(*tasks)
        assert min(seen.values()) > 0
        assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]


async def test_a_table_that_is_altered_in_other_ways_is_read_again(database: Database) -> None:
    async with gate_of(database.table()) as (gate, roster):
        for statement in (
            "ALTER TABLE workers ALTER active TYPE text USING CASE WHEN active THEN 'yes' ELSE 'no' END",
            "ALTER TABLE workers ADD extra int",
            "ALTER TABLE workers DROP extra",
            "ALTER TABLE workers ALTER worker_id TYPE varchar(20)",
            (
                "CREATE TABLE other (LIKE workers); INSERT INTO other SELECT * FROM workers; DROP TABLE workers; "
                "ALTER TABLE other RENAME TO workers"
            ),
        ):
            for _ in range(8):
                assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]
                assert await codes(gate, ANA) == []
            await database.run(*statement.split("; "))
        assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]
        assert roster.counts()["shape_changes"] > 0


async def test_backends_that_are_killed_cost_no_answer(database: Database) -> None:
    async with gate_of(database.table()) as (gate, roster):
        for _ in range(5):
            assert await asyncio.gather(*(codes(gate, ANA) for _ in range(8))) == [[]] * 8
            await database.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'validated'"
            )
        assert await codes(gate, ANA) == []
        assert roster.counts()["lookup_failures"] == 0


@pytest.mark.parametrize(
    ("start", "end", "overlaps"),
    [
        ("'2026-12-01Z'", "NULL", True),
        ("NULL", "'2026-12-31Z'", True),
        ("NULL", "NULL", True),
        ("'2026-12-01Z'", "'infinity'", True),
        ("'-infinity'", "'2026-12-31Z'", True),
        ("'2026-12-06Z'", "'2026-12-05T08:00Z'", True),
        ("'0026-12-05T07:00Z'", "'0026-12-05T15:00Z'", True),
        ("'1900-01-01Z'", "'1969-12-31Z'", True),
        ("NULL", "'-infinity'", True),
        ("'2026-12-06Z'", "NULL", False),
        ("NULL", "'2026-12-05T07:00Z'", False),
        ("'2026-12-05T15:00Z'", "'infinity'", False),
    ],
)
async def test_an_end_that_is_not_known_overlaps(database: Database, start: str, end: str, *, overlaps: bool) -> None:
    await database.run(f"INSERT INTO assignments VALUES ('W-1', {start}, {end})")
    async with gate_of(database.table(assignments_table="assignments")) as (gate, _):
        assert await codes(gate, ANA, **SHIFT) == (["SHIFT_OVERLAP"] if overlaps else [])


@pytest.mark.parametrize("other", ["'Ana Silva', 'welder', false", "'Eve Adams', 'welder', true", "NULL, 'x', true"])
async def test_an_id_that_stands_twice_is_nobody_who_may_be_sent(database: Database, other: str) -> None:
    await database.run(f"INSERT INTO workers VALUES ('W-1', {other})")
    async with gate_of(database.table()) as (gate, _):
        assert await codes(gate, ANA) == (["INACTIVE_WORKER"] if "NULL" not in other else [])


@pytest.mark.parametrize("active", ["NULL", "''", "'perhaps'", "'terminated'", "' '"])
async def test_who_is_neither_active_nor_inactive_is_not_active(database: Database, active: str) -> None:
    await database.run("ALTER TABLE workers ALTER active TYPE text", f"UPDATE workers SET active = {active}")
    async with gate_of(database.table()) as (gate, _):
        assert await codes(gate, ANA) == ["INACTIVE_WORKER"]


@pytest.mark.parametrize(
    "alter",
    [
        "ALTER worker_id TYPE char(9), ALTER name TYPE char(30), ALTER role TYPE char(9)",
        "ALTER worker_id TYPE varchar(9), ALTER active TYPE int USING active::int",
        "ALTER active TYPE char(3) USING CASE WHEN active THEN 'Y' ELSE 'N' END",
        "ADD notes jsonb, ADD fee numeric GENERATED ALWAYS AS (1) STORED, DROP phone",
    ],
)
async def test_other_types_of_text_and_truth_do(database: Database, alter: str) -> None:
    await database.run(f"ALTER TABLE workers {alter}")
    async with gate_of(database.table()) as (gate, _):
        assert await codes(gate, ANA) == []
        assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]
        assert await codes(gate, {**ANA, "worker_id": "W-1 "}) == ["PHANTOM_WORKER"]


async def test_whole_numbers_are_ids_as_they_are_written(database: Database) -> None:
    await database.run(
        "UPDATE workers SET worker_id = right(worker_id, 1)",
        "ALTER TABLE workers ALTER worker_id TYPE int USING worker_id::int",
    )
    async with gate_of(database.table()) as (gate, _):
        assert await codes(gate, {**ANA, "worker_id": "1"}) == []
        for phantom in ("01", "1.0", " 1", "+1", "1e0", "99999999999999999999", "x", "\u0661"):
            assert await codes(gate, {**ANA, "worker_id": phantom}) == ["PHANTOM_WORKER"], phantom


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        ("ALTER worker_id TYPE float8 USING 1", 'worker_id: "worker_id" is of type float8'),
        ("ALTER name TYPE bytea USING name::bytea", 'name: "name" is of type bytea'),
        ("ALTER name TYPE text[] USING ARRAY[name]", 'name: "name" is of type text array'),
        ("RENAME active TO is_active", '"is_active" looks like it'),
        ("RENAME active TO status", '"status" looks like it'),
        ("ADD status text", '"status" looks like it beside'),
        ("RENAME name TO full_name", '"full_name" looks like it; map it'),
    ],
)
async def test_a_shape_that_leaves_a_doubt_is_refused_at_the_start_and_not_ready(
    database: Database, alter: str, says: str
) -> None:
    await database.run(f"ALTER TABLE workers {alter}")
    with capture_logs() as logs:
        async with serving(roster=database.table()) as client:
            assert await health_of(client) == health_pb2.HealthCheckResponse.NOT_SERVING
            fault = await client.fault("fill", {"workers": [ANA]}, **SPEC)
            assert fault.code == "UNAVAILABLE"
    (entry,) = [entry for entry in logs if entry["event"] == "roster not ready"]
    assert says in entry["problem"]
    assert f"{database.schema}.workers" in entry["problem"]
    report = await check_postgres(database.table())
    assert any(says in f"{problem['column']}{problem['text']}" for problem in report["problems"])


@pytest.mark.parametrize(
    ("conninfo", "changes", "says"),
    [
        ("postgresql://nobody:s3cret@127.0.0.1:1/none", {}, "port 1"),
        ("postgres//nobody:s3cret@127.0.0.1", {}, "no connection string"),
        ("host=127.0.0.1 pasword=s3cret", {}, "no connection string"),
        (POSTGRES.replace("test@", "nobody:s3cret@"), {}, 'role "nobody" does not exist'),
        (POSTGRES, {"table": "wrokers"}, "wrokers: there is no such table"),
        (POSTGRES, {"do_not_send_table": "gone"}, "gone: there is no such table"),
        (POSTGRES, {"schema_name": "gone"}, "gone.workers: there is no such table"),
    ],
)
async def test_what_is_wrong_at_the_start_is_said_by_name_and_without_a_secret(
    database: Database, conninfo: str, changes: dict[str, Any], says: str
) -> None:
    table = database.table(conninfo, **changes)
    with capture_logs() as logs:
        async with serving(roster=table) as client:
            assert await health_of(client) == health_pb2.HealthCheckResponse.NOT_SERVING
    (entry,) = [entry for entry in logs if entry["event"] == "roster not ready"]
    assert says in entry["problem"]
    report = await check_postgres(table)
    assert says in f"{report['problems'][0]['file']}: {report['problems'][0]['text']}"
    assert "s3cret" not in f"{logs} {report}"


async def test_a_table_that_is_mended_makes_the_service_ready_by_itself(database: Database) -> None:
    await database.run("ALTER TABLE workers RENAME active TO status")
    async with gate_of(database.table()) as (gate, roster):
        assert not roster.is_ready()
        await database.run("ALTER TABLE workers RENAME status TO active")
        await until(roster.is_ready)
        assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]


async def test_a_role_that_may_read_only_the_named_columns_is_enough(database: Database) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    await database.run(
        "ALTER TABLE workers ADD salary numeric, ADD status text",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {database.schema} TO {role}",
        f"GRANT SELECT (worker_id, name, role, active) ON workers TO {role}",
        f"GRANT SELECT (client_id, worker_id) ON do_not_send TO {role}",
    )
    try:
        table = database.table(POSTGRES.replace("test@", f"{role}@"), do_not_send_table="do_not_send", columns={})
        # The phone may not be read, and it is a column of ours: it has to be granted or mapped away.
        report = await check_postgres(table)
        assert 'phone: the role may not read "phone"' in f"{report['problems'][0]['text']}"
        await database.run(f"GRANT SELECT (phone) ON workers TO {role}")
        async with gate_of(table) as (gate, _):
            assert await codes(gate, ANA) == []
            assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]
        assert (await check_postgres(table))["problems"] == []
        await database.run(f"REVOKE SELECT (active) ON workers FROM {role}")
        async with gate_of(table) as (gate, _):
            with pytest.raises(RosterUnavailable, match="may not read"):
                await codes(gate, OMAR)
    finally:
        await database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_view_is_as_good_as_a_table(database: Database) -> None:
    await database.run("CREATE VIEW people AS SELECT worker_id AS no, name, role, active FROM workers")
    async with gate_of(database.table(table="people", columns={"worker_id": "no"})) as (gate, _):
        assert await codes(gate, ANA) == []
        assert await codes(gate, OMAR) == ["INACTIVE_WORKER"]


@pytest.mark.parametrize(
    ("line", "client", "expected"),
    [
        ("'acme', 'W-1'", "ACME", ["DO_NOT_SEND"]),
        ("'ACME  Corp', 'W-1'", "acme corp", ["DO_NOT_SEND"]),
        ("'\uff21\uff43\uff4d\uff45', 'W-1'", "acme", ["DO_NOT_SEND"]),
        ("'acme', 'W-1'", "\uff21\uff23\uff2d\uff25", ["DO_NOT_SEND"]),
        ("'Stra\u00dfenbau', 'W-1'", "STRASSENBAU", ["DO_NOT_SEND"]),
        ("'\u00c9cole', 'W-1'", "e\u0301COLE", ["DO_NOT_SEND"]),
        ("'E\u0301cole', 'W-1'", "\u00e9cole", ["DO_NOT_SEND"]),
        ("'\u00c9cole', 'W-1'", "ecole", []),
        ("'\u00c9cole', 'W-1'", "", []),
        ("'acme', 'W-1'", "acmee", []),
        ("'acme ', 'W-1'", "acme", None),
        ("E'acme\\u00a0', 'W-1'", "acme", None),
        ("E'ac\\u200bme', 'W-1'", "acme", None),
        ("'', 'W-1'", "acme", None),
        ("'*', 'W-1'", "acme", None),
        ("'ALL', 'W-1'", "acme", None),
        ("'All clients', 'W-1'", "acme", None),
        ("'(any customer)', 'W-1'", "acme", None),
        ("'acme;globex', 'W-1'", "acme", None),
        ("'Allied', 'W-1'", "allied", ["DO_NOT_SEND"]),
        ("'\u674e', 'W-1'", "\u674e", ["DO_NOT_SEND"]),
        ("'acme', 'W-1 '", "acme", None),
        ("'acme', NULL", "acme", None),
        ("'acme', '1'", "acme", None),
    ],
)
async def test_do_not_send_lines_refuse_or_are_refused(
    database: Database, line: str, client: str, expected: list[str] | None
) -> None:
    await database.run(f"INSERT INTO do_not_send VALUES ({line})")
    table = database.table(do_not_send_table="do_not_send")
    async with gate_of(table) as (gate, _):
        if expected is None:
            with pytest.raises(RosterUnavailable, match="do_not_send"):
                await codes(gate, ANA, client_id=client)
        else:
            assert await codes(gate, ANA, client_id=client) == expected
    assert bool((await check_postgres(table))["problems"]) == (expected is None)


async def test_rows_of_a_companion_that_may_be_hidden_are_refused(database: Database) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    await database.run(
        "INSERT INTO do_not_send VALUES ('acme', 'W-1')",
        "ALTER TABLE do_not_send ENABLE ROW LEVEL SECURITY",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {database.schema} TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {database.schema} TO {role}",
    )
    try:
        conninfo = POSTGRES.replace("test@", f"{role}@")
        async with gate_of(database.table(conninfo, do_not_send_table="do_not_send")) as (gate, _):
            with pytest.raises(RosterUnavailable, match="row-level security"):
                await codes(gate, ANA, client_id="acme")
    finally:
        await database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_suggestions_come_in_time_without_an_index_for_likeness(database: Database) -> None:
    await database.run(
        "CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public",
        "INSERT INTO workers SELECT 'X-' || n, 'C ' || md5(n::text), 'welder', true FROM generate_series(1, 200000) n",
        "CREATE INDEX ON workers (worker_id)",
        "ANALYZE workers",
    )
    roster_ = PostgresRoster(database.table(), POSTGRES, near_ms=100)
    async with roster_.open() as roster:
        gate = FillValidator(Tools(roster, LIMITS))
        await codes(gate, ANA)
        started = time.monotonic()
        findings, _ = await judge(gate, {"workers": [{"worker_id": "W-11", "name": "Anna Silva"}]}, **SPEC)
        assert time.monotonic() - started < 20
    assert findings.kept[0].code == "PHANTOM_WORKER"
    assert "W-1" in [each.worker_id for each in findings.kept[0].suggestions]


async def test_the_check_names_people_and_ids_that_may_be_taken_for_each_other(database: Database) -> None:
    await database.run(
        "INSERT INTO workers VALUES ('w-1', 'Ana Silva', 'welder', true, '+1 419 555 0101'), "
        "('W-3', 'ana  silva', 'welder', true, '419-555-0101'), ('W-4', 'Om\u0430r Khan', 'x', NULL, NULL)"
    )
    report = await check_postgres(database.table())
    assert report["problems"] == []
    assert ["W-1", "w-1"] in report["confusable_ids"]["shown"]
    assert ["Omar Khan", "Om\u0430r Khan"] in report["confusable_names"]["shown"]
    assert report["one_person_under_two_ids"]["shown"] == [["w-1", "W-3"]]
    assert any("1 rows are neither active nor inactive" in warning for warning in report["warnings"])
    assert report["columns"]["workers"]["defaulted"]["city"] == "nobody has a city"


async def test_a_lookup_asks_for_no_more_than_its_ids(database: Database) -> None:
    async with PostgresRoster(database.table(), POSTGRES, near_ms=100).open() as roster:
        answer = await roster.look_up(Question(("W-1", "W-9")))
        assert list(answer.found) == ["W-1"]


class Way:
    """A way to the server that can be closed and opened again, on one port."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        given = psycopg.conninfo.conninfo_to_dict(POSTGRES)
        theirs, ours = await asyncio.open_connection(str(given["host"]), int(given["port"] or 5432))
        self._open |= {writer, ours}

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    to.write(data)
                    await to.drain()
            to.close()

        await asyncio.gather(copy(reader, ours), copy(theirs, writer))


@pytest.mark.parametrize("gone", ["the server", "the table", "the right to read it"])
async def test_what_goes_while_nobody_is_looked_up_is_seen_and_so_is_its_return(database: Database, gone: str) -> None:
    role = f"reader_{database.schema}"
    await database.run(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {database.schema} TO {role}",
        f"GRANT SELECT ON workers TO {role}",
    )
    way = Way()
    await way.open()
    conninfo = psycopg.conninfo.make_conninfo(POSTGRES, host="127.0.0.1", port=way.port, user=role)
    try:
        async with PostgresRoster(database.table(conninfo, audit_s=86_400), conninfo, near_ms=100).open() as roster:
            await until(roster.is_ready)
            assert list(roster.unready()) == []

            if gone == "the server":
                await way.close()
            elif gone == "the table":
                await database.run("ALTER TABLE workers RENAME TO away")
            else:
                await database.run(f"REVOKE SELECT ON workers FROM {role}")
            await until(lambda: not roster.is_ready())
            (cause,) = roster.unready()

            if gone == "the server":
                await way.open()
            elif gone == "the table":
                await database.run("ALTER TABLE away RENAME TO workers")
            else:
                await database.run(f"GRANT SELECT ON workers TO {role}")
            await until(roster.is_ready)
    finally:
        await way.close()
        await database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    assert f"{database.schema}.workers" in cause


async def test_a_table_that_went_and_came_back_is_ready_again_without_a_lookup(database: Database) -> None:
    async with gate_of(database.table(audit_s=86_400)) as (gate, roster):
        assert roster.is_ready()
        await database.run("ALTER TABLE workers RENAME TO gone")
        with pytest.raises(RosterUnavailable, match="no such table"):
            await codes(gate, ANA)
        assert not roster.is_ready()
        await database.run("ALTER TABLE gone RENAME TO workers")
        await until(roster.is_ready)


async def test_the_check_says_which_ids_and_names_are_none_as_it_does_of_a_file(database: Database) -> None:
    await database.run(
        "INSERT INTO workers VALUES ('7.0', 'Ida Low', 'welder', true), ('NULL', '#REF!', 'welder', true), "
        "('8.0', 'Jon Low', 'welder', true)"
    )
    warnings = (await check_postgres(database.table()))["warnings"]
    (ids,) = [each for each in warnings if "3 rows with a worker_id that is none" in each]
    assert "'7.0' was made a number by a spreadsheet or a float" in ids
    assert any("1 rows with a name that is none, such as: '#REF!'" in each for each in warnings)
