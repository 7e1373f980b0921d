"""Which session an address means, of the several that an id, or a trace, may have: one by its ``try``, which the list
names, or by its place among all, ``n``, counted from the oldest; the last one where it says neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from lakehouse.sessions.query.viewer.source import FoundRows, SessionSource
from lakehouse.sessions.row_lines import read_row_line

_NUMBER: Final = re.compile("[0-9]{1,9}")


class NoSuchSessionError(Exception):
    """The address means none; the text says why."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """A session that stands under the same id or trace, or the selected one itself."""

    label: str
    query: str
    is_here: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """The session that is meant. ``query`` means it in every address, ``file_name`` is of plain characters alone."""

    line: bytes
    query: str
    file_name: str
    siblings: Sequence[Sibling]
    """All of them, oldest first, but for ``left_out`` older ones."""
    left_out: int


def query_of(session_id: str, try_number: int) -> str:
    """Return the query that means this try of an id."""
    return urlencode({"id": session_id, "try": try_number})


def select(source: SessionSource, identifier: str, *, place: str | None, try_number: str | None) -> Selection:
    """Return the session of an address, whose ``n`` and ``try`` are given as they stand there. Raises
    NoSuchSessionError, and what the source raises."""
    found = source.rows(identifier)
    if not found.lines:
        raise NoSuchSessionError("no session has this id or trace id: it may have been rotated away or erased")
    if try_number is not None:
        return _by_try(source, found, identifier, try_number)
    place = str(found.left_out + len(found.lines)) if place is None else place
    index = int(place) - 1 - found.left_out if _NUMBER.fullmatch(place) else -1
    if not 0 <= index < len(found.lines):
        raise NoSuchSessionError("this id has no such session, or it is one of too many older ones")
    return _selected(found, index, identifier, urlencode({"id": identifier, "n": place}))


def _by_try(source: SessionSource, found: FoundRows, session_id: str, number: str) -> Selection:
    if not _NUMBER.fullmatch(number):
        raise NoSuchSessionError("this id has no such session")
    wanted = (session_id, int(number))
    keys = [(row.session_id, row.try_number) for row in map(read_row_line, found.lines)]
    if wanted not in keys:
        # One of too many older ones.
        found = source.rows(session_id, try_number=int(number))
        keys = [wanted] * len(found.lines)
    if not keys:
        raise NoSuchSessionError("this id has no such session")
    # The last one, where it stands there twice.
    index = len(keys) - 1 - keys[::-1].index(wanted)
    return _selected(found, index, session_id, query_of(*wanted))


def _selected(found: FoundRows, index: int, identifier: str, query: str) -> Selection:
    rows = [read_row_line(line) for line in found.lines]
    again = {row.session_id for row in rows if row.try_number > 1}
    siblings = [
        Sibling(
            f"{row.session_id}, {row.timestamp[:19]}" + (f", try {row.try_number}" if row.session_id in again else ""),
            urlencode({"id": identifier, "n": found.left_out + place + 1}),
            place == index,
        )
        for place, row in enumerate(rows)
    ]
    name = "session-" + re.sub("[^A-Za-z0-9._-]", "_", rows[index].session_id[:80]).lstrip(".")
    return Selection(found.lines[index], query, name, siblings, found.left_out)
