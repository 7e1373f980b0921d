"""Lines to Parquet and back: every line's exact bytes, and the columns of ``facts`` beside them."""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

import orjson

from lakehouse.sessions.query.views import facts_from_lines
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.row_reading import RowBreach
from lakehouse.sessions.store.archive import ParquetFile, parquet_name
from lakehouse.sessions.store.disk import FILE_MODE
from lakehouse.sessions.store.parquet_rows import quoted, stored_lines
from lakehouse.sessions.upkeep.content import ContentTally, day_of, timestamp_of

if TYPE_CHECKING:
    import duckdb

# What is staged, on disk, before DuckDB turns it into one Parquet file for each day in it.
STAGED_BYTES_MAX: Final = 512 * 1024 * 1024
# How much text a row group holds, about; DuckDB keeps one in memory. Groups of fewer rows than DuckDB's vectors gain
# nothing.
_GROUP_BYTES: Final = 16 * 1024 * 1024
_GROUP_ROWS: Final = range(2048, 122_880 + 1)
# A segment with rows of more days than this at once is written in more files.
_DAYS_MAX: Final = 32
_STAGED_SLACK_BYTES: Final = 1 << 20

# `l` the line or `t` a torn one in base64; a row that is spelled otherwise has `v`, its text as any reader reads it.
_STAGED: Final = "{l: 'VARCHAR', t: 'VARCHAR', v: 'VARCHAR'}"


@dataclass(slots=True)
class _Lines:
    """A file of staged lines."""

    path: Path
    file: IO[bytes]
    longest_bytes: int = 0

    def add(self, text: bytes) -> None:
        self.file.write(text + b"\n")
        self.longest_bytes = max(self.longest_bytes, len(text))

    def close(self) -> None:
        self.file.close()

    def plain_rows(self) -> str:
        """Rows as our writers write them: JSON without a control character, so that a column ends with its line."""
        return (
            "SELECT line, NULL::BLOB AS torn, NULL::VARCHAR AS reading, line AS valid FROM"
            f" read_csv({quoted(self.path)}, columns = {{line: 'VARCHAR'}}, auto_detect = false, header = false,"
            f" parallel = false, delim = '\x01', quote = '', escape = '', new_line = '\\n',"
            f" max_line_size = {self.longest_bytes + 2}, buffer_size = {self.longest_bytes + _STAGED_SLACK_BYTES})"
        )

    def other_lines(self) -> str:
        return (
            "SELECT l AS line, from_base64(t) AS torn, v AS reading, v AS valid FROM"
            f" read_json({quoted(self.path)}, columns = {_STAGED}, format = 'newline_delimited',"
            # DuckDB allocates several times this for each thread.
            f" maximum_object_size = {self.longest_bytes + _STAGED_SLACK_BYTES})"
        )


@dataclass(slots=True)
class _Staged:
    """The lines of one day."""

    base: Path
    plain: _Lines | None = None
    others: _Lines | None = None
    lines: int = 0
    size_bytes: int = 0
    check: int = 0
    """The sum of the lines' hashes: what is read back has the same, but for chance. Of this process alone."""

    def count(self, line: bytes) -> None:
        self.lines += 1
        self.size_bytes += len(line)
        self.check += hash(line)

    def add_plain(self, line: bytes) -> None:
        if self.plain is None:
            self.plain = self._open("lines")
        self.plain.add(line)

    def add_other(self, **fields: str) -> None:
        if self.others is None:
            self.others = self._open("ndjson")
        self.others.add(orjson.dumps(fields))

    def _open(self, extension: str) -> _Lines:
        path = self.base.with_suffix(f".{extension}")
        return _Lines(path, path.open("wb"))

    @property
    def files(self) -> list[_Lines]:
        return [lines for lines in (self.plain, self.others) if lines is not None]

    @property
    def source(self) -> str:
        queries = [self.plain.plain_rows()] if self.plain is not None else []
        queries += [self.others.other_lines()] if self.others is not None else []
        return " UNION ALL ".join(queries)


