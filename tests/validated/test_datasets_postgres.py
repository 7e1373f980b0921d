"""A table or view in PostgreSQL as a dataset, on a real server (LAKEHOUSE_TEST_POSTGRES)."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rosters import POSTGRES, until
from structlog.testing import capture_logs
from validated_server import serving

from validated.config import DatasetTable, RosterTable
from validated.datasets.build import build
from validated.datasets.dataset_build import DatasetFiles
from validated.datasets.loaded_dataset import LoadedDataset, request_of_dataset
from validated.datasets.store import Store
from validated.datasets.worker import RosterUnavailable

pytestmark = pytest.mark.skipif(
    not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set: no PostgreSQL server (deploy/ci_postgres.sh starts one)"
)
COLUMNS = {
    "sku": "text", "price": "decimal", "stock": "integer", "sold": "boolean", "since": "date", "at": "instant",
    "tags": "labels", "name": "text",
}  # fmt: skip
VALUES = {
    "sku": "A-1", "price": Decimal("19.90"), "stock": 5, "sold": True, "since": "2026-02-28",
    "at": datetime(2026, 12, 5, 11, tzinfo=UTC), "tags": ("x", "y;z"), "name": "Saw é",
}  # fmt: skip
KIND = """
description = "Parts."
schema = '{"type": "object"}'
[[references]]
at = "/parts/*"
dataset = "parts"
key = { sku = "sku" }
agree = { price = "price" }
"""


class Database:
    """A schema of its own with a table of parts; its name only works where it is quoted."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], schema: str) -> None:
        self.connection = connection
        self.schema = schema

    async def run(self, *statements: str) -> None:
        for statement in statements:
            await self.connection.execute(statement)

    def table(self, folder: Path, **changes: Any) -> DatasetTable:
        postgres = {"conninfo": POSTGRES, "schema_name": self.schema, "table": 'pa"rts', "refresh_s": 1}
        postgres |= {name: changes.pop(name) for name in list(changes) if name in (*postgres, "version_query")}
        given = {"backend": "postgres", "key": ("sku",), "columns": COLUMNS, "may_be_empty": ("tags", "at"), **changes}
        table = DatasetTable(**{"index_dir": folder / "indexes", "poll_ms": 50, "postgres": postgres, **given})
        if table.postgres is None or table.postgres.refresh_s > 1:
            return table
        # More often than anybody may configure it, who would not wait for it.
        often = table.postgres.model_copy(update={"refresh_s": 0.3})
        return table.model_copy(update={"postgres": often})


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    name = f'da"ta {uuid.uuid4().hex[:8]}'
    async with await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True) as connection:
        schema = sql.Identifier(name)
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        await connection.execute(sql.SQL("SET search_path TO {}").format(schema))
        database = Database(connection, name)
        await database.run(
            'CREATE TABLE "pa""rts" (sku text, price numeric(9, 2), stock int, sold bool, since date, at timestamptz, '
            "tags text[], name varchar)",
            "INSERT INTO \"pa\"\"rts\" VALUES ('A-1', 19.90, 5, true, '2026-02-28', '2026-12-05 06:00:00-05', "
            "'{x,y;z}', 'Saw é'), ('A-2', 1, 0, false, '2026-03-01', NULL, NULL, 'Awl')",
        )
        yield database
        await connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))


async def refusal(table: DatasetTable, folder: Path) -> str:
    """Why the table cannot be used, as the reader of it says."""
    files = DatasetFiles.read(request_of_dataset("parts", table))
    report = await asyncio.to_thread(build, files, Store(folder / "s"), rows_max=table.rows_max, memory_mb=64)
    return "; ".join(f"{each['file']}: {each['column']}: {each['text']}" for each in report["problems"])


async def test_a_row_is_read_by_the_types_of_its_columns_from_a_table_and_from_a_view(
    database: Database, tmp_path: Path
) -> None:
    async with LoadedDataset("parts", database.table(tmp_path)).open() as dataset:
        index, version = dataset.current()
        found = index.row("A-1")
        assert found is not None
        assert found.values == VALUES
        other = index.row("A-2")
        assert other is not None
        assert (other.values["price"], other.values["at"], other.values["tags"]) == (Decimal(1), None, None)
        assert version.version.startswith("sha256:")
    await database.run(
        'CREATE VIEW sold AS SELECT sku AS "Article No.", price, stock, sold, since, at, to_json(tags) AS tags, '
        'name FROM "pa""rts" WHERE sold'
    )
    table = database.table(tmp_path, table="sold", source_columns={"sku": "Article No."})
    async with LoadedDataset("parts", table).open() as dataset:
        (row,) = dataset.current()[0].rows()
        assert row.values == VALUES


