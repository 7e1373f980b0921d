"""``FileRoster``: a roster in files, loaded beside the service and swapped in whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import structlog

from validated.config import RosterTable
from validated.roster.index import Pool, RosterIndex
from validated.roster.near import near_rows
from validated.roster.worker import (
    Candidates,
    Criteria,
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
_REMIND_S = 60.0
_SERVICES = Path(__file__).resolve().parents[2]

Signature = tuple[tuple[int, int, int, int] | None, ...]


class LoadError(Exception):
    """The files make no roster. `problems` says why, row by row."""

    def __init__(self, problems: Sequence[str], left_out: int = 0) -> None:
        super().__init__(problems[0] if problems else "unknown")
        self.problems = problems
        self.left_out = left_out


@dataclass(frozen=True, slots=True)
class _Loaded:
    index: RosterIndex
    version: RosterVersion


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
            self.namesakes = [index.worker(row) for key in question.names for row in index.bearers(key)]

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
        rows = near_rows(index, wanted, pool, ends_at=time.monotonic() + self._near_ms / 1000)
        worker_ids = [index.worker_id(row) for row in rows if index.is_placed(row, pool)]
        return Candidates.of(list(index.found(worker_ids, question.shift, question.client_id).values()))

    def _found_at(self, worker_ids: Sequence[str], at: int) -> Found:
        worker_id = worker_ids[at]
        return self._index.found((worker_id,), self._question.shift, self._question.client_id)[worker_id]


class FileRoster:
    """A WorkerLookup on files. Loads when the files change or when told to; a load that fails leaves the old roster."""

    def __init__(self, table: RosterTable, *, near_ms: int) -> None:
        self._table = table
        self._near_ms = near_ms
        self._loaded: _Loaded | None = None
        self._wake = asyncio.Event()
        self._forced = False
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._tried: Signature | None = None
        self._counts = {"loads": 0, "load_failures": 0}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[FileRoster]:
        """Load, and watch the files for the time of the block. Files that cannot be read do not keep it from opening:
        look-ups raise RosterUnavailable until a load succeeds.
        """
        await self._load(self._signature())
        watch = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            watch.cancel()
            self._closing.set()
            if self._process is not None:
                self._process.kill()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def look_up(self, question: Question) -> FileAnswer:
        """See WorkerLookup."""
        loaded = self._loaded
        if loaded is None:
            raise RosterUnavailable(f"no roster was loaded from {self._table.path}")
        answer = FileAnswer(loaded, question, near_ms=self._near_ms)
        if len(question.worker_ids) + len(question.names) <= _INLINE_IDS_MAX:
            answer.read()
        else:
            await asyncio.to_thread(answer.read)
        return answer

    def reload(self) -> None:
        """Load now, changed or not (SIGHUP). Call in the event loop."""
        self._forced = True
        self._wake.set()

    def counts(self) -> Mapping[str, int]:
        """Loads, failed loads, and rows now, for metrics."""
        return {**self._counts, "rows": self._loaded.index.row_count if self._loaded else 0}

    @property
    def version(self) -> RosterVersion | None:
        """The version that answers now."""
        return self._loaded.version if self._loaded else None

    async def _watch(self) -> None:
        seen = self._signature()
        reminded_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._table.poll_ms / 1000)
            self._wake.clear()
            now = self._signature()
            # A file that is being written may read well and lack its end: it has to hold still first.
            if self._forced or (now != self._tried and now == seen):
                self._forced = False
                await self._load(now)
                reminded_at = time.monotonic()
            seen = now
            if self._loaded is None and time.monotonic() - reminded_at >= _REMIND_S:
                reminded_at = time.monotonic()
                _log.warning("no roster", path=str(self._table.path), advice="mend the file; it is loaded by itself")

    async def _load(self, signature: Signature) -> None:
        self._tried = signature
        started = time.monotonic()
        try:
            loaded = await asyncio.to_thread(self._build)
        except LoadError as error:
            self._counts["load_failures"] += 1
            _log.warning(
                "roster not loaded",
                path=str(self._table.path),
                problems=error.problems[:20],
                problems_left_out=max(0, len(error.problems) - 20) + error.left_out,
                serving=self._loaded.version.version if self._loaded else None,
            )
            return
        self._loaded = loaded
        self._counts["loads"] += 1
        _log.info(
            "roster loaded",
            path=loaded.version.source,
            version=loaded.version.version,
            rows=loaded.version.row_count,
            duration_ms=int((time.monotonic() - started) * 1000),
        )

    def _signature(self) -> Signature:
        return tuple(_stat(path) for path in self._paths())

    def _paths(self) -> list[Path]:
        table = self._table
        return [path for path in (table.path, table.assignments_path, table.do_not_send_path) if path is not None]

    def _build(self) -> _Loaded:
        with _memory_file() as file:
            report = self._run_build(file.fileno())
            problems = [_told(problem) for problem in report["problems"]]
            if problems:
                raise LoadError(problems, report["problems_left_out"])
            for warning in report["warnings"]:
                _log.warning("roster companion", problem=warning)
            index = RosterIndex(file.fileno())
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return _Loaded(index, RosterVersion(str(self._table.path), report["version"], index.row_count, now))

    def _run_build(self, descriptor: int) -> dict[str, Any]:
        table = self._table
        request = {
            "workers": str(table.path),
            "assignments": str(table.assignments_path or ""),
            "do_not_send": str(table.do_not_send_path or ""),
            "columns": table.columns,
            "rows_max": table.rows_max,
            "memory_mb": table.load_memory_mb,
        }
        search = os.pathsep.join(filter(None, (str(_SERVICES), os.environ.get("PYTHONPATH", ""))))
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "validated.roster.build", str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(descriptor,),
            env={**os.environ, "PYTHONPATH": search},
        )
        self._process = process
        try:
            if self._closing.is_set():
                process.kill()
            answer, complaint = process.communicate(json.dumps(request).encode(), timeout=table.load_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise LoadError([f"{table.path}: not read in {table.load_ms} ms; raise roster.load_ms"]) from None
        finally:
            self._process = None
        if process.returncode != 0:
            last = complaint.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise LoadError([f"{table.path}: the reader ended with {process.returncode}: {last[0][:400]}"])
        report: dict[str, Any] = json.loads(answer)
        return report


def _memory_file() -> IO[bytes]:
    """A file without a name: nothing to clean up, whatever happens."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("roster"), "r+b")
    return tempfile.TemporaryFile()


def _stat(path: Path) -> tuple[int, int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _told(problem: Mapping[str, object]) -> str:
    where = ", ".join(filter(None, (f"row {problem['row']}" if problem["row"] else "", str(problem["column"]))))
    return f"{problem['file']}: {where}: {problem['text']}" if where else f"{problem['file']}: {problem['text']}"
