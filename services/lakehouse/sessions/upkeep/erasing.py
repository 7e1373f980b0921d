"""What is to be erased, and JSONL files without it.

A row fits by its own keys, of whatever schema it is. Of a line that is torn nobody can say whose it is: it goes if it
holds, as JSON spells it, the session id of a session that goes, or the caller.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import orjson
import zstandard

from lakehouse.sessions.record import ROW_BYTES_MAX
from lakehouse.sessions.row_reading import ROW_DEPTH_MAX
from lakehouse.sessions.store.disk import fsync_folder, open_to_read
from lakehouse.sessions.store.lines import read_lines
from lakehouse.sessions.store.names import Compression, split_compression
from lakehouse.sessions.store.segments import Segment, segment_of
from lakehouse.strict_json.parser import JsonBreach, parse_json

_NAMES_MAX: Final = 1000
_TIMESTAMP: Final = re.compile(rb'"timestamp":"([^"\\]{1,40})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasing:
    """Rows to erase: those that fit all of what is given; one thing at least is."""

    caller: str | None = None
    session_ids: tuple[str, ...] = ()
    """One of these; empty: any."""
    before: datetime | None = None
    """Ended before this moment, naive UTC."""

    def __post_init__(self) -> None:
        """Raise ValueError where nothing is given, or more than can be looked for at once."""
        if self.caller is None and not self.session_ids and self.before is None:
            raise ValueError("say what to erase: a caller, sessions, or a moment")
        if len(self.session_ids) > _NAMES_MAX:
            raise ValueError(f"{len(self.session_ids)} sessions are more than {_NAMES_MAX} at once")

    def fits(self, row: dict[str, Any]) -> bool:
        """Whether an object that stands in the log is to go."""
        return (
            (self.caller is None or row.get("caller") == self.caller)
            and (not self.session_ids or row.get("session_id") in self.session_ids)
            and (self.before is None or _is_before(row.get("timestamp"), self.before))
        )

    def where(self) -> tuple[str, list[object]]:
        """Return SQL that holds for the same rows, by their columns, and its parameters."""
        terms, parameters = ["true"], list[object]()
        if self.caller is not None:
            terms.append("caller = ?")
            parameters.append(self.caller)
        if self.session_ids:
            terms.append("session_id IN (SELECT unnest(?))")
            parameters.append(list(self.session_ids))
        if self.before is not None:
            terms.append("timestamp < ?")
            parameters.append(self.before)
        return f"coalesce({' AND '.join(terms)}, false)", parameters


@dataclass(slots=True)
class Found:
    """What is to go, of all that was looked at."""

    traces: dict[str, set[str]] = field(default_factory=dict)
    """The trace ids of the rows that go, by their session ids."""
    rows: int = 0

    def note(self, row: dict[str, Any]) -> None:
        self.rows += 1
        session_id, trace_id = row.get("session_id"), row.get("trace_id")
        if isinstance(session_id, str):
            traces = self.traces.setdefault(session_id, set())
            if isinstance(trace_id, str):
                traces.add(trace_id)


@dataclass(slots=True)
class Counts:
    """What went out of a file, or of several."""

    rows: int = 0
    torn: int = 0
    """Lines that were torn and held one of the names."""
    torn_kept: int = 0
    """Lines that are torn and stay: nobody can say whose they are."""

    @property
    def gone(self) -> int:
        return self.rows + self.torn

    def add(self, other: Counts) -> None:
        self.rows += other.rows
        self.torn += other.torn
        self.torn_kept += other.torn_kept


def read_object(line: bytes) -> dict[str, Any] | None:
    """Return what stands in a line; an empty object for JSON of another type, None for a torn line."""
    try:
        value = parse_json(line, bytes_max=ROW_BYTES_MAX, depth_max=ROW_DEPTH_MAX)
    except JsonBreach:
        return None
    return value if isinstance(value, dict) else {}


class LineFilter:
    """Says of each line whether it goes, once all that is to go was found."""

    def __init__(self, erasing: Erasing, found: Found) -> None:
        self._erasing = erasing
        self._gone = [_spelled("session_id", session_id) for session_id in found.traces]
        self._sessions = [_spelled("session_id", session_id) for session_id in erasing.session_ids]
        self._caller = None if erasing.caller is None else _spelled("caller", erasing.caller)

    def keeps(self, line: bytes, counts: Counts) -> bool:
        """Whether a line, without its LF, stays; ``counts`` takes what it was."""
        if not line.strip():
            return True
        row = read_object(line)
        if row is None:
            goes = self.names(line)
            counts.torn += goes
            counts.torn_kept += not goes
        else:
            goes = self._erasing.fits(row)
            counts.rows += goes
        return not goes

    def names(self, line: bytes) -> bool:
        """Whether a text that cannot be read as a row holds what a row that goes would hold."""
        if any(name in line for name in self._gone):
            return True
        moment = _TIMESTAMP.search(line)
        return (
            (self._caller is None or self._caller in line)
            and (not self._sessions or any(name in line for name in self._sessions))
            and (
                self._erasing.before is None
                or (moment is not None and _is_before(moment[1].decode(), self._erasing.before))
            )
        )


def look_at(path: Path, erasing: Erasing, found: Found) -> bool:
    """Note what is to go of a file of the log. Return whether it has to be written anew, or may have to: for torn
    lines.

    Raises OSError, SegmentDamagedError.
    """
    with _opened(path) as segment:
        again = False
        for line in _lines(segment):
            if not line.data.strip():
                continue
            row = read_object(line.data)
            if row is None:
                again = True
            elif erasing.fits(row):
                found.note(row)
                again = True
        return again


def rewrite_lines(path: Path, lines: LineFilter) -> Counts:
    """Put a file of the log, compressed as its name says, in its place without the lines that go.

    It is not touched where all stay. Nobody writes to it meanwhile. Raises OSError, SegmentDamagedError.
    """
    counts = Counts()
    with _opened(path) as segment:
        if sum(not lines.keeps(line.data, counts) for line in _lines(segment)):
            _write_kept(segment, lines)
    return counts


@contextmanager
def _opened(path: Path) -> Iterator[Segment]:
    fd = open_to_read(path)
    try:
        yield segment_of(path, fd, split_compression(path.name)[1])
    finally:
        os.close(fd)


def _write_kept(segment: Segment, lines: LineFilter) -> None:
    status = os.fstat(segment.fd)
    temporary = erasing_path(segment.path)
    with _created(temporary, status, segment.compression) as file:
        for line in _lines(segment):
            if lines.keeps(line.data, Counts()):
                file.write(line.data + (b"\n" if line.ended else b""))
    # When it was last written decides in which order files are read.
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    temporary.rename(segment.path)
    fsync_folder(segment.path.parent)


def erasing_path(path: Path) -> Path:
    """Return where a file stands while it is written anew; hidden, so that nobody reads it."""
    return path.with_name(f".{path.name}.erasing")


def _lines(segment: Segment) -> Iterator[Any]:
    for line in read_lines(segment):
        if line.too_long:
            raise OSError(None, f"line {line.number} is longer than any row: cut it out first", str(segment.path))
        yield line


@contextmanager
def _created(path: Path, like: os.stat_result, compression: Compression) -> Iterator[IO[bytes]]:
    """Yield a new file of the same owner and mode, which survives a power cut once the block has ended."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as plain:
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(fd, like.st_uid, like.st_gid)
        os.fchmod(fd, like.st_mode & 0o777)
        if compression == "gzip":
            with gzip.GzipFile(filename="", fileobj=plain, mode="wb") as packed:
                yield packed  # type: ignore[misc]  # it writes as an IO[bytes] does
        elif compression == "zstd":
            with zstandard.ZstdCompressor(write_checksum=True).stream_writer(plain, closefd=False) as packed_zstd:
                yield packed_zstd
        else:
            yield plain
        plain.flush()
        os.fsync(plain.fileno())


def _is_before(timestamp: object, moment: datetime) -> bool:
    if not isinstance(timestamp, str):
        return False
    try:
        ended = datetime.fromisoformat(timestamp)
        return (ended.astimezone(UTC) if ended.tzinfo else ended).replace(tzinfo=None) < moment
    except (ValueError, OverflowError):
        return False


def _spelled(key: str, text: str) -> bytes:
    return f'"{key}":'.encode() + orjson.dumps(text)