async def test_a_changed_row_is_seen_and_an_unchanged_table_keeps_its_version(
    database: Database, tmp_path: Path
) -> None:
    async with LoadedDataset("parts", database.table(tmp_path)).open() as dataset:
        before = dataset.current()
        # Written anew and in another order, the rows are the same.
        await database.run('UPDATE "pa""rts" SET name = name WHERE sku = \'A-1\'')
        dataset.reload()
        await until(lambda: dataset.counts()["loads"] >= 2, seconds=60)
        assert dataset.current()[1].version == before[1].version
        await database.run('UPDATE "pa""rts" SET price = 25')
        await until(lambda: dataset.current()[1].version != before[1].version, seconds=60)
        changed, old = dataset.current()[0].row("A-1"), before[0].row("A-1")
        assert changed is not None
        assert old is not None
        # Whoever began with the old version ends with it.
        assert (changed.values["price"], old.values["price"]) == (Decimal(25), Decimal("19.90"))


async def test_a_version_query_names_the_version_and_says_when_to_read(database: Database, tmp_path: Path) -> None:
    await database.run("CREATE TABLE release (version text)", "INSERT INTO release VALUES ('2026-11%a')")
    query = f"SELECT version FROM {sql.Identifier(database.schema, 'release').as_string()} WHERE version LIKE '2026%'"
    async with LoadedDataset("parts", database.table(tmp_path, version_query=query, refresh_s=1)).open() as dataset:
        assert dataset.current()[1].version == "2026-11%a"
        await database.run('UPDATE "pa""rts" SET price = 25', "UPDATE release SET version = '2026-12'")
        await until(lambda: dataset.current()[1].version == "2026-12", seconds=60)
        row = dataset.current()[0].row("A-1")
        assert row is not None
        assert row.values["price"] == 25


async def test_a_table_that_was_altered_answers_nothing_until_it_is_what_was_configured(
    database: Database, tmp_path: Path
) -> None:
    async with LoadedDataset("parts", database.table(tmp_path)).open() as dataset:
        for broken, mended in (
            ('ALTER TABLE "pa""rts" RENAME sold TO was_sold', 'ALTER TABLE "pa""rts" RENAME was_sold TO sold'),
            ('ALTER TABLE "pa""rts" RENAME TO others', 'ALTER TABLE others RENAME TO "pa""rts"'),
        ):
            await database.run(broken)
            await until(lambda: bool(dataset.unready()), seconds=60)
            with pytest.raises(RosterUnavailable):
                dataset.current()
            await database.run(mended)
            await until(lambda: not dataset.unready(), seconds=60)
            assert dataset.current()[0].row_count == 2


async def test_rows_that_cannot_be_used_leave_the_old_ones_and_are_named(database: Database, tmp_path: Path) -> None:
    table = database.table(tmp_path)
    async with LoadedDataset("parts", table).open() as dataset:
        await database.run("INSERT INTO \"pa\"\"rts\" VALUES ('A-1', 2, 0, true, '2026-03-01', NULL, NULL, 'Again')")
        with capture_logs() as logs:
            await until(lambda: dataset.state()["refused"] == 1, seconds=60)
        assert dataset.current()[0].row_count == 2
        assert any("stands in row 1 already" in str(each.get("problems")) for each in logs)
    for value, words in (
        ("('A-3', 'NaN', 0, true, '2026-03-01', NULL, NULL, 'x')", "no decimal"),
        ("('A-3', 1, 0, true, 'infinity', NULL, NULL, 'x')", "no date"),
        ("('A-3', 1, 0, true, '2026-03-01', 'infinity', NULL, 'x')", "RFC 3339"),
        ("('A-3', 1, 0, true, '2026-03-01', '0044-03-15 BC', NULL, 'x')", "RFC 3339"),
        ("(' A-3', 1, 0, true, '2026-03-01', NULL, NULL, 'x')", "spaces"),
        ("('A-3', 1, 0, true, '2026-03-01', NULL, NULL, NULL)", "may_be_empty"),
        ("(NULL, 1, 0, true, '2026-03-01', NULL, NULL, 'x')", "is empty"),
        ("('A-3', 1, 0, true, '2026-03-01', NULL, NULL, E'x\\ny')", "do not print"),
        ("('A-3', 1, 0, true, '2026-03-01', NULL, NULL, repeat('x', 300))", "200 characters"),
        ("('A-3', 1, 0, true, '2026-03-01', NULL, '{x,NULL}', 'x')", "no list of texts"),
    ):
        await database.run('TRUNCATE "pa""rts"', f'INSERT INTO "pa""rts" VALUES {value}')
        assert words in await refusal(table, tmp_path), value


async def test_a_table_that_has_shrunk_or_is_empty_is_refused(database: Database, tmp_path: Path) -> None:
    await database.run(
        "INSERT INTO \"pa\"\"rts\" SELECT 'B-' || n, 1, 0, true, '2026-03-01', NULL, NULL, 'x' "
        "FROM generate_series(1, 98) n"
    )
    async with LoadedDataset("parts", database.table(tmp_path)).open() as dataset:
        await database.run('DELETE FROM "pa""rts" WHERE sku LIKE \'B-%\'')
        await until(lambda: dataset.state()["refused"] == 1, seconds=60)
        assert dataset.current()[0].row_count == 100
        dataset.reload()  # once it is asked for, it is loaded
        await until(lambda: dataset.current()[0].row_count == 2, seconds=60)
    await database.run('TRUNCATE "pa""rts"')
    assert "has no rows that this role can see" in await refusal(database.table(tmp_path), tmp_path)
    assert "more than 1 rows" in await refusal_of_many(database, tmp_path)


