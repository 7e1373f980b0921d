"""Read a roster or a dataset and build its index. Where the store holds an index of the same bytes, read by the same
rules, nothing is parsed. The service has it done by ``reader``, in a process of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from validated.datasets.checks import Checker
from validated.datasets.columns import ASSIGNMENTS, DO_NOT_SEND, WORKERS
from validated.datasets.dataset import Dataset, Problem, Problems, RefusedError, TableFiles, UnreadableError
from validated.datasets.dataset_build import DatasetFiles, OpenDataset
from validated.datasets.index_build import RosterMaps
from validated.datasets.parts import OpenFiles
from validated.datasets.store import IndexWriter, Store, engine_digest
from validated.datasets.tables import OpenTable, columns_of, first_lines, open_duckdb

_UNKNOWN_SHOWN: Final = 5
_MAPS: Final = ("workers", "names", "places", "assignments", "refused")
_MAP_BYTES_MIN: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class RosterFiles:
    """Which files make a roster, and how far they may be off."""

    workers: TableFiles
    assignments: TableFiles | None = None
    do_not_send: TableFiles | None = None
    unknown_max: float = 0.01
    """The share of a companion's rows whose worker may be unknown."""

    def tables(self) -> Iterator[tuple[Dataset, TableFiles]]:
        """Those that are set, the workers first."""
        for dataset, files in (
            (WORKERS, self.workers),
            (ASSIGNMENTS, self.assignments),
            (DO_NOT_SEND, self.do_not_send),
        ):
            if files is not None:
                yield dataset, files

    def open(self, opened: OpenFiles, _: contextlib.ExitStack, *, problems_max: int) -> Loaded:
        """See Loaded. Raises RefusedError, UnreadableError."""
        return Loaded(self, opened, problems_max=problems_max)

    @property
    def path(self) -> Path:
        """What the roster is called by."""
        return self.workers.path

    @property
    def setting(self) -> str:
        """The table of the configuration that names the files."""
        return WORKERS.setting

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> RosterFiles:
        """Out of JSON: paths under `workers`, `assignments`, `do_not_send`, and the rules for all of them."""
        rules = {
            "ignore_columns": frozenset(given.get("ignore_columns", ())),
            "delimiter": given.get("delimiter", ","),
            "encoding": given.get("encoding", "utf-8"),
        }
        tables = {
            name: TableFiles(Path(given[name]), columns=given.get("columns", {}) if name == "workers" else {}, **rules)
            for name in ("workers", "assignments", "do_not_send")
            if given.get(name)
        }
        return cls(**tables, unknown_max=given.get("unknown_max", 0.01))


