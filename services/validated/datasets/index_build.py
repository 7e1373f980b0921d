"""The roster's tables, checked, as the maps that ``RosterIndex`` reads: DuckDB sorts and joins, LMDB holds."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import duckdb

from validated.datasets.checks import add_texts
from validated.datasets.columns import ACTIVE
from validated.datasets.index_keys import (
    BATCH_ROWS,
    BEARERS_MAX,
    CHUNK_WORKERS,
    IDS_BYTES_MAX,
    ITEM,
    NAME_KEY_CHARS,
    place_key,
)
from validated.datasets.names import full_name_keys
from validated.datasets.store import IndexWriter
from validated.datasets.tables import OpenTable

_ALPHABET_MAX: Final = 256

_Items = list[tuple[bytes, bytes]]


class RosterMaps:
    """Writes the maps of one roster: `workers` (id to record), `names` (name key, a number for each spelling,
    to the first ids), `places` (role, state, city
    to who is there), `assignments` (id to spans), `refused` (client and id).
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, folder: Path, writer: IndexWriter) -> None:
        self._db = db
        self._folder = folder
        self._writer = writer
        self._alphabet: set[str] = set()

    def write(self, workers: OpenTable, companions: set[str]) -> dict[str, Any]:
        """Write everything; what the manifest has to say of it."""
        maps: dict[str, Callable[[], Iterator[_Items]]] = {
            "workers": lambda: self._records(workers),
            "names": self._names,
            "places": self._places,
            "assignments": self._assignments if "assignments" in companions else lambda: iter(()),
            "refused": self._refused if "do_not_send" in companions else lambda: iter(()),
        }
        # While one map is written, which takes one core, the engine sorts the next on the other.
        counts: dict[str, int] = {}
        with ThreadPoolExecutor(1, "sort") as ahead:
            sorting = ahead.submit(maps["workers"])
            active = ahead.submit(self._active_count, workers)
            for name, following in itertools.zip_longest(maps, [*maps][1:]):
                batches = sorting.result()
                if following:
                    sorting = ahead.submit(maps[following])
                counts[name] = self._writer.put(name, batches)
            if counts["workers"] != workers.row_count:
                raise ValueError(f"{workers.row_count} rows were read and {counts['workers']} came through")
            return {
                "row_count": counts["workers"],
                "active_count": active.result(),
                "alphabet": "".join(sorted(self._alphabet)[:_ALPHABET_MAX]),
            }

    def _active_count(self, workers: OpenTable) -> int:
        by_value = "SELECT active, count(*) AS count FROM workers GROUP BY active"
        query = f"SELECT sum(w.count) FROM ({by_value}) w WHERE {self._active(workers)} = '1'"
        counted = self._db.cursor().execute(query).fetchone()
        return int((counted and counted[0]) or 0)

    def _fetch(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        """Return the rows of `query`, which is sorted when this returns, in batches."""
        cursor = self._db.cursor().execute(query)
        return iter(lambda: cursor.fetchmany(BATCH_ROWS), [])

    def _records(self, workers: OpenTable) -> Iterator[_Items]:
        has = workers.matched.used if workers.matched is not None else {}
        held, join = "''", ""
        if "certifications" in has:
            held, join = "c.read", 'JOIN certifications_read c ON c."text" = w.certifications'
        fields = ["w.name", *self._trimmed(("role", "city", "state", "latitude", "longitude", "phone"))]
        fields[4:4] = [self._active(workers), held]
        record = f"concat({', chr(31), '.join(fields)})"
        rows = f"SELECT encode(w.worker_id), encode({record}) FROM workers w {join} ORDER BY w.worker_id"
        return map(self._see, self._fetch(rows))

    def _trimmed(self, names: Sequence[str]) -> list[str]:
        """Return SQL for the columns without spaces at their ends. Cutting costs twice what looking does, and few have
        any."""
        odd = "bool_or(strlen({0}) <> length({0}) OR {0} LIKE ' %' OR {0} LIKE '% ')"
        looks = ", ".join(odd.format(name) for name in names)
        (found,) = self._db.cursor().execute(f"SELECT {looks} FROM workers").fetchall()
        return [f"trim(w.{name})" if is_odd else f"w.{name}" for name, is_odd in zip(names, found, strict=True)]

    def _see(self, batch: _Items) -> _Items:
        if len(self._alphabet) < _ALPHABET_MAX:
            ids = b"".join([each[0] for each in batch])
            # Most batches hold no character but those of the ones before.
            if ids.translate(None, "".join(filter(str.isascii, self._alphabet)).encode()):
                self._alphabet.update(ids.decode())
        return batch

    @staticmethod
    def _active(workers: OpenTable) -> str:
        """Return SQL that gives '1' for who is active."""
        if workers.matched is None or "active" not in workers.matched.used:
            return "'1'"
        trues = ", ".join(f"'{each}'" for each, active in ACTIVE.items() if active)
        return f"CASE WHEN lower(trim(w.active)) IN ({trues}) THEN '1' ELSE '' END"

    def _names(self) -> Iterator[_Items]:
        # Few of a million names are spelt in a way of their own: the engine groups by spelling before anything else.
        # The keys of plain spellings are made in SQL as `full_name_key` makes them; the others by it, once each.
        self._db.execute(
            "CREATE TABLE spelling AS SELECT name, string_agg(worker_id, chr(30)) AS ids FROM workers GROUP BY name"
        )
        plain = "(strlen(name) = length(name) AND NOT contains(name, ','))"
        others = self._fetch(f"SELECT name FROM spelling WHERE NOT {plain}")
        add_texts(self._db, self._folder, "name_key", ("name", "key"), self._name_keys(others))
        cut = f"left(key, {NAME_KEY_CHARS})"
        rows = self._fetch(
            f"SELECT encode({cut} || chr(0)), encode(ids) FROM ("
            f"SELECT name, regexp_replace(lower(name), '[^a-z0-9]+', '', 'g') AS key, ids FROM spelling WHERE {plain} "
            "UNION ALL SELECT name, key, ids FROM spelling JOIN name_key USING (name)) "
            f"ORDER BY {cut}, name"
        )
        # Several spellings have one key: the number makes their keys distinct.
        numbers = (at.to_bytes(4, "big") for at in itertools.count())
        return (
            [(key + next(numbers), ids if len(ids) <= IDS_BYTES_MAX else _first(ids)) for key, ids in batch]
            for batch in rows
        )

    @staticmethod
    def _name_keys(distinct: Iterator[list[tuple[Any, ...]]]) -> Iterator[tuple[str, str]]:
        for batch in distinct:
            names = [name for (name,) in batch]
            yield from zip(names, full_name_keys(names), strict=True)

    def _places(self) -> Iterator[_Items]:
        # The same files give the same chunks on each machine: a seed draws the same workers from them.
        self._db.execute(
            "CREATE TABLE placed AS SELECT role, state, city, part, row // 65536 AS block, "
            "string_agg(worker_id || chr(31) || name, chr(30) ORDER BY row) AS people FROM workers GROUP BY ALL"
        )
        for column in ("role", "state", "city"):
            self._add_keys(f"{column}_key", f"SELECT DISTINCT {column} FROM placed")
        rows = self._fetch(
            "SELECT unhex(r.key || s.key || c.key) AS place, p.people "
            'FROM placed p JOIN role_key r ON r."text" = p.role JOIN state_key s ON s."text" = p.state '
            'JOIN city_key c ON c."text" = p.city ORDER BY place, p.part, p.block, p.role, p.state, p.city'
        )
        return self._chunks(itertools.chain.from_iterable(rows))

    @staticmethod
    def _chunks(parts: Iterator[tuple[Any, ...]]) -> Iterator[_Items]:
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
        return ([(worker_id, _packed(spans)) for worker_id, spans in batch] for batch in rows)

    def _refused(self) -> Iterator[_Items]:
        self._add_keys("client_key", "SELECT DISTINCT client_id FROM do_not_send")
        rows = self._fetch(
            "SELECT DISTINCT unhex(k.key) || encode(d.worker_id) AS pair FROM do_not_send d "
            'JOIN client_key k ON k."text" = d.client_id WHERE d.worker_id IN (SELECT worker_id FROM workers) '
            "ORDER BY pair"
        )
        return ([(pair, b"") for (pair,) in batch] for batch in rows)

    def _add_keys(self, name: str, query: str) -> None:
        texts = ((each, place_key(each).hex()) for batch in self._fetch(query) for (each,) in batch)
        add_texts(self._db, self._folder, name, ("text", "key"), texts)


def _first(ids: bytes) -> bytes:
    """Return the first of the ids of one spelling: those who ask want a few of them."""
    item = ITEM.encode()
    return item.join(sorted(ids.split(item))[:BEARERS_MAX])


def _packed(spans: str) -> bytes:
    numbers = [int(each) for each in spans.split(",")]
    pairs = sorted(zip(numbers[::2], numbers[1::2], strict=True))
    return array("q", itertools.chain.from_iterable(pairs)).tobytes()
