"""The roster's tables, checked, as the maps that ``RosterIndex`` reads: DuckDB sorts and joins, LMDB holds."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb

from validated.datasets.checks import add_texts
from validated.datasets.columns import ACTIVE
from validated.datasets.names import name_key
from validated.datasets.store import IndexWriter
from validated.datasets.tables import OpenTable
from validated.datasets.texts import fold

FIELD: Final = "\x1f"
ITEM: Final = "\x1e"
NAME_KEY_CHARS: Final = 100
CHUNK_WORKERS: Final = 256
_FETCH_ROWS: Final = 16_384
_ALPHABET_MAX: Final = 256

_Items = list[tuple[bytes, bytes]]


def place_key(*texts: str) -> bytes:
    """16 bytes for each text, folded; of role, state and city in this order a shorter key begins the longer ones."""
    return b"".join(hashlib.blake2b(fold(text).encode(), digest_size=16).digest() for text in texts)


class RosterMaps:
    """Writes the maps of one roster: `workers` (id to record), `names` (name key to id), `places` (role, state, city
    to who is there), `assignments` (id to spans), `refused` (client and id).
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, folder: Path, writer: IndexWriter) -> None:
        self._db = db
        self._folder = folder
        self._writer = writer
        self._alphabet: set[str] = set()

    def write(self, workers: OpenTable, companions: set[str]) -> dict[str, Any]:
        """Write everything; what the manifest has to say of it."""
        count = self._writer.put("workers", self._records(workers))
        self._writer.put("names", self._names())
        self._writer.put("places", self._places())
        self._writer.put("assignments", self._assignments() if "assignments" in companions else ())
        self._writer.put("refused", self._refused() if "do_not_send" in companions else ())
        counted = self._db.execute(f"SELECT count(*) FROM workers w WHERE {self._active(workers)} = '1'").fetchone()
        return {
            "row_count": count,
            "active_count": counted[0] if counted else 0,
            "alphabet": "".join(sorted(self._alphabet)[:_ALPHABET_MAX]),
        }

    def _fetch(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        cursor = self._db.cursor().execute(query)
        while batch := cursor.fetchmany(_FETCH_ROWS):
            yield batch

    def _records(self, workers: OpenTable) -> Iterator[_Items]:
        has = workers.matched.used if workers.matched is not None else {}
        held, join = "''", ""
        if "certifications" in has:
            held, join = "c.read", 'JOIN certifications_read c ON c."text" = w.certifications'
        trimmed = {name: f"trim(w.{name})" for name in ("role", "city", "state", "latitude", "longitude", "phone")}
        fields = ["w.name", *trimmed.values()]
        fields[4:4] = [self._active(workers), held]
        record = f"concat_ws(chr(31), {', '.join(fields)})"
        rows = f"SELECT encode(w.worker_id), encode({record}) FROM workers w {join} ORDER BY w.worker_id"
        for batch in self._fetch(rows):
            if len(self._alphabet) < _ALPHABET_MAX:
                self._alphabet.update(b"".join([each[0] for each in batch]).decode())
            yield batch

    @staticmethod
    def _active(workers: OpenTable) -> str:
        """SQL: '1' for who is active."""
        if workers.matched is None or "active" not in workers.matched.used:
            return "'1'"
        trues = ", ".join(f"'{each}'" for each, active in ACTIVE.items() if active)
        return f"CASE WHEN lower(trim(w.active)) IN ({trues}) THEN '1' ELSE '' END"

    def _names(self) -> Iterator[_Items]:
        # The keys of plain names are made in SQL as `name_key` makes them; the others by it, once each.
        plain = "strlen(name) = length(name)"
        distinct = self._fetch(f"SELECT DISTINCT name FROM workers WHERE NOT {plain}")
        add_texts(self._db, self._folder, "name_key", ("name", "key"), self._name_keys(distinct))
        cut = f"left(key, {NAME_KEY_CHARS})"
        rows = self._fetch(
            f"SELECT encode({cut}), encode(worker_id) FROM ("
            f"SELECT worker_id, regexp_replace(lower(name), '[^a-z0-9]+', '', 'g') AS key FROM workers WHERE {plain} "
            "UNION ALL SELECT w.worker_id, k.key FROM workers w JOIN name_key k ON k.name = w.name) "
            f"ORDER BY {cut}, worker_id"
        )
        number = 0
        for batch in rows:
            # Many bear one name: the number makes their keys distinct.
            yield [
                (name + b"\x00" + at.to_bytes(4, "big"), worker_id)
                for at, (name, worker_id) in enumerate(batch, number)
            ]
            number += len(batch)

    @staticmethod
    def _name_keys(distinct: Iterator[list[tuple[Any, ...]]]) -> Iterator[tuple[str, str]]:
        for batch in distinct:
            for (name,) in batch:
                yield name, name_key(name)

    def _places(self) -> Iterator[_Items]:
        for column in ("role", "state", "city"):
            self._add_keys(f"{column}_key", f"SELECT DISTINCT {column} FROM workers")
        rows = self._fetch(
            "SELECT unhex(r.key || s.key || c.key) AS place, "
            "string_agg(w.worker_id || chr(31) || w.name, chr(30) ORDER BY w.row) "
            'FROM workers w JOIN role_key r ON r."text" = w.role JOIN state_key s ON s."text" = w.state '
            'JOIN city_key c ON c."text" = w.city GROUP BY r.key, s.key, c.key, w.part, w.row // 65536 '
            # The same files give the same chunks on each machine: a seed draws the same workers from them.
            "ORDER BY place, w.part, w.row // 65536"
        )
        parts = itertools.chain.from_iterable(rows)
        for key, group in itertools.groupby(parts, key=lambda each: bytes(each[0])):
            people = itertools.chain.from_iterable(each[1].split(ITEM) for each in group)
            chunks = iter(lambda people=people: ITEM.join(itertools.islice(people, CHUNK_WORKERS)), "")  # type: ignore[misc]
            yield [(key + at.to_bytes(4, "big"), chunk.encode()) for at, chunk in enumerate(chunks)]

    def _assignments(self) -> Iterator[_Items]:
        rows = self._fetch(
            "SELECT encode(a.worker_id), string_agg(s.read || ',' || e.read, ',') FROM assignments a "
            'JOIN shift_start_read s ON s."text" = a.shift_start JOIN shift_end_read e ON e."text" = a.shift_end '
            "WHERE a.worker_id IN (SELECT worker_id FROM workers) GROUP BY a.worker_id ORDER BY a.worker_id"
        )
        for batch in rows:
            yield [(worker_id, _packed(spans)) for worker_id, spans in batch]

    def _refused(self) -> Iterator[_Items]:
        self._add_keys("client_key", "SELECT DISTINCT client_id FROM do_not_send")
        rows = self._fetch(
            "SELECT DISTINCT unhex(k.key) || encode(d.worker_id) AS pair FROM do_not_send d "
            'JOIN client_key k ON k."text" = d.client_id WHERE d.worker_id IN (SELECT worker_id FROM workers) '
            "ORDER BY pair"
        )
        for batch in rows:
            yield [(pair, b"") for (pair,) in batch]

    def _add_keys(self, name: str, query: str) -> None:
        texts = ((each, place_key(each).hex()) for batch in self._fetch(query) for (each,) in batch)
        add_texts(self._db, self._folder, name, ("text", "key"), texts)


def _packed(spans: str) -> bytes:
    numbers = [int(each) for each in spans.split(",")]
    pairs = sorted(zip(numbers[::2], numbers[1::2], strict=True))
    return array("q", itertools.chain.from_iterable(pairs)).tobytes()
