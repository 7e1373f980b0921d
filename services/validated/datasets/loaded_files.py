"""Files that are loaded beside the service and swapped in whole: the roster's, and those of each dataset."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Self

import structlog

from lakehouse.server.ended_task import end_task
from validated.config import FilesTable
from validated.datasets.loader import IndexT, Loader, LoadError, Plan
from validated.datasets.parts import modified_at
from validated.datasets.worker import RosterUnavailable, RosterVersion

_log = structlog.get_logger()
_REMIND_S = 60.0
# Problems of files that were refused, in a cause of not being ready.
_PROBLEMS_SAID = 10


@dataclass(frozen=True, slots=True)
class Loaded(Generic[IndexT]):
    """What answers, from one load."""

    index: IndexT
    version: RosterVersion
    sizes: Mapping[str, int]
    """What may not shrink unseen, by what it counts."""
    modified_at: float
    """When the file was written, seconds since 1970."""


class LoadedFiles(Generic[IndexT]):
    """Loads when the files change or when it is asked to; a load that fails leaves the old rows. Files that could not
    be read are tried again; files that were refused, once they change.
    """

    what = "roster"
    """What the log calls it."""
    settles = True
    """Whether a change has to hold still before it is loaded: a file that is being written may read well and lack its
    end."""

    def __init__(self, table: FilesTable, plan: Plan[IndexT]) -> None:
        self._table = table
        self._setting = plan.setting
        self._source = plan.source
        self._loader = Loader(table, plan)
        self._loaded: Loaded[IndexT] | None = None
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
        self._is_unfit = False
        """Whether the last load found that the rows of before may not be believed either."""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Load, and watch the files for the time of the block. Files that cannot be read do not keep it from opening:
        look-ups raise RosterUnavailable until a load succeeds.
        """
        await self._load(await self._signatures(), forced=False)
        watch = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            self._loader.close()
            await end_task(watch)

    def reload(self) -> None:
        """Load now, changed or not (SIGHUP). Call in the event loop."""
        self._forced = True
        self._wake.set()

    def unready(self) -> Sequence[str]:
        """Why nobody can be looked up now; nothing where somebody can."""
        if self._loaded is None or self._is_unfit:
            problems = "; ".join(self._problems) or "it is being read"
            return (f"no {self.what} was loaded from {self._source}: {problems}",)
        if self._table.max_age_action == "close" and self._is_old(self._loaded):
            return (f"{self._source} is older than {self._setting}.max_age_s allows",)
        return ()

    def counts(self) -> Mapping[str, int]:
        """Return loads, failed loads, and rows now, for metrics."""
        return {**self._counts, "rows": self._loaded.index.row_count if self._loaded else 0}

    def state(self) -> Mapping[str, int]:
        """Return the roster's age, whether the last load failed, and unknown workers of companions, for metrics."""
        loaded = self._loaded
        return {
            "age_seconds": int(time.time() - loaded.modified_at) if loaded else 0,
            "refused": int(bool(self._failure[0])),
            "too_old": int(loaded is not None and self._is_old(loaded)),
            **{f"{name}_unknown": count for name, count in self._unknown.items()},
        }

    def metrics(self) -> Mapping[str, int]:
        """Return `counts` and `state`."""
        return {**self.counts(), **self.state()}

    @property
    def version(self) -> RosterVersion | None:
        """The version that answers now."""
        return self._loaded.version if self._loaded else None

    def _open_loaded(self) -> Loaded[IndexT]:
        """Return what answers now. Raises RosterUnavailable where nothing may."""
        loaded = self._loaded
        closes = self._table.max_age_action == "close"
        if loaded is None or self._is_unfit or (closes and self._is_old(loaded)):
            raise RosterUnavailable("; ".join(self.unready()))
        return loaded

    def _is_old(self, loaded: Loaded[IndexT]) -> bool:
        return 0 < self._table.max_age_s < time.time() - loaded.modified_at

    async def _signatures(self) -> object:
        """Return what changes when the rows do."""
        return self._loader.signatures()

    def _modified_at(self) -> float:
        """When what is about to be read was written, seconds since 1970."""
        return modified_at(self._table.path)

    def _still_there(self) -> None:
        """Take note that the rows are known to be what was read."""

    async def _watch(self) -> None:
        seen = await self._signatures()
        reminded_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._table.poll_ms / 1000)
            self._wake.clear()
            now = await self._signatures()
            if self._forced or (now != self._tried and (now == seen or not self.settles)):
                forced, self._forced = self._forced, False
                await self._load(now, forced=forced)
            elif now == self._tried:
                self._still_there()
            seen = now
            if time.monotonic() - reminded_at >= _REMIND_S:
                reminded_at = time.monotonic()
                self._remind()

    def _remind(self) -> None:
        if self._loaded is None or self._is_unfit:
            _log.warning(f"no {self.what}", path=self._source, advice="mend it; it is loaded by itself")
        elif self._is_old(self._loaded):
            self._warn_of_age(self._loaded)

    def _warn_of_age(self, loaded: Loaded[IndexT]) -> None:
        _log.warning(
            f"{self.what} too old",
            path=self._source,
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
            self._is_unfit = self._is_unfit or error.is_unfit
            if error.retry:
                self._tried = None
            self._report_failure(error)
            return
        self._loaded, self._is_unfit = loaded, False
        self._failure = ("", 0.0)
        self._unknown = report["unknown"]
        self._counts["loads"] += 1
        for warning in report["warnings"]:
            _log.warning(f"{self.what} companion", problem=warning)
        for dataset, columns in report["columns"].items():
            # What speaks for somebody because nobody says otherwise is never silent.
            if columns["defaulted"] or columns["ignored"]:
                event = _log.warning if "active" in columns["defaulted"] else _log.info
                facts = {"dataset": dataset, "defaulted": columns["defaulted"], "ignored": columns["ignored"]}
                event(f"{self.what} columns", **facts)
        _log.info(
            f"{self.what} loaded",
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
            f"{self.what} not loaded",
            path=self._source,
            problems=error.problems[:20],
            problems_left_out=max(0, len(error.problems) - 20) + error.left_out,
            tried_again=error.retry,
            serving=self._loaded.version.version if self._loaded and not self._is_unfit else None,
        )

    def _check_shrink(self, new: Loaded[IndexT], *, forced: bool) -> None:
        """Raise LoadError where `new` has lost too much; where it is loaded by SIGHUP after that, it may."""
        old, table = self._loaded, self._table
        if old is None or table.allow_shrink or (forced and self._shrunk == new.version.version):
            return
        for what, before in old.sizes.items():
            after = new.sizes.get(what, 0)
            if after < before * (1 - table.shrink_max):
                self._shrunk = new.version.version
                text = (
                    f"{self._source}: {before} {what} would become {after}: more than {self._setting}.shrink_max "
                    f"({table.shrink_max:.0%}) is lost. If that is right, send SIGHUP, which loads them once, or set "
                    f"{self._setting}.allow_shrink"
                )
                raise LoadError([text])

    def _build(self) -> tuple[Loaded[IndexT], dict[str, Any]]:
        modified = self._modified_at()
        index, report = self._loader.load()
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        version = RosterVersion(self._source, report["version"], index.row_count, now)
        return Loaded(index, version, self._sizes(index, report), modified), report

    def _sizes(self, index: IndexT, report: Mapping[str, Any]) -> Mapping[str, int]:
        """Return what may not shrink unseen."""
        return {"rows": index.row_count}
