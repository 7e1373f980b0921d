"""The in-flight journal on disk: what its file is called, and how its lines are spelled.

One hidden file per iterate process beside the log, ``.sessions.jsonl.<uuid>.inflight``, flocked for the process's
life: who gets its lock knows that its owner is dead. What the log's disk does not take stands in a second file of the
same kind, in a folder on another volume, ``<the log's hash>.<uuid>.spill`` with the journal's uuid: the spill. Lines,
each ended by LF, ``n`` numbering the sessions of one file:

``B n device inode size head [parent] row``
    A session began when the log ended at that position. ``row`` is the row to write if the process died now,
    ``parent`` the caller's span in hex digits where he had one.
``A n unix_us attempt``
    An attempt finished.
``E n row``
    The session ended, and this is its row: written before the row is appended to the log, so that a row which is
    still queued when the process is killed says what its answer said, and so that a sweep knows it by its timestamp.
``D n ...``
    This file owes the session nothing: its row stands in the log, or its end in the owner's spill. It is the session's
    first line, the letter overwritten in place by ``WRITTEN_MARK``.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lakehouse.sessions.record import ROW_BYTES_MAX, SCHEMA
from lakehouse.sessions.store.append import LogPosition, folder_of

WRITTEN_MARK: Final = b"D"

_SUFFIX: Final = ".inflight"
_SPILL: Final = ".spill"
_IN_THE_MAKING: Final = ".new"
_UNREAD: Final = ".unread"
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def new_owner() -> str:
    """Return what one process's journal and its spill have in common."""
    return str(uuid.uuid4())


def new_journal_path(log_path: str, owner: str = "") -> str:
    """Where the owner's journal of this log stands; that of a new owner unless one is named."""
    name = os.path.basename(log_path)  # noqa: PTH119  string work, no file
    return os.fspath(folder_of(log_path) / f".{name}.{owner or new_owner()}{_SUFFIX}")


def spill_path(spill_dir: str, log_path: str, owner: str) -> str:
    """Where the owner's spill of this log stands. Several logs may share a folder."""
    return os.fspath(Path(spill_dir) / f"{_log_hash(log_path)}.{owner}{_SPILL}")


def owner_of(path: str) -> str:
    """Return the owner of a journal or a spill that was listed."""
    found = re.search(_UUID, os.path.basename(path))  # noqa: PTH119  string work, no file
    return found[0] if found else ""


def _log_hash(log_path: str | os.PathLike[str]) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(log_path))).hexdigest()[:16]  # noqa: PTH100  no symlink is read


def path_in_the_making(journal_path: str) -> str:
    """Where a journal stands until it is locked and whole."""
    return journal_path + _IN_THE_MAKING


def is_in_the_making(path: str) -> bool:
    return path.endswith(_IN_THE_MAKING)


def unread_path(journal_path: str) -> str:
    """Where a journal is kept for a person that no program could read whole; ``list_journals`` passes it over."""
    return journal_path + _UNREAD


def list_journals(log_path: str | os.PathLike[str]) -> list[str]:
    """Paths of this log's journals, those in the making among them, sorted. Raises OSError."""
    path = Path(log_path)
    # The whole UUID, so that the journals of a log `sessions.jsonl.b` are not taken for those of `sessions.jsonl`.
    journal = re.compile(rf"\.{re.escape(path.name)}\.{_UUID}{re.escape(_SUFFIX)}(?:{re.escape(_IN_THE_MAKING)})?")
    return sorted(os.fspath(each) for each in path.parent.iterdir() if journal.fullmatch(each.name))


def list_spills(spill_dir: str, log_path: str | os.PathLike[str]) -> list[str]:
    """Paths of this log's spills, those in the making among them, sorted. Raises OSError."""
    spill = re.compile(rf"{_log_hash(log_path)}\.{_UUID}{re.escape(_SPILL)}(?:{re.escape(_IN_THE_MAKING)})?")
    return sorted(os.fspath(each) for each in Path(spill_dir).iterdir() if spill.fullmatch(each.name))


