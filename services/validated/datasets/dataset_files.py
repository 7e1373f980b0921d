"""``FileDataset``: a declared dataset in files. ``Datasets``: all those of a deployment."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from validated.config import DatasetTable
from validated.datasets.dataset_index import DatasetIndex
from validated.datasets.loaded_files import LoadedFiles
from validated.datasets.loader import Plan
from validated.datasets.worker import RosterVersion


def request_of_dataset(name: str, table: DatasetTable) -> dict[str, Any]:
    """Return what `DatasetFiles.read` takes."""
    return {
        "dataset": name,
        "path": str(table.path),
        "key": table.key,
        "columns": list(table.columns.items()),
        "may_be_empty": table.may_be_empty,
        "source_columns": table.source_columns,
        "ignore_columns": table.ignore_columns,
        "delimiter": table.delimiter,
        "encoding": table.encoding,
    }


class FileDataset(LoadedFiles[DatasetIndex]):
    """One dataset; see LoadedFiles."""

    def __init__(self, name: str, table: DatasetTable) -> None:
        request = request_of_dataset(name, table)
        super().__init__(table, Plan(f"datasets.{name}", (table.path,), request, DatasetIndex, f"dataset-{name}"))
        self.what = f"dataset {name}"

    def current(self) -> tuple[DatasetIndex, RosterVersion]:
        """Return what answers now: hold on to it, and one version answers everything. Raises RosterUnavailable."""
        loaded = self._open_loaded()
        return loaded.index, loaded.version


class Datasets:
    """All datasets of a deployment, by name."""

    def __init__(self, tables: Mapping[str, DatasetTable]) -> None:
        self.tables = tables
        self.files = {name: FileDataset(name, table) for name, table in tables.items()}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Datasets]:
        """Load all, and watch their files for the time of the block."""
        async with contextlib.AsyncExitStack() as stack:
            for files in self.files.values():
                await stack.enter_async_context(files.open())
            yield self

    def current(self, name: str) -> tuple[DatasetIndex, RosterVersion]:
        """See FileDataset."""
        return self.files[name].current()

    def reload(self) -> None:
        """Load all now (SIGHUP). Call in the event loop."""
        for files in self.files.values():
            files.reload()

    def unready(self) -> Sequence[str]:
        """Why some cannot answer now."""
        return [cause for files in self.files.values() for cause in files.unready()]

    def metrics(self) -> Mapping[str, int]:
        """Count and state of each, as `name:dataset`."""
        return {
            f"{what}:{name}": count for name, files in self.files.items() for what, count in files.metrics().items()
        }
