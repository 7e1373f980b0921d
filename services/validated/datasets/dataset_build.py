"""The files of a declared dataset, read by its columns' types, as the maps that ``DatasetIndex`` reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb

from validated.datasets.checks import Checker
from validated.datasets.columns import ACTIVE, WORKERS
from validated.datasets.dataset import Column, ColumnType, Dataset, Problem, Problems, TableFiles
from validated.datasets.index_keys import BATCH_ROWS, FIELD, LIKE_CHARS, folded_key
from validated.datasets.names import name_key
from validated.datasets.parts import OpenFiles
from validated.datasets.store import KEY_BYTES_MAX, IndexWriter, engine_digest
from validated.datasets.tables import OpenTable, columns_of

if TYPE_CHECKING:
    from validated.datasets.dataset_postgres import PostgresSnapshot

# The table of the engine: no name of a column, nor one made of it, is the same.
_TABLE: Final = "rows"
_TYPES: Final = {
    "text": ColumnType.TEXT,
    "integer": ColumnType.INTEGER,
    "decimal": ColumnType.DECIMAL,
    "boolean": ColumnType.FLAG,
    "date": ColumnType.DATE,
    "instant": ColumnType.INSTANT,
    "labels": ColumnType.LABELS,
}

_TRIMMED: Final = (ColumnType.TEXT, ColumnType.LATITUDE, ColumnType.LONGITUDE)

_Items = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """Which files make a dataset, and what its columns are."""

    dataset: Dataset
    files: TableFiles
    postgres: Mapping[str, Any] | None = None
    """The table, where the rows are in PostgreSQL; see `PostgresSnapshot`."""

    @property
    def path(self) -> Path:
        """What people call it by."""
        return self.files.path

    @property
    def setting(self) -> str:
        """The table of the configuration that names the files."""
        return self.dataset.setting

    def open(self, opened: OpenFiles, stack: contextlib.ExitStack, *, problems_max: int) -> OpenDataset:
        """See OpenDataset. Raises RefusedError, UnreadableError."""
        return OpenDataset(self, opened, stack, problems_max=problems_max)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> DatasetFiles:
        """Out of JSON: {dataset, path, key, columns: [[name, type]], may_be_empty, the rules of TableFiles, and
        postgres: see `PostgresSnapshot`}. Without columns it is the roster's workers, read as the roster reads them.
        """
        dataset = _declared(given) if given.get("columns") else replace(WORKERS, name=_TABLE)
        files = TableFiles(
            Path(given["path"]),
            columns=given["source_columns"],
            ignore_columns=frozenset(given["ignore_columns"]),
            delimiter=given["delimiter"],
            encoding=given["encoding"],
        )
        return cls(dataset, files, given.get("postgres"))


def _declared(given: Mapping[str, Any]) -> Dataset:
    key = tuple(given["key"])
    columns = tuple(
        Column(
            name,
            ColumnType.ID if name in key and type_ == "text" else _TYPES[type_],
            required=True,
            may_be_empty=name in given["may_be_empty"],
        )
        for name, type_ in given["columns"]
    )
    return Dataset(
        _TABLE, columns, key, is_unique=True, setting=f"datasets.{given['dataset']}",
        when_empty="nothing would stand in an empty dataset",
    )  # fmt: skip


class OpenDataset:
    """See Opened in ``build``."""

    maps: Sequence[str] = ("rows", "folded", "like", "order")

    def __init__(
        self, files: DatasetFiles, opened: OpenFiles, stack: contextlib.ExitStack, *, problems_max: int
    ) -> None:
        """Open and hash. Raises RefusedError, UnreadableError."""
        self.problems = Problems(problems_max)
        self._table: OpenTable | PostgresSnapshot
        if files.postgres is None:
            self._table = OpenTable(files.dataset, files.files, opened)
        else:
            # The driver is for those who need it: most readers read files.
            from validated.datasets.dataset_postgres import PostgresSnapshot  # noqa: PLC0415

            self._table = PostgresSnapshot(files.dataset, files.files, files.postgres, stack)
        self.tables = [self._table]
        self.version = self._table.version or f"sha256:{self._table.digest[:16]}"

    def key(self) -> str:
        """Return the name of the index: the bytes, and every rule by which they are read."""
        files, dataset = self._table.files, self._table.dataset
        columns = [(each.name, each.type, each.may_be_empty) for each in dataset.columns]
        rules = (sorted(files.columns.items()), sorted(files.ignore_columns), files.delimiter, files.encoding)
        key = json.dumps(
            [engine_digest(), self._table.digest, self._table.formats, columns, dataset.key, dataset.setting, rules]
        )
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def load(self, db: duckdb.DuckDBPyConnection, folder: Path, *, rows_max: int) -> None:
        """Parse and check everything. Raises RefusedError, UnreadableError."""
        self._table.load(db, folder, rows_max=rows_max)
        Checker(db, self._table, folder, self.problems).check()
        key = _concat([_column(name) for name in self._table.dataset.key])
        rows = db.execute(
            f"SELECT part, row FROM {_TABLE} WHERE strlen({key}) > {KEY_BYTES_MAX} ORDER BY part, row LIMIT 100"
        ).fetchall()
        for part, row in rows:
            text = f"a key is at most {KEY_BYTES_MAX} bytes of UTF-8; shorten it"
            self.problems.add(Problem(self._table.shown(part), row, self._table.dataset.key[0], text))

    def write(
        self, db: duckdb.DuckDBPyConnection, scratch: Path, writer: IndexWriter
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Write the maps: `rows` (key to record), `folded` (folded key and key), `like` (letters and digits of the key,
        and key), `order` (number to key, in the order of the keys).
        """
        key = _concat([_column(name) for name in self._table.dataset.key])
        joins: list[str] = []
        fields = [self._field(column, joins) for column in self._table.dataset.columns]
        keys: list[str] = []

        def records() -> Iterator[_Items]:
            query = (
                f"SELECT encode({key}) AS key, encode({_concat(fields)}) FROM {_TABLE} {' '.join(joins)} ORDER BY key"
            )
            cursor = db.cursor().execute(query)
            while batch := cursor.fetchmany(BATCH_ROWS):
                keys.extend([each[0].decode() for each in batch])
                yield batch

        count = writer.put("rows", records())
        if count != self._table.row_count:
            raise ValueError(f"{self._table.row_count} rows were read and {count} came through")
        folded = sorted(folded_key(each.split(FIELD)) + each.encode() for each in keys)
        writer.put("folded", _batches([(each, b"") for each in folded]))
        like = sorted(
            name_key(each)[:LIKE_CHARS].encode() + b"\0" + at.to_bytes(4, "big") for at, each in enumerate(keys)
        )
        writer.put("like", _batches([(each, b"") for each in like]))
        writer.put("order", _batches([(at.to_bytes(4, "big"), each.encode()) for at, each in enumerate(keys)]))
        columns = [(each.name, each.type.value) for each in self._table.dataset.columns]
        return {}, {"row_count": count, "key": self._table.dataset.key, "columns": columns}

    def report(self) -> dict[str, Any]:
        """Return what the load found; see `build`."""
        return {
            "version": self.version,
            "index": "",
            "row_count": self._table.row_count,
            "active": 0,
            "rows": {},
            "problems": [problem._asdict() for problem in self.problems.kept],
            "problems_left_out": self.problems.left_out,
            "warnings": self._table.warnings,
            "unknown": {},
            "columns": {} if self._table.matched is None else {self._table.dataset.setting: columns_of(self._table)},
            "retry": False,
            "is_unfit": False,
        }

    def _field(self, column: Column, joins: list[str]) -> str:
        """Return SQL for the value as the index holds it."""
        name = _column(column.name)
        if self._table.matched is None or column.name not in self._table.matched.used:
            # Of the roster alone: nobody is inactive where no column says so.
            return "'1'" if column.is_favourable else "''"
        if column.type is ColumnType.FLAG:
            trues = ", ".join(f"'{each}'" for each, true in ACTIVE.items() if true)
            return f"CASE WHEN trim({name}) = '' THEN '' WHEN lower(trim({name})) IN ({trues}) THEN '1' ELSE '0' END"
        if column.type in (ColumnType.LABELS, ColumnType.INSTANT):
            read = f'"{column.name}_read"'
            joins.append(f'JOIN {read} ON {read}."text" = {name}')
            return f"{read}.read"
        return f"trim({name})" if column.type in _TRIMMED else name


def _batches(items: _Items) -> Iterator[_Items]:
    for at in range(0, len(items), BATCH_ROWS):
        yield items[at : at + BATCH_ROWS]


def _column(name: str) -> str:
    return f'{_TABLE}."{name}"'


def _concat(fields: Sequence[str]) -> str:
    return f"concat_ws(chr(31), {', '.join(fields)})"
