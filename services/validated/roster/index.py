"""A roster packed into one flat, read-only block of memory: about 100 bytes a worker, nothing per worker in the heap.

Rows are sorted by the UTF-8 bytes of worker_id, so that an id is found by bisection and its neighbours are the ids that
look like it. Texts that repeat (role, city, state, sets of certifications) are codes into tables; ids, names and phones
lie end to end in blobs. ``index_writer.IndexWriter`` makes the block in the building process.
"""

from __future__ import annotations

import itertools
import json
import mmap
import struct
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from validated.roster.names import name_key
from validated.roster.texts import fold, fold_all
from validated.roster.worker import Found, Shift, Worker

MAGIC: Final = b"LHROST01"
HEAD: Final = struct.Struct("<8sQ")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Every n-th id is kept in the heap: the top half of each bisection then runs in C.
_FENCE_ROWS: Final = 256
_POOL_ROWS_MAX: Final = 4_000
_POOLS_KEPT: Final = 32
_BEARERS_MAX: Final = 16
# Ready-made workers: who was named or suggested lately is likely to be again.
_FOUND_KEPT: Final = 4096
# Up to so many rows the ids stand in a dictionary as well, some 120 bytes each: an id is then found at once.
_ROWS_BY_ID_MAX: Final = 50_000


class PackedTexts:
    """Texts end to end in a blob, by row. They begin at `base`: a slice of the map itself is bytes, which compare with
    `<`; one of a memoryview is not.
    """

    def __init__(self, blob: Any, at: Any, *, base: int = 0, in_order: bool = False) -> None:
        self._blob = blob
        self._at = at
        self._base = base
        self._count = len(at) - 1
        self._fence = [self[row] for row in range(0, self._count, _FENCE_ROWS)] if in_order else []

    def __getitem__(self, row: int) -> bytes:
        return bytes(self._blob[self._base + self._at[row] : self._base + self._at[row + 1]])

    def position(self, key: bytes) -> int:
        """The first row whose text is not below `key`, where the rows are `in_order`."""
        fence = bisect_left(self._fence, key)
        low, high = max(0, (fence - 1) * _FENCE_ROWS), min(self._count, fence * _FENCE_ROWS)
        blob, at, base = self._blob, self._at, self._base
        while low < high:
            middle = (low + high) // 2
            if blob[base + at[middle] : base + at[middle + 1]] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def find(self, key: bytes) -> int | None:
        """The row whose text is `key`."""
        row = self.position(key)
        return row if row < self._count and self[row] == key else None


# The codes of cities and of states that do, together; None for any.
_Within = Sequence[tuple[set[int] | None, set[int] | None]]


class Pool(NamedTuple):
    """Rows of one role in some places, distinct, with their ids and folded names."""

    rows: Sequence[int]
    worker_ids: Sequence[str]
    names: Sequence[str]
    is_whole: bool
    """Whether there are no others."""
    roles: set[int]
    """The codes of the role, however it is spelt."""
    within: _Within


class _Kept(NamedTuple):
    row: int
    found: Found


