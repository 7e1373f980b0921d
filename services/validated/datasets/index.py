"""A roster in one LMDB file, mapped read-only: nothing per worker in the heap. ``index_build`` writes it."""

from __future__ import annotations

import itertools
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from validated.datasets.index_keys import BEARERS_MAX, FIELD, ITEM, NAME_KEY_CHARS, place_key
from validated.datasets.names import full_name_key
from validated.datasets.sample import Frame, read_frame
from validated.datasets.store import KEY_BYTES_MAX, open_index
from validated.datasets.texts import fold, fold_all
from validated.datasets.worker import Found, Shift, Worker

# Makes a named tuple without a call of Python: half the time of a look-up's making.
_new: Final = tuple.__new__
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POOL_ROWS_MAX: Final = 4_000
_POOLS_KEPT: Final = 32
_FRAMES_KEPT: Final = 16
# Ready-made workers: who was named or suggested lately is likely to be again.
_FOUND_KEPT: Final = 4096
_STARTS_KEPT: Final = 20_000
_HEAD_CHARS: Final = 2
# Of all name keys of a draw.
_NAMESAKES_MAX: Final = 256


class Pool(NamedTuple):
    """Workers of one role in some places, distinct, with their folded names."""

    worker_ids: Sequence[str]
    names: Sequence[str]
    is_whole: bool
    """Whether there are no others."""
    role: str
    places: Sequence[tuple[str, str]]

    def has_place_for(self, worker: Worker) -> bool:
        """Whether `worker` is of the role and of the places; the pool may lack him."""
        if fold(worker.role) != fold(self.role):
            return False
        return not self.places or any(
            (not city or fold(worker.city) == fold(city)) and (not state or fold(worker.state) == fold(state))
            for city, state in self.places
        )


