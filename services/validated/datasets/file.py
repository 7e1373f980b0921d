"""``FileRoster``: a roster in files, loaded beside the service and swapped in whole."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from validated.config import RosterTable
from validated.datasets.index import Pool, RosterIndex
from validated.datasets.loader import Loader, LoadError
from validated.datasets.near import near_workers
from validated.datasets.parts import modified_at
from validated.datasets.sample import EXAMINED_MAX, IndexDraw
from validated.datasets.worker import (
    Candidates,
    Criteria,
    Draw,
    Drawn,
    Found,
    Question,
    RosterUnavailable,
    RosterVersion,
    Wanted,
    Worker,
)

_log = structlog.get_logger()
# Above it a look-up takes milliseconds: it runs in a thread, so that other calls are served meanwhile.
_INLINE_IDS_MAX = 200
# One or two people are looked for in some 0.3 ms. A thread would hold the interpreter no shorter, and be waited for.
_INLINE_WANTED_MAX = 2
_INLINE_ROWS_MAX = 100_000
# So many words of a prompt are looked up, and so many workers of a draw looked at, in about a millisecond.
_INLINE_NAMED_MAX = 600
_INLINE_EXAMINED_MAX = 300
_REMIND_S = 60.0
# Problems of files that were refused, in a cause of not being ready.
_PROBLEMS_SAID = 10


@dataclass(frozen=True, slots=True)
class _Loaded:
    index: RosterIndex
    version: RosterVersion
    sizes: Mapping[str, int]
    """How many workers, active ones and do-not-send lines it has: what may not shrink unseen."""
    modified_at: float
    """When the workers' file was written, seconds since 1970."""


class FileAnswer:
    """See Answer. Holds on to the version that it began with, whatever is loaded meanwhile."""

    def __init__(self, loaded: _Loaded, question: Question, *, near_ms: int) -> None:
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
        if question.names:
            self.namesakes = [worker for key in question.names for worker in index.bearers(key)]

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


