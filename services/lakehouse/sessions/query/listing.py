"""Finding sessions: the newest that fit, and one by its id."""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter, timestamp_text
from lakehouse.sessions.record import SCHEMA
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.row_reading import RowBreach
from lakehouse.sessions.store.lines import Progress, SegmentDamagedError, read_backwards, read_blocks, read_lines
from lakehouse.sessions.store.parquet_rows import quoted
from lakehouse.sessions.store.segments import Segment

# How much text that is too old is looked through for rows that are not: what a sweep appends ended earlier than the
# rows before it.
_OLDER_BYTES_MAX: Final = 256 * 1024**2
# How our writers begin a row. What `decode_row` takes for a row has no name twice, so that this is its timestamp.
_HEAD: Final = re.compile(
    rb'\{"schema":"session\.iterate\.v1","session_id":"[^"\\]*","timestamp":"([0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z)"'
)
# Other spellings of an ASCII character, of a solidus and of all others.
_ASCII_ESCAPE: Final = re.compile(rb"\\u00[2-7]")
_SOLIDUS_ESCAPE: Final = re.compile(rb"\\/")
_ESCAPE: Final = re.compile(rb"\\u")
_CLOCK_SLACK_S: Final = 60.0
_REPORTED_BYTES: Final = 1 << 20
_SUMMARY_COLUMNS: Final = (
    'timestamp, session_id, "try", trace_id, kind, provider, model, final_verdict, error.reason, iterations,'
    " grounded_in_roster, caller, input_tokens, output_tokens, duration_ms"
)
_SUMMARY_WIDTH: Final = _SUMMARY_COLUMNS.count(",") + 1


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in one line. A value is None where a row has none of the right type."""

    timestamp: str | None
    session_id: str | None
    try_number: int
    """Which use of its id the session is, from 1; its key in JSON is ``try``, as in a row."""
    trace_id: str | None
    kind: str | None
    provider: str | None
    model: str | None
    final_verdict: str | None
    reason: str | None
    """The error's, of an ``infra_error``."""
    iterations: int | None
    grounded_in_roster: bool | None
    caller: str | None
    input_tokens: int | None
    output_tokens: int | None
    duration_ms: int | None

    def to_dict(self) -> dict[str, Any]:
        return {"try" if name == "try_number" else name: value for name, value in asdict(self).items()}


Place = tuple[str, str]
"""Where a session stands among all, newest first: its timestamp ("" where it has none) and its id."""


def list_sessions(
    reader: SessionReader,
    wanted: SessionFilter,
    *,
    limit: int,
    before: Place | None = None,
    progress: Progress | None = None,
) -> list[SessionSummary]:
    """Return the newest ``limit`` sessions that fit, newest first; with ``before``, of those behind that place. Raises
    QueryRefusedError, OSError.

    Files are read from the newest row backwards, until none can hold a newer one than those found. Rows stand in the
    order in which they were appended, and a sweep appends rows of earlier ends: plain files are read on for
    ``_OLDER_BYTES_MAX`` of rows that are too old, all together, and the reader warns where there is more.
    """
    newest = _Newest(wanted, limit, before)
    older_bytes = 0
    for segment in reversed(reader.snapshot.segments):
        if newest.is_older(segment.modified_unix_s + _CLOCK_SLACK_S):
            break
        if segment.compression != "none":
            _add_compressed(reader, segment, newest, progress)
            continue
        for line in _reported(read_backwards(segment), progress):
            if newest.add(line):
                continue
            older_bytes += len(line)
            if older_bytes > _OLDER_BYTES_MAX:
                reader.notice(
                    f"{segment.path} and older files were looked through from their ends, and"
                    f" {_OLDER_BYTES_MAX >> 20} MiB of older rows were found there: a newer row before those, which a"
                    " sweep may have appended late, is not listed (`lakehouse sessions sql` reads all)"
                )
                break
        if older_bytes > _OLDER_BYTES_MAX:
            break
    found = newest.found
    if reader.has_archive:
        found += _newest_compacted(reader, wanted, limit, before)
    found.sort(key=place_of, reverse=True)
    return found[:limit]


