"""Has the log a row of this session already? Asked by the sweep before it writes one.

Everything that a row appended after a position can stand in is searched: the live file from the position on, and the
rotated files beside it, plain, ``.gz`` or ``.zst``. Files rotated into another folder are not found.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Final, cast

import zstandard

from lakehouse.sessions.record import SCHEMA, SessionRecord
from lakehouse.sessions.row_reading import ROW_BYTES_MAX, RowBreach, decode_row
from lakehouse.sessions.store.append import LogPosition, folder_of, head_of

# A file last written so long before a session began holds no row of it. A minute is for clocks that were set back.
_MTIME_SLACK_S: Final = 60.0
# The wall clock at a session's beginning against its end less its monotonic duration.
_CLOCK_SLACK_US: Final = 1_000_000
# An archive that cannot be read and is younger than this may still be in the making.
_IN_THE_MAKING_S: Final = 600.0
_ARCHIVES: Final = (".gz", ".zst")
_ZSTD_BUFFER_BYTES: Final = 1 << 20
_LISTINGS_MAX: Final = 16
_ROW_START: Final = f'{{"schema":"{SCHEMA}","session_id":"'.encode()


class ScanIncompleteError(Exception):
    """The log could not be searched whole now; ask again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoughtSession:
    """What tells a session's row from all others, those of a caller's second try with the same ids among them."""

    known: SessionRecord
    """The end, where the journal holds it: that very row. Otherwise the beginning with the attempts known
    (the disk did not take the end): the row then has the same request, began when it did, and starts with these
    attempts."""
    ended: bool
    position: LogPosition
    begun_unix_us: int

    def is_told_by(self, row: SessionRecord) -> bool:
        known = self.known
        if (row.session_id, row.trace_id) != (known.session_id, known.trace_id):
            return False
        if self.ended:
            return row == known
        try:
            began_unix_us = unix_us(row.timestamp) - row.duration_ms * 1000
        except ValueError:
            return False
        return (
            abs(began_unix_us - self.begun_unix_us) <= _CLOCK_SLACK_US
            and (row.kind, row.provider, row.model, row.prompt, row.spec)
            == (known.kind, known.provider, known.model, known.prompt, known.spec)
            and row.attempts[: len(known.attempts)] == known.attempts
        )


@dataclass(frozen=True, slots=True)
class _Segment:
    path: str
    identity: tuple[int, int]
    searched_as: tuple[int, ...]
    """What must change before another search finds more. An archive that is still being written grows, and a reader
    of half a ``.zst`` sees no error; the live file grows by rows of others alone."""
    modified_unix_s: float


def find_written(log_path: str, sought: Sequence[SoughtSession], stop: threading.Event | None = None) -> set[int]:
    """Returns the indexes of the sessions that have a whole row already.

    The owner of these sessions must be dead, or rows may appear behind the search. Raises ScanIncompleteError when
    ``stop`` is set, when an archive is still being written, or when the folder cannot be read.
    """
    found: set[int] = set()
    searched: set[tuple[int, ...]] = set()
    wanted: dict[bytes, list[int]] = {}
    for index, session in enumerate(sought):
        wanted.setdefault(session.known.session_id.encode(), []).append(index)
    # A file may be rotated or compressed between listing and opening: list until nothing new turns up.
    for _ in range(_LISTINGS_MAX):
        fresh = [segment for segment in _list_segments(log_path) if segment.searched_as not in searched]
        if not fresh:
            return found
        for segment in fresh:
            if _may_hold(segment, log_path, sought) and not _search(segment, sought, wanted, found, stop):
                continue  # gone or replaced since it was listed: the next listing tells
            searched.add(segment.searched_as)
    raise ScanIncompleteError("the log was rotated faster than it could be searched")


def _list_segments(log_path: str) -> list[_Segment]:
    base = os.path.basename(log_path)  # noqa: PTH119  string work, no file
    stem, extension = os.path.splitext(base)  # noqa: PTH122  string work, no file
    segments = []
    try:
        with os.scandir(folder_of(log_path)) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or not name.startswith(stem) or extension not in name:
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode) and not name.endswith(".parquet"):
                    identity = (status.st_dev, status.st_ino)
                    archived = name.endswith(_ARCHIVES)
                    searched_as = (*identity, status.st_size, status.st_mtime_ns) if archived else identity
                    segments.append(_Segment(entry.path, identity, searched_as, status.st_mtime))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ScanIncompleteError(f"the log's folder cannot be read: {error.strerror}") from error
    return segments


def _may_hold(segment: _Segment, log_path: str, sought: Sequence[SoughtSession]) -> bool:
    live = os.path.basename(segment.path) == os.path.basename(log_path)  # noqa: PTH119  string work, no file
    return live or any(
        segment.modified_unix_s >= session.begun_unix_us / 1e6 - _MTIME_SLACK_S
        or segment.identity == (session.position.device, session.position.inode)
        for session in sought
    )


def _search(
    segment: _Segment,
    sought: Sequence[SoughtSession],
    wanted: dict[bytes, list[int]],
    found: set[int],
    stop: threading.Event | None,
) -> bool:
    """Adds what one file holds to ``found``. Returns False when another file stands there now."""
    try:
        file = open(segment.path, "rb")  # noqa: PTH123, SIM115  closed below; a Path would have to be made for it
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ScanIncompleteError(f"a segment of the log cannot be read: {error.strerror}") from error
    with file:
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != segment.identity:
            return False
        head = head_of(file.fileno())
        # Where to search for each session: from the log's end when it began, if this is that file, untruncated since.
        starts = [
            session.position.size
            if (session.position.device, session.position.inode) == segment.identity
            and session.position.head == head != "-"
            and session.position.size <= status.st_size
            else 0
            for session in sought
        ]
        try:
            for offset, line in _lines(segment, file, min(starts)):
                if stop is not None and stop.is_set():
                    raise ScanIncompleteError("stopped")
                if not line.startswith(_ROW_START):
                    continue
                name = line[len(_ROW_START) : line.find(b'"', len(_ROW_START))]
                asked = [index for index in wanted.get(name, ()) if index not in found and offset >= starts[index]]
                row = _decode(line) if asked else None
                if row is not None:
                    found.update(index for index in asked if sought[index].is_told_by(row))
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            if len(found) < len(sought) and time.time() - status.st_mtime < _IN_THE_MAKING_S:
                raise ScanIncompleteError(f"a segment of the log cannot be read yet: {error}") from error
    return True


def _lines(segment: _Segment, file: IO[bytes], start: int) -> Iterator[tuple[int, bytes]]:
    """Yields (offset, line without LF). A line beyond the bound is passed over: it is no row."""
    if segment.path.endswith(".gz"):
        source, offset = cast(IO[bytes], gzip.GzipFile(fileobj=file)), 0
    elif segment.path.endswith(".zst"):
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        source, offset = io.BufferedReader(cast(io.RawIOBase, reader), _ZSTD_BUFFER_BYTES), 0
    else:
        source, offset = file, start
        file.seek(start)
    with closing(source):
        while line := source.readline(ROW_BYTES_MAX):
            yield offset, line.removesuffix(b"\n")
            offset += len(line)


def _decode(line: bytes) -> SessionRecord | None:
    try:
        return decode_row(line)
    except RowBreach:
        return None  # torn, so its session has no row yet


def unix_us(timestamp: str) -> int:
    """Returns microseconds since 1970 of a row's timestamp. Raises ValueError."""
    moment = datetime.fromisoformat(timestamp)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