class Loaded:
    """What was read of a roster: the engine with the tables, and what was found."""

    def __init__(self, files: RosterFiles, opened: OpenFiles, *, problems_max: int) -> None:
        """Open and hash the files. Raises RefusedError, UnreadableError."""
        self.files = files
        self.problems = Problems(problems_max)
        self.warnings: list[str] = []
        self.tables = [OpenTable(dataset, each, opened) for dataset, each in files.tables()]
        digests = [table.digest for table in self.tables]
        whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        self.version = f"sha256:{whole[:16]}"
        self.unknown: dict[str, int] = {}

    def key(self) -> str:
        """Return the name of the index: the bytes, and every rule by which they are read."""
        rules = [
            (table.dataset.name, table.digest, table.formats, table.names, sorted(table.files.columns.items()),
             sorted(table.files.ignore_columns), table.files.delimiter, table.files.encoding)
            for table in self.tables
        ]  # fmt: skip
        key = json.dumps([engine_digest(), self.files.unknown_max, rules])
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def load(self, db: duckdb.DuckDBPyConnection, folder: Path, *, rows_max: int) -> None:
        """Parse and check everything. Raises RefusedError, UnreadableError where a file is no table."""
        for table in self.tables:
            table.load(db, folder, rows_max=rows_max)
            self.warnings += table.warnings
            Checker(db, table, folder, self.problems).check()
            if table.dataset is ASSIGNMENTS and not self.problems.any:
                self._check_spans(db, table)
            if table.dataset is not WORKERS and not self.problems.any:
                self._check_companion(db, table)

    maps: Sequence[str] = _MAPS

    def write(
        self, db: duckdb.DuckDBPyConnection, scratch: Path, writer: IndexWriter
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Write the maps; what the report and what the manifest have to say of them."""
        facts = RosterMaps(db, scratch, writer).write(self.tables[0], {table.dataset.name for table in self.tables[1:]})
        return {"active": facts.pop("active_count")}, facts

    def report(self) -> dict[str, Any]:
        """Return what the load found."""
        return {
            "version": self.version,
            "index": "",
            "row_count": self.tables[0].row_count,
            "active": 0,
            "rows": {table.dataset.name: table.row_count for table in self.tables},
            "problems": [problem._asdict() for problem in self.problems.kept],
            "problems_left_out": self.problems.left_out,
            "warnings": self.warnings,
            "unknown": self.unknown,
            "columns": {table.dataset.name: columns_of(table) for table in self.tables if table.matched is not None},
            "retry": False,
            "is_unfit": False,
        }

    def _check_spans(self, db: duckdb.DuckDBPyConnection, table: OpenTable) -> None:
        start, end = ("CAST(s.read AS BIGINT)", "CAST(e.read AS BIGINT)")
        rows = db.execute(
            f"SELECT a.part, a.row, {end} <= {start} FROM assignments a "
            'JOIN shift_start_read s ON s."text" = a.shift_start JOIN shift_end_read e ON e."text" = a.shift_end '
            f"WHERE {end} <= {start} OR {end} < 0 ORDER BY a.part, a.row"
        ).fetchall()
        for part, row, is_backwards in rows:
            column, text = "shift_start", "the end must come after the start; mend or remove the row"
            if not is_backwards:
                column, text = "shift_end", "is before 1970: a year of two digits? mend or remove the row"
            self.problems.add(Problem(table.shown(part), row, column, text))

    def _check_companion(self, db: duckdb.DuckDBPyConnection, table: OpenTable) -> None:
        name = table.dataset.name
        stray = f"FROM {name} WHERE worker_id NOT IN (SELECT worker_id FROM workers)"
        counted = db.execute(f"SELECT count(*) {stray}").fetchone()
        unknown = int(counted[0]) if counted else 0
        self.unknown[name] = unknown
        if not unknown:
            return
        rows = db.execute(f"SELECT part, row, worker_id {stray} ORDER BY part, row LIMIT {_UNKNOWN_SHOWN}").fetchall()
        shown = ", ".join(f"row {row} {worker_id[:80]!r}" for _, row, worker_id in rows)
        total = f"{unknown} of {table.row_count} rows name a worker who is not in the roster"
        file, first = table.shown(rows[0][0]), rows[0][1]
        if unknown > self.files.unknown_max * table.row_count:
            text = (
                f"{total} ({shown}): more than {self.files.unknown_max:.2%}; write the ids as the roster does "
                "(leading zeros?), or raise roster.companions_unknown_max"
            )
            self.problems.add(Problem(file, first, "worker_id", text))
        else:
            # People leave, and their past assignments stay in the file for a while.
            self.warnings.append(f"{file}: {total} ({shown}); ignored")


def build(
    files: RosterFiles | DatasetFiles,
    store: Store,
    *,
    rows_max: int,
    memory_mb: int,
    problems_max: int = 1000,
    opened: OpenFiles | None = None,
) -> dict[str, Any]:
    """Find or build the index of `files`, a roster's or a dataset's, in `store`; `opened` has those that are open
    already. Returns the report: {version, index
    (its folder; empty where there are problems), row_count, rows, problems: [{file, row, column, text}],
    problems_left_out, warnings, unknown, columns, retry (whether trying again may help), is_unfit (see RefusedError)}.
    """
    with contextlib.ExitStack() as stack:
        try:
            opened = opened or stack.enter_context(OpenFiles())
            loaded: Loaded | OpenDataset = files.open(opened, stack, problems_max=problems_max)
            key = loaded.key()
            found = store.find(key)
            if found is not None:
                report: dict[str, Any] = json.loads((found / "manifest.json").read_bytes())["report"]
                return {**report, "version": loaded.version, "index": str(found)}
            with store.building() as folder:
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    report, facts = _build(loaded, folder, Path(scratch), rows_max=rows_max, memory_mb=memory_mb)
                if report["problems"] or report["problems_left_out"]:
                    return report
                place = store.place(folder, key, loaded.maps, {**facts, "report": report})
                return {**report, "index": str(place)}
        except RefusedError as error:
            return _refused(error.problems, retry=False) | {"is_unfit": error.is_unfit}
        except UnreadableError as error:
            return _refused((error.problem,), retry=True)
        except duckdb.OutOfMemoryException:
            text = f"does not fit into {memory_mb} MB while it is sorted; raise {files.setting}.load_memory_mb"
            return _refused((Problem(str(files.path), 0, "", text),), retry=True)
        except (duckdb.Error, OSError) as error:
            text = f"cannot be indexed: {first_lines(str(error))}"
            return _refused((Problem(str(files.path), 0, "", text),), retry=True)


def _build(
    loaded: Loaded | OpenDataset, folder: Path, scratch: Path, *, rows_max: int, memory_mb: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the index into `folder`, unless there are problems; the report, and what the manifest has to say."""
    with open_duckdb(scratch, memory_mb) as db:
        loaded.load(db, scratch, rows_max=rows_max)
        report = loaded.report()
        if loaded.problems.any:
            return report, {}
        # What the maps hold is what was read, a few times over; the file takes only what it needs.
        bytes_max = _MAP_BYTES_MIN + 16 * sum(table.row_count * 1024 for table in loaded.tables)
        writer = IndexWriter(folder, bytes_max=bytes_max)
        try:
            said, facts = loaded.write(db, scratch, writer)
        finally:
            writer.close()
    return report | said, facts


def _refused(problems: tuple[Problem, ...], *, retry: bool) -> dict[str, Any]:
    return {
        "version": "",
        "index": "",
        "row_count": 0,
        "rows": {},
        "problems": [problem._asdict() for problem in problems],
        "problems_left_out": 0,
        "warnings": [],
        "unknown": {},
        "columns": {},
        "retry": retry,
        "is_unfit": False,
    }


def answer(request: Mapping[str, Any], opened: OpenFiles | None = None) -> dict[str, Any]:
    """Return the report of what `Loader` asks for: {files, index_dir, rows_max, memory_mb}. See `build`."""
    store = Store(Path(request["index_dir"]))
    given = request["files"]
    report = build(
        DatasetFiles.read(given) if "dataset" in given else RosterFiles.read(given),
        store,
        rows_max=request["rows_max"],
        memory_mb=request["memory_mb"],
        opened=opened,
    )
    store.sweep()
    return report
