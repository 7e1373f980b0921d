"""A question as the parameters of a statement of ``postgres_statements``, and its rows as workers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from validated.datasets.columns import read_active, read_certifications
from validated.datasets.names import table_key
from validated.datasets.postgres_statements import Statements
from validated.datasets.texts import fold
from validated.datasets.worker import Found, Question, RosterVersion, Shift, Worker

_log = structlog.get_logger()
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")


async def keys_of(question: Question) -> Sequence[str]:
    """Return the keys of all runs of words that may be a name: how the names of a table begin is not known here."""
    return await asyncio.to_thread(question.names.keys, lambda _: True) if question.names is not None else ()


def parameters_of(question: Question, statements: Statements, keys: Collection[str] = ()) -> dict[str, Any]:
    """`keys` are the name keys whose bearers are wanted."""
    client = storable_text(question.client_id)
    return {
        "ids": ids_of(question.worker_ids, statements),
        "names": list(dict.fromkeys(map(table_key, keys))),
        "start": question.shift.start if question.shift else None,
        "end": question.shift.end if question.shift else None,
        "clients": [fold(client)] if client else [],
    }


def ids_of(worker_ids: Sequence[str], statements: Statements) -> list[Any]:
    """Those ids that the table's column can hold, as its type has them."""
    if not statements.has_whole_ids:
        return storable(worker_ids)
    return [int(each) for each in worker_ids if _WHOLE.fullmatch(each) and abs(int(each)) < 1 << 63]


def storable(texts: Sequence[str]) -> list[str]:
    # PostgreSQL's text cannot hold U+0000: no such id can stand in the table, and asking for it would be an error.
    return [text for text in texts if "\x00" not in text]


def storable_text(text: str) -> str:
    return text.replace("\x00", "")


def version_of(rows: Sequence[Sequence[Any]], statements: Statements) -> RosterVersion:
    """Return the version that a statement's rows begin with."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return RosterVersion(statements.source, str(rows[0][0]) if rows[0][0] is not None else now, 0, now)


def found_of(row: Sequence[Any], client_id: str) -> Found | None:
    """Return the worker of a row of facts, for the client of the question; None where the row is nobody's."""
    worker_id, name, role, city, state, active, held, latitude, longitude, phone, start, end, refused = row
    if worker_id is None or name is None:
        return None
    known = latitude is not None and longitude is not None
    held = json.loads(held) if held else ()
    worker = Worker(
        worker_id=str(worker_id),
        name=str(name),
        role=role or "",
        city=city or "",
        state=state or "",
        # What is neither is not active: a gate does not guess in favour.
        active=read_active(active) is True,
        certifications=read_certifications(held) or (),
        latitude=latitude if known else None,
        longitude=longitude if known else None,
        phone=phone or "",
    )
    overlap = Shift(start.astimezone(UTC), end.astimezone(UTC)) if start is not None else None
    client = fold(storable_text(client_id))
    is_refused = bool(client and refused) and client in map(fold, json.loads(refused))
    return Found(worker, overlap, is_refused)


class FoundById:
    """The workers of a statement's rows by their ids. Two rows with one id: nobody knows who is meant, so that nobody
    may be sent.
    """

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        self.duplicates = 0
        self._seen: set[tuple[Any, ...]] = set()

    def add(self, row: Sequence[Any], new: Found) -> None:
        """Take the worker of a row; the same row may come again."""
        worker_id = new.worker.worker_id
        old = self.found.get(worker_id)
        is_again = tuple(row) in self._seen
        self._seen.add(tuple(row))
        if old is None:
            self.found[worker_id] = new
        elif not is_again:
            self.duplicates += 1
            _log.warning("worker stands twice", worker_id=worker_id, advice="make worker_id unique in the table")
            worker = old.worker._replace(active=False)
            self.found[worker_id] = Found(worker, old.overlap or new.overlap, old.do_not_send or new.do_not_send)


def first_line(error: BaseException) -> str:
    """Return what an error says, short."""
    return (str(error).splitlines() or [""])[0][:300]
