"""``LoadedDataset``: a declared dataset in files or in PostgreSQL, or the roster as one. ``Datasets``: those of a
deployment, by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lakehouse.server.ended_task import end_task
from validated.config import ROSTER_DATASET, DatabaseTable, DatasetTable, RosterTable, database_of
from validated.datasets.columns import WORKERS
from validated.datasets.dataset import ColumnType
from validated.datasets.dataset_index import DatasetIndex
from validated.datasets.loaded_files import Loaded, LoadedFiles
from validated.datasets.loader import LoadError, Plan
from validated.datasets.worker import RosterVersion

if TYPE_CHECKING:
    from validated.datasets.postgres_dataset import WatchedTable

_ROSTER_TYPES: Final = {
    ColumnType.FLAG: "boolean",
    ColumnType.LABELS: "labels",
    ColumnType.LATITUDE: "decimal",
    ColumnType.LONGITUDE: "decimal",
}
# Nothing that a model may be asked for or told: a declared kind does not know it.
_ROSTER_HIDDEN: Final = ("phone",)


class DatasetShape(NamedTuple):
    """What a declaration may name of a dataset."""

    columns: Mapping[str, str]
    """Each column with its type, as in `DatasetTable.columns`."""
    key: Sequence[str]


ROSTER_SHAPE: Final = DatasetShape(
    {each.name: _ROSTER_TYPES.get(each.type, "text") for each in WORKERS.columns if each.name not in _ROSTER_HIDDEN},
    WORKERS.key,
)


def request_of_dataset(name: str, table: DatasetTable | RosterTable) -> dict[str, Any]:
    """Return what `DatasetFiles.read` takes. Raises ConfigError where the secret of a database cannot be read."""
    request: dict[str, Any] = {
        "dataset": name,
        "path": source_of(table),
        "ignore_columns": table.ignore_columns,
        "delimiter": table.delimiter,
        "encoding": table.encoding,
    }
    if isinstance(table, DatasetTable):
        request |= {
            "key": table.key,
            "columns": list(table.columns.items()),
            "may_be_empty": table.may_be_empty,
            "source_columns": table.source_columns,
        }
    else:
        request["source_columns"] = table.columns
    database = database_of(table)
    if database is not None:
        from validated.datasets.postgres_dataset import request_of_database  # noqa: PLC0415  see `_watched`

        request["postgres"] = request_of_database(table, database)
    return request


def source_of(table: DatasetTable | RosterTable) -> str:
    """Return what people call the rows by."""
    database = database_of(table)
    return str(table.path) if database is None else f"{database.schema_name}.{database.table}"


def _watched(database: DatabaseTable) -> WatchedTable:
    # The driver is for those who need it: it takes as long to import as all of validated.
    from validated.datasets.postgres_dataset import WatchedTable  # noqa: PLC0415

    return WatchedTable(database)


class LoadedDataset(LoadedFiles[DatasetIndex]):
    """One dataset; see LoadedFiles."""

    def __init__(self, name: str, table: DatasetTable | RosterTable) -> None:
        setting = "roster" if isinstance(table, RosterTable) else f"datasets.{name}"
        database = database_of(table)
        self._database = None if database is None else _watched(database)
        self.settles = database is None
        plan = Plan(
            setting,
            source_of(table),
            (table.path,) if database is None else (),
            lambda: request_of_dataset(name, table),
            DatasetIndex,
            f"dataset-{name}",
        )
        super().__init__(_beside(table) if isinstance(table, RosterTable) else table, plan)
        self.what = f"dataset {name}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[LoadedDataset]:
        """See LoadedFiles."""
        async with super().open():
            try:
                yield self
            finally:
                if self._database is not None:
                    await self._database.close()

    def current(self) -> tuple[DatasetIndex, RosterVersion]:
        """Return what answers now: hold on to it, and one version answers everything. Raises RosterUnavailable."""
        loaded = self._open_loaded()
        return loaded.index, loaded.version

    async def _signatures(self) -> object:
        return await super()._signatures() if self._database is None else await self._database.look()

    def _modified_at(self) -> float:
        return super()._modified_at() if self._database is None else time.time()

    def _still_there(self) -> None:
        if self._database is not None and self._database.knows_versions and self._loaded is not None:
            self._loaded = replace(self._loaded, modified_at=time.time())

    def _build(self) -> tuple[Loaded[DatasetIndex], dict[str, Any]]:
        if self._database is not None and self._database.problem:
            raise LoadError([f"{self._source}: {self._database.problem}"], retry=True)
        return super()._build()


class Datasets:
    """All datasets of a deployment, by name; the roster's workers are the one called `roster`, which is loaded once a
    kind names it.
    """

    def __init__(self, tables: Mapping[str, DatasetTable], roster: RosterTable | None = None) -> None:
        given: dict[str, DatasetTable | RosterTable] = {**tables}
        self.shapes = {name: DatasetShape(table.columns, table.key) for name, table in tables.items()}
        """What declarations may name."""
        if roster is not None:
            given[ROSTER_DATASET] = roster
            self.shapes[ROSTER_DATASET] = ROSTER_SHAPE
        self._all = {name: LoadedDataset(name, table) for name, table in given.items()}
        self._used = {name: each for name, each in self._all.items() if name != ROSTER_DATASET}
        self._stack: contextlib.AsyncExitStack | None = None
        self._opening: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Datasets]:
        """Load those that are used, and watch them for the time of the block."""
        async with contextlib.AsyncExitStack() as stack:
            for each in self._used.values():
                await stack.enter_async_context(each.open())
            self._stack = stack
            try:
                yield self
            finally:
                self._stack = None
                await asyncio.gather(*map(end_task, self._opening), return_exceptions=True)

    def use(self, names: Collection[str]) -> None:
        """Kinds name these: load those that nobody named before. Call in the event loop."""
        for name in names:
            if name not in self._used:
                self._used[name] = self._all[name]
                if self._stack is not None:
                    task = asyncio.create_task(self._open(self._stack, self._all[name]))
                    self._opening.add(task)
                    task.add_done_callback(self._opening.discard)

    @staticmethod
    async def _open(stack: contextlib.AsyncExitStack, dataset: LoadedDataset) -> None:
        await stack.enter_async_context(dataset.open())

    def current(self, name: str) -> tuple[DatasetIndex, RosterVersion]:
        """See LoadedDataset."""
        return self._all[name].current()

    def reload(self) -> None:
        """Load all now (SIGHUP). Call in the event loop."""
        for each in self._used.values():
            each.reload()

    def unready(self) -> Sequence[str]:
        """Why some cannot answer now."""
        return [cause for each in self._used.values() for cause in each.unready()]

    def metrics(self) -> Mapping[str, int]:
        """Return counts and state of each, as `name:dataset`."""
        return {f"{what}:{name}": count for name, each in self._used.items() for what, count in each.metrics().items()}


def _beside(table: RosterTable) -> RosterTable:
    """Return the roster's table with a folder of its own for the indexes: those of a dataset are others."""
    if table.index_dir is None:
        return table
    return table.model_copy(update={"index_dir": table.index_dir.with_name(f"{table.index_dir.name}-dataset")})
