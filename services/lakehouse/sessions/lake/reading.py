"""The table read like a log: the views ``sessions``, ``attempts`` and ``facts``, with ``segment`` and ``host`` behind
the row's keys.

PyIceberg says which data files stand in the table at this moment; DuckDB reads them. Nothing that is published later is
seen, and what is erased meanwhile may make a query fail, never answer wrongly.
"""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from lakehouse.sessions.lake.columns import HOST, SEGMENT, as_sessions
from lakehouse.sessions.lake.errors import LakeUnavailableError
from lakehouse.sessions.lake.table import LakeTable, first_line
from lakehouse.sessions.query.reader import QueryProgress, SessionReader
from lakehouse.sessions.query.views import COLUMNS, FACT_COLUMNS, attempts_of_sessions, connect_views
from lakehouse.sessions.store.segments import Snapshot

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table

# How DuckDB is given files that are not on this machine: by Arrow's file system, under a scheme of our own.
_SCHEME: Final = "lake"


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The data files that stand in the table at one moment, for DuckDB."""

    paths: tuple[str, ...]
    columns: tuple[str, ...]
    file_system: object | None = None
    """What DuckDB reads them by, if they are not on this machine."""

    def relation(self) -> str:
        """Return a query for the table's rows with the columns of ``sessions``, ``segment`` and ``host``.

        Whoever runs it has called ``register``."""
        return f"SELECT {as_sessions(self.columns)}, {SEGMENT}, {HOST} FROM ({self._stored()})"

    def register(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a connection read the files."""
        if self.file_system is not None:
            connection.register_filesystem(self.file_system)

    def statements(self) -> Iterator[str]:
        """Yield the statements that make the views."""
        yield f"CREATE VIEW sessions AS {self.relation()}"
        # Read on its own: a raw answer that is not named is not copied out of the file.
        facts = as_sessions(self.columns, FACT_COLUMNS)
        yield f"CREATE VIEW facts AS SELECT {facts}, {SEGMENT}, {HOST} FROM ({self._stored()})"
        yield attempts_of_sessions(SEGMENT, HOST)
        # As of the archive's files: for who looks for a text.
        text = f"CAST(to_json({{{_TEXT_FIELDS}}}) AS VARCHAR)"
        yield f"CREATE VIEW parquet_rows AS SELECT *, {text} AS text FROM sessions"

    def _stored(self) -> str:
        if not self.paths:
            columns = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in COLUMNS.items())
            return f"SELECT {columns}, CAST(NULL AS VARCHAR) AS {SEGMENT}, CAST(NULL AS VARCHAR) AS {HOST} WHERE false"
        names = ", ".join("'" + path.replace("'", "''") + "'" for path in self.paths)
        return f"SELECT * FROM read_parquet([{names}], hive_partitioning = false, union_by_name = true)"


def table_files(table: Table) -> TableFiles:
    """Return the data files of the table as it was loaded. Raises LakeUnavailableError, OSError."""
    paths, file_system = [], None
    for task in table.scan().plan_files():
        if task.delete_files:
            raise LakeUnavailableError(
                "another engine has marked rows of the table as deleted, in files of their own, which are not read"
                " here: have it rewrite the table's data files (Spark: CALL system.rewrite_data_files)"
            )
        scheme, netloc, path = _location(task.file.file_path)
        if scheme == "file":
            paths.append(path)
        else:
            file_system = file_system or _remote(table, scheme, netloc)
            paths.append(f"{_SCHEME}://{path}")
    columns = tuple(field.name for field in table.schema().fields) if paths else (*COLUMNS, SEGMENT, HOST)
    return TableFiles(tuple(paths), columns, file_system)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableState:
    """Where the table is and what it is now, for engines that others wrote."""

    location: str
    metadata: str
    """The metadata file that the catalog names: the table as of the last commit."""
    snapshot_id: int | None
    """None where nothing was ever published."""
    committed_at: datetime | None
    """Naive UTC."""
    rows: int
    files: int


