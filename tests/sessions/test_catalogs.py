"""The table in other catalogs than SQLite. `bench/lake.py --catalog` has publishers killed over PostgreSQL and REST."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from lake_tables import copy_of, lake_at, log_of, session_counts
from rosters import POSTGRES
from s3_server import BUCKET, lossy_s3

from lakehouse.sessions.lake.erasing import Rows, erase_from_table, tombstone
from lakehouse.sessions.lake.publications import Publications
from lakehouse.sessions.lake.publishing import PublishStep, publish
from lakehouse.sessions.lake.reading import TableReader
from lakehouse.sessions.lake.table import LakeTable
from lakehouse.sessions.store.archive import Archive

needs_postgres = pytest.mark.skipif(
    not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set: no PostgreSQL server (deploy/ci_postgres.sh starts one)"
)


@pytest.fixture(scope="module")
def glue() -> Iterator[dict[str, Any]]:
    """Yield settings of a table in Glue and a bucket, both by moto."""
    with lossy_s3(lost_share=0) as server:
        yield {
            "warehouse": f"s3://{BUCKET}/warehouse",
            "properties": {
                **server.properties,
                "type": "glue",
                "glue.endpoint": server.properties["s3.endpoint"],
                "glue.region": "us-east-1",
            },
        }


@pytest.fixture(params=[pytest.param("postgres", marks=needs_postgres), "glue"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return where a table of this test's own is."""
    if request.param == "glue":
        found: dict[str, Any] = request.getfixturevalue("glue")
        return found | {"table": f"lakehouse.t{uuid.uuid4().hex[:8]}"}
    # One database has the tables of many catalogs.
    uri = POSTGRES.replace("postgresql://", "postgresql+psycopg://")
    return {"warehouse": str(tmp_path / "lake"), "catalog_uri": uri, "catalog": f"c{uuid.uuid4().hex[:8]}"}


@pytest.fixture
def lakes(settings: dict[str, Any], tmp_path: Path) -> Iterator[tuple[LakeTable, LakeTable]]:
    """Yield the table twice, as two publishers have it."""
    made = lake_at(tmp_path, **settings), lake_at(tmp_path, **settings)
    yield made
    for lake in made:
        lake._connected().close()


def test_each_row_is_there_once_and_what_is_erased_is_gone(lakes: tuple[LakeTable, LakeTable], tmp_path: Path) -> None:
    live = log_of(tmp_path / "log", 0, 1)
    other = copy_of(live, tmp_path / "copy")
    lake, elsewhere = lakes
    others_rows: list[int] = []

    def publish_the_same(step: PublishStep) -> None:
        if step == "written" and not others_rows:
            others_rows.extend(batch.rows for batch in publish(other, elsewhere))

    list(publish(live, lake, on_step=publish_the_same))

    assert others_rows == [6]
    assert session_counts(lake) == {("host-a", f"session-{number:04d}"): 1 for number in range(6)}

    rows = Rows(session_ids=("session-0004",))
    tried = Publications(Archive(live)).writes()
    done = erase_from_table(lake, rows, tombstone(rows, datetime(2026, 12, 1)), tried)  # noqa: DTZ001

    assert done is not None
    assert (done.rows, done.not_reached) == (1, [])
    with TableReader(elsewhere) as reader:
        assert next(reader.query("SELECT count(*) FROM sessions")[1]) == (5,)