def _reported(lines: Iterator[bytes], progress: Progress | None) -> Iterator[bytes]:
    """Yield the lines, and say how many bytes were looked through, a piece at a time and at the end."""
    looked = 0
    for line in lines:
        yield line
        looked += len(line) + 1
        if looked >= _REPORTED_BYTES and progress is not None:
            progress(looked)
            looked = 0
    if progress is not None:
        progress(looked)


def _newest_compacted(
    reader: SessionReader, wanted: SessionFilter, limit: int, before: Place | None
) -> list[SessionSummary]:
    """As ``list_sessions``, of the Parquet files."""
    found: list[SessionSummary] = []
    with_text = wanted.text is not None
    # Compaction has each row spelled in one way: what has the text in that is looked at by the one reading of a row.
    columns = f"{_SUMMARY_COLUMNS}{', text' if with_text else ''}"
    while len(found) < limit:
        where, parameters = wanted.where()
        if with_text:
            where += " AND contains(lower(text), ?)"
            parameters.append(wanted.text_in_json)
        if before is not None:
            condition, values = _behind(before)
            where += f" AND {condition}"
            parameters += values
        _, rows = reader.query_archive(
            f"SELECT {columns} FROM {'parquet_rows' if with_text else 'facts'} WHERE {where}"
            " ORDER BY timestamp DESC NULLS LAST, session_id DESC LIMIT ?",
            [*parameters, limit],
        )
        count = 0
        for row in rows:
            count += 1
            moment, session_id, try_number, *others = row[:_SUMMARY_WIDTH]
            session = SessionSummary(timestamp_text(moment), session_id, try_number or 1, *others)
            before = place_of(session)
            if not with_text or wanted.fits(json.loads(row[_SUMMARY_WIDTH]), row[0]):
                found.append(session)
        if count < limit or not with_text:
            break
    return found[:limit]


def _behind(place: Place) -> tuple[str, list[object]]:
    timestamp, session_id = place
    if not timestamp:
        return "timestamp IS NULL AND session_id < ?", [session_id]
    moment = moment_of(timestamp)
    return "(timestamp IS NULL OR (timestamp, session_id) < (?::TIMESTAMP, ?))", [moment, session_id]


def place_of(session: SessionSummary) -> Place:
    """Return where the session stands among all."""
    return session.timestamp or "", session.session_id or ""


def _add_compressed(reader: SessionReader, segment: Segment, newest: _Newest, progress: Progress | None) -> None:
    """Add all of a segment, or nothing where it is damaged: what is compressed can be read from its front alone."""
    before = newest.found
    try:
        for line in read_lines(segment, progress):
            newest.add(line.data)
    except SegmentDamagedError as error:
        newest.found = before
        reader.leave_out({segment: str(error)})


class _Newest:
    """The newest sessions that fit, of those seen."""

    def __init__(self, wanted: SessionFilter, limit: int, before: Place | None) -> None:
        self._wanted = wanted
        self._limit = limit
        self._before = before
        self._heap: list[tuple[Place, int, SessionSummary]] = []
        self._seen = 0
        self._oldest = b""
        """The timestamp before which nothing is wanted any more."""
        self._since = (timestamp_text(wanted.since) or "").encode()

    @property
    def found(self) -> list[SessionSummary]:
        return [session for _, _, session in self._heap]

    @found.setter
    def found(self, sessions: list[SessionSummary]) -> None:
        self._heap = [(place_of(session), place, session) for place, session in enumerate(sessions)]
        self._seen = len(sessions)
        heapq.heapify(self._heap)
        self._note_oldest()

    def is_older(self, unix_s: float) -> bool:
        """Whether nothing that ended by then is wanted any more."""
        moment = timestamp_text(datetime.fromtimestamp(unix_s, UTC).replace(tzinfo=None)) or ""
        since = timestamp_text(self._wanted.since) or ""
        return moment < since or (len(self._heap) >= self._limit and moment < self._heap[0][0][0])

    def add(self, line: bytes) -> bool:
        """Take a line. False for one that can be no row but one that is older than all that is wanted."""
        head = _HEAD.match(line)
        if head is not None and (head[1] < self._since or head[1] < self._oldest):
            return False
        if not self._wanted.may_fit(line) or (
            self._before is not None and head is not None and head[1].decode() > self._before[0]
        ):
            return True
        try:
            row = json.loads(read_row_line(line).text)
        except RowBreach:
            return True
        moment = moment_of(row["timestamp"])
        text = timestamp_text(moment)
        full = len(self._heap) >= self._limit
        too_old = self._wanted.since is not None and moment is not None and moment < self._wanted.since
        if too_old or (full and (text or "", row["session_id"]) < self._heap[0][0]):
            return False
        if self._before is not None and (text or "", row["session_id"]) >= self._before:
            return True
        if self._wanted.fits(row, moment):
            session = summary_of(row)
            self._seen += 1
            entry = (place_of(session), self._seen, session)
            (heapq.heappushpop if full else heapq.heappush)(self._heap, entry)
            self._note_oldest()
        return True

    def _note_oldest(self) -> None:
        self._oldest = self._heap[0][0][0].encode() if len(self._heap) >= self._limit else b""