def table_state(lake: LakeTable) -> TableState:
    """Return the table's state as its catalog has it. Raises LakeUnavailableError."""
    with _said_plainly(lake):
        table = lake.load()
        snapshot = table.current_snapshot()
        summary = snapshot.summary if snapshot is not None else None
        totals = summary.additional_properties if summary is not None else {}
        return TableState(
            location=table.location(),
            metadata=table.metadata_location,
            snapshot_id=snapshot.snapshot_id if snapshot is not None else None,
            committed_at=_utc(snapshot.timestamp_ms) if snapshot is not None else None,
            rows=int(totals.get("total-records", 0)),
            files=int(totals.get("total-data-files", 0)),
        )


def _utc(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).replace(tzinfo=None)


@contextlib.contextmanager
def _said_plainly(lake: LakeTable) -> Iterator[None]:
    try:
        yield
    except LakeUnavailableError:
        raise
    except Exception as error:
        # PyIceberg hands on what catalog and storage raise, each of its own kind.
        raise LakeUnavailableError(f"the table {lake.name} cannot be read: {first_line(error)}") from error


class TableReader(SessionReader):
    """A ``SessionReader`` of the table as it is when this is made."""

    def __init__(self, lake: LakeTable, *, progress: QueryProgress | None = None) -> None:
        """Raise LakeUnavailableError."""
        with _said_plainly(lake):
            self._files = table_files(lake.load())
        self._open(Snapshot(log_path=Path(lake.name), segments=(), manifests=()), progress)

    @property
    def contents(self) -> tuple[object, ...]:
        return self._files.paths

    @property
    def has_archive(self) -> bool:
        return True

    def query_archive(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        return self.query(sql, parameters)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = connect_views(
                self._files.statements(),
                self._files.paths,
                spill_folder=os.path.join(self._folder, "spill"),  # noqa: PTH118  DuckDB takes a string
                prepare=self._files.register,
            )
        return self._connection

    def find_by_id(self, identifier: str) -> Iterator[bytes]:
        """Yield the rows as the log's contract spells them. Raises QueryRefusedError."""
        names, rows = self.query(
            f"SELECT {_ROW_COLUMNS} FROM sessions"
            " WHERE session_id = $1 OR trace_id = $1 OR caller_trace = $1 ORDER BY sessions.timestamp",
            [identifier],
        )
        for row in rows:
            yield _line(dict(zip(names, row, strict=True)))


_TEXT_FIELDS: Final = ", ".join(
    f'"{name}": CAST("{name}" AS JSON)' if name in ("spec", "artifact") else f'"{name}": "{name}"' for name in COLUMNS
)
_ROW_COLUMNS: Final = ", ".join(
    "strftime(timestamp, '%Y-%m-%dT%H:%M:%S.%fZ') AS timestamp" if name == "timestamp" else f'"{name}"'
    for name in COLUMNS
)


def _line(row: dict[str, Any]) -> bytes:
    """Return the row's JSON: what is NULL in the table is a key that the row does not have."""
    for name in ("spec", "artifact"):
        if row[name] is not None:
            row[name] = orjson.Fragment(row[name])
    return orjson.dumps(_without_nulls(row))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: [orjson.Fragment(each) for each in field] if name == "suggestions" else _without_nulls(field)
            for name, field in value.items()
            if field is not None
        }
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _location(location: str) -> tuple[str, str, str]:
    from pyiceberg.io.pyarrow import PyArrowFileIO  # noqa: PLC0415  a second, for who reads the table

    return PyArrowFileIO.parse_location(location)


def _remote(table: Table, scheme: str, netloc: str) -> object:
    from fsspec.implementations.arrow import ArrowFSWrapper  # noqa: PLC0415
    from pyiceberg.io.pyarrow import PyArrowFileIO  # noqa: PLC0415

    class TableFileSystem(ArrowFSWrapper):  # type: ignore[misc]  # fsspec has no types
        protocol = _SCHEME

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.removeprefix(f"{_SCHEME}://")

    system = PyArrowFileIO(table.io.properties).fs_by_scheme(scheme, netloc)
    return TableFileSystem(system, skip_instance_cache=True)
