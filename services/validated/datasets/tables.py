"""A dataset's files as one table of texts in DuckDB, each row with its part and its number there.

DuckDB decides nothing: it gets dialect, columns and types by name, and the literal files. Text formats reach it in the
one form of ``text_rows``; Parquet columns are taken only in the types that lose nothing.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from validated.datasets.dataset import (
    Column,
    ColumnType,
    Dataset,
    Problem,
    RefusedError,
    TableFiles,
)
from validated.datasets.delimited_rows import DelimitedRows
from validated.datasets.header import Matched, MatchedTable, match
from validated.datasets.json_rows import JsonRows
from validated.datasets.parts import OpenFiles, OpenPart
from validated.datasets.text_rows import LINE_BYTES_MAX, SEPARATOR, TextRows

_INTEGERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_TEXTS: Final = ("VARCHAR", "ENUM")
# The types of Parquet that a column may have. A float is no id: 7.0 and 7 would be two people, or one.
_PARQUET_TYPES: Final = {
    ColumnType.ID: (*_TEXTS, *_INTEGERS, "UUID"),
    ColumnType.NAME: _TEXTS,
    ColumnType.TEXT: (*_TEXTS, *_INTEGERS),
    ColumnType.FLAG: ("BOOLEAN", *_TEXTS, *_INTEGERS),
    ColumnType.LABELS: (*_TEXTS, "VARCHAR[]"),
    ColumnType.LATITUDE: ("DOUBLE", "FLOAT", "DECIMAL", *_TEXTS, *_INTEGERS),
    ColumnType.LONGITUDE: ("DOUBLE", "FLOAT", "DECIMAL", *_TEXTS, *_INTEGERS),
    ColumnType.INSTANT: ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS", *_TEXTS),
    ColumnType.INTEGER: (*_INTEGERS, *_TEXTS),
    ColumnType.DECIMAL: ("DECIMAL", *_INTEGERS, *_TEXTS),
    ColumnType.DATE: ("DATE", *_TEXTS),
}


class OpenTable:
    """The files of one dataset, open; nothing is parsed before `load`."""

    def __init__(self, dataset: Dataset, files: TableFiles, opened: OpenFiles) -> None:
        """Open the files among `opened`. Raises RefusedError, UnreadableError."""
        self.dataset = dataset
        self.files = files
        self._parts = opened.parts(files.path)
        self.matched: Matched | None = None
        self.row_count = 0
        self.warnings: list[str] = []
        self.version = ""
        """What the files say of their version: nothing."""

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes: of the one file, or of the parts' digests. Raises UnreadableError."""
        digests = [part.digest for part in self._parts]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def formats(self) -> list[str]:
        """How each part is to be read: what a digest of bytes does not say."""
        return [part.part.format + part.part.packed for part in self._parts]

    @property
    def names(self) -> list[str]:
        """What people call each part: what is said of it names it."""
        return [str(part.part.path) for part in self._parts]

    def shown(self, part: int) -> str:
        """Return the name of a part for people."""
        return str(self._parts[part].part.path)

    def load(self, db: duckdb.DuckDBPyConnection, folder: Path, *, rows_max: int) -> None:
        """Make the view `<dataset>` (part, row, and a text column for each of ours, '' where there is none) out of the
        bytes that were hashed; `folder` holds them meanwhile. Raises RefusedError, UnreadableError.
        """
        # The engine keeps the order of the files and numbers what it inserts, so that it may read on several cores; to
        # number rows while they are read would take one.
        columns = [_quoted(column.name) for column in self.dataset.columns]
        texts = ", ".join(f"{column} VARCHAR" for column in columns)
        db.execute(f"CREATE TABLE {self._rows} (part INTEGER, before BIGINT, {texts})")
        db.execute(
            f"CREATE VIEW {_quoted(self.dataset.name)} AS "
            f"SELECT part, rowid - before + 1 AS row, {', '.join(columns)} FROM {self._rows}"
        )
        first: Matched | None = None
        for number, part in enumerate(self._parts):
            with tempfile.TemporaryDirectory(dir=folder) as staging:
                try:
                    if part.part.format == ".parquet":
                        self._load_parquet(db, number, part, Path(staging), rows_max - self.row_count)
                    else:
                        self._load_text(db, number, part, Path(staging), rows_max - self.row_count)
                except duckdb.OutOfMemoryException:
                    raise
                except duckdb.Error as error:
                    raise self._refusal(number, 0, "", _engines_words(error, staging, part)) from None
            part.confirm()
            first = first or self.matched
            if first is not None and self.matched is not None and set(self.matched.used) != set(first.used):
                other = ", ".join(sorted(set(self.matched.used) ^ set(first.used)))
                text = f"differs from {self.shown(0)} in the columns {other}; the parts of a folder must have the same"
                raise self._refusal(number, 0, "", text)
        if not self.row_count and self.dataset.is_unique:
            text = f"has no rows: {self.dataset.when_empty}"
            raise RefusedError(Problem(str(self.files.path), 0, "", text))
        self._check_numbers(db)

    def _check_numbers(self, db: duckdb.DuckDBPyConnection) -> None:
        """Raise RefusedError where rows are numbered in another way than from 1 to the last of each part."""
        query = "SELECT part, min(row), max(row), count(*) FROM {} GROUP BY part ORDER BY part"
        for part, first, last, count in db.execute(query.format(_quoted(self.dataset.name))).fetchall():
            if (first, last) != (1, count):
                raise self._refusal(part, 0, "", f"{count} rows are numbered from {first} to {last}; report this")

    @property
    def _rows(self) -> str:
        return _quoted(f"{self.dataset.name}/rows")

    def _load_text(
        self, db: duckdb.DuckDBPyConnection, number: int, part: OpenPart, staging: Path, rows_max: int
    ) -> None:
        raw, rows = staging / "raw", staging / "rows"
        with raw.open("wb") as out:
            part.unpack_to(out)
        self._warn_of_end(number, raw)
        encoding, shown = self.files.encoding, self.shown(number)
        text: TextRows
        header, lines = None, 0
        if part.part.format in (".csv", ".tsv"):
            text = delimited = DelimitedRows(
                self.dataset, shown, raw, encoding=encoding, delimiter=self._delimiter(number)
            )
            header, lines = delimited.plain_header(), delimited.line_count
        else:
            text = JsonRows(self.dataset, shown, raw, encoding=encoding)
        if header is not None and self._load_plain(db, number, raw, header, lines, rows_max):
            return
        with rows.open("w", encoding="utf-8", newline="") as out_text:
            count = text.write(lambda header: self._match(number, header), out_text, rows_max=rows_max)
        if not count:
            return
        names = [column.name for column in self.dataset.columns]
        source = read_csv(rows, names, SEPARATOR, has_header=False)
        self._insert(db, number, source, [_quoted(name) for name in names], count)

    def _warn_of_end(self, number: int, raw: Path) -> None:
        with raw.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if size and file.read() not in (b"\n", b"\r", b"\x00"):
                text = "its last line has no line end; if the file was cut there, its last value may be wrong"
                self.warnings.append(f"{self.shown(number)}: {text}")

    def _load_plain(
        self, db: duckdb.DuckDBPyConnection, number: int, raw: Path, header: Sequence[str], count: int, rows_max: int
    ) -> bool:
        """Read a file that leaves nothing to interpret straight away, in half the time; False where the engine reads
        anything but `count` whole rows in it: then nothing was inserted.
        """
        if not 0 < count <= rows_max or len(header) < 2:
            return False
        used = self._match(number, header)
        names = [f"c{at}" for at in range(len(header))]
        source = read_csv(raw, names, self._delimiter(number), has_header=True)
        ours = [(column, used.get(column.name)) for column in self.dataset.columns]
        picked = ["''" if theirs is None else names[header.index(theirs)] for _, theirs in ours]
        repeated = " AND ".join(
            f"{_quoted(column.name)} = {literal(name)}" for column, name in ours if name is not None
        )
        before = self.row_count
        db.execute("BEGIN")
        try:
            self._insert(db, number, source, picked, count)
            good = not db.execute(f"SELECT 1 FROM {self._rows} WHERE part = {number} AND {repeated} LIMIT 1").fetchall()
        except (duckdb.InvalidInputException, RefusedError):
            good = False
        if not good:
            db.execute("ROLLBACK")
            self.row_count = before
            return False
        db.execute("COMMIT")
        return True

    def _delimiter(self, number: int) -> str:
        return "\t" if self._parts[number].part.format == ".tsv" else self.files.delimiter

    def _load_parquet(
        self, db: duckdb.DuckDBPyConnection, number: int, part: OpenPart, staging: Path, rows_max: int
    ) -> None:
        raw = staging / "raw"
        with raw.open("wb") as out:
            part.unpack_to(out)
        file = literal(_escaped(raw))
        source = f"read_parquet({file}, hive_partitioning = false, union_by_name = false, binary_as_string = false)"
        # The engine calls the second of two columns whose names differ in case by another name: they are matched by
        # those of the file.
        described = db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        names = _top_names(db.execute(f"SELECT name, num_children FROM parquet_schema({file})").fetchall())
        if len(names) != len(described):
            raise self._refusal(number, 0, "", "has a schema that cannot be read; write it anew")
        used = self._match(number, names)
        read = {name: (str(row[0]), str(row[1])) for name, row in zip(names, described, strict=True)}
        picked = []
        for column in self.dataset.columns:
            theirs = used.get(column.name)
            picked.append("''" if theirs is None else self._as_text(number, column, theirs, *read[theirs]))
        counted = db.execute(f"SELECT count(*) FROM {source}").fetchone()
        count = int(counted[0]) if counted else 0
        if count > rows_max:
            raise self._refusal(number, 0, "", f"more rows than {self.dataset.setting}.rows_max allows; raise it")
        self._insert(db, number, source, picked, count)

    def _as_text(self, number: int, column: Column, theirs: str, read_as: str, kind: str) -> str:
        name = _quoted(read_as)
        if kind == '"NULL"':
            # A column of nothing but nulls has no type.
            return "''"
        base = kind.split("(", maxsplit=1)[0].strip()
        if base not in _PARQUET_TYPES[column.type]:
            allowed = ", ".join(_PARQUET_TYPES[column.type])
            raise self._refusal(number, 0, column.name, f'"{theirs}" is {kind}; write it as one of {allowed}')
        if kind.endswith("[]"):
            return f"coalesce(CAST(to_json({name}) AS VARCHAR), '')"
        return f"coalesce(CAST({name} AS VARCHAR), '')"

    def _insert(
        self, db: duckdb.DuckDBPyConnection, number: int, source: str, picked: Sequence[str], count: int
    ) -> None:
        db.execute(f"INSERT INTO {self._rows} SELECT {number}, {self.row_count}, {', '.join(picked)} FROM {source}")
        inserted = db.execute(f"SELECT count(*) FROM {self._rows} WHERE part = {number}").fetchone()
        if inserted != (count,):
            raise self._refusal(number, 0, "", f"{count} rows were read and {inserted} came through; report this")
        self.row_count += count

    def _match(self, number: int, header: Sequence[str]) -> dict[str, str]:
        matched, problems = match(self.dataset, header, self.files.columns, self.files.ignore_columns)
        if problems:
            raise RefusedError(*(Problem(self.shown(number), 0, column, text) for column, text in problems))
        self.matched = matched
        return matched.used

    def _refusal(self, number: int, row: int, column: str, text: str) -> RefusedError:
        return RefusedError(Problem(self.shown(number), row, column, text))


