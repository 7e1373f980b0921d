"""The whole rows of the sessions that fit, one after the other, wherever they stand."""

# ruff: noqa: S608 - the texts put into SQL are this module's own; values are parameters
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterator

from lakehouse.sessions.query.listing import Place, list_sessions, moment_of, place_of, summary_of
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.row_reading import RowBreach
from lakehouse.sessions.store.lines import Progress, SegmentDamagedError, read_lines


def fitting_rows(
    reader: SessionReader, wanted: SessionFilter, *, limit: int | None = None, progress: Progress | None = None
) -> Generator[bytes, None, None]:
    """Yield the lines, to the byte, of the sessions that fit; of the newest ``limit`` where one is given. Compacted
    ones come first, in no order. A damaged file gives what stands before the damage, and the reader warns of it.

    Raises QueryRefusedError, OSError.
    """
    chosen: Counter[Place] | None = None
    if limit is not None:
        chosen = Counter(place_of(session) for session in list_sessions(reader, wanted, limit=limit))
    for line in _lines(reader, wanted, progress):
        if not wanted.may_fit(line):
            continue
        try:
            row = json.loads(read_row_line(line).text)
        except RowBreach:
            continue
        if not wanted.fits(row, moment_of(row["timestamp"])):
            continue
        if chosen is not None:
            place = place_of(summary_of(row))
            if not chosen[place]:
                continue
            chosen[place] -= 1
        yield line


def _lines(reader: SessionReader, wanted: SessionFilter, progress: Progress | None) -> Iterator[bytes]:
    if reader.snapshot.parquet_files:
        where, parameters = wanted.where()
        _, rows = reader.query_archive(f"SELECT line FROM parquet_rows WHERE {where}", parameters)
        for (line,) in rows:
            yield line.encode()
    for segment in reader.snapshot.segments:
        try:
            for each in read_lines(segment, progress):
                yield each.data
        except SegmentDamagedError as error:
            reader.notice(str(error))
