"""``IndexWriter``: packs workers into the block that ``RosterIndex`` reads; see there for its shape."""

from __future__ import annotations

import itertools
import json
from array import array
from collections.abc import Sequence
from typing import Any, BinaryIO

from validated.roster.batch import Columns
from validated.roster.index import HEAD, MAGIC, PackedTexts
from validated.roster.names import name_keys


class _Codes(dict[Any, int]):
    """Distinct values with their codes: asking for a new one gives it the next."""

    def __missing__(self, value: Any) -> int:
        code = self[value] = len(self)
        return code


class IndexWriter:
    """Takes workers sorted by id, then their assignments and the do-not-send lists, and writes the block."""

    def __init__(self) -> None:
        self._blobs = {name: bytearray() for name in ("ids", "names", "phones")}
        self._numbers: dict[str, array[Any]] = {
            name: array(code)
            for name, code in (
                ("ids_at", "I"),
                ("names_at", "I"),
                ("phones_at", "I"),
                ("role", "I"),
                ("city", "I"),
                ("state", "I"),
                ("certifications", "I"),
                ("active", "B"),
                ("latitude", "d"),
                ("longitude", "d"),
                ("by_name", "I"),
                ("by_place", "I"),
                ("assigned_at", "I"),
                ("assigned_from", "q"),
                ("assigned_to", "q"),
                ("refused", "I"),
            )
        }
        self._tables = {name: _Codes() for name in ("role", "city", "state", "certifications")}
        self._alphabet: set[str] = set()
        self._groups: list[tuple[int, int, int, int]] = []
        self._assignments: list[tuple[int, int, int]] = []
        self._refused: dict[str, set[int]] = {}
        self._keys: list[bytes] = []
        self.row_count = 0

    def add(self, columns: Columns) -> None:
        """Add workers whose ids are greater than those before."""
        numbers, tables = self._numbers, self._tables
        for name, texts in (("ids", columns.ids), ("names", columns.names), ("phones", columns.phones)):
            self._append_texts(name, texts)
        for name, values in (
            ("role", columns.roles),
            ("city", columns.cities),
            ("state", columns.states),
            ("certifications", columns.certifications),
        ):
            numbers[name].extend(map(tables[name].__getitem__, values))
        numbers["active"].extend(columns.active)
        numbers["latitude"].extend(columns.latitudes)
        numbers["longitude"].extend(columns.longitudes)
        self._alphabet.update("".join(columns.ids))
        self._keys.extend(each.encode() for each in name_keys(columns.names))
        self.row_count += len(columns.ids)

    def _append_texts(self, name: str, texts: Sequence[str]) -> None:
        blob = self._blobs[name]
        joined = "".join(texts)
        lengths = map(len, texts) if joined.isascii() else (len(each.encode()) for each in texts)
        starts = list(itertools.accumulate(lengths, initial=len(blob)))
        self._numbers[f"{name}_at"].extend(starts[:-1])
        blob += joined.encode()

    def seal_workers(self) -> None:
        """All workers are in: sort them by name and by place."""
        numbers = self._numbers
        for name in ("ids", "names", "phones"):
            numbers[f"{name}_at"].append(len(self._blobs[name]))
        numbers["by_name"].extend(sorted(range(self.row_count), key=self._keys.__getitem__))
        self._keys.clear()
        role, state, city = numbers["role"], numbers["state"], numbers["city"]
        # One number a row sorts in half the time of a tuple. Codes are below the row count, which is below 2^26.
        places = [r << 52 | s << 26 | c for r, s, c in zip(role, state, city, strict=True)]
        by_place = sorted(range(self.row_count), key=places.__getitem__)
        numbers["by_place"].extend(by_place)
        start = 0
        for at in range(1, self.row_count + 1):
            here = by_place[start]
            if at == self.row_count or (role[by_place[at]], state[by_place[at]]) != (role[here], state[here]):
                self._groups.append((role[here], state[here], start, at))
                start = at
        self._ids = PackedTexts(self._blobs["ids"], numbers["ids_at"], in_order=True)

    def add_assignment(self, worker_id: str, start_us: int, end_us: int) -> bool:
        """Add an assignment, microseconds since 1970; False where the worker is not in the roster."""
        row = self._ids.find(worker_id.encode())
        if row is None:
            return False
        self._assignments.append((row, start_us, end_us))
        return True

    def add_do_not_send(self, client_id: str, worker_id: str) -> bool:
        """Add one line of a client's do-not-send list; False where the worker is not in the roster."""
        row = self._ids.find(worker_id.encode())
        if row is None:
            return False
        self._refused.setdefault(client_id, set()).add(row)
        return True

    def write(self, out: BinaryIO) -> None:
        """Write the block."""
        self._pack_assignments()
        clients = {}
        for client_id, rows in self._refused.items():
            clients[client_id] = (len(self._numbers["refused"]), len(rows))
            self._numbers["refused"].extend(sorted(rows))
        sections: dict[str, tuple[str, int, int]] = {}
        parts: list[bytes | bytearray | array[Any]] = []
        named: list[tuple[str, bytearray | array[Any]]] = [*self._blobs.items(), *self._numbers.items()]
        at = 0
        for name, part in named:
            size = len(part) * getattr(part, "itemsize", 1)
            sections[name] = (getattr(part, "typecode", ""), at, size)
            parts += (part, bytes(-size % 8))
            at += size + -size % 8
        header = json.dumps(
            {
                "row_count": self.row_count,
                "sections": sections,
                "tables": {name: list(table) for name, table in self._tables.items()},
                "groups": self._groups,
                "clients": clients,
                "alphabet": "".join(sorted(self._alphabet))[:256],
            }
        ).encode()
        header += b" " * (-(len(header) + HEAD.size) % 8)
        out.write(HEAD.pack(MAGIC, len(header)))
        out.write(header)
        out.writelines(parts)

    def _pack_assignments(self) -> None:
        self._assignments.sort()
        at, total = self._numbers["assigned_at"], len(self._assignments)
        position = 0
        for row in range(self.row_count + 1):
            while position < total and self._assignments[position][0] < row:
                position += 1
            at.append(position)
        self._numbers["assigned_from"].extend(start for _, start, _ in self._assignments)
        self._numbers["assigned_to"].extend(end for _, _, end in self._assignments)
