"""What is no id and no name is the same for rows that DuckDB reads and for rows that another database does."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache

import duckdb
import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st

from validated.datasets.dataset import Column, ColumnType
from validated.datasets.nobody import SOUND_ID, is_odd, odd_sql, why_odd

COLUMNS = {True: Column("worker_id", ColumnType.ID), False: Column("name", ColumnType.TEXT)}
ODD = [
    "NULL",
    "#REF!",
    "\\N",
    "7.0",
    "1.23E+05",
    "'007",
    '="007"',
    "total",
    "Total",
    "—",
    "A\ufffdB",
    "'Ana'",
    "``",
    "1,23E+05",
    "12,345",
    "12-Mar",
    "Mar-12",
    "2026-03-12",
    "3/12/2026",
    "W-1;W-2",
    "W-1|W-2",
    "TBD",
    "Vacant 2",
    "(Unknown)",
    "to be hired",
    "New Hire #3",
    "OPEN SHIFT",
    "Vacant Position",
    "Position Vacant",
    "VACANT - night",
    "TBD / TBD",
    "To Be Named",
    "Not Available",
    "Ana Silva (DNU)",
    "Ana Silva DNR",
    "Ana Silva - left company",
    "ZZ Silva (left)",
    "Ana Silva FORMER",
    "Ana Silva (ex-employee)",
    "Total active",
    "Total number of workers:",
    "{{id}}",
    "${NAME}",
    "[NULL]",
    "nULL",
    "#SPILL!",
    "None, None",
    "Jos\u00c3\u00a9",
    "Ra\u00c3\u00bal",
    "M\u00c3\u00bcller",
    "\u00e2\u20ac\u2122",
    "A? B",
    "a@b",
    "&#39;",
    "_x000D_",
    "Ana (12)",
    "Ana (Terminated)",
    "ANA DO NOT USE",
    "total:",
    "Grand Total",
]
SOUND = [
    "W-1",
    "007",
    "Null",
    "Na",
    "'t Hooft",
    "Ana Silva",
    "김철수",
    "7",
    "Ⅷ",
    "²",
    "Totals Inc",
    "12-MAR",
    "Nan Nan",
    "JO\u00c3O",
    "Bill (Will) Smith",
    "1.234",
    "Terminatedson",
    "Vacanti Smith",
    "Formera Fired-Nu",
    "Lefty Loa",
    "Total Recall",
    "Unknown Soldier",
    "Nobody Jones",
    "Open",
]


@cache
def known() -> list[str]:
    """Return what every Unicode since 3.2 has: the tables of DuckDB and of this Python are of different years."""
    category = unicodedata.ucd_3_2_0.category
    return [each for each in map(chr, range(1, sys.maxunicode + 1)) if category(each) not in ("Cn", "Cs")]


def odd_by_duckdb(values: list[str], *, is_id: bool, roughly: bool = False) -> list[bool]:
    query = f"SELECT {odd_sql(COLUMNS[is_id], roughly=roughly)} FROM (SELECT unnest(?::VARCHAR[]) AS v)"
    return [odd for (odd,) in duckdb.execute(query, [values]).fetchall()]


@cache
def found(is_id: bool) -> dict[str, bool]:
    """Return what DuckDB says of the values above and of each character."""
    values = [*ODD, *SOUND, *known()]
    return dict(zip(values, odd_by_duckdb(values, is_id=is_id), strict=True))


@pytest.mark.parametrize("is_id", [True, False])
@pytest.mark.parametrize("value", [*ODD, *SOUND])
def test_python_finds_what_duckdb_finds_of_known_values(value: str, *, is_id: bool) -> None:
    assert is_odd(value, is_id=is_id) == found(is_id)[value]


@pytest.mark.parametrize("is_id", [True, False])
def test_python_finds_what_duckdb_finds_of_each_character(*, is_id: bool) -> None:
    assert [each for each in known() if is_odd(each, is_id=is_id) != found(is_id)[each]] == []


@pytest.mark.parametrize("is_id", [True, False])
def test_the_rough_look_overlooks_nothing(*, is_id: bool) -> None:
    exactly = found(is_id)
    roughly = odd_by_duckdb([*exactly], is_id=is_id, roughly=True)
    assert {*zip(exactly.values(), roughly, strict=True)} == {(False, False), (False, True), (True, True)}


@campaign(10)
@given(st.lists(st.from_regex(SOUND_ID, fullmatch=True), min_size=10, max_size=20))
def test_an_id_of_letters_a_mark_and_digits_is_never_odd(ids: list[str]) -> None:
    assert not any(odd_by_duckdb(ids, is_id=True))
    assert all(each.isascii() and each.isprintable() and each == each.strip() and len(each) <= 200 for each in ids)


def test_a_letter_that_this_python_does_not_know_yet_is_one() -> None:
    assert unicodedata.category("\U0003347f") == "Cn"
    assert not is_odd("\U0003347f", is_id=False)


_VALUES = st.text(st.integers(0, 1 << 30).map(lambda at: known()[at % len(known())]), max_size=8) | st.sampled_from(ODD)


@campaign(10)
@given(st.lists(_VALUES, min_size=10, max_size=20))
def test_python_finds_what_duckdb_finds(values: list[str]) -> None:
    for is_id in (True, False):
        for value, odd in zip(values, odd_by_duckdb(values, is_id=is_id), strict=True):
            assert is_odd(value, is_id=is_id) == odd
            if odd:
                assert why_odd(value, is_id=is_id)
