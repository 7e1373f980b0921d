"""Has the log a row of this session already? Asked by the sweep before it writes one.

Searched is all that may hold a row appended after a position: the live file from the position on, the rotated and
claimed files, compressed or not, and the Parquet that a compaction has committed since the session began. Places are
looked at in the order in which rows move, until a look shows nothing new: so a search and a compaction need no lock
against one another, and a row that moves on meanwhile is found where it went. Files rotated into another folder are not
found. What could not be read to its end might hold the row: the answer is then "not known", and never "no".
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lakehouse.sessions.record import SCHEMA, SessionRecord, parse_rfc3339
from lakehouse.sessions.row_reading import RowBreach, decode_row
from lakehouse.sessions.store.append import LogPosition, head_of
from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError
from lakehouse.sessions.store.days import reading, segment_files
from lakehouse.sessions.store.disk import identity_of, open_to_read
from lakehouse.sessions.store.lines import SegmentDamagedError, read_lines
from lakehouse.sessions.store.log_files import FoundFile, LogFiles, list_log_files
from lakehouse.sessions.store.parquet_rows import lines_of_sessions
from lakehouse.sessions.store.segments import Segment, segment_of

# A file last written so long before a session began holds no row of it. A minute is for clocks that were set back.
_MTIME_SLACK_S: Final = 60.0
# The wall clock at a session's beginning against its end less its monotonic duration.
_CLOCK_SLACK_US: Final = 1_000_000
_LISTINGS_MAX: Final = 16
_ROW_START: Final = f'{{"schema":"{SCHEMA}","session_id":"'.encode()


class ScanIncompleteError(Exception):
    """The log could not be searched whole now; ask again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoughtSession:
    """What distinguishes a session's row from all others, those of a caller's second try with the same ids among
    them."""

    known: SessionRecord
    """The end, where the journal holds it: that very row. Otherwise the beginning with the attempts known
    (the disk did not take the end): the row then has the same request, began when it did, and starts with these
    attempts."""
    ended: bool
    position: LogPosition
    begun_unix_us: int
    clock_set_back: bool = False
    """The wall clock has been set back since the session began: how old a file is says nothing."""

    def is_written_as(self, row: SessionRecord) -> bool:
        known = self.known
        if (row.session_id, row.trace_id) != (known.session_id, known.trace_id):
            return False
        if self.ended:
            return row == known
        try:
            began_unix_us = parse_rfc3339(row.timestamp) - row.duration_ms * 1000
        except ValueError:
            return False
        return (
            abs(began_unix_us - self.begun_unix_us) <= _CLOCK_SLACK_US
            and (row.kind, row.provider, row.model, row.prompt, row.spec)
            == (known.kind, known.provider, known.model, known.prompt, known.spec)
            and row.attempts[: len(known.attempts)] == known.attempts
        )

    def may_be_since(self, unix_s: float) -> bool:
        """Return False where what was written at that time was written before the session began."""
        return self.clock_set_back or unix_s >= self.begun_unix_us / 1e6 - _MTIME_SLACK_S

    def may_stand_in(self, file: FoundFile) -> bool:
        return (
            file.live
            or self.may_be_since(file.status.st_mtime)
            or file.identity == (self.position.device, self.position.inode)
        )


@dataclass(slots=True)
class SearchResult:
    """Indexes of the sessions that were sought; those in neither have no row."""

    written: set[int] = field(default_factory=set)
    """They have a whole row."""
    unknown: dict[int, str] = field(default_factory=dict)
    """A file that may hold their row could not be read to its end; the sentence names it."""


def find_written(log_path: str, sought: Sequence[SoughtSession], stop: threading.Event | None = None) -> SearchResult:
    """Search the log for the rows of sessions whose owner is dead: otherwise rows may appear behind the search.

    Raises ScanIncompleteError when ``stop`` is set, or when the folder cannot be listed.
    """
    search = _Search(log_path, sought, stop)
    # A file may be rotated or compressed between listing and opening: list until nothing new turns up.
    for _ in range(_LISTINGS_MAX):
        try:
            listing = list_log_files(Path(log_path))
        except OSError as error:
            raise ScanIncompleteError(f"the log's folder cannot be listed: {error.strerror}") from error
        if not (search.run(listing) or search.run_archive(listing.committed)):
            return search.result(listing)
    raise ScanIncompleteError("the log was rotated faster than it could be searched")


