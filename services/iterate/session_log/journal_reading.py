"""Reads a dead process's journal back; ``journal`` describes its lines."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from iterate.session_log.scan import unix_us
from lakehouse.sessions.record import SessionAttemptRecord, SessionRecord
from lakehouse.sessions.row_reading import ROW_BYTES_MAX, decode_attempt, decode_row
from lakehouse.sessions.store.append import LogPosition
from lakehouse.strict_json.parser import parse_json


@dataclass(slots=True)
class UnfinishedSession:
    """A session of a dead process that is not marked as written."""

    begun: SessionRecord | None = None
    """The row to write if nothing more were known."""
    position: LogPosition = field(default_factory=LogPosition)
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
    """The last moment at which the owner is known to have been alive; 0 where nothing tells."""
    written: set[int] = field(default_factory=set)
    """The sessions that are marked as written."""


def read_journal(fd: int) -> JournalContents:
    """Reads a journal's lines as ``journal`` describes them. Raises OSError."""
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
    letter, number_text, rest = line.split(b" ", 2)
    number = int(number_text)
    sessions = contents.unfinished
    alive_unix_us = 0
    if letter == b"D":
        contents.written.add(number)
    elif number in contents.written:
        return
    elif letter == b"B":
        device, inode, size, head, row = rest.split(b" ", 4)
        begun = decode_row(row)
        sessions[number] = UnfinishedSession(begun, LogPosition(int(device), int(inode), int(size), head.decode()))
        alive_unix_us = unix_us(begun.timestamp)
    elif letter == b"A":
        moment, attempt = rest.split(b" ", 1)
        alive_unix_us = int(moment)
        if number in sessions:
            fields = parse_json(attempt, bytes_max=ROW_BYTES_MAX)
            if not isinstance(fields, dict):
                raise ValueError("an attempt is an object")
            sessions[number].attempts.append(decode_attempt(fields))
    elif letter == b"E":
        ended = decode_row(rest)
        session = sessions.setdefault(number, UnfinishedSession())
        session.ended = ended
        alive_unix_us = unix_us(ended.timestamp)
    else:
        raise ValueError("no line of this journal version")
    contents.last_alive_unix_us = max(contents.last_alive_unix_us, alive_unix_us)
