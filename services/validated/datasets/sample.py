"""A seeded sample of the workers of an index, without reading them all: a draw costs what it looks at.

The index holds the people of one role and place in chunks, whose order is that of the file. A position among all of
them is drawn, never a chunk: whoever stands in a small chunk, or first in the alphabet, is drawn as often as anybody
else. The generator and what is taken of it are of a kind that Python keeps the same over its versions.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from validated.datasets.index_keys import CHUNK_WORKERS, FIELD, ITEM, place_key
from validated.datasets.worker import Draw, Found

if TYPE_CHECKING:
    from validated.datasets.index import RosterIndex

# Of a role in more chunks than these (16 million workers, or so many cities) only these are drawn from.
_CHUNKS_MAX: Final = 65_536
_BATCH: Final = 64
# A draw of more than these will look at most of a chunk's people.
_SPLIT_FROM: Final = 300
# Where so many are left when enough were found, they are looked at as well: the total is then exact.
_REST_MAX: Final = 256
EXAMINED_MAX: Final = 20_000
"""Workers that one draw looks at, about 5 microseconds each."""
_LISTED_MAX: Final = 1024
_PLACE_CHARS: Final = 48
_FIELD: Final = FIELD.encode()
_ITEM: Final = ITEM.encode()


class Frame(NamedTuple):
    """The chunks that hold the workers of a role in some places."""

    chunks: Sequence[bytes]
    """Their keys, distinct."""
    ends: Sequence[int]
    """How many workers there are up to the end of each chunk."""
    is_whole: bool
    """Whether there are no others."""
    worker_ids: Sequence[str] = ()
    """All of them in their order, where they are few."""

    @property
    def size(self) -> int:
        """How many workers there are."""
        return self.ends[-1] if self.ends else 0


def read_frame(transaction: Any, places_map: Any, role: str, places: Sequence[tuple[str, str]]) -> Frame:
    """Return the frame of `role` in `places`: (city, state), an empty one for any; no places: anywhere."""
    # Places may overlap.
    chunks: dict[bytes, int] = {}
    is_whole = True
    with transaction.cursor(places_map) as cursor:
        for city, state in places or (("", ""),):
            for prefix in _prefixes(cursor, role, city, state):
                is_whole = _add_chunks(cursor, prefix, chunks) and is_whole
    for key, size in chunks.items():
        if not size:
            chunks[key] = transaction.get(key, db=places_map).count(_ITEM) + 1
    frame = Frame(list(chunks), list(accumulate(chunks.values())), is_whole)
    if frame.size > _LISTED_MAX:
        return frame
    people = (person for key in chunks for person in transaction.get(key, db=places_map).split(_ITEM))
    return frame._replace(worker_ids=[_id_of(person) for person in people])


def _prefixes(cursor: Any, role: str, city: str, state: str) -> Iterator[bytes]:
    if state or not city:
        yield place_key(role, *filter(None, (state, city)))
        return
    # The state stands before the city: it is asked for in each state that has the role.
    start, only = place_key(role), place_key(city)
    key = start
    for _ in range(_CHUNKS_MAX):
        if not cursor.set_range(key) or not cursor.key().startswith(start):
            return
        in_state = cursor.key()[:32]
        yield in_state + only
        key = in_state + b"\xff" * 21


def _add_chunks(cursor: Any, prefix: bytes, chunks: dict[bytes, int]) -> bool:
    """Add the chunks whose keys begin with `prefix`, the size of a full one, 0 for the last of its place; whether
    there was room for all.
    """
    if not cursor.set_range(prefix):
        return True
    last = b""
    for key in cursor.iternext(keys=True, values=False):
        if last and key[:_PLACE_CHARS] == last[:_PLACE_CHARS]:
            # All but the last one of a place are full.
            chunks[last] = CHUNK_WORKERS
        if not key.startswith(prefix):
            break
        if len(chunks) >= _CHUNKS_MAX and key not in chunks:
            return False
        chunks.setdefault(key, 0)
        last = key
    return True


class IndexDraw:
    """One draw from an index, in steps, so that a long one can go on in a thread."""

    def __init__(self, index: RosterIndex, frame: Frame, draw: Draw, qualifies: Callable[[Found], bool]) -> None:
        self._index = index
        self._frame = frame
        self._draw = draw
        self._qualifies = qualifies
        self._random = random.Random(draw.seed)  # noqa: S311  a fair sample, not a secret
        self._moved: dict[int, int] = {}
        self._taken = 0
        self._split: dict[int, list[bytes]] = {}
        self.qualified: list[Found] = []
        self.others: list[Found] = []

    @property
    def is_whole(self) -> bool:
        """Whether everybody was looked at."""
        return self._frame.is_whole and self._taken == self._frame.size

    def examine(self, examined_max: int) -> bool:
        """Look at workers until enough were found or `examined_max` were looked at in all; whether nothing is left to
        do.
        """
        question, count = self._draw.question, self._frame.size
        while self._taken < count:
            rest = count - self._taken
            if len(self.qualified) >= self._draw.wanted and rest > _REST_MAX:
                return True
            if self._taken >= examined_max:
                return self._taken >= EXAMINED_MAX
            # Most who stand there qualify: a few more than are missing will do.
            missing = max(self._draw.wanted - len(self.qualified), 8)
            ids = self._next_ids(min(_BATCH, missing + missing // 8, rest))
            found = self._index.found(ids, question.shift, question.client_id, keep=rest <= _REST_MAX)
            for each in found.values():
                (self.qualified if self._qualifies(each) else self.others).append(each)
        return True

    def _next_ids(self, count: int) -> list[str]:
        """Return those at the next positions of a range that Fisher and Yates shuffle: only what was moved is held."""
        size, moved, draw, listed = self._frame.size, self._moved, self._random.random, self._frame.worker_ids
        ids: list[str] = []
        for here in range(self._taken, self._taken + count):
            # Not randrange: Python does not promise that it gives the same in another version.
            there = here + int(draw() * (size - here))
            position = moved.get(there, there)
            moved[there] = moved.pop(here, here)
            self._taken += 1
            ids.append(listed[position] if listed else self._id_at(position))
        return ids

    def _id_at(self, position: int) -> str:
        at = bisect_right(self._frame.ends, position)
        start = self._frame.ends[at - 1] if at else 0
        before, after = position - start, self._frame.ends[at] - position
        people = self._split.get(at)
        if people is not None:
            person = people[before]
        elif self._taken > _SPLIT_FROM:
            people = self._split[at] = self._index.chunk(self._frame.chunks[at]).split(_ITEM)
            person = people[before]
        # A short draw takes one of each chunk: the chunk is parted up to it, from the nearer end.
        elif before < after:
            person = self._index.chunk(self._frame.chunks[at]).split(_ITEM, before + 1)[before]
        else:
            person = self._index.chunk(self._frame.chunks[at]).rsplit(_ITEM, after)[-after]
        return _id_of(person)


def _id_of(person: bytes) -> str:
    return person.partition(_FIELD)[0].decode()
