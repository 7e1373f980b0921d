"""Rows out of the archive's Parquet files, in bounded memory."""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import duckdb

SPILL_BYTES_MAX: Final = 16 * 1024**3
# Enough for one row group of long rows.
MEMORY_BYTES: Final = 256 * 1024**2
_FETCH_ROWS: Final = 512


def connect_bare(
    spill_folder: str | os.PathLike[str], *, memory_bytes: int = MEMORY_BYTES
) -> duckdb.DuckDBPyConnection:
    """Return a connection without views, of one thread and ``memory_bytes``; what exceeds them goes to
    ``spill_folder``, which need not exist."""
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    return duckdb.connect(
        config={
            "memory_limit": f"{memory_bytes}B",
            "threads": "1",
            "temp_directory": os.fspath(spill_folder),
            "max_temp_directory_size": f"{SPILL_BYTES_MAX}B",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )


def stored_lines(connection: duckdb.DuckDBPyConnection, files: Iterable[Path]) -> Iterator[tuple[bytes, bool]]:
    """Yield (a line's exact bytes, whether it is torn) from Parquet files, in their order. Raises duckdb.Error."""
    for path in files:
        result = connection.execute(f"SELECT line, torn FROM read_parquet({quoted(path)}, hive_partitioning = false)")
        while rows := result.fetchmany(_FETCH_ROWS):
            for line, torn in rows:
                yield (torn, True) if line is None else (line.encode(), False)


def stored_segment_lines(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator[tuple[bytes, bool, str]]:
    """As ``stored_lines``, of one merged file, with each line's segment. Raises duckdb.Error."""
    result = connection.execute(
        f"SELECT line, torn, segment FROM read_parquet({quoted(path)}, hive_partitioning = false)"
    )
    while rows := result.fetchmany(_FETCH_ROWS):
        for line, torn, segment in rows:
            yield (torn, True, segment) if line is None else (line.encode(), False, segment)


def lines_of_sessions(files: Sequence[Path], session_ids: Sequence[str]) -> Iterator[bytes]:
    """Yield the lines of the rows with these session ids. Raises OSError where a file is missing or cannot be read."""
    import duckdb  # noqa: PLC0415  80 ms and 50 MB, for the few who ask

    if not files or not session_ids:
        return
    names = ", ".join(map(quoted, files))
    try:
        # Two columns of one table alone: nothing here needs to be spilled.
        with duckdb.connect(config={"memory_limit": f"{MEMORY_BYTES}B", "threads": "1"}) as connection:
            result = connection.execute(
                f"SELECT line FROM read_parquet([{names}], hive_partitioning = false)"
                " WHERE line IS NOT NULL AND session_id IN (SELECT unnest(?))",
                [list(session_ids)],
            )
            while rows := result.fetchmany(_FETCH_ROWS):
                for (line,) in rows:
                    yield line.encode()
    except duckdb.Error as error:
        raise OSError(f"the Parquet files beside the log cannot be read: {error}") from error


def quoted(path: str | os.PathLike[str]) -> str:
    """Return a path as an SQL text."""
    return "'" + os.fspath(path).replace("'", "''") + "'"
