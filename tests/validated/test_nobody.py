"""What is no id and no name is the same for rows that DuckDB reads and for rows that another database does."""

from __future__ import annotations

import sys
import unicodedata

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validated.datasets.dataset import Column, ColumnType
from validated.datasets.nobody import is_odd, odd_sql, why_odd

COLUMNS = {True: Column("worker_id", ColumnType.ID), False: Column("name", ColumnType.TEXT)}
ODD = ["NULL", "#REF!", "\\N", "7.0", "1.23E+05", "'007", '="007"', "total", "Total", "—", "A\ufffdB", "'Ana'", "``"]
SOUND = ["W-1", "007", "Null", "Na", "'t Hooft", "Ana Silva", "김철수", "7", "Ⅷ", "²", "Totals Inc"]

# What every Unicode since 3.2 has: the tables of DuckDB and of this Python are of different years.
KNOWN = [
    each for each in map(chr, range(1, sys.maxunicode + 1)) if unicodedata.ucd_3_2_0.category(each) not in ("Cn", "Cs")
]


def by_duckdb(value: str, *, is_id: bool) -> bool:
    query = f"SELECT {odd_sql(COLUMNS[is_id])} FROM (SELECT ?::VARCHAR AS v)"
    (found,) = duckdb.execute(query, [value]).fetchone() or (None,)
    return bool(found)


@pytest.mark.parametrize("is_id", [True, False])
@pytest.mark.parametrize("value", [*ODD, *SOUND])
def test_python_finds_what_duckdb_finds_of_known_values(value: str, *, is_id: bool) -> None:
    assert is_odd(value, is_id=is_id) == by_duckdb(value, is_id=is_id)


@pytest.mark.parametrize("is_id", [True, False])
def test_python_finds_what_duckdb_finds_of_each_character(*, is_id: bool) -> None:
    query = f"SELECT {odd_sql(COLUMNS[is_id])} FROM (SELECT unnest(?) AS v)"
    found = duckdb.execute(query, [KNOWN]).fetchall()
    differ = [each for each, (odd,) in zip(KNOWN, found, strict=True) if is_odd(each, is_id=is_id) != odd]
    assert differ == []


def test_a_letter_that_this_python_does_not_know_yet_is_one() -> None:
    assert unicodedata.category("\U0003347f") == "Cn"
    assert not is_odd("\U0003347f", is_id=False)


@given(st.one_of(st.text(st.sampled_from(KNOWN), max_size=8), st.sampled_from(ODD)))
def test_python_finds_what_duckdb_finds(value: str) -> None:
    for is_id in (True, False):
        assert is_odd(value, is_id=is_id) == by_duckdb(value, is_id=is_id)
        if is_odd(value, is_id=is_id):
            assert why_odd(value, is_id=is_id)
