"""Lines to Parquet and back: every line's exact bytes, and the columns of ``facts`` beside them."""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import orjson

from lakehouse.sessions.query.views import facts_from_lines
from lakehouse.sessions.store.archive import ParquetFile, parquet_name
from lakehouse.sessions.store.disk import FILE_MODE
from lakehouse.sessions.store.parquet_rows import connect_bare, quoted, stored_lines
from lakehouse.sessions.upkeep.content import ContentTally, day_of, parse_line

if TYPE_CHECKING:
    import duckdb

# What is staged as JSON before DuckDB turns it into one Parquet file for each day in it: this bounds the memory of a
# row group, whatever the rows' size.
STAGED_BYTES_MAX: Final = 128 * 1024 * 1024
# A segment with rows of more days than this at once is written in more files.
_DAYS_MAX: Final = 32
_STAGED_SLACK_BYTES: Final = 1 << 20


class ParquetWriter:
    """Writes one segment's lines below ``folder``, under the names that they get in the archive; a context manager."""

    def __init__(self, folder: Path, segment: str) -> None:
        self._folder = folder
        self._segment = segment
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._staged: dict[str, list[bytes]] = {}
        self._staged_bytes = 0
        self.files: list[ParquetFile] = []
        self.tally = ContentTally()
        """Of the lines handed in."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def add(self, line: bytes) -> None:
        """Takes one line that is not blank, torn ones too. Raises OSError, duckdb.Error."""
        try:
            value = parse_line(line)
            day, staged, torn = day_of(value), {"l": line.decode()}, False
        except ValueError:
            day, staged, torn = day_of(None), {"t": base64.b64encode(line).decode()}, True
        self.tally.add(line, torn=torn)
        self._staged.setdefault(day, []).append(orjson.dumps(staged))
        self._staged_bytes += len(line)
        if self._staged_bytes >= STAGED_BYTES_MAX or len(self._staged) > _DAYS_MAX:
            self.flush()

    def flush(self) -> None:
        """Writes what is staged. Raises OSError, duckdb.Error."""
        for day, rows in sorted(self._staged.items()):
            self._write(day, rows)
        self._staged.clear()
        self._staged_bytes = 0

    def _write(self, day: str, rows: list[bytes]) -> None:
        staging = self._folder / "staged.ndjson"
        with staging.open("wb") as file:
            file.writelines(b"%b\n" % row for row in rows)
        name = parquet_name(day, self._segment, len(self.files))
        target = self._folder / name
        target.parent.mkdir(exist_ok=True)
        source = (
            "SELECT l AS line, from_base64(t) AS torn, CASE WHEN json_valid(l) THEN CAST(l AS JSON) END AS valid FROM"
            f" read_json({quoted(staging)}, columns = {{l: 'VARCHAR', t: 'VARCHAR'}}, format = 'newline_delimited',"
            # DuckDB allocates several times this for each thread.
            f" maximum_object_size = {max(map(len, rows)) + _STAGED_SLACK_BYTES})"
        )
        self._connected().execute(
            f"COPY ({facts_from_lines(source, 'valid')}) TO {quoted(target)} (FORMAT parquet, COMPRESSION zstd)"
        )
        staging.unlink()
        target.chmod(FILE_MODE)
        with target.open("rb") as file:
            os.fsync(file.fileno())
            self.files.append(ParquetFile(name, len(rows), os.fstat(file.fileno()).st_size))

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
            self._connection = connect_bare(self._folder / "spill")
        return self._connection