class RosterIndex:
    """Reads the block. Nothing that it answers changes: any thread may ask."""

    def __init__(self, descriptor: int) -> None:
        """Map the block in the open file `descriptor`, which may be closed then. Raises ValueError where none is."""
        self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        magic, header_size = HEAD.unpack_from(self._map, 0)
        if magic != MAGIC:
            raise ValueError("not a roster index")
        start = HEAD.size + header_size
        header = json.loads(self._map[HEAD.size : start])
        view = memoryview(self._map)
        bases: dict[str, int] = {}
        parts: dict[str, Any] = {}
        for name, (typecode, at, size) in header["sections"].items():
            if typecode:
                parts[name] = view[start + at : start + at + size].cast(typecode)
            else:
                bases[name] = start + at
        self._parts = parts
        self.row_count: int = header["row_count"]
        self._roles: list[str] = header["tables"]["role"]
        self._cities: list[str] = header["tables"]["city"]
        self._states: list[str] = header["tables"]["state"]
        self._certifications = [tuple(each) for each in header["tables"]["certifications"]]
        self._groups: list[list[int]] = header["groups"]
        self._clients: dict[str, list[int]] = header["clients"]
        self.alphabet: str = header["alphabet"]
        self._ids = PackedTexts(self._map, parts["ids_at"], base=bases["ids"], in_order=True)
        self._names = PackedTexts(self._map, parts["names_at"], base=bases["names"])
        self._phones = PackedTexts(self._map, parts["phones_at"], base=bases["phones"])
        self._pools: OrderedDict[Any, Pool] = OrderedDict()
        self._pools_lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._rows_by_id: dict[str, int] | None = None
        if self.row_count <= _ROWS_BY_ID_MAX:
            self._rows_by_id = {self._ids[row].decode(): row for row in range(self.row_count)}
        self._by_name = parts["by_name"]
        self._by_place = parts["by_place"]

    def row(self, worker_id: str) -> int | None:
        """The row of an id, compared by code points."""
        rows = self._rows_by_id
        return self._ids.find(worker_id.encode()) if rows is None else rows.get(worker_id)

    def near_id(self, worker_id: str) -> int:
        """The row at which an id stands or would stand: its neighbours are the ids that begin alike."""
        return self._ids.position(worker_id.encode())

    def worker_id(self, row: int) -> str:
        """The id in `row`."""
        return self._ids[row].decode()

    def name(self, row: int) -> str:
        """The name in `row`."""
        return self._names[row].decode()

    def near_name(self, key: str) -> int:
        """The position in the order of name keys at which `key` stands or would stand; see `row_by_name`."""
        wanted = key.encode()
        low, high = 0, self.row_count
        while low < high:
            middle = (low + high) // 2
            if name_key(self.name(self._by_name[middle])).encode() < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def row_by_name(self, position: int) -> int:
        """The row at a position of the order of name keys."""
        return int(self._by_name[position])

    def bearers(self, key: str) -> Sequence[int]:
        """Rows whose name has the key `key`, one for each spelling; of many who bear it the first are looked at."""
        first = self.near_name(key)
        rows: dict[str, int] = {}
        for row in self._by_name[first : first + _BEARERS_MAX]:
            name = self.name(row)
            if name_key(name) != key:
                break
            rows.setdefault(name, row)
        return list(rows.values())

    def pool(self, role: str, places: Sequence[tuple[str, str]]) -> Pool:
        """The rows of a role in `places`: (city, state), an empty one for any; no places: anywhere. At most 4,000."""
        pool = self.kept_pool(role, places)
        if pool is None:
            roles = _codes(self._roles, role)
            within = [
                (_codes(self._cities, city) if city else None, _codes(self._states, state) if state else None)
                for city, state in places or (("", ""),)
            ]
            placed = list(itertools.islice(self._placed(roles, within), _POOL_ROWS_MAX))
            # Places may overlap.
            rows = list(dict.fromkeys(placed))
            pool = Pool(
                rows,
                worker_ids=[self.worker_id(row) for row in rows],
                names=fold_all([self.name(row) for row in rows]),
                is_whole=len(placed) < _POOL_ROWS_MAX,
                roles=roles,
                within=within,
            )
            with self._pools_lock:
                self._pools[role, tuple(places)] = pool
                while len(self._pools) > _POOLS_KEPT:
                    self._pools.popitem(last=False)
        return pool

    def kept_pool(self, role: str, places: Sequence[tuple[str, str]]) -> Pool | None:
        """What `pool` gives, where it need not be made: the last few are remembered, since one session asks for the
        same in each of its attempts.
        """
        key = (role, tuple(places))
        with self._pools_lock:
            pool = self._pools.get(key)
            if pool is not None:
                self._pools.move_to_end(key)
        return pool

    def is_placed(self, row: int, pool: Pool) -> bool:
        """Whether a row is of the role and of the places of `pool`, which may lack it."""
        parts = self._parts
        if parts["role"][row] not in pool.roles:
            return False
        city, state = parts["city"][row], parts["state"][row]
        return any(
            (cities is None or city in cities) and (states is None or state in states) for cities, states in pool.within
        )

    def _placed(self, roles: set[int], within: _Within) -> Iterator[int]:
        for cities, states in within:
            for group_role, group_state, start, end in self._groups:
                if group_role not in roles or (states is not None and group_state not in states):
                    continue
                if cities is None:
                    yield from self._by_place[start:end]
                    continue
                for code in cities:
                    yield from self._in_city(start, end, code)

    def _in_city(self, start: int, end: int, code: int) -> Iterator[int]:
        city = self._parts["city"]
        at = bisect_left(self._by_place, code, start, end, key=city.__getitem__)
        while at < end and city[self._by_place[at]] == code:
            yield self._by_place[at]
            at += 1

    def worker(self, row: int) -> Worker:
        """The worker in `row`."""
        parts = self._parts
        latitude, longitude = parts["latitude"][row], parts["longitude"][row]
        known = latitude == latitude  # noqa: PLR0124  NaN, and only NaN, differs from itself
        return Worker(
            worker_id=self._ids[row].decode(),
            name=self._names[row].decode(),
            role=self._roles[parts["role"][row]],
            city=self._cities[parts["city"][row]],
            state=self._states[parts["state"][row]],
            active=bool(parts["active"][row]),
            certifications=self._certifications[parts["certifications"][row]],
            latitude=latitude if known else None,
            longitude=longitude if known else None,
            phone=self._phones[row].decode(),
        )

    def found(self, worker_ids: Iterable[str], shift: Shift | None, client_id: str) -> dict[str, Found]:
        """The workers of those `worker_ids` that stand in the index, each with the first assignment that overlaps
        `shift`, and whether the client refuses him.
        """
        is_asked = shift is not None or bool(client_id)
        found: dict[str, Found] = {}
        for worker_id in worker_ids:
            kept = self._kept.get(worker_id) or self._keep(worker_id)
            if kept is not None:
                found[worker_id] = self._asked(kept, shift, client_id) if is_asked else kept.found
        return found

    def _keep(self, worker_id: str) -> _Kept | None:
        row = self.row(worker_id)
        if row is None:
            return None
        if len(self._kept) >= _FOUND_KEPT:
            self._kept.clear()
        kept = self._kept[worker_id] = _Kept(row, Found(self.worker(row)))
        return kept

    def _asked(self, kept: _Kept, shift: Shift | None, client_id: str) -> Found:
        return Found(kept.found.worker, self._overlap(kept.row, shift), self._refused(kept.row, client_id))

    def _overlap(self, row: int, shift: Shift | None) -> Shift | None:
        if shift is None:
            return None
        start, end = _since_1970_us(shift.start), _since_1970_us(shift.end)
        parts = self._parts
        for at in range(parts["assigned_at"][row], parts["assigned_at"][row + 1]):
            if parts["assigned_from"][at] < end and start < parts["assigned_to"][at]:
                return Shift(_instant(parts["assigned_from"][at]), _instant(parts["assigned_to"][at]))
        return None

    def _refused(self, row: int, client_id: str) -> bool:
        span = self._clients.get(client_id) if client_id else None
        if span is None:
            return False
        start, count = span
        rows = self._parts["refused"]
        at = bisect_left(rows, row, start, start + count)
        return at < start + count and rows[at] == row


def _codes(values: Sequence[str], text: str) -> set[int]:
    wanted = fold(text)
    return {code for code, value in enumerate(values) if fold(value) == wanted}


def _since_1970_us(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
