"""What the values of a table must be, by the types of its columns; every breach is listed with its row and column."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb

from validated.datasets.columns import ACTIVE, CERTIFICATIONS_MAX, read_certifications
from validated.datasets.dataset import TEXT_CHARS_MAX, Column, ColumnType, Problem, Problems, fold_header
from validated.datasets.header import MatchedTable
from validated.datasets.nobody import SOUND_ID, odd_sql, why_odd
from validated.datasets.tables import literal, read_csv
from validated.datasets.text_rows import SEPARATOR

LABEL_SEPARATOR: Final = "\x1e"
_CONTROL: Final = r"[\x00-\x1f\x7f]"
# Types of columns whose values come again and again: each is looked at once.
_FEW_VALUES: Final = (ColumnType.NAME, ColumnType.FLAG)
_BATCH_ROWS: Final = 8192
_AGAIN: Final = "repeats the header; two files were put together: keep them apart"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SPELLINGS: Final = ", ".join(sorted(ACTIVE, key=lambda each: (not ACTIVE[each], -len(each))))


class Checker:
    """Checks one table that was loaded. What it finds is in the order of the rows."""

    def __init__(self, db: duckdb.DuckDBPyConnection, table: MatchedTable, folder: Path, problems: Problems) -> None:
        self._db = db
        self._table = table
        self._folder = folder
        self._problems = problems
        self._found: list[tuple[int, int, str, str]] = []
        self._found_max = problems.kept_max

    def check(self) -> None:
        """Check every column that the table has, and its key."""
        has = self._table.matched.used if self._table.matched is not None else {}
        for column in self._table.dataset.columns:
            if column.name in has:
                _CHECKS[column.type](self, column)
                if column.may_be_empty is False and column.type not in (ColumnType.ID, ColumnType.NAME):
                    text = f"is empty; give it a value, or add it to {self._table.dataset.setting}.may_be_empty"
                    self._add(column.name, "trim(v) = ''", lambda _, text=text: text)  # type: ignore[misc]
        if self._table.dataset.is_unique:
            self._check_unique(self._table.dataset.key)
        order = [column.name for column in self._table.dataset.columns]
        for part, row, name, text in sorted(self._found, key=lambda each: (*each[:2], order.index(each[2]))):
            self._problems.add(Problem(self._table.shown(part), row, name, text))

    def _rows(self, name: str, where: str) -> Iterator[tuple[int, int, str]]:
        """(part, row, value) of the rows that `where` (on the column `v`) fits; the first ones, the rest counted."""
        table = f'(SELECT part, row, "{name}" AS v FROM "{self._table.dataset.name}")'
        bad = self._db.execute(f"SELECT part, row, v FROM {table} WHERE {where} LIMIT {self._found_max + 1}").fetchall()
        if len(bad) > self._found_max:
            counted = self._db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()
            self._problems.left_out += int(counted[0]) - self._found_max if counted else 0
        yield from bad[: self._found_max]

    def _values(self, name: str) -> str:
        """Return the table of the values (v, number) of a column: of each but once, where most come again and again."""
        column = next(each for each in self._table.dataset.columns if each.name == name)
        if column.type not in _FEW_VALUES:
            return f'(SELECT "{name}" AS v, row AS number FROM "{self._table.dataset.name}")'
        values = f'"{self._table.dataset.name}/{name}/values"'
        self._db.execute(
            f'CREATE TABLE IF NOT EXISTS {values} AS SELECT DISTINCT "{name}" AS v FROM "{self._table.dataset.name}"'
        )
        return f"(SELECT v, rowid AS number FROM {values})"

    def _find(self, part: int, row: int, name: str, text: str) -> None:
        """Keep a problem, or count it where there are many."""
        if len(self._found) <= self._found_max:
            self._found.append((part, row, name, text))
        else:
            self._problems.left_out += 1

    def _has(self, name: str, where: str) -> bool:
        return bool(self._db.execute(f"SELECT 1 FROM {self._values(name)} WHERE {where} LIMIT 1").fetchall())

    def _add(self, name: str, where: str, text: Callable[[str], str]) -> None:
        if self._has(name, where):
            for part, row, value in self._rows(name, where):
                self._found.append((part, row, name, text(value)))

    def _add_values(self, name: str, values: Collection[str], text: Callable[[str], str]) -> None:
        """Add the rows that have one of `values`."""
        if not values:
            return
        self._db.execute("CREATE OR REPLACE TABLE bad_values AS SELECT unnest(?::VARCHAR[]) AS bad", [list(values)])
        self._add(name, "v IN (SELECT bad FROM bad_values)", text)

    def check_id(self, column: Column) -> None:
        """See ColumnType.ID."""
        is_id = column.type is ColumnType.ID
        if is_id:
            has = self._table.matched.used if self._table.matched is not None else {}
            names = ", ".join(literal(each.lower()) for each in {column.name, has.get(column.name, column.name)})
            self._add(column.name, f"lower(v) IN ({names})", lambda _: _AGAIN)
            if not self._has(column.name, f"NOT regexp_full_match(v, {literal(SOUND_ID)})"):
                return
        if self._table.dataset.setting == "roster":
            folded = "regexp_replace(lower(regexp_replace(v, '[(*].*', '')), '[^a-z0-9]+', '', 'g')"
            heads = ", ".join(literal(each) for each in {fold_header(column.name), *column.synonyms})
            other = f" AND lower(v) NOT IN ({names})" if is_id else ""
            self._add(column.name, f"{folded} IN ({heads}){other}", lambda _: _AGAIN)
        odd = f"v = '' OR starts_with(v, ' ') OR ends_with(v, ' ') OR length(v) > {TEXT_CHARS_MAX}"
        self._add(column.name, odd, _why_odd)
        if self._table.dataset.setting == "roster" and self._has(column.name, odd_sql(column, roughly=True)):
            self._add(column.name, odd_sql(column), lambda v: why_odd(v, is_id=is_id))
        # Control characters, or beyond ASCII. Many names are: their texts come by the thousand, and rows only where one
        # does not print.
        control = "strlen(v) <> length(v) OR regexp_matches(v, '[\\x00-\\x1f\\x7f]')"
        source = f"{self._values(column.name)} WHERE {control}"
        texts = self._db.execute(f"SELECT string_agg(v, '') FROM {source} GROUP BY number // {_BATCH_ROWS}").fetchall()
        if all(text.isprintable() for (text,) in texts):
            return
        table = f'"{self._table.dataset.name}"'
        cursor = self._db.execute(
            f'SELECT part, row, v FROM (SELECT part, row, "{column.name}" AS v FROM {table}) WHERE {control}'
        )
        while batch := cursor.fetchmany(_BATCH_ROWS):
            if not "".join(each[2] for each in batch).isprintable():
                for part, row, value in batch:
                    if not value.isprintable():
                        text = f"{value[:80]!a} holds characters that do not print; remove them"
                        self._find(part, row, column.name, text)

    def _check_length(self, column: Column) -> None:
        self._add(
            column.name,
            f"length(v) > {TEXT_CHARS_MAX}",
            lambda _: f"longer than {TEXT_CHARS_MAX} characters; shorten it",
        )

    def check_text(self, column: Column) -> None:
        """See ColumnType.TEXT."""
        self._check_length(column)
        if self._have_control:
            self._add(
                column.name,
                f"regexp_matches(v, '{_CONTROL}')",
                lambda v: f"{v[:80]!a} holds characters that do not print; remove them",
            )

    @functools.cached_property
    def _have_control(self) -> bool:
        """Whether a text has control characters: one look at all of them together."""
        texts = ", ".join(f'"{each.name}"' for each in self._table.dataset.columns if each.type is ColumnType.TEXT)
        table = f'"{self._table.dataset.name}"'
        query = f"SELECT 1 FROM {table} WHERE regexp_matches(concat({texts}), '{_CONTROL}') LIMIT 1"
        return bool(self._db.execute(query).fetchall())

    def check_flag(self, column: Column) -> None:
        """See ColumnType.FLAG."""
        good = ", ".join(f"'{each}'" for each in ACTIVE)
        if column.may_be_empty is None:
            self._add(column.name, "trim(v) = ''", lambda _: f"is empty; write one of {_SPELLINGS}")
        self._add(
            column.name,
            f"trim(v) <> '' AND lower(trim(v)) NOT IN ({good})",
            lambda v: f"{v[:40]!r} is neither true nor false; write one of {_SPELLINGS}",
        )

    def check_labels(self, column: Column) -> None:
        """See ColumnType.LABELS. Makes the table `<column>_read` (text, read)."""
        bad: dict[str, str] = {}

        def read() -> Iterator[tuple[str, str]]:
            for text in self._distinct(column.name):
                labels = read_certifications(text)
                if labels is None or not all(label.isprintable() for label in labels):
                    bad[text] = f"{text[:40]!r} is no list of texts"
                elif len(labels) > CERTIFICATIONS_MAX:
                    bad[text] = f"more than {CERTIFICATIONS_MAX}; shorten the list"
                elif any(each in text for each in "\n\r\x00\x1f"):
                    bad[text] = f"{text[:80]!a} holds characters that do not print; remove them"
                else:
                    yield text, LABEL_SEPARATOR.join(labels)

        add_texts(self._db, self._folder, f"{column.name}_read", ("text", "read"), read())
        self._add_values(column.name, bad, bad.__getitem__)

    def check_plain(self, column: Column) -> None:
        """See ColumnType.INTEGER, DECIMAL and DATE: as they are written there and in no other way."""
        good, example = _PLAIN[column.type]
        self._add(
            column.name, f"v <> '' AND NOT ({good})", lambda v: f"{v[:40]!r} is no {column.type}; write {example}"
        )

    def check_latitude(self, column: Column) -> None:
        """See ColumnType.LATITUDE; the longitude is checked with it."""
        has = self._table.matched.used if self._table.matched is not None else {}
        if "longitude" not in has:
            self._found.append((0, 0, column.name, "latitude and longitude go together; give both or neither"))
            return
        if not self._has_odd_points():
            return
        pair = f'(SELECT part, row, trim(latitude) AS a, trim(longitude) AS b FROM "{self._table.dataset.name}")'
        for part, row in self._db.execute(f"SELECT part, row FROM {pair} WHERE (a = '') <> (b = '')").fetchall():
            self._find(part, row, column.name, "latitude and longitude go together; give both or neither")
        # A cast that the engine makes, but for the digits that it lets people part.
        good = "abs(TRY_CAST(a AS DOUBLE)) <= 90 AND abs(TRY_CAST(b AS DOUBLE)) <= 180 AND NOT contains(a || b, '_')"
        bad = f"a <> '' AND b <> '' AND NOT coalesce({good}, false)"
        query = f"SELECT part, row, left(a, 41), left(b, 41) FROM {pair} WHERE {bad}"
        for part, row, latitude, longitude in self._db.execute(query).fetchall():
            text = f"{latitude[:40]!r}, {longitude[:40]!r} is no point; degrees from -90 to 90 and from -180 to 180"
            self._find(part, row, column.name, text)

    def _has_odd_points(self) -> bool:
        """Whether there may be any; most rosters have none, and this takes a third of the time."""
        good = (
            "abs(TRY_CAST(latitude AS DOUBLE)) <= 90 AND abs(TRY_CAST(longitude AS DOUBLE)) <= 180 "
            "AND NOT contains(latitude, '_') AND NOT contains(longitude, '_')"
        )
        both = f"(latitude = '' AND longitude = '') OR coalesce({good}, false)"
        query = f'SELECT 1 FROM "{self._table.dataset.name}" WHERE NOT ({both}) LIMIT 1'
        return bool(self._db.execute(query).fetchall())

    def check_longitude(self, column: Column) -> None:
        """See `check_latitude`."""
        has = self._table.matched.used if self._table.matched is not None else {}
        if "latitude" not in has:
            self._found.append((0, 0, column.name, "latitude and longitude go together; give both or neither"))

    def check_instant(self, column: Column) -> None:
        """See ColumnType.INSTANT. Makes the table `<column>_read` (text, read): microseconds since 1970."""
        bad: set[str] = set()

        def read() -> Iterator[tuple[str, str]]:
            for text in self._distinct(column.name):
                if not text and column.may_be_empty is not None:
                    yield "", ""
                    continue
                instant = _microseconds(text)
                if instant is None:
                    bad.add(text)
                else:
                    yield text, str(instant)

        add_texts(self._db, self._folder, f"{column.name}_read", ("text", "read"), read())
        self._add_values(
            column.name,
            bad,
            lambda v: f"{v[:40]!r} is no RFC 3339 time with an offset, such as 2026-12-05T06:00:00-05:00",
        )

    def _distinct(self, name: str) -> Iterator[str]:
        cursor = self._db.cursor().execute(f'SELECT DISTINCT "{name}" FROM "{self._table.dataset.name}"')
        while batch := cursor.fetchmany(_BATCH_ROWS):
            yield from (each[0] for each in batch)

    def _check_unique(self, names: tuple[str, ...]) -> None:
        table = f'"{self._table.dataset.name}"'
        key = ", ".join(f'"{name}"' for name in names)
        several = f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1"
        if not self._db.execute(f"{several} LIMIT 1").fetchall():
            return
        rows = self._db.execute(
            f"SELECT part, row, {key} FROM {table} WHERE ({key}) IN ({several}) ORDER BY part, row"
        ).fetchall()
        first: dict[tuple[str, ...], tuple[int, int]] = {}
        for part, row, *values in rows:
            if not all(value.strip() for value in values):
                continue
            at = first.setdefault(tuple(values), (part, row))
            if at != (part, row):
                where = "" if at[0] == part else f" of {self._table.shown(at[0])}"
                shown = ", ".join(repr(value[:80]) for value in values)
                text = f"{shown} stands in row {at[1]}{where} already; keep one"
                self._found.append((part, row, names[0], text))


def _why_odd(value: str) -> str:
    if not value.strip():
        return "is empty; give it a value or remove the row"
    if value.strip() != value:
        return f"{value[:80]!r} has spaces around it; trim it"
    return f"longer than {TEXT_CHARS_MAX} characters; shorten it"


def add_texts(
    db: duckdb.DuckDBPyConnection, folder: Path, name: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]
) -> None:
    """Make a table of texts out of `rows`, whose values hold neither line ends nor U+001F."""
    path = folder / f"{name}.rows"
    with path.open("w", encoding="utf-8", newline="") as out:
        out.writelines(SEPARATOR.join(row) + "\n" for row in rows)
    source = read_csv(path, columns, SEPARATOR, has_header=False)
    db.execute(f'CREATE OR REPLACE TABLE "{name}" AS SELECT * FROM {source}')
    path.unlink()


def _microseconds(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 text (DuckDB prints a TIMESTAMPTZ with a space and a short offset)."""
    try:
        instant = datetime.fromisoformat(text)
        # In whole numbers: a float has no microseconds left after the year 2242.
        return None if instant.tzinfo is None else (instant.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        # Overflow: what is in UTC before the year 1 or after 9999.
        return None


_PLAIN: Final = {
    ColumnType.INTEGER: (
        "regexp_full_match(v, '0|-?[1-9][0-9]{0,17}')",
        "a whole number of at most 18 digits, such as 1200: no sign +, no zeros before it, no marks between the digits",
    ),
    ColumnType.DECIMAL: (
        r"regexp_full_match(v, '-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?')",
        "a decimal number such as 19.90: a point, no exponent, no currency, no marks between the digits",
    ),
    ColumnType.DATE: (
        "regexp_full_match(v, '[0-9]{4}-[0-9]{2}-[0-9]{2}') AND TRY_CAST(v AS DATE) IS NOT NULL",
        "a day as 2026-12-05",
    ),
}
_CHECKS: Final[dict[ColumnType, Callable[[Checker, Column], None]]] = {
    ColumnType.ID: Checker.check_id,
    ColumnType.NAME: Checker.check_id,
    ColumnType.TEXT: Checker.check_text,
    ColumnType.FLAG: Checker.check_flag,
    ColumnType.LABELS: Checker.check_labels,
    ColumnType.LATITUDE: Checker.check_latitude,
    ColumnType.LONGITUDE: Checker.check_longitude,
    ColumnType.INSTANT: Checker.check_instant,
    ColumnType.INTEGER: Checker.check_plain,
    ColumnType.DECIMAL: Checker.check_plain,
    ColumnType.DATE: Checker.check_plain,
}