def list_unread(log_path: str | os.PathLike[str], spill_dir: str = "") -> list[Path]:
    """Return this log's journals and spills that are kept for a person, sorted. Raises OSError."""
    path = Path(log_path)
    journal = re.compile(rf"\.{re.escape(path.name)}\.{_UUID}{re.escape(_SUFFIX + _UNREAD)}")
    found = [each for each in path.parent.iterdir() if journal.fullmatch(each.name)]
    if spill_dir:
        spill = re.compile(rf"{_log_hash(log_path)}\.{_UUID}{re.escape(_SPILL + _UNREAD)}")
        found += [each for each in Path(spill_dir).iterdir() if spill.fullmatch(each.name)]
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Beginning:
    number: int
    position: LogPosition
    row: bytes
    """LF-ended."""
    parent_span_id: str | None = None


@dataclass(frozen=True, slots=True)
class FinishedAttempt:
    number: int
    unix_us: int
    attempt: bytes
    """Its JSON text."""


@dataclass(frozen=True, slots=True)
class End:
    number: int
    row: bytes
    """LF-ended."""


@dataclass(frozen=True, slots=True)
class Written:
    number: int


JournalLine = Beginning | FinishedAttempt | End | Written


def beginning_line(number: int, position: LogPosition, row: bytes, parent_span_id: str | None = None) -> bytes:
    """``row`` is LF-ended."""
    parent = "" if parent_span_id is None else f"{parent_span_id} "
    return f"B {number} {position.device} {position.inode} {position.size} {position.head} {parent}".encode() + row


def attempt_line(number: int, unix_us: int, attempt: str) -> bytes:
    return f"A {number} {unix_us} {attempt}\n".encode()


def end_line(number: int, row: bytes) -> bytes:
    """``row`` is LF-ended."""
    return b"E %d %b" % (number, row)


def parse_journal_line(line: bytes) -> JournalLine:
    """Return what an LF-ended line holds; rows and attempts are not looked into. Raises ValueError."""
    letter, number_text, rest = line.split(b" ", 2)
    number = int(number_text)
    if letter == b"B":
        device, inode, size, head, row = rest.split(b" ", 4)
        parent = None
        if not row.startswith(b"{"):
            hexadecimal, row = row.split(b" ", 1)
            parent = hexadecimal.decode()
        return Beginning(number, LogPosition(int(device), int(inode), int(size), head.decode()), row, parent)
    if letter == b"A":
        unix_us, attempt = rest.split(b" ", 1)
        return FinishedAttempt(number, int(unix_us), attempt)
    if letter == b"E":
        return End(number, rest)
    if letter == WRITTEN_MARK:
        return Written(number)
    raise ValueError("no line of this journal version")


_ENTRY_HEAD: Final = re.compile(rb"([BED]) ([0-9]+) [^{]*")


def owed_row(fd: int, session_id: str) -> bytes | None:
    """Return the last row of this id that an open journal or spill holds for a session which it still owes something:
    the one that it ended with, or else the one that it began with. None where it owes it nothing. LF-ended. Raises
    OSError.

    Its owner may be at work: read it while nobody begins a session of this id.
    """
    needle = f'{{"schema":"{SCHEMA}","session_id":"{session_id}",'.encode()
    owed: dict[bytes, bytes] = {}
    seen: set[bytes] = set()
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        while line := file.readline(2 * ROW_BYTES_MAX):
            before, found, after = line.partition(needle)
            head = _ENTRY_HEAD.fullmatch(before) if found and line.endswith(b"\n") else None
            if head is not None:
                letter, number = head.groups()
                # The mark stands in a session's first line, and its id in each line that holds a row.
                if number in owed or (number not in seen and letter != WRITTEN_MARK):
                    owed[number] = found + after
                seen.add(number)
    return list(owed.values())[-1] if owed else None
