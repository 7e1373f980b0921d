"""Runs the process that reads a roster and builds its index (``reader``), and opens what it built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import lmdb
import structlog

from lakehouse.settings import ConfigError
from validated.config import FilesTable, RosterTable
from validated.datasets.index import RosterIndex
from validated.datasets.parts import Signature, signature
from validated.datasets.store import Store, StoreError

_log = structlog.get_logger()


class _Counted(Protocol):
    row_count: int


IndexT = TypeVar("IndexT", bound=_Counted)
_SERVICES: Final = Path(__file__).resolve().parents[2]


class LoadError(Exception):
    """The files make no roster. `problems` says why, row by row."""

    def __init__(
        self, problems: Sequence[str], left_out: int = 0, *, retry: bool = False, is_unfit: bool = False
    ) -> None:
        super().__init__(problems[0] if problems else "unknown")
        self.problems = problems
        self.left_out = left_out
        self.retry = retry
        """Whether the same files may do later: they could not be read, or their reader was killed."""
        self.is_unfit = is_unfit
        """See RefusedError."""


class Plan(NamedTuple, Generic[IndexT]):
    """What is loaded, and how."""

    setting: str
    """The table of the configuration."""
    source: str
    """Return what people call the rows by."""
    paths: Sequence[Path]
    """The files that are watched; none of a table in a database."""
    request: Callable[[], Mapping[str, Any]]
    """What `build` takes as `files`, made for each load. Raises ConfigError where a secret's file cannot be read."""
    open: Callable[[Path], IndexT]
    """Makes the index out of its folder. Raises OSError, ValueError, KeyError, lmdb.Error."""
    folder: str
    """The name of the folder of its indexes, beside those of others."""


class Loader(Generic[IndexT]):
    """Loads the files of `table` by `plan`. One load at a time, in any thread."""

    def __init__(self, table: FilesTable, plan: Plan[IndexT]) -> None:
        self._table = table
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._temporary: Path | None = None
        self._store: Path | None = None

    def signatures(self) -> tuple[Signature, ...]:
        """Return what changes when the files do."""
        return tuple(signature(path) for path in self._plan.paths)

    def load(self) -> tuple[IndexT, dict[str, Any]]:
        """Return the index and the report of its building. Raises LoadError."""
        for path, each in zip(self._plan.paths, self.signatures(), strict=True):
            if each is None:
                raise LoadError([f"{path}: {_why_not(path)}; check the path and the permissions"], retry=True)
        report = self._run()
        problems = [_sentence(problem) for problem in report["problems"]]
        if problems:
            left_out, retry, is_unfit = report["problems_left_out"], report["retry"], report["is_unfit"]
            raise LoadError(problems, left_out, retry=retry, is_unfit=is_unfit)
        try:
            return self._plan.open(Path(report["index"])), report
        except (OSError, ValueError, KeyError, lmdb.Error) as error:
            text = (
                f"{self._plan.source}: the index cannot be opened ({type(error).__name__}: {error}); it is built again"
            )
            raise LoadError([text], retry=True) from None

    def close(self) -> None:
        """End a load that runs, and remove the store where it is a temporary one."""
        self._closing.set()
        process = self._process
        if process is not None:
            process.kill()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _index_dir(self) -> Path:
        """Return the folder of indexes, made where it is missing."""
        if self._store is not None and self._store.is_dir():
            return self._store
        wanted = self._table.index_dir or default_index_dir().with_name(self._plan.folder)
        try:
            self._store = Store(wanted).root
        except (StoreError, OSError) as error:
            if self._temporary is None or not self._temporary.is_dir():
                self._temporary = Path(tempfile.mkdtemp(prefix="validated-"))
                setting = f"{self._plan.setting}.index_dir"
                advice = f"set {setting} to a folder of this user's own; each start builds anew without it"
                _log.warning("no folder for indexes", problem=str(error), advice=advice)
            self._store = self._temporary
        return self._store

    def _run(self) -> dict[str, Any]:
        table, source = self._table, self._plan.source
        try:
            files = dict(self._plan.request())
        except ConfigError as error:
            raise LoadError([f"{self._plan.setting}: {error}"], retry=True) from None
        request = {
            "files": files,
            "paths": [str(path) for path in self._plan.paths],
            "index_dir": str(self._index_dir()),
            "rows_max": table.rows_max,
            "memory_mb": table.load_memory_mb,
        }
        search = os.pathsep.join(filter(None, (str(_SERVICES), os.environ.get("PYTHONPATH", ""))))
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "validated.datasets.reader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": search},
            )
        except OSError as error:
            raise LoadError([f"{source}: the reader does not start: {error.strerror}"], retry=True) from None
        self._process = process
        try:
            if self._closing.is_set():
                process.kill()
            answer, complaint = process.communicate(json.dumps(request).encode(), timeout=table.load_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise LoadError(
                [f"{source}: not read in {table.load_ms} ms; raise {self._plan.setting}.load_ms"], retry=True
            ) from None
        finally:
            self._process = None
        if process.returncode != 0:
            last = complaint.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            text = f"{source}: the reader ended with {process.returncode}: {last[0][:400]}"
            raise LoadError([text], retry=True)
        report: dict[str, Any] = json.loads(answer)
        return report


def roster_plan(table: RosterTable) -> Plan[RosterIndex]:
    """How a roster is loaded."""
    paths = [path for path in (table.path, table.assignments_path, table.do_not_send_path) if path is not None]
    return Plan("roster", str(table.path), paths, lambda: request_of(table), RosterIndex, default_index_dir().name)


def request_of(table: RosterTable) -> dict[str, Any]:
    """Return what `RosterFiles.read` takes: the files, and the rules by which they are read."""
    return {
        "workers": str(table.path),
        "assignments": str(table.assignments_path or ""),
        "do_not_send": str(table.do_not_send_path or ""),
        "columns": table.columns,
        "ignore_columns": table.ignore_columns,
        "delimiter": table.delimiter,
        "encoding": table.encoding,
        "unknown_max": table.companions_unknown_max,
    }


def default_index_dir() -> Path:
    """Where indexes are kept unless the configuration names a folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if cache.startswith("/") else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111  no error
    return home / "lakehouse" / "datasets"


def _why_not(path: Path) -> str:
    try:
        path.stat()
        for part in path.iterdir():
            try:
                part.stat()
            except OSError as error:
                return f"{part.name}: {error.strerror or error}"
    except OSError as error:
        return error.strerror or str(error)
    return "cannot be listed"


def _sentence(problem: Mapping[str, object]) -> str:
    where = ", ".join(filter(None, (f"row {problem['row']}" if problem["row"] else "", str(problem["column"]))))
    return f"{problem['file']}: {where}: {problem['text']}" if where else f"{problem['file']}: {problem['text']}"