class _Search:
    def __init__(self, log_path: str, sought: Sequence[SoughtSession], stop: threading.Event | None) -> None:
        self._archive = Archive(Path(log_path))
        self._sought = sought
        self._stop = stop
        self._found: set[int] = set()
        self._problems: dict[tuple[int, ...], str | None] = {}
        """By version of the file; None for one that was read to its end."""
        self._archive_problems: dict[str, tuple[float, str | None]] = {}
        """By committed segment: when it was, and None for one that was read to its end."""

    def run(self, listing: LogFiles) -> bool:
        """Search what is new in a listing. False where nothing is."""
        readable = (*listing.files, *(file for file in listing.doubles if file.compression != "other"))
        fresh = [file for file in readable if _version(file) not in self._problems]
        for file in fresh:
            try:
                self._search(file)
                self._problems[_version(file)] = None
            except FileNotFoundError:
                continue  # gone or replaced since it was listed: the next listing shows what became of it
            except (OSError, SegmentDamagedError) as error:
                self._problems[_version(file)] = str(error)
        return bool(fresh)

    def run_archive(self, committed: frozenset[str]) -> bool:
        """Search the segments that a listing shows for the first time. False where none is."""
        fresh = [segment for segment in sorted(committed) if segment not in self._archive_problems]
        for segment in fresh:
            if self._stop is not None and self._stop.is_set():
                raise ScanIncompleteError("stopped")
            committed_unix_s, problem = float("inf"), None
            try:
                committed_unix_s = self._archive.committed_unix_s(segment)
                self._search_segment(segment, committed_unix_s)
            except (OSError, ArchiveDamagedError) as error:
                problem = str(error)
            self._archive_problems[segment] = (committed_unix_s, problem)
        return bool(fresh)

    def _search_segment(self, segment: str, committed_unix_s: float) -> None:
        """Add what one compacted segment holds. Raises ArchiveDamagedError, OSError."""
        wanted = self._committed_since(committed_unix_s)
        if not wanted:
            return
        ids = sorted({self._sought[index].known.session_id for index in wanted})
        with reading(self._archive):
            for line in lines_of_sessions(segment_files(self._archive, segment), ids):
                row = _decode(line)
                if row is not None:
                    self._found.update(index for index in wanted if self._sought[index].is_written_as(row))

    def _committed_since(self, committed_unix_s: float) -> list[int]:
        """Return the sessions, not yet found, whose row may stand in what was committed then."""
        return [
            index
            for index, session in enumerate(self._sought)
            if index not in self._found and session.may_be_since(committed_unix_s)
        ]

    def result(self, listing: LogFiles) -> SearchResult:
        """Return a double that is damaged leaves nothing open: its rows stand in the file that it doubles."""
        result = SearchResult(written=self._found)
        problems = [(file, self._problems[_version(file)]) for file in listing.files]
        problems += ((file, f"{file.path} is compressed in a way that is not read here") for file in listing.not_read)
        for file, problem in problems:
            if problem is not None:
                for index in self._candidates(file):
                    result.unknown.setdefault(index, problem)
        for segment in listing.committed:
            committed_unix_s, problem = self._archive_problems[segment]
            if problem is not None:
                for index in self._committed_since(committed_unix_s):
                    result.unknown.setdefault(index, problem)
        return result

    def _candidates(self, file: FoundFile) -> list[int]:
        return [
            index
            for index, session in enumerate(self._sought)
            if index not in self._found and session.may_stand_in(file)
        ]

    def _search(self, file: FoundFile) -> None:
        """Add what one file holds. Raises FileNotFoundError when another file stands there now, SegmentDamagedError,
        OSError, ScanIncompleteError."""
        candidates = self._candidates(file)
        if not candidates:
            return
        fd = open_to_read(file.path)
        try:
            segment = segment_of(file.path, fd, file.compression, live=file.live)
            if segment.identity != file.identity:
                raise FileNotFoundError
            head = head_of(fd)
            starts = {index: _start(self._sought[index].position, segment, head) for index in candidates}
            wanted: dict[bytes, list[int]] = {}
            for index in candidates:
                wanted.setdefault(self._sought[index].known.session_id.encode(), []).append(index)
            for line in read_lines(segment, start=min(starts.values())):
                if self._stop is not None and self._stop.is_set():
                    raise ScanIncompleteError("stopped")
                if not line.data.startswith(_ROW_START):
                    continue
                name = line.data[len(_ROW_START) : line.data.find(b'"', len(_ROW_START))]
                asked = [index for index in wanted.get(name, ()) if line.offset >= starts[index]]
                row = _decode(line.data) if asked else None
                if row is not None:
                    self._found.update(index for index in asked if self._sought[index].is_written_as(row))
        finally:
            os.close(fd)


def _start(position: LogPosition, segment: Segment, head: str) -> int:
    """Where to start: at the log's end when the session began, if this is that file, plain and untruncated since."""
    same = (position.device, position.inode) == segment.identity and position.head == head != "-"
    return position.size if same and segment.compression == "none" and position.size <= segment.size_bytes else 0


def _version(file: FoundFile) -> tuple[int, ...]:
    """Return what must change before another search finds more: a file that is being compressed or decompressed grows.
    The live one grows by rows of others alone."""
    if file.live:
        return file.identity
    return (*identity_of(file.status), file.status.st_size, file.status.st_mtime_ns)


def _decode(line: bytes) -> SessionRecord | None:
    try:
        return decode_row(line)
    except RowBreach:
        return None  # torn, so its session has no row yet
