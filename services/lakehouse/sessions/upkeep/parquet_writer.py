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
from lakehouse.sessions.store.parquet_rows import MEMORY_BYTES, connect_bare, quoted, stored_lines
from lakehouse.sessions.upkeep.content import ContentTally, day_of, timestamp_of

if TYPE_CHECKING:
    import duckdb

# What is staged as JSON, on disk, before DuckDB turns it into one Parquet file for each day in it.
STAGED_BYTES_MAX: Final = 512 * 1024 * 1024
# How much text a row group holds, about; DuckDB keeps one in memory. Groups of fewer rows than DuckDB's vectors gain
# nothing.
_GROUP_BYTES: Final = 16 * 1024 * 1024
_GROUP_ROWS: Final = range(2048, 122_880 + 1)
# A segment with rows of more days than this at once is written in more files.
_DAYS_MAX: Final = 32
_STAGED_SLACK_BYTES: Final = 1 << 20


# `l` the line or `t` a torn one in base64; a row that any reader reads alike has `r`, another one `v`, how to read it.
_STAGED: Final = "{l: 'VARCHAR', t: 'VARCHAR', v: 'VARCHAR', r: 'BOOLEAN'}"


@dataclass(slots=True)
class _Staged:
    path: Path
    file: IO[bytes]
    lines: int = 0
    size_bytes: int = 0
    longest_bytes: int = 0

    def add(self, text: bytes) -> None:
        self.file.write(text + b"\n")
        self.lines += 1
        self.size_bytes += len(text)
        self.longest_bytes = max(self.longest_bytes, len(text))

    @property
    def group_rows(self) -> int:
        rows = _GROUP_BYTES * self.lines // self.size_bytes
        return min(max(rows, _GROUP_ROWS.start), _GROUP_ROWS.stop - 1)


class ParquetWriter:
    """Writes one segment's lines below ``folder``, under the names that they get in the archive; a context manager."""

    def __init__(self, folder: Path, segment: str, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._folder = folder
        self._segment = segment
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._staged: dict[str, _Staged] = {}
        self._staged_bytes = 0
        self.files: list[ParquetFile] = []
        self.tally = ContentTally()
        """Of the lines handed in."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for staged in self._staged.values():
            staged.file.close()
        if self._connection is not None:
            self._connection.close()

    def add(self, line: bytes) -> None:
        """Takes one line that is not blank, torn ones too. Raises OSError, duckdb.Error."""
        staged: dict[str, object]
        torn = False
        try:
            row = read_row_line(line)
            day, staged = day_of(row.timestamp), {"l": line.decode()}
            if row.text is line:
                staged["r"] = True
            else:
                staged["v"] = row.text.decode()
        except RowBreach as breach:
            torn = breach.kind == "torn"
            day = day_of(None if torn else timestamp_of(line))
            staged = {"t": base64.b64encode(line).decode()} if torn else {"l": line.decode()}
        self.tally.add(line, torn=torn)
        if day not in self._staged:
            path = self._folder / f"staged-{day}.ndjson"
            self._staged[day] = _Staged(path, path.open("wb"))
        self._staged[day].add(orjson.dumps(staged))
        self._staged_bytes += len(line)
        if self._staged_bytes >= STAGED_BYTES_MAX or len(self._staged) > _DAYS_MAX:
            self.flush()

    def flush(self) -> None:
        """Writes what is staged. Raises OSError, duckdb.Error."""
        for day, staged in sorted(self._staged.items()):
            staged.file.close()
            self._write(day, staged)
        self._staged.clear()
        self._staged_bytes = 0

    def _write(self, day: str, staged: _Staged) -> None:
        name = parquet_name(day, self._segment, len(self.files))
        target = self._folder / name
        target.parent.mkdir(exist_ok=True)
        source = (
            "SELECT l AS line, from_base64(t) AS torn, v AS reading,"
            " CAST(CASE WHEN r THEN l ELSE v END AS JSON) AS valid FROM"
            f" read_json({quoted(staged.path)}, columns = {_STAGED}, format = 'newline_delimited',"
            # DuckDB allocates several times this for each thread.
            f" maximum_object_size = {staged.longest_bytes + _STAGED_SLACK_BYTES})"
        )
        self._connected().execute(
            f"COPY ({facts_from_lines(source, 'valid')}) TO {quoted(target)}"
            f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {staged.group_rows})"
        )
        staged.path.unlink()
        target.chmod(FILE_MODE)
        with target.open("rb") as file:
            os.fsync(file.fileno())
            self.files.append(ParquetFile(name, staged.lines, os.fstat(file.fileno()).st_size))

    def read_back(self) -> ContentTally:
        """The tally of what the written files hold, and of each file's number of lines in passing.

        Raises OSError, duckdb.Error, ValueError when a file has another number of lines than was written.
        """
        tally = ContentTally()
        for file in self.files:
            before = tally.lines
            for line, torn in stored_lines(self._connected(), [self._folder / file.path]):
                tally.add(line, torn=torn)
            if tally.lines - before != file.lines:
                raise ValueError(f"{file.path} holds {tally.lines - before} lines and not {file.lines}")
        return tally

    def _connected(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = connect_bare(self._folder / "spill", memory_bytes=self._memory_bytes)
        return self._connection
