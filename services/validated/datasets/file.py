"""``FileRoster``: a roster in files, loaded beside the service and swapped in whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from validated.config import RosterTable
from validated.datasets.index import Pool, RosterIndex
from validated.datasets.loaded_files import Loaded, LoadedFiles
from validated.datasets.loader import roster_plan
from validated.datasets.near import near_workers
from validated.datasets.sample import EXAMINED_MAX, IndexDraw
from validated.datasets.worker import (
    Candidates,
    Criteria,
    Draw,
    Drawn,
    Found,
    Question,
    Wanted,
    Worker,
)

# Above it a look-up takes milliseconds: it runs in a thread, so that other calls are served meanwhile.
_INLINE_IDS_MAX = 200
# One or two people are looked for in some 0.3 ms. A thread would hold the interpreter no shorter, and be waited for.
_INLINE_WANTED_MAX = 2
_INLINE_ROWS_MAX = 100_000
# So long a text is searched for names, so many words of it are looked up, and so many workers of a draw are looked at,
# in a millisecond or two: a thread would let nobody else in sooner.
_INLINE_CHARS_MAX = 5_000
_INLINE_NAMED_MAX = 600
_INLINE_EXAMINED_MAX = 300


class FileAnswer:
    """See Answer. Holds on to the version that it began with, whatever is loaded meanwhile."""

    def __init__(self, loaded: Loaded[RosterIndex], question: Question, *, near_ms: int) -> None:
        self.version = loaded.version
        self._index = loaded.index
        self._question = question
        self._near_ms = near_ms
        self.found: Mapping[str, Found] = {}
        self.namesakes: Sequence[Worker] = ()

    def read(self) -> None:
        """Answer the question."""
        index, question = self._index, self._question
        self.found = index.found(question.worker_ids, question.shift, question.client_id)
        if question.names is not None:
            keys = question.names.keys(index.begins_a_name)
            self.namesakes = [worker for key in keys for worker in index.bearers(key)]

    async def near(self, wanted: Sequence[Wanted], criteria: Criteria) -> Candidates:
        """See Answer."""
        index = self._index
        small = index.row_count <= _INLINE_ROWS_MAX
        pool = index.kept_pool(criteria.role, criteria.places)
        if pool is None and small:
            pool = index.pool(criteria.role, criteria.places)
        elif pool is None:
            pool = await asyncio.to_thread(index.pool, criteria.role, criteria.places)
        if pool.is_whole:
            # Whoever does not stand in it does not qualify: there is nobody else to look for.
            return Candidates(pool.worker_ids, pool.names, partial(self._found_at, pool.worker_ids), is_whole=True)
        if small and len(wanted) <= _INLINE_WANTED_MAX:
            return self._near(wanted, pool)
        return await asyncio.to_thread(self._near, wanted, pool)

    def _near(self, wanted: Sequence[Wanted], pool: Pool) -> Candidates:
        index, question = self._index, self._question
        near = near_workers(index, wanted, pool, ends_at=time.monotonic() + self._near_ms / 1000)
        found = index.found(near, question.shift, question.client_id)
        return Candidates.of([each for each in found.values() if pool.has_place_for(each.worker)])

    def _found_at(self, worker_ids: Sequence[str], at: int) -> Found:
        worker_id = worker_ids[at]
        return self._index.found((worker_id,), self._question.shift, self._question.client_id)[worker_id]


class FileRoster(LoadedFiles[RosterIndex]):
    """A WorkerLookup on files; see LoadedFiles. Files that could not be read are tried again; files that were refused,
    once they change.
    """

    def __init__(self, table: RosterTable, *, near_ms: int) -> None:
        super().__init__(table, roster_plan(table))
        self._near_ms = near_ms

    async def look_up(self, question: Question) -> FileAnswer:
        """See WorkerLookup."""
        answer = FileAnswer(self._open_loaded(), question, near_ms=self._near_ms)
        if len(question.worker_ids) <= _INLINE_IDS_MAX and _chars(question) <= _INLINE_CHARS_MAX:
            answer.read()
        else:
            await asyncio.to_thread(answer.read)
        return answer

    async def draw(self, draw: Draw, qualifies: Callable[[Found], bool]) -> Drawn:
        """See WorkerLookup."""
        loaded = self._open_loaded()
        index, question = loaded.index, draw.question

        def named() -> list[Found]:
            worker_ids = dict.fromkeys(question.worker_ids)
            if question.names is not None:
                worker_ids |= index.namesakes(question.names.keys(index.begins_a_name))
            return list(index.found(worker_ids, question.shift, question.client_id).values())

        if len(question.worker_ids) <= _INLINE_NAMED_MAX and _chars(question) <= _INLINE_CHARS_MAX:
            found = named()
        else:
            found = await asyncio.to_thread(named)
        frame = index.kept_frame(*draw.criteria)
        if frame is None and index.row_count <= _INLINE_ROWS_MAX:
            frame = index.frame(*draw.criteria)
        elif frame is None:
            frame = await asyncio.to_thread(index.frame, *draw.criteria)
        work = IndexDraw(index, frame, draw, qualifies)
        if not work.examine(_INLINE_EXAMINED_MAX):
            await asyncio.to_thread(work.examine, EXAMINED_MAX)
        return Drawn(loaded.version, found, work.qualified, work.others, work.is_whole)

    def _sizes(self, index: RosterIndex, report: Mapping[str, Any]) -> Mapping[str, int]:
        sizes = {"workers": index.row_count, "active workers": report["active"]}
        if "do_not_send" in report["rows"]:
            sizes["do-not-send lines"] = report["rows"]["do_not_send"]
        return sizes


def _chars(question: Question) -> int:
    return 0 if question.names is None else question.names.chars