class RosterIndex:
    """Reads the maps. Nothing that it answers changes: any thread may ask."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`. Raises OSError, ValueError, lmdb.Error where none is."""
        self._reader = open_index(folder)
        self._maps = self._reader.maps
        self.row_count: int = self._reader.manifest["row_count"]
        self.alphabet: str = self._reader.manifest["alphabet"]
        self._by_thread = threading.local()
        self._pools: OrderedDict[Any, Pool] = OrderedDict()
        self._frames: OrderedDict[Any, Frame] = OrderedDict()
        self._pools_lock = threading.Lock()
        self._kept: dict[str, Found] = {}
        self._starts: dict[str, bool] = {}
        self._heads: dict[str, bool] = {}

    def has(self, worker_id: str) -> bool:
        """Whether somebody has this id, compared by code points."""
        return self._get("workers", worker_id) is not None

    def worker(self, worker_id: str) -> Worker | None:
        """Return the worker of an id, compared by code points."""
        record = self._get("workers", worker_id)
        return None if record is None else _worker(worker_id, record)

    def workers(self) -> Iterator[Worker]:
        """Everybody, in the order of the ids."""
        with self._transaction().cursor(self._maps["workers"]) as cursor:
            for key, record in cursor:
                yield _worker(key.decode(), record)

    def found(
        self, worker_ids: Iterable[str], shift: Shift | None, client_id: str, *, keep: bool = True
    ) -> dict[str, Found]:
        """Return the workers of those `worker_ids` that stand in the index, each with the first assignment that
        overlaps `shift`, and whether the client refuses him. `keep`: they are likely to be asked for again.
        """
        found: dict[str, Found] = {}
        client = place_key(client_id) if client_id else b""
        get, workers = self._transaction().get, self._maps["workers"]
        fresh: dict[str, Found] = {}
        for worker_id in worker_ids:
            kept = self._kept.get(worker_id)
            if kept is None:
                # A prompt has hundreds of words that could be ids: nearly all of them begin like none.
                if not self._heads.get(worker_id[:_HEAD_CHARS], True):
                    continue
                # `_get` in place: an artifact names many.
                key = _key(worker_id)
                record = get(key, None, workers) if key else None
                if record is None:
                    self._note_head(worker_id[:_HEAD_CHARS])
                    continue
                kept = _new(Found, (_worker(worker_id, record), None, False))
                if keep:
                    fresh[worker_id] = kept
            if shift is not None or client:
                kept = Found(kept.worker, self._overlap(worker_id, shift), self._refused(worker_id, client))
            found[worker_id] = kept
        if fresh:
            if len(self._kept) >= _FOUND_KEPT:
                self._kept.clear()
            self._kept.update(fresh)
        return found

    def begins_a_name(self, start: str) -> bool:
        """Whether somebody's name key begins with `start`."""
        # Texts have thousands of words, and the same again and again; nearly all of them begin like nobody's name.
        known = self._starts.get(start)
        if known is None:
            begins = start[:NAME_KEY_CHARS].encode(errors="replace")
            with self._transaction().cursor(self._maps["names"]) as cursor:
                known = cursor.set_range(begins or b"\x00") and cursor.key().startswith(begins)
            if len(start) <= NAME_KEY_CHARS:
                if len(self._starts) >= _STARTS_KEPT:
                    self._starts.clear()
                self._starts[start] = known
        return known

    def _note_head(self, head: str) -> None:
        """Remember whether an id begins with `head`."""
        if head not in self._heads:
            if len(self._heads) >= _STARTS_KEPT:
                self._heads.clear()
            start = head.encode(errors="replace")
            with self._transaction().cursor(self._maps["workers"]) as cursor:
                self._heads[head] = cursor.set_range(start or b"\x00") and cursor.key().startswith(start)

    def bearers(self, key: str) -> list[Worker]:
        """Workers whose name has the name key `key`, one for each spelling, 64 at most."""
        with self._transaction().cursor(self._maps["names"]) as cursor:
            return [worker for worker, _ in self._spellings(cursor, key)]

    def namesakes(self, keys: Iterable[str]) -> dict[str, None]:
        """Return the ids of all workers whose name has one of the name keys: 64 at most of one key, and 256 in all."""
        with self._transaction().cursor(self._maps["names"]) as cursor:
            found = (each for key in keys for each in itertools.islice(self._ids(cursor, key), BEARERS_MAX))
            return dict.fromkeys(itertools.islice(found, _NAMESAKES_MAX))

    def _ids(self, cursor: Any, key: str) -> Iterator[str]:
        for _, worker_ids in self._spellings(cursor, key):
            yield from worker_ids

    def _spellings(self, cursor: Any, key: str) -> Iterator[tuple[Worker, list[str]]]:
        """Each spelling of a name key: the first who bears it, and the ids of the first 64."""
        start = key[:NAME_KEY_CHARS].encode(errors="replace") + b"\x00"
        if len(start) > KEY_BYTES_MAX or not cursor.set_range(start):
            return
        for entry, value in itertools.islice(cursor, BEARERS_MAX):
            if not entry.startswith(start):
                return
            worker_ids = _in_order(value)
            worker = self.worker(worker_ids[0])
            if worker is not None and full_name_key(worker.name) == key:
                yield worker, worker_ids

    def near_ids(self, worker_id: str, count: int) -> tuple[list[str], list[str]]:
        """Up to `count` ids before, and from, the place where `worker_id` stands or would stand: they begin alike."""
        key = worker_id.encode(errors="replace")[:KEY_BYTES_MAX]
        before, after = self._around("workers", key, count, values=False)
        return [each.decode() for each in before], [each.decode() for each in after]

    def near_names(self, key: str, count: int) -> list[str]:
        """Return the ids of workers whose name keys begin like `key`, about `count` to each side."""
        start = key[:NAME_KEY_CHARS].encode(errors="replace")[:KEY_BYTES_MAX]
        before, after = self._around("names", start, count, values=True)
        # Each entry is of one spelling, and has the ids of several who bear it.
        here = itertools.chain.from_iterable(map(_in_order, after))
        there = itertools.chain.from_iterable(_in_order(each)[::-1] for each in before[::-1])
        return [*list(itertools.islice(there, count))[::-1], *itertools.islice(here, count)]

    def pool(self, role: str, places: Sequence[tuple[str, str]]) -> Pool:
        """Return the workers of a role in `places`: (city, state), empty for any; no places: anywhere. At most
        4,000."""
        pool = self.kept_pool(role, places)
        if pool is None:
            placed = list(itertools.islice(self._placed(role, places), _POOL_ROWS_MAX))
            # Places may overlap.
            distinct = dict(placed)
            pool = Pool(
                list(distinct),
                fold_all(list(distinct.values())),
                is_whole=len(placed) < _POOL_ROWS_MAX,
                role=role,
                places=tuple(places),
            )
            with self._pools_lock:
                self._pools[role, tuple(places)] = pool
                while len(self._pools) > _POOLS_KEPT:
                    self._pools.popitem(last=False)
        return pool

    def kept_pool(self, role: str, places: Sequence[tuple[str, str]]) -> Pool | None:
        """Return what `pool` gives, where it need not be made: the last few are remembered, since one session asks for
        the same in each of its attempts.
        """
        key = (role, tuple(places))
        with self._pools_lock:
            pool = self._pools.get(key)
            if pool is not None:
                self._pools.move_to_end(key)
        return pool

    def frame(self, role: str, places: Sequence[tuple[str, str]]) -> Frame:
        """Where the workers of a role in `places` stand, to draw from; `places` as for `pool`."""
        frame = self.kept_frame(role, places)
        if frame is None:
            frame = read_frame(self._transaction(), self._maps["places"], role, places)
            with self._pools_lock:
                self._frames[role, tuple(places)] = frame
                while len(self._frames) > _FRAMES_KEPT:
                    self._frames.popitem(last=False)
        return frame

    def kept_frame(self, role: str, places: Sequence[tuple[str, str]]) -> Frame | None:
        """Return what `frame` gives, where it need not be made."""
        key = (role, tuple(places))
        with self._pools_lock:
            frame = self._frames.get(key)
            if frame is not None:
                self._frames.move_to_end(key)
        return frame

    def chunk(self, key: bytes) -> bytes:
        """Return the people of one chunk of a frame."""
        people: bytes = self._transaction().get(key, db=self._maps["places"])
        return people

    def _placed(self, role: str, places: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for city, state in places or (("", ""),):
            start = place_key(role, state, city) if state and city else place_key(role, *filter(None, (state,)))
            only = place_key(city) if city else b""
            with self._transaction().cursor(self._maps["places"]) as cursor:
                if not cursor.set_range(start):
                    continue
                for key in cursor.iternext(keys=True, values=False):
                    if not key.startswith(start):
                        break
                    if not only or key[32:48] == only:
                        for person in cursor.value().decode().split(ITEM):
                            worker_id, _, name = person.partition(FIELD)
                            yield worker_id, name

    def _around(self, name: str, key: bytes, count: int, *, values: bool) -> tuple[list[bytes], list[bytes]]:
        with self._transaction().cursor(self._maps[name]) as cursor:
            after: list[bytes] = []
            if cursor.set_range(key or b"\x00"):
                after = list(itertools.islice(cursor.iternext(keys=not values, values=values), count))
            if cursor.set_range(key or b"\x00"):
                before = list(itertools.islice(cursor.iterprev(keys=not values, values=values), count + 1))[1:]
            else:
                cursor.last()
                before = list(itertools.islice(cursor.iterprev(keys=not values, values=values), count))
        return before[::-1], after

    def _transaction(self) -> Any:
        # A read transaction is one thread's; the file never changes, so that it may stay open.
        try:
            return self._by_thread.transaction
        except AttributeError:
            transaction = self._by_thread.transaction = self._reader.env.begin()
            return transaction

    def _get(self, name: str, worker_id: str) -> bytes | None:
        key = _key(worker_id)
        value: bytes | None = self._transaction().get(key, None, self._maps[name]) if key else None
        return value

    def _overlap(self, worker_id: str, shift: Shift | None) -> Shift | None:
        packed = self._get("assignments", worker_id) if shift is not None else None
        if packed is None or shift is None:
            return None
        start, end = _since_1970_us(shift.start), _since_1970_us(shift.end)
        spans = array("q", packed)
        # Sorted by their starts: whatever begins at the end or later does not overlap.
        for at in range(0, 2 * bisect_left(range(len(spans) // 2), end, key=lambda each: spans[2 * each]), 2):
            if start < spans[at + 1]:
                return Shift(_instant(spans[at]), _instant(spans[at + 1]))
        return None

    def _refused(self, worker_id: str, client: bytes) -> bool:
        if not client:
            return False
        return self._transaction().get(client + worker_id.encode(), db=self._maps["refused"]) is not None


def _in_order(ids: bytes) -> list[str]:
    """Return the first ids of a spelling."""
    return sorted(ids.decode().split(ITEM))[:BEARERS_MAX]


def _key(worker_id: str) -> bytes:
    """Return the key of an id; empty for one that cannot stand in a roster."""
    try:
        key = worker_id.encode()
    except UnicodeEncodeError:
        return b""
    return key if len(key) <= KEY_BYTES_MAX else b""


def _worker(worker_id: str, record: bytes) -> Worker:
    name, role, city, state, active, held, latitude, longitude, phone = record.decode().split(FIELD)
    return _new(
        Worker,
        (
            worker_id,
            name,
            role,
            city,
            state,
            active == "1",
            tuple(held.split(ITEM)) if held else (),
            float(latitude) if latitude else None,
            float(longitude) if longitude else None,
            phone,
        ),
    )


def _since_1970_us(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
