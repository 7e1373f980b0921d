"""What is no id and no name is the same for rows that DuckDB reads and for rows that another database does."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validated.datasets.dataset import Column, ColumnType
from validated.datasets.nobody import is_odd, odd_sql, why_odd

COLUMNS = {True: Column("worker_id", ColumnType.ID), False: Column("name", ColumnType.TEXT)}
ODD = ["NULL", "#REF!", "\\N", "7.0", "1.23E+05", "'007", '="007"', "total", "Total", "—", "A\ufffdB", "'Ana'", "``"]
SOUND = ["W-1", "007", "Null", "Na", "'t Hooft", "Ana Silva", "김철수", "7", "Ⅷ", "²", "Totals Inc"]


def by_duckdb(value: str, *, is_id: bool) -> bool:
    query = f"SELECT {odd_sql(COLUMNS[is_id])} FROM (SELECT ?::VARCHAR AS v)"
    (found,) = duckdb.execute(query, [value]).fetchone() or (None,)
    return bool(found)


@pytest.mark.parametrize("is_id", [True, False])
@pytest.mark.parametrize("value", [*ODD, *SOUND])
def test_python_finds_what_duckdb_finds_of_known_values(value: str, *, is_id: bool) -> None:
    assert is_odd(value, is_id=is_id) == by_duckdb(value, is_id=is_id)


@given(st.one_of(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), st.sampled_from(ODD)))
def test_python_finds_what_duckdb_finds(value: str) -> None:
    for is_id in (True, False):
        assert is_odd(value, is_id=is_id) == by_duckdb(value, is_id=is_id)
        if is_odd(value, is_id=is_id):
            assert why_odd(value, is_id=is_id)
