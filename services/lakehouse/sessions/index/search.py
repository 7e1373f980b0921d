"""The last row of a session id, out of the index and of what it does not cover yet.

"Not there" is said only where all that may hold such a row was covered or searched. Rows move while one looks: a look
counts only between two equal listings of the log, as for ``segments.open_snapshot``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lakehouse.sessions.index.build import CLOCK_SLACK_S
from lakehouse.sessions.index.compacted import head_of_segment, lines_in_segment, recent_segments
from lakehouse.sessions.index.store import FoundPlace, IndexDamagedError, RowIndex, index_folder
from lakehouse.sessions.index.texts import has_text_bytes, head_hash, tail_hash, version_of
from lakehouse.sessions.record import SessionRecord, parse_rfc3339
from lakehouse.sessions.row_reading import RowBreach, decode_row
from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError
from lakehouse.sessions.store.disk import open_to_read
from lakehouse.sessions.store.lines import DAMAGES, SegmentDamagedError, open_text, read_lines
from lakehouse.sessions.store.log_files import FoundFile, LogFiles, list_log_files
from lakehouse.sessions.store.segments import Segment, segment_of

SEARCHED_BYTES_MAX: Final = 8 * 1024 * 1024
"""What is searched directly of what the index does not cover, in all."""
# What a compressed byte becomes at most, for rows.
_COMPRESSION: Final = 16
_PIECE_BYTES: Final = 1024 * 1024
# Each is a query of DuckDB's.
_SEGMENTS_MAX: Final = 4
_LISTINGS_MAX: Final = 16
_HEADS_MAX: Final = 4096


class NotSearchedError(Exception):
    """A row of this id may stand where nobody has looked yet, or nobody can; the message says where."""


@dataclass(slots=True)
class _Look:
    """What one look at the log found."""

    rows: list[SessionRecord] = field(default_factory=list)
    unread: str = ""
    """What may hold a row and was not searched; empty where nothing."""
    uncovered_bytes: int = 0


class LogSearch:
    """Searches one log; of one thread, which owns its connection to the index."""

    def __init__(self, log_path: str) -> None:
        self._log_path = Path(log_path)
        self._folder = index_folder(log_path)
        self._archive = Archive(self._log_path)
        self._index: RowIndex | None = None
        self._heads: dict[str, bytes | None] = {}
        """Of compressed files, by version."""
        self.uncovered_bytes = 0
        """What the last search found that the index does not cover."""

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None

    def last_row(
        self, session_id: str, since_unix_us: int, *, given_up: Callable[[], bool] = lambda: False
    ) -> SessionRecord | None:
        """Return the row of this id's last try, of those that ended since then; None where there is none.

        Raises NotSearchedError where that is not known, or `given_up` says so; OSError.
        """
        for _ in range(_LISTINGS_MAX):
            listing = list_log_files(self._log_path)
            try:
                look = self._look(listing, session_id, since_unix_us, given_up)
            except FileNotFoundError:
                continue  # renamed since it was listed
            self.uncovered_bytes = look.uncovered_bytes
            found = max(look.rows, key=lambda row: (row.try_number, row.timestamp), default=None)
            # An outcome is the last row of its id; behind anything else there may be another one.
            if found is not None and found.final_verdict != "infra_error":
                return found
            if list_log_files(self._log_path) != listing:
                continue
            if look.unread:
                raise NotSearchedError(look.unread)
            return found
        raise NotSearchedError("the log was rotated faster than it could be searched")

    def _look(self, listing: LogFiles, session_id: str, since_us: int, given_up: Callable[[], bool]) -> _Look:
        look = _Look()
        since_s = since_us / 1e6 - CLOCK_SLACK_S
        files = [file for file in listing.files if file.live or file.status.st_mtime >= since_s]
        files.sort(key=lambda file: (file.live, file.status.st_mtime), reverse=True)
        index = self._opened()
        left = SEARCHED_BYTES_MAX
        standing: dict[bytes, FoundFile] = {}
        for file in files:
            with _opened(file) as segment:
                try:
                    head = self._head(file, segment)
                    start = self._searched_from(index, file, segment, head, since_us)
                    if head is not None:
                        standing[head] = file
                    size = max(0, segment.size_bytes - start) * (1 if file.compression == "none" else _COMPRESSION)
                    if start < 0 or not size:
                        continue
                    look.uncovered_bytes += size
                    if size > left or given_up():
                        look.unread = f"the index does not cover {file.path} yet"
                        continue
                    left -= size
                    look.rows += _rows_within(segment, start, session_id, since_us)
                except SegmentDamagedError as error:
                    look.unread = str(error)
        for file in listing.not_read:
            if file.status.st_mtime >= since_s:
                look.unread = f"{file.path} is compressed in a way that is not read here"
        if index is not None:
            try:
                places = index.places(session_id, since_us)
            except IndexDamagedError:
                self.close()
                places, look.unread = [], look.unread or "the index cannot be read"
            for place in places:
                row = self._row_at(place, standing.get(place.head), listing.committed)
                if row is not None and row.session_id == session_id:
                    look.rows.append(row)
                    break
        self._add_compacted(look, index, listing.committed, session_id, since_us)
        return look

    def _opened(self) -> RowIndex | None:
        if self._index is not None and not self._index.is_in_place:
            self.close()
        if self._index is None:
            try:
                self._index = RowIndex.open_to_read(self._folder)
            except IndexDamagedError:
                self._index = None
        return self._index

    def _head(self, file: FoundFile, segment: Segment) -> bytes | None:
        if file.compression == "none":
            return head_hash(segment)
        version = version_of(file)
        if version not in self._heads:
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[version] = head_hash(segment)
        return self._heads[version]

    def _searched_from(
        self, index: RowIndex | None, file: FoundFile, segment: Segment, head: bytes | None, since_us: int
    ) -> int:
        """Where the part begins that the index does not cover; -1 where it covers all. Raises OSError."""
        if index is None or head is None:
            return 0
        try:
            text = index.text(head)
            if file.compression != "none":
                known = index.head_of_compressed(version_of(file)) is not None
                covered = text is not None and text.covers_since(since_us)
                return -1 if known or (covered and text and has_text_bytes(segment, text.end)) else 0
        except IndexDamagedError:
            self.close()
            return 0
        if text is None or not text.covers_since(since_us) or text.end > segment.size_bytes:
            return 0
        if tail_hash(segment, text.end) != text.tail:
            return 0
        return text.end if text.end < segment.size_bytes else -1

    def _add_compacted(
        self, look: _Look, index: RowIndex | None, committed: frozenset[str], session_id: str, since_us: int
    ) -> None:
        """Add rows that a compaction with shorter `recall_hours` has moved to Parquet, where the index lacks them."""
        left = _SEGMENTS_MAX
        try:
            for segment in recent_segments(self._archive, committed, since_us / 1e6 - CLOCK_SLACK_S):
                text = None if index is None else index.text(head_of_segment(segment))
                if text is not None and text.covers_since(since_us):
                    continue
                left -= 1
                look.uncovered_bytes += SEARCHED_BYTES_MAX
                if left < 0:
                    look.unread = f"the index does not cover segment {segment} yet"
                    return
                for line in lines_in_segment(self._archive, segment, session_id):
                    look.rows += _decoded(line, session_id, since_us)
        except (OSError, ArchiveDamagedError, IndexDamagedError) as error:
            look.unread = str(error)

    def _row_at(self, found: FoundPlace, file: FoundFile | None, committed: frozenset[str]) -> SessionRecord | None:
        """Return the row of a place; None where its file is gone, or no row stands there. Raises FileNotFoundError
        where it moved meanwhile, OSError."""
        line = found.line
        if line is None and file is not None:
            with _opened(file) as segment:
                line = _line_at(segment, found.place.offset, found.place.size_bytes)
        if line is None and file is None:
            for name in committed:
                if head_of_segment(name) == found.head:
                    return max(
                        (
                            row
                            for each in lines_in_segment(self._archive, name, found.place.session_id)
                            for row in _decoded(each, found.place.session_id, 0)
                        ),
                        key=lambda row: row.try_number,
                        default=None,
                    )
        if line is None:
            return None
        try:
            return decode_row(line)
        except RowBreach:
            return None


class _opened:  # noqa: N801  used as a function
    """The file, open. Raises FileNotFoundError where another one stands there now, OSError."""

    def __init__(self, file: FoundFile) -> None:
        self._file = file

    def __enter__(self) -> Segment:
        file = self._file
        self._fd = open_to_read(file.path)
        segment = segment_of(file.path, self._fd, file.compression, live=file.live)
        if segment.identity != file.identity:
            os.close(self._fd)
            raise FileNotFoundError(file.path)
        return segment

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _rows_within(segment: Segment, start: int, session_id: str, since_us: int) -> Iterator[SessionRecord]:
    """Yield the id's rows from `start` on. Raises SegmentDamagedError, OSError."""
    needle = f'"session_id":"{session_id}"'.encode()
    for line in read_lines(segment, start=start):
        if needle in line.data:
            yield from _decoded(line.data, session_id, since_us)


def _decoded(line: bytes, session_id: str, since_us: int) -> Iterator[SessionRecord]:
    try:
        row = decode_row(line)
        recent = parse_rfc3339(row.timestamp) >= since_us
    except RowBreach:
        return
    except (ValueError, OverflowError):
        recent = True
    if recent and row.session_id == session_id:
        yield row


def _line_at(segment: Segment, offset: int, size: int) -> bytes | None:
    if segment.compression == "none":
        return os.pread(segment.fd, size, offset)
    try:
        with closing(open_text(segment)) as text:
            while offset > 0:
                passed = len(text.read(min(offset, _PIECE_BYTES)))
                if not passed:
                    return None
                offset -= passed
            return text.read(size)
    except DAMAGES:
        return None