class FileRoster:
    """A WorkerLookup on files. Loads when the files change or when it is asked to; a load that fails leaves the old
    roster. Files that could not be read are tried again; files that were refused, once they change.
    """

    def __init__(self, table: RosterTable, *, near_ms: int) -> None:
        self._table = table
        self._near_ms = near_ms
        self._loader = Loader(table)
        self._loaded: _Loaded | None = None
        self._wake = asyncio.Event()
        self._forced = False
        self._tried: object = None
        self._shrunk: str = ""
        """The version that was refused for having shrunk."""
        self._failure: tuple[str, float] = ("", 0.0)
        self._problems: Sequence[str] = ()
        """The first ones of the last load that failed."""
        self._counts = {"loads": 0, "load_failures": 0}
        self._unknown: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[FileRoster]:
        """Load, and watch the files for the time of the block. Files that cannot be read do not keep it from opening:
        look-ups raise RosterUnavailable until a load succeeds.
        """
        await self._load(self._loader.signatures(), forced=False)
        watch = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            watch.cancel()
            self._loader.close()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def look_up(self, question: Question) -> FileAnswer:
        """See WorkerLookup."""
        answer = FileAnswer(self._open_roster(), question, near_ms=self._near_ms)
        if len(question.worker_ids) + len(question.names) <= _INLINE_IDS_MAX:
            answer.read()
        else:
            await asyncio.to_thread(answer.read)
        return answer

    async def draw(self, draw: Draw, qualifies: Callable[[Found], bool]) -> Drawn:
        """See WorkerLookup."""
        loaded = self._open_roster()
        index, question = loaded.index, draw.question

        def named() -> list[Found]:
            worker_ids = dict.fromkeys(question.worker_ids) | index.namesakes(question.names)
            return list(index.found(worker_ids, question.shift, question.client_id).values())

        if len(question.worker_ids) + len(question.names) <= _INLINE_NAMED_MAX:
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

    def reload(self) -> None:
        """Load now, changed or not (SIGHUP). Call in the event loop."""
        self._forced = True
        self._wake.set()

    def unready(self) -> Sequence[str]:
        """Why nobody can be looked up now; nothing where somebody can."""
        if self._loaded is None:
            problems = "; ".join(self._problems) or "it is being read"
            return (f"no roster was loaded from {self._table.path}: {problems}",)
        if self._table.max_age_action == "close" and self._is_old(self._loaded):
            return (f"{self._table.path} is older than roster.max_age_s allows",)
        return ()

    def counts(self) -> Mapping[str, int]:
        """Loads, failed loads, and rows now, for metrics."""
        return {**self._counts, "rows": self._loaded.index.row_count if self._loaded else 0}

    def state(self) -> Mapping[str, int]:
        """The roster's age, whether the last load failed, and unknown workers of companions, for metrics."""
        loaded = self._loaded
        return {
            "age_seconds": int(time.time() - loaded.modified_at) if loaded else 0,
            "refused": int(bool(self._failure[0])),
            "too_old": int(loaded is not None and self._is_old(loaded)),
            **{f"{name}_unknown": count for name, count in self._unknown.items()},
        }

    @property
    def version(self) -> RosterVersion | None:
        """The version that answers now."""
        return self._loaded.version if self._loaded else None

    def _open_roster(self) -> _Loaded:
        """The roster that answers now. Raises RosterUnavailable where none may."""
        loaded = self._loaded
        if loaded is None or (self._table.max_age_action == "close" and self._is_old(loaded)):
            raise RosterUnavailable("; ".join(self.unready()))
        return loaded

    def _is_old(self, loaded: _Loaded) -> bool:
        return 0 < self._table.max_age_s < time.time() - loaded.modified_at

    async def _watch(self) -> None:
        seen = self._loader.signatures()
        reminded_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._table.poll_ms / 1000)
            self._wake.clear()
            now = self._loader.signatures()
            # A file that is being written may read well and lack its end: it has to hold still first.
            if self._forced or (now != self._tried and now == seen):
                forced, self._forced = self._forced, False
                await self._load(now, forced=forced)
            seen = now
            if time.monotonic() - reminded_at >= _REMIND_S:
                reminded_at = time.monotonic()
                self._remind()

    def _remind(self) -> None:
        path = str(self._table.path)
        if self._loaded is None:
            _log.warning("no roster", path=path, advice="mend the file; it is loaded by itself")
        elif self._is_old(self._loaded):
            self._warn_of_age(self._loaded)

    def _warn_of_age(self, loaded: _Loaded) -> None:
        _log.warning(
            "roster too old",
            path=str(self._table.path),
            age_s=int(time.time() - loaded.modified_at),
            max_age_s=self._table.max_age_s,
            action=self._table.max_age_action,
        )

    async def _load(self, signatures: object, *, forced: bool) -> None:
        self._tried = signatures
        started = time.monotonic()
        try:
            loaded, report = await asyncio.to_thread(self._build)
            self._check_shrink(loaded, forced=forced)
        except LoadError as error:
            self._counts["load_failures"] += 1
            if error.retry:
                self._tried = None
            self._report_failure(error)
            return
        self._loaded = loaded
        self._failure = ("", 0.0)
        self._unknown = report["unknown"]
        self._counts["loads"] += 1
        for warning in report["warnings"]:
            _log.warning("roster companion", problem=warning)
        for dataset, columns in report["columns"].items():
            # What speaks for somebody because nobody says otherwise is never silent.
            if columns["defaulted"] or columns["ignored"]:
                event = _log.warning if "active" in columns["defaulted"] else _log.info
                event("roster columns", dataset=dataset, defaulted=columns["defaulted"], ignored=columns["ignored"])
        _log.info(
            "roster loaded",
            path=loaded.version.source,
            version=loaded.version.version,
            rows=loaded.version.row_count,
            duration_ms=int((time.monotonic() - started) * 1000),
        )
        if self._is_old(loaded):
            self._warn_of_age(loaded)

    def _report_failure(self, error: LoadError) -> None:
        # One that is tried again at each poll is reported once, and then each minute.
        said, at = self._failure
        if said == str(error) and time.monotonic() - at < _REMIND_S:
            return
        self._failure = (str(error), time.monotonic())
        self._problems = error.problems[:_PROBLEMS_SAID]
        _log.warning(
            "roster not loaded",
            path=str(self._table.path),
            problems=error.problems[:20],
            problems_left_out=max(0, len(error.problems) - 20) + error.left_out,
            tried_again=error.retry,
            serving=self._loaded.version.version if self._loaded else None,
        )

    def _check_shrink(self, new: _Loaded, *, forced: bool) -> None:
        """Raises LoadError where `new` has lost too much; where it is loaded by SIGHUP after that, it may."""
        old, table = self._loaded, self._table
        if old is None or table.allow_shrink or (forced and self._shrunk == new.version.version):
            return
        for what, before in old.sizes.items():
            after = new.sizes.get(what, 0)
            if after < before * (1 - table.shrink_max):
                self._shrunk = new.version.version
                text = (
                    f"{table.path}: {before} {what} would become {after}: more than roster.shrink_max "
                    f"({table.shrink_max:.0%}) is lost. If that is right, send SIGHUP, which loads them once, or set "
                    "roster.allow_shrink"
                )
                raise LoadError([text])

    def _build(self) -> tuple[_Loaded, dict[str, Any]]:
        modified = modified_at(self._table.path)
        index, report = self._loader.load()
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        version = RosterVersion(str(self._table.path), report["version"], index.row_count, now)
        sizes = {"workers": index.row_count, "active workers": report["active"]}
        if "do_not_send" in report["rows"]:
            sizes["do-not-send lines"] = report["rows"]["do_not_send"]
        return _Loaded(index, version, sizes, modified), report
