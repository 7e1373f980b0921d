"""Reads a dead process's journal back; ``lakehouse.sessions.store.journal`` describes its lines."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from lakehouse.sessions.record import ROW_BYTES_MAX, SessionAttemptRecord, SessionRecord, parse_rfc3339
from lakehouse.sessions.row_reading import decode_attempt, decode_row
from lakehouse.sessions.store.append import LogPosition
from lakehouse.sessions.store.journal import Beginning, End, Written, parse_journal_line
from lakehouse.strict_json.parser import parse_json


@dataclass(slots=True)
class UnfinishedSession:
    """A session of a dead process that is not marked as written."""

    begun: SessionRecord | None = None
    """The row to write if nothing more were known."""
    position: LogPosition = field(default_factory=LogPosition)
    parent_span_id: str | None = None
    """The caller's span."""
    attempts: list[SessionAttemptRecord] = field(default_factory=list)
    ended: SessionRecord | None = None


@dataclass(slots=True)
class JournalContents:
    unfinished: dict[int, UnfinishedSession]
    """By the number that the journal gives them."""
    lines_skipped: int
    """Lines in the middle that could not be read."""
    torn: bool
    """The last line was cut short by the kill."""
    end: int
    """Where the next line goes."""
    last_alive_unix_us: int
    """The last moment at which the owner is known to have been alive; 0 where nothing shows it."""
    written: set[int] = field(default_factory=set)
    """The sessions that are marked as written."""


def read_journal(fd: int) -> JournalContents:
    """Read a journal from its beginning. Raises OSError."""
    contents = JournalContents({}, 0, torn=False, end=0, last_alive_unix_us=0)
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        while line := file.readline(2 * ROW_BYTES_MAX):
            if not line.endswith(b"\n"):
                contents.torn = True
                break
            try:
                _read_line(line, contents)
            except (ValueError, KeyError):
                contents.lines_skipped += 1
            contents.end += len(line)
    return contents


def _read_line(line: bytes, contents: JournalContents) -> None:
    entry = parse_journal_line(line)
    if isinstance(entry, Written):
        contents.written.add(entry.number)
        return
    if entry.number in contents.written:
        return
    sessions = contents.unfinished
    if isinstance(entry, Beginning):
        begun = decode_row(entry.row)
        sessions[entry.number] = UnfinishedSession(begun, entry.position, entry.parent_span_id)
        alive_unix_us = parse_rfc3339(begun.timestamp)
    elif isinstance(entry, End):
        ended = decode_row(entry.row)
        sessions.setdefault(entry.number, UnfinishedSession()).ended = ended
        alive_unix_us = parse_rfc3339(ended.timestamp)
    else:
        alive_unix_us = entry.unix_us
        if entry.number in sessions:
            fields = parse_json(entry.attempt, bytes_max=ROW_BYTES_MAX)
            if not isinstance(fields, dict):
                raise ValueError("an attempt is an object")
            sessions[entry.number].attempts.append(decode_attempt(fields))
    contents.last_alive_unix_us = max(contents.last_alive_unix_us, alive_unix_us)
