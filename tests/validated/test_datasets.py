"""Datasets: what is read of a file, what is refused and how that is said, and how a new file replaces the old one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from catalogue import ROOT
from command_line import lakehouse
from pydantic import ValidationError
from rosters import until

from validated.config import DatasetTable
from validated.datasets.dataset_index import DatasetIndex
from validated.datasets.loaded_dataset import LoadedDataset

COLUMNS = {
    "sku": "text", "price": "decimal", "stock": "integer", "sold": "boolean", "since": "date", "at": "instant",
    "tags": "labels", "name": "text",
}  # fmt: skip
HEADER = "sku,price,stock,sold,since,at,tags,name\n"
GOOD = "A-1,19.90,5,yes,2026-02-28,2026-12-05T06:00:00-05:00,x;y,Saw\n"
VALUES = {
    "sku": "A-1", "price": Decimal("19.90"), "stock": 5, "sold": True, "since": "2026-02-28",
    "at": datetime(2026, 12, 5, 11, tzinfo=UTC), "tags": ("x", "y"), "name": "Saw",
}  # fmt: skip


def table_of(path: Path, **changes: Any) -> DatasetTable:
    given = {"path": path, "key": ("sku",), "columns": COLUMNS, "may_be_empty": ("tags", "at"), **changes}
    return DatasetTable(**{"index_dir": path.parent / "indexes", "poll_ms": 50, **given})


async def opened(path: Path, **changes: Any) -> tuple[DatasetIndex | None, str]:
    """Return the index, or why there is none."""
    async with LoadedDataset("parts", table_of(path, **changes)).open() as dataset:
        why = "".join(dataset.unready())
        return (None if why else dataset.current()[0]), why


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


async def test_the_same_rows_are_read_from_each_format_by_the_types_of_their_columns(tmp_path: Path) -> None:
    row = {"sku": "A-1", "stock": 5, "sold": True, "since": "2026-02-28", "at": "2026-12-05T11:00:00Z", "name": "Saw"}
    text = json.dumps({**row, "tags": ["x", "y"]})
    parquet = tmp_path / "p.parquet"
    duckdb.connect().sql(
        "SELECT 'A-1' AS sku, CAST(19.90 AS DECIMAL(9,2)) AS price, 5 AS stock, true AS sold, "
        "DATE '2026-02-28' AS since, "
        "TIMESTAMPTZ '2026-12-05 11:00:00+00' AS at, ['x','y'] AS tags, 'Saw' AS name"
    ).write_parquet(str(parquet))
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, "part-1.csv", HEADER + GOOD)
    files = (
        write(tmp_path, "a.csv", HEADER + GOOD),
        write(tmp_path, "b.jsonl", text[:-1] + ', "price": 19.90}\n'),
        parquet,
        folder,
    )
    for path in files:
        index, why = await opened(path)
        assert index is not None, why
        assert [each.values for each in index.rows()] == [VALUES], path
        assert index.row("A-1") is not None


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        ("A-1,1e5,5,yes,2026-02-28,,,Saw", "price", "no decimal"),
        ('A-1,"1,5",5,yes,2026-02-28,,,Saw', "price", "no decimal"),
        ("A-1,$5,5,yes,2026-02-28,,,Saw", "price", "no decimal"),
        ("A-1,NaN,5,yes,2026-02-28,,,Saw", "price", "no decimal"),
        ("A-1, 5,5,yes,2026-02-28,,,Saw", "price", "no decimal"),
        ("A-1,5,05,yes,2026-02-28,,,Saw", "stock", "no integer"),
        ("A-1,5,5.0,yes,2026-02-28,,,Saw", "stock", "no integer"),
        ("A-1,5,9999999999999999999,yes,2026-02-28,,,Saw", "stock", "no integer"),
        ("A-1,5,5,perhaps,2026-02-28,,,Saw", "sold", "neither true nor false"),
        ("A-1,5,5,yes,2026-02-30,,,Saw", "since", "no date"),
        ("A-1,5,5,yes,28.02.2026,,,Saw", "since", "no date"),
        ("A-1,5,5,yes,2026-02-28,2026-12-05T06:00:00,,Saw", "at", "offset"),
        ("A-1,,5,yes,2026-02-28,,,Saw", "price", "may_be_empty"),
        ("A-1,5,5,,2026-02-28,,,Saw", "sold", "may_be_empty"),
        ("A-1,5,5,yes,2026-02-28,,,", "name", "may_be_empty"),
        (",5,5,yes,2026-02-28,,,Saw", "sku", "is empty"),
        (" A-1,5,5,yes,2026-02-28,,,Saw", "sku", "spaces"),
        ("A\u200b1,5,5,yes,2026-02-28,,,Saw", "sku", "do not print"),
        ("sku,5,5,yes,2026-02-28,,,Saw", "sku", "header"),
        ("A-0,5,5,yes,2026-02-28,,,Saw", "sku", "already"),
    ],
)
async def test_what_is_not_of_its_type_is_refused_with_its_row_and_column(
    tmp_path: Path, row: str, column: str, part: str
) -> None:
    path = write(tmp_path, "parts.csv", HEADER + GOOD.replace("A-1", "A-0") + row + "\n")
    index, why = await opened(path)
    assert index is None
    assert f"parts.csv: row 2, {column}: " in why
    assert part in why


async def test_a_column_is_never_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, "parts.csv", (HEADER + GOOD).replace("price", "prices"))
    _, why = await opened(path)
    assert "datasets.parts.source_columns" in why
    index, why = await opened(path, source_columns={"price": "prices"})
    assert index is not None, why


async def test_a_decimal_keeps_its_digits_and_a_float_of_parquet_is_refused(tmp_path: Path) -> None:
    line = {"sku": "A", "price": 0, "stock": 1, "sold": True, "since": "2026-01-01", "name": "x"}
    text = json.dumps(line).replace('"price": 0', '"price": 0.100000000000000001')
    index, why = await opened(write(tmp_path, "a.jsonl", text + "\n"), columns={**COLUMNS}, may_be_empty=("tags", "at"))
    # The columns that no line has are absent: they are refused like any other.
    assert index is None
    assert "tags" in why or "at" in why
    text = text[:-1] + ', "tags": null, "at": null}'
    index, why = await opened(write(tmp_path, "a.jsonl", text + "\n"))
    assert index is not None, why
    row = index.row("A")
    assert row is not None
    assert row.values["price"] == Decimal("0.100000000000000001")
    parquet = tmp_path / "p.parquet"
    duckdb.connect().sql("SELECT 'A' AS sku, CAST(1.5 AS DOUBLE) AS price").write_parquet(str(parquet))
    _, why = await opened(parquet, columns={"sku": "text", "price": "decimal"}, may_be_empty=())
    assert '"price" is DOUBLE' in why


async def test_keys_of_several_columns_are_one_row_together(tmp_path: Path) -> None:
    path = write(tmp_path, "p.csv", "plant,no,price\nX,1,5\nX,2,6\nY,1,7\n")
    columns = {"plant": "text", "no": "integer", "price": "decimal"}
    index, why = await opened(path, key=("plant", "no"), columns=columns, may_be_empty=())
    assert index is not None, why
    assert [index.row(key) is not None for key in ("X\x1f1", "X\x1f2", "Y\x1f1", "Y\x1f2", "X1", "X")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    path = write(tmp_path, "p.csv", "plant,no,price\nX,1,5\nX,1,6\n")
    _, why = await opened(path, key=("plant", "no"), columns=columns, may_be_empty=())
    assert "row 2, plant: 'X', '1' stands in row 1 already" in why


async def test_folded_keys_that_are_alike_are_all_found_and_text_that_no_key_can_be_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, "p.csv", "sku,price\nab 1,5\nAB 1,6\n\u00e4?,7\n")
    index, why = await opened(path, columns={"sku": "text", "price": "decimal"}, may_be_empty=())
    assert index is not None, why
    assert [row.key for row in index.rows_folded(("Ab  1",))] == ["AB 1", "ab 1"]
    for text in ("", "\ud800", "\u00e4\ud800", "a" * 1000):
        assert index.row(text) is None


async def test_a_file_that_shrank_is_refused_and_the_old_rows_answer(tmp_path: Path) -> None:
    rows = "".join(GOOD.replace("A-1", f"A-{at}") for at in range(10))
    path = write(tmp_path, "parts.csv", HEADER + rows)
    async with LoadedDataset("parts", table_of(path)).open() as dataset:
        index, version = dataset.current()
        path.write_text(HEADER + GOOD)
        dataset.reload()
        await until(lambda: dataset.counts()["load_failures"] == 1)
        assert dataset.current() == (index, version)
        path.write_text(HEADER + rows + GOOD.replace("A-1", "B"))
        dataset.reload()
        await until(lambda: dataset.counts()["loads"] == 2)
        assert dataset.current()[1] != version
        assert dataset.current()[0].row_count == 11


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ()},
        {"key": ("none",)},
        {"key": ("price",)},
        {"key": ("sku", "sku")},
        {"columns": {}},
        {"columns": {"sku": "string"}},
        {"columns": {"sku": "text", 'a"; DROP': "text"}},
        {"columns": {"sku": "text", "row": "text"}},
        {"may_be_empty": ("sku",)},
        {"may_be_empty": ("none",)},
        {"source_columns": {"price": "p", "stock": "p"}},
    ],
)
def test_a_dataset_that_makes_no_sense_is_no_configuration(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        table_of(tmp_path / "parts.csv", **changes)


def test_the_command_shows_a_dataset_and_judges_by_a_kind() -> None:
    config = ("--config", str(ROOT / "examples" / "catalogue" / "lakehouse.toml"))
    found = lakehouse("dataset", "find", "catalogue", "DR-10000", "--json", *config)
    assert json.loads(found.stdout)["rows"][0]["sku"] == "DR-10000"
    assert lakehouse("dataset", "find", "catalogue", "nothing of the sort", *config).returncode == 1
    assert lakehouse("dataset", "info", "elsewhere", *config).returncode == 2
    assert "no problems" in lakehouse("kinds", "check", *config).stdout
    artifact = '{"lines":[{"sku":"DR-10001","name":"x","unit_price":1,"quantity":1}]}'
    tried = lakehouse("kinds", "try", "quote", "-", "--spec", '{"count":1}', "--json", *config, stdin=artifact)
    assert tried.returncode == 1
    assert [each["code"] for each in json.loads(tried.stdout)["findings"]] == ["NOT_IN_DATASET"]