@dataclass(frozen=True, slots=True)
class _Written:
    name: str
    lines: int
    size_bytes: int
    check: int


def group_rows(lines: int, size_bytes: int) -> int:
    """How many rows of such a size make a row group."""
    return min(max(_GROUP_BYTES * lines // max(size_bytes, 1), _GROUP_ROWS.start), _GROUP_ROWS.stop - 1)


class ParquetWriter:
    """Writes one segment's lines below ``folder``, under the names that they get in the archive; a context manager."""

    def __init__(self, folder: Path, segment: str, connection: duckdb.DuckDBPyConnection) -> None:
        self._folder = folder
        self._segment = segment
        self._connection = connection
        self._staged: dict[str, _Staged] = {}
        self._staged_bytes = 0
        self._written: list[_Written] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for staged in self._staged.values():
            for lines in staged.files:
                lines.close()

    def add(self, line: bytes) -> None:
        """Take one line that is not blank, torn ones too. Raises OSError, duckdb.Error."""
        try:
            row = read_row_line(line)
        except RowBreach as breach:
            if breach.kind == "torn":
                staged = self._of_day(None)
                staged.add_other(t=base64.b64encode(line).decode())
            else:
                staged = self._of_day(timestamp_of(line))
                staged.add_other(l=line.decode())
        else:
            staged = self._of_day(row.timestamp)
            if row.text is line:
                staged.add_plain(line)
            else:
                staged.add_other(l=line.decode(), v=row.text.decode())
        staged.count(line)
        self._staged_bytes += len(line)
        if self._staged_bytes >= STAGED_BYTES_MAX or len(self._staged) > _DAYS_MAX:
            self.flush()

    def _of_day(self, timestamp: object) -> _Staged:
        day = day_of(timestamp)
        staged = self._staged.get(day)
        if staged is None:
            staged = self._staged[day] = _Staged(self._folder / f"staged-{day}")
        return staged

    def flush(self) -> None:
        """Write what is staged. Raises OSError, duckdb.Error."""
        for day, staged in sorted(self._staged.items()):
            for lines in staged.files:
                lines.close()
            self._write(day, staged)
        self._staged.clear()
        self._staged_bytes = 0

    def _write(self, day: str, staged: _Staged) -> None:
        name = parquet_name(day, self._segment, len(self._written))
        target = self._folder / name
        target.parent.mkdir(exist_ok=True)
        size = write_parquet(
            self._connection,
            facts_from_lines(staged.source, "valid"),
            target,
            group_rows(staged.lines, staged.size_bytes),
        )
        for lines in staged.files:
            lines.path.unlink()
        self._written.append(_Written(name, staged.lines, size, staged.check))

    def read_back(self) -> tuple[tuple[ParquetFile, ...], ContentTally]:
        """Return the written files, and the tally of what they hold.

        Raises OSError, duckdb.Error, ValueError when a file holds other lines than were handed in.
        """
        files, total = [], ContentTally()
        for written in self._written:
            tally, check = ContentTally(), 0
            for line, torn in stored_lines(self._connection, [self._folder / written.name]):
                tally.add(line, torn=torn)
                check += hash(line)
            if tally.lines != written.lines or check != written.check:
                raise ValueError(f"{written.name} holds {tally.lines} lines and not {written.lines}, or other ones")
            files.append(ParquetFile(written.name, tally.lines, written.size_bytes, tally.content))
            total.add_content(tally.lines, tally.content)
            total.torn += tally.torn
        return tuple(files), total


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, target: Path, rows_a_group: int) -> int:
    """Write the rows of a query and let the file survive a power cut. Returns its size in bytes. Raises OSError,
    duckdb.Error."""
    connection.execute(
        f"COPY ({query}) TO {quoted(target)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {rows_a_group})"
    )
    target.chmod(FILE_MODE)
    with target.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size
