"""A segment as DuckDB may read it: it finds the rows of ``read_row_line`` there, with what that reads in them."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from lakehouse.sessions.query.views import JsonSource
from lakehouse.sessions.row_lines import is_read_alike, read_row_line
from lakehouse.sessions.row_reading import RowBreach
from lakehouse.sessions.store.lines import Progress, SegmentDamagedError, read_lines
from lakehouse.sessions.store.names import LOG_EXTENSION
from lakehouse.sessions.store.segments import Segment


def source_of(segment: Segment, folder: Path, progress: Progress | None = None) -> JsonSource:
    """Return the segment's own file where every line of it is read alike, which takes one look at each line; else a
    copy of its rows alone, in ``folder``.

    A damaged segment is its own file: who reads it will find the damage. Raises OSError.
    """
    try:
        if all(not line.too_long and is_read_alike(line.data) for line in read_lines(segment, progress)):
            return JsonSource(segment.source, segment.compression)
        copy = folder / f"rows-{segment.identity[0]}-{segment.identity[1]}{LOG_EXTENSION}"
        with copy.open("wb") as file:
            _copy_rows(segment, file)
    except SegmentDamagedError:
        return JsonSource(segment.source, segment.compression)
    return JsonSource(str(copy), "none")


def _copy_rows(segment: Segment, file: IO[bytes]) -> None:
    for line in read_lines(segment):
        if line.too_long:
            continue
        try:
            file.write(read_row_line(line.data).text + b"\n")
        except RowBreach:
            continue