def moment_of(timestamp: str) -> datetime | None:
    """Naive UTC, as the column ``timestamp``; None for what is none."""
    try:
        moment = datetime.fromisoformat(timestamp)
        return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def summary_of(row: dict[str, Any]) -> SessionSummary:
    """Return the line of a row as ``read_row_line`` reads it."""
    return SessionSummary(
        timestamp_text(moment_of(row["timestamp"])),
        row["session_id"],
        row.get("try", 1),
        row["trace_id"],
        row["kind"],
        row["provider"],
        row["model"],
        row["final_verdict"],
        row["error"]["reason"] if "error" in row else None,
        row["iterations"],
        row.get("grounded_in_roster"),
        row.get("caller"),
        row["input_tokens"],
        row["output_tokens"],
        row["duration_ms"],
    )


def find_rows(reader: SessionReader, identifier: str, progress: Progress | None = None) -> Iterator[bytes]:
    """Lines, to the byte, of the sessions with this session id, trace id or caller's trace string; oldest segment
    first. A session that stands in the log twice is given twice. Raises QueryRefusedError."""
    snapshot = reader.snapshot
    found = reader.find_by_id(identifier)
    if found is not None:
        yield from found
        return
    if snapshot.parquet_files:
        yield from _find_in_parquet(reader, identifier)
    # Bytes first: where neither the id nor another spelling of it stands, nothing is to be read.
    needle, escapes = orjson.dumps(identifier), _escapes(identifier)

    def may_have_it(text: bytes) -> bool:
        return needle in text or any(escape.search(text) for escape in escapes)

    for segment in snapshot.segments:
        try:
            for block in read_blocks(segment, progress):
                if may_have_it(block):
                    for line in filter(may_have_it, block.split(b"\n")):
                        if _is_of(line, identifier):
                            yield line
        except SegmentDamagedError:
            continue


def _escapes(identifier: str) -> list[re.Pattern[bytes]]:
    """Return what stands in every line that has this id, or one of the names under which ids stand, in another
    spelling: one of these."""
    if not (identifier.isascii() and identifier.isprintable()):
        return [_ESCAPE, _SOLIDUS_ESCAPE]
    return [_ASCII_ESCAPE, _SOLIDUS_ESCAPE] if "/" in identifier else [_ASCII_ESCAPE]


def _find_in_parquet(reader: SessionReader, identifier: str) -> Iterator[bytes]:
    has_it = "schema = $2 AND (session_id = $1 OR trace_id = $1 OR caller_trace = $1)"
    parameters = [identifier, SCHEMA]
    # The ids first: whole lines are read out of the few files that have it.
    _, found = reader.query_archive(f"SELECT DISTINCT file FROM parquet_rows WHERE {has_it}", parameters)
    files = ", ".join(quoted(file) for (file,) in found)
    if files:
        _, rows = reader.query_archive(
            f"SELECT line FROM read_parquet([{files}], hive_partitioning = false) WHERE {has_it} ORDER BY timestamp",
            parameters,
        )
        for (line,) in rows:
            yield line.encode()


def _is_of(line: bytes, identifier: str) -> bool:
    try:
        row = read_row_line(line)
    except RowBreach:
        return False
    return identifier in (row.session_id, row.trace_id, row.caller_trace)