async def refusal_of_many(database: Database, folder: Path) -> str:
    await database.run(
        "INSERT INTO \"pa\"\"rts\" SELECT 'C-' || n, 1, 0, true, '2026-03-01', NULL, NULL, 'x' "
        "FROM generate_series(1, 5) n"
    )
    return await refusal(database.table(folder, rows_max=1), folder)


async def test_a_database_that_is_gone_leaves_the_rows_until_they_are_too_old(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    named = sql.Identifier(database.schema).as_string()
    await database.run(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {named} TO {role}",
        f'GRANT SELECT (sku, price, stock, sold, since, at, tags, name) ON "pa""rts" TO {role}',
        'ALTER TABLE "pa""rts" ADD secret text',
    )
    conninfo = make_conninfo(POSTGRES, user=role)
    table = database.table(tmp_path, conninfo=conninfo, max_age_s=3600, max_age_action="close")
    try:
        # A role that may read only the columns that are named is enough.
        async with LoadedDataset("parts", table).open() as dataset:
            assert dataset.current()[0].row_count == 2
            await database.run(
                f"ALTER ROLE {role} NOLOGIN",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
            )
            await until(lambda: dataset.state()["refused"] == 1, seconds=60)
            assert dataset.current()[0].row_count == 2
            now = time.time
            monkeypatch.setattr(time, "time", lambda: now() + 7200)
            assert "older than datasets.parts.max_age_s" in dataset.unready()[0]
            await database.run(f"ALTER ROLE {role} LOGIN")
            await until(lambda: not dataset.unready(), seconds=60)
    finally:
        await database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"table": "nowhere"}, "there is no such table; check datasets.parts"),
        ({"columns": {**COLUMNS, "price": "instant"}}, "must be one of timestamptz"),
        ({"columns": {**COLUMNS, "price": "labels"}}, "must be one of text"),
        ({"columns": {**COLUMNS, "colour": "text"}}, 'there is no column "colour"'),
    ],
)
async def test_a_table_that_is_not_as_configured_is_refused_by_name(
    database: Database, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in await refusal(database.table(tmp_path, **changes), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conninfo": "no=connection password=hidden"}, "no connection string"),
        ({"conninfo": "host=127.0.0.1 port=1 password=hidden"}, "onnection"),
        ({"version_query": "SELECT nothing"}, "nothing"),
    ],
)
async def test_what_is_wrong_is_said_at_the_start_by_name_and_without_the_secret(
    database: Database, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with capture_logs() as logs:
        async with LoadedDataset("parts", database.table(tmp_path, **changes)).open() as dataset:
            why = "".join(dataset.unready())
    assert words in why
    assert "hidden" not in why + str(logs)


async def test_a_kind_judges_by_a_table_and_nothing_of_an_artifact_reaches_the_database(
    database: Database, tmp_path: Path
) -> None:
    kinds = tmp_path / "kinds"
    kinds.mkdir()
    (kinds / "parts.toml").write_text(KIND)
    async with serving(datasets={"parts": database.table(tmp_path, refresh_s=3600)}, kinds_dir=kinds) as client:
        good = await client.validate("parts", {"parts": [{"sku": "A-1", "price": 19.9}]}, spec_json="{}")
        assert good.passed
        assert [each.name for each in good.datasets] == ["parts"]
        bad = {"parts": [{"sku": "A-1'; DROP TABLE parts --", "price": 1}]}
        refused = await client.validate("parts", bad, spec_json="{}")
        assert [each.code for each in refused.findings] == ["NOT_IN_DATASET"]
        cursor = await database.connection.execute(
            "SELECT query FROM pg_stat_activity WHERE application_name = 'validated' AND pid <> pg_backend_pid()"
        )
        queries = [str(row[0]) for row in await cursor.fetchall()]
        assert queries
        assert not any("A-1" in each or "DROP" in each for each in queries)


async def test_the_roster_in_a_table_is_a_dataset(database: Database, tmp_path: Path) -> None:
    await database.run(
        "CREATE TABLE workers (worker_id text, name text, city text, active bool, certifications text[], phone text)",
        "INSERT INTO workers VALUES ('W-1', 'Ana Silva', 'Toledo', false, '{forklift}', '419-555-0101')",
    )
    postgres = {"conninfo": POSTGRES, "schema_name": database.schema}
    table = RosterTable.model_validate({"backend": "postgres", "postgres": postgres, "index_dir": tmp_path / "r"})
    async with LoadedDataset("roster", table).open() as dataset:
        row = dataset.current()[0].row("W-1")
        assert row is not None
        assert (row.values["name"], row.values["active"], row.values["role"]) == ("Ana Silva", False, None)
