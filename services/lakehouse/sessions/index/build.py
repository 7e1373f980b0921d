"""Makes the index and keeps it up to date, a piece of the log at a time, newest rows first, in bounded memory.

What is appended to the live file comes first in every turn; then the files that are not covered yet, the newest one
first, and plain ones from their ends backwards: what is asked for again was mostly asked for just now. A plain file is
left behind where a long run of rows is older than ``recall_hours``: rows stand in the order in which they were
appended, and what was appended before that ended before it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson

from lakehouse.sessions.index.compacted import head_of_segment, lines_of_segment, recent_segments
from lakehouse.sessions.index.store import CoveredText, Place, RowIndex
from lakehouse.sessions.index.texts import head_hash, tail_hash, version_of
from lakehouse.sessions.record import SCHEMA, parse_rfc3339
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.row_reading import RowBreach
from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError
from lakehouse.sessions.store.disk import open_to_read
from lakehouse.sessions.store.lines import SegmentDamagedError, read_lines
from lakehouse.sessions.store.log_files import FoundFile, list_log_files
from lakehouse.sessions.store.segments import Segment, segment_of

_PIECE_BYTES: Final = 16 * 1024 * 1024
_ROWS_MAX: Final = 20_000
"""Of a compressed file, in one transaction."""
CLOCK_SLACK_S: Final = 60.0
# A sweep appends rows of earlier ends; so many of them in a row are not of a sweep.
_OLDER_ROWS: Final = 10_000
_KEEP_EVERY_S: Final = 600.0
# A timestamp that cannot be read counts as of now, whenever it is asked.
_ALWAYS_US: Final = 2**62


class IndexBuilder:
    """One turn after the other, by one process."""

    def __init__(
        self, log_path: Path, index: RowIndex, *, recall_hours: float, unix_s: Callable[[], float] = time.time
    ) -> None:
        self._log_path = log_path
        self._archive = Archive(log_path)
        self._index = index
        self._recall_s = recall_hours * 3600
        self._unix_s = unix_s
        self._older_run: dict[bytes, int] = {}
        self._done: set[str] = set()
        """Files to which nothing is appended, and that are covered, too short or damaged."""
        self._kept_at = unix_s()
        self._heads: dict[str, bytes | None] = {}
        """Of plain files, as they were last seen, by identity."""

    def turn(self) -> bool:
        """Cover one piece more, and what the live file has got meanwhile. False where nothing is left to do.

        Raises OSError, IndexDamagedError.
        """
        since_s = self._unix_s() - self._recall_s - CLOCK_SLACK_S
        listing = list_log_files(self._log_path)
        files = [each for each in listing.files if each.live or each.status.st_mtime >= since_s]
        files.sort(key=lambda file: (file.live, file.status.st_mtime), reverse=True)
        if self._unix_s() - self._kept_at > _KEEP_EVERY_S:
            self._keep(files, list(recent_segments(self._archive, listing.committed, since_s)))
        worked = False
        for file in files:
            try:
                did = self._cover(file, int(since_s * 1e6))
            except FileNotFoundError:
                return True  # rotated meanwhile: list again
            if did and not file.live:
                return True
            if not did and not file.live:
                self._done.add(version_of(file))
            worked = worked or did
        return worked or self._cover_a_segment(listing.committed, since_s)

    def _cover(self, file: FoundFile, since_us: int) -> bool:
        """Cover one piece of one file. False where it is covered. Raises FileNotFoundError, OSError."""
        version = version_of(file)
        if version in self._done:
            return False
        if file.compression != "none" and self._index.head_of_compressed(version) is not None:
            return False
        fd = open_to_read(file.path)
        try:
            segment = segment_of(file.path, fd, file.compression, live=file.live)
            if segment.identity != file.identity:
                raise FileNotFoundError(file.path)
            head = head_hash(segment)
            self._heads[f"{segment.identity[0]}:{segment.identity[1]}"] = head
            if head is None:
                return False
            if file.compression == "none":
                return self._cover_plain(segment, head, since_us)
            self._cover_compressed(segment, head, version)
        except SegmentDamagedError:
            return False  # who asks for what may stand there is not answered until it is mended
        else:
            return True
        finally:
            os.close(fd)

    def _cover_plain(self, segment: Segment, head: bytes, since_us: int) -> bool:
        text = self._index.text(head)
        source = f"{segment.identity[0]}:{segment.identity[1]}"
        if text is not None and (text.end > segment.size_bytes or tail_hash(segment, text.end) != text.tail):
            if text.source != source and self._heads.get(text.source) == head:
                return False  # a copy of what is covered, or of a part of it
            self._index.forget_text(head)
            text = None
        if text is None:
            end = _line_start(segment, segment.size_bytes)
            if end == 0:
                return False
            number = self._index.new_number()
            text = CoveredText(
                number=number,
                head=head,
                begin=end,
                end=end,
                tail=tail_hash(segment, end),
                since_unix_us=_ALWAYS_US,
                source=source,
            )
        elif text.source != source:
            text = replace(text, source=source)
        return self._extend(segment, text) or self._go_back(segment, text, since_us)

    def _extend(self, segment: Segment, text: CoveredText) -> bool:
        end = _line_start(segment, min(segment.size_bytes, text.end + _PIECE_BYTES))
        if end <= text.end and segment.size_bytes > text.end + _PIECE_BYTES:
            end = _line_start(segment, segment.size_bytes)  # a line that is longer than a piece
        if end <= text.end:
            return False
        places = _places(segment, text.end, end)
        self._index.add(replace(text, end=end, tail=tail_hash(segment, end)), places)
        return True

    def _go_back(self, segment: Segment, text: CoveredText, since_us: int) -> bool:
        if text.covers_since(since_us):
            return False
        size = _PIECE_BYTES
        while True:
            start = max(0, text.begin - size)
            begin = 0 if start == 0 else _next_line(segment, start, text.begin)
            if begin < text.begin:
                break
            size *= 2  # a line that is longer than a piece
        places = list(_places(segment, begin, text.begin))
        run = self._older_run.get(text.head, 0) + len(places)
        # Rows that are too old before the first one that is not.
        run = next((number for number, each in enumerate(places) if each.ended_unix_us >= since_us), run)
        self._older_run[text.head] = run
        reached = since_us if begin > 0 and run >= _OLDER_ROWS else text.since_unix_us
        self._index.add(replace(text, begin=begin, since_unix_us=reached), places)
        return True

    def _cover_compressed(self, segment: Segment, head: bytes, version: str) -> None:
        """Cover the whole file, with the rows that may be asked for again. Raises SegmentDamagedError, OSError."""
        known = self._index.text(head)
        number = known.number if known is not None else self._index.new_number()
        text = known or CoveredText(
            number=number, head=head, begin=0, end=0, tail=b"", since_unix_us=_ALWAYS_US, source=version
        )
        end = self._add_whole(text, ((line.offset, line.data) for line in read_lines(segment)))
        self._index.add(replace(text, begin=0, end=max(end, text.end)), ())
        self._index.note_compressed(version, head)

    def _cover_a_segment(self, committed: frozenset[str], since_s: float) -> bool:
        """Cover a segment that was compacted while its sessions are recalled. False where none is left. Raises
        OSError."""
        for segment in recent_segments(self._archive, committed, since_s):
            head = head_of_segment(segment)
            if segment in self._done or self._index.text(head) is not None:
                continue
            text = CoveredText(
                number=self._index.new_number(),
                head=head,
                begin=_ALWAYS_US,  # nothing, until it is read whole
                end=_ALWAYS_US,
                tail=b"",
                since_unix_us=_ALWAYS_US,
                source=segment,
            )
            try:
                self._add_whole(text, enumerate(lines_of_segment(self._archive, segment)))
            except (ArchiveDamagedError, OSError):
                self._index.forget_text(head)
                self._done.add(segment)  # as for a damaged file
                continue
            self._index.add(replace(text, begin=0, end=0), ())
            return True
        return False

    def _add_whole(self, text: CoveredText, numbered: Iterable[tuple[int, bytes]]) -> int:
        """Note every row, and hold those that may be asked for again; `text` is not covered by that. Returns where the
        last line ends."""
        places: list[Place] = []
        lines: list[tuple[int, bytes]] = []
        end = held_bytes = 0
        for offset, line in numbered:
            end = offset + len(line) + 1
            place = _place(line, offset)
            if place is None:
                continue
            places.append(place)
            if b'"request_digest":' in line:
                lines.append((offset, line))
                held_bytes += len(line)
            if len(places) >= _ROWS_MAX or held_bytes > _PIECE_BYTES:
                self._index.add(text, places, lines)
                places, lines, held_bytes = [], [], 0
        self._index.add(text, places, lines)
        return end

    def _keep(self, files: list[FoundFile], segments: list[str]) -> None:
        """Forget what is too old."""
        self._kept_at = self._unix_s()
        heads: list[bytes] = [head_of_segment(segment) for segment in segments]
        for file in files:
            known = self._index.head_of_compressed(version_of(file))
            if known is None:
                try:
                    fd = open_to_read(file.path)
                except OSError:
                    return
                try:
                    known = head_hash(segment_of(file.path, fd, file.compression))
                except (OSError, SegmentDamagedError):
                    return
                finally:
                    os.close(fd)
            if known is not None:
                heads.append(known)
        versions = [version_of(file) for file in files]
        self._index.keep_texts(heads, versions)
        self._done.intersection_update((*versions, *segments))
        self._heads = {source: head for source, head in self._heads.items() if head in heads}
        self._older_run = {head: run for head, run in self._older_run.items() if head in heads}


def _places(segment: Segment, start: int, end: int) -> Iterator[Place]:
    """Yield the places of the rows of a plain segment between two beginnings of lines."""
    offset = start
    for line in os.pread(segment.fd, end - start, start).split(b"\n"):
        place = _place(line, offset)
        if place is not None:
            yield place
        offset += len(line) + 1


_SCHEMA_BYTES: Final = SCHEMA.encode()


def _place(line: bytes, offset: int) -> Place | None:
    """Read a line; None for one that is no row. What is no row by its keys alone may be taken for one: who
    reads it sees that."""
    if not line.endswith(b"}") or _SCHEMA_BYTES not in line:
        return None
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            row = orjson.loads(read_row_line(line).text)  # a lone surrogate
        except RowBreach:
            return None
    if not isinstance(row, dict) or row.get("schema") != SCHEMA:
        return None
    session_id, try_number = row.get("session_id"), row.get("try", 1)
    if not isinstance(session_id, str) or type(try_number) is not int or not 0 < try_number < 2**63:
        return None
    try:
        ended_us = parse_rfc3339(row["timestamp"])
    except (KeyError, TypeError, ValueError, OverflowError):
        ended_us = _ALWAYS_US
    return Place(session_id, offset, len(line), try_number, ended_us)


def _line_start(segment: Segment, end: int) -> int:
    """Behind the last LF before `end`; 0 where there is none."""
    size = 1 << 16
    while end > 0:
        start = max(0, end - size)
        at = os.pread(segment.fd, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
        size = min(2 * size, _PIECE_BYTES)
    return 0


def _next_line(segment: Segment, start: int, end: int) -> int:
    """Behind the first LF from `start` on; `end` where there is none before it."""
    while start < end:
        data = os.pread(segment.fd, min(1 << 16, end - start), start)
        if not data:
            return end
        at = data.find(b"\n")
        if at >= 0:
            return start + at + 1
        start += len(data)
    return end
