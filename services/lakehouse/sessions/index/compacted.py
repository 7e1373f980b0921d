"""Segments that a compaction with shorter `recall_hours` has moved to Parquet: covered like files, row by row.

Whoever publishes a table every minute compacts every minute; without this each look would read all of that Parquet.
"""

# ruff: noqa: S608 - the texts put into SQL are quoted file names
from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.days import reading, segment_files
from lakehouse.sessions.store.parquet_rows import connect_bare, lines_of_sessions, quoted

_FETCH_ROWS: Final = 512
_DUCKDB_BYTES: Final = 64 * 1024**2


def head_of_segment(segment: str) -> bytes:
    """Return what stands for a segment where a file has the hash of its head."""
    return hashlib.sha256(f"segment {segment}".encode()).digest()[:16]


def recent_segments(archive: Archive, committed: frozenset[str], since_s: float) -> Iterator[str]:
    """Yield the segments that were committed since then. Raises OSError."""
    for segment in sorted(committed):
        if archive.committed_unix_s(segment) >= since_s:
            yield segment


def lines_of_segment(archive: Archive, segment: str) -> Iterator[bytes]:
    """Yield the lines of a segment, and of those that it is merged with. Raises ArchiveDamagedError, OSError."""
    import duckdb  # noqa: PLC0415  80 ms and 50 MB, for the few who compact so early

    with reading(archive):
        files = ", ".join(map(quoted, segment_files(archive, segment)))
        if not files:
            return
        try:
            with connect_bare(archive.building / "spill", memory_bytes=_DUCKDB_BYTES) as connection:
                result = connection.execute(
                    f"SELECT line FROM read_parquet([{files}], hive_partitioning = false) WHERE line IS NOT NULL"
                )
                while rows := result.fetchmany(_FETCH_ROWS):
                    for (line,) in rows:
                        yield line.encode()
        except duckdb.Error as error:
            raise OSError(f"the Parquet files beside the log cannot be read: {error}") from error


def lines_in_segment(archive: Archive, segment: str, session_id: str) -> Iterator[bytes]:
    """Yield the lines of one id. Raises ArchiveDamagedError, OSError."""
    with reading(archive):
        yield from lines_of_sessions(segment_files(archive, segment), [session_id])
