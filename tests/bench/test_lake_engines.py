"""Engines that others wrote answer of the published table what the JSONL says: bench/lake_engines.py, in small."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.engines import truth
from bench.engines.ground import Ground, make_ground, publish_all_but_one
from bench.lake_engines import PYTHON, ask, ask_ourselves, compare

from lakehouse.sessions.lake.reading import table_state

needs_engines = pytest.mark.skipif(
    not PYTHON.exists(), reason=".tools/engines, of requirements/engines.txt, is missing (make engines)"
)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Two logs in one table, its first rows by a writer that knew fewer columns, beside a commit that was not to be."""
    with make_ground(tmp_path_factory.mktemp("ground"), None, hosts=2) as made:
        publish_all_but_one(made, files=2, rows=20)
        yield made


@pytest.fixture(scope="module")
def rows(ground: Ground) -> list[truth.Row]:
    return [row for written in ground.written[:-1] for row in written.rows()]


def test_sessions_of_the_table_are_those_of_the_jsonl(ground: Ground, rows: list[truth.Row]) -> None:
    assert compare(ask_ourselves(ground.lake()), rows) == []
    assert table_state(ground.lake()).rows == len(rows) > 40


@needs_engines
@pytest.mark.parametrize("engine", ["duckdb_extension", "clickhouse", "sail"])
def test_an_engine_answers_what_the_jsonl_says(ground: Ground, rows: list[truth.Row], engine: str) -> None:
    assert compare(ask(engine, ground.place()), rows) == []


def test_a_difference_is_seen(ground: Ground, rows: list[truth.Row]) -> None:
    answered = ask_ourselves(ground.lake())

    assert any(each.startswith("by_verdict: ") for each in compare(answered, rows[1:]))
    assert compare(answered, rows[1:])[-1].endswith(": 1 in the table, 0 written")
    changed = [{**rows[0], "prompt": "other words"}, *rows[1:]]
    assert [each.partition(":")[0] for each in compare(answered, changed)][-1].startswith("row ")


def test_the_bench_says_what_is_missing() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bench.lake_engines", "--engines", "oracle"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )

    assert ended.returncode == 2
    assert "no such engine: oracle" in ended.stderr