def columns_of(table: MatchedTable) -> dict[str, Any]:
    """How the columns of a table that was loaded were matched: {used, ignored, defaulted}."""
    assert table.matched is not None  # noqa: S101  the caller looked
    return {
        "used": table.matched.used,
        "ignored": list(table.matched.ignored),
        "defaulted": table.matched.defaulted,
    }


def open_duckdb(folder: Path, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """Return an engine that keeps within `memory_mb`, spills into `folder` and loads no extension."""
    return duckdb.connect(
        config={
            # Few: the service keeps the other cores. Rows stand in the file's order, however many there are.
            "threads": 2,
            "preserve_insertion_order": True,
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )


def read_csv(path: Path, names: Sequence[str], delimiter: str, *, has_header: bool) -> str:
    """Return the table function for a file of texts in which nothing is quoted, with columns of these names."""
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    filled = ", ".join(literal(name) for name in names)
    return (
        f"read_csv({literal(_escaped(path))}, auto_detect = false, header = {str(has_header).lower()}, "
        f"columns = {{{types}}}, force_not_null = [{filled}], delim = {literal(delimiter)}, quote = '', escape = '', "
        "comment = '', new_line = '\\n', strict_mode = true, null_padding = false, hive_partitioning = false, "
        f"max_line_size = {LINE_BYTES_MAX})"
    )


def _top_names(schema: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return the names of the columns themselves, of a Parquet schema as it is written: each (name, how many stand
    within it), the whole first.
    """
    names: list[str] = []
    inner = 0
    for name, children in schema[1:]:
        if not inner:
            names.append(str(name))
        inner += (children or 0) - bool(inner)
    return names


def first_lines(text: str) -> str:
    """Return what an engine says, short."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:3])[:400]


def _engines_words(error: duckdb.Error, staging: str, part: OpenPart) -> str:
    """Return what the engine says of a part, without its copy's place and its own statement, and what to do."""
    says = first_lines(str(error).partition("LINE 1:")[0]).replace(f"{staging}/raw", part.part.path.name)
    what = "is no whole Parquet file" if part.part.format == ".parquet" else "cannot be read"
    return f"{what} ({says}); write it anew"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _escaped(path: Path) -> str:
    """Return the path as a pattern that fits it alone."""
    return "".join(f"[{each}]" if each in "[*?" else each for each in str(path))
