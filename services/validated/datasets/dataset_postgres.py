"""The rows of a table (or view) in PostgreSQL as they were at one moment: read in one transaction, in the process that
builds the index. What it gives is what ``OpenTable`` gives of files, by the same rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import duckdb
import psycopg
from psycopg import sql

from validated.datasets.dataset import Column, ColumnType, Dataset, Problem, RefusedError, TableFiles, UnreadableError
from validated.datasets.header import Matched
from validated.datasets.postgres_replica import ReplicaBehindError, check_lag
from validated.datasets.postgres_rows import first_line
from validated.datasets.postgres_table import ShapeError, TableRules, TableShape, read_table, version_sql
from validated.datasets.tables import read_csv
from validated.datasets.text_rows import FIELD_CHARS_MAX, SEPARATOR, RowWriter

_FETCH_ROWS: Final = 4096
_VERSION_CHARS_MAX: Final = 200
# Within the calendar of those who read it; what lies beyond is refused with its own text.
_INSTANT: Final = (
    "CASE WHEN {0} BETWEEN '0001-01-02Z' AND '9999-12-30Z' "
    "THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') ELSE {0}::text END"
)
_SETTINGS: Final = {"DateStyle": "ISO, YMD", "client_encoding": "UTF8", "application_name": "validated"}


class PostgresSnapshot:
    """See OpenTable. Raises RefusedError, UnreadableError where it is made."""

    def __init__(
        self, dataset: Dataset, files: TableFiles, given: Mapping[str, Any], stack: contextlib.ExitStack
    ) -> None:
        """`given` is {conninfo, schema, table, version_query, connect_timeout_ms, replica_lag_max_ms, load_ms,
        rows_max}; `files` has the rules of the columns, and for a path the table's name.
        """
        self.dataset = dataset
        self.files = files
        self.matched: Matched | None = None
        self.row_count = 0
        self.warnings: list[str] = []
        self.formats = ["postgres"]
        self.version = ""
        """What `version_query` answers; empty without it."""
        self._given = given
        self._rules = TableRules(given["schema"], given["table"], files.columns, files.ignore_columns, dataset.setting)
        self._rows = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dataset-"))) / "rows"
        try:
            asyncio.run(self._read())
        except ShapeError as error:
            shown = self._rules.shown
            problems = [Problem(shown, 0, "", each.removeprefix(f"{shown}: ")) for each in error.problems]
            raise RefusedError(*problems, is_unfit=True) from None
        except UnicodeDecodeError:
            text = "holds bytes that are no UTF-8; make a database with the encoding UTF8, or mend the row"
            raise self._refusal(text) from None
        except (psycopg.Error, ReplicaBehindError, OSError) as error:
            raise UnreadableError(Problem(self._rules.shown, 0, "", first_line(error))) from None
        if not self.row_count:
            raise self._refusal(f"has no rows that this role can see: {dataset.when_empty}")
        with self._rows.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()

    def shown(self, part: int) -> str:
        """Return the name of the table for people. Its rows are numbered in the order of their keys."""
        return self._rules.shown

    def load(self, db: duckdb.DuckDBPyConnection, folder: Path, *, rows_max: int) -> None:
        """See OpenTable."""
        names = [column.name for column in self.dataset.columns]
        columns = ", ".join(f'"{name}" VARCHAR' for name in names)
        db.execute(f'CREATE TABLE "{self.dataset.name}" (part INTEGER, row BIGINT, {columns})')
        picked = ", ".join(f'"{name}"' for name in names)
        source = read_csv(self._rows, names, SEPARATOR, has_header=False)
        db.execute(f'INSERT INTO "{self.dataset.name}" SELECT 0, row_number() OVER (), {picked} FROM {source}')
        counted = db.execute(f'SELECT count(*) FROM "{self.dataset.name}"').fetchone()
        if counted != (self.row_count,):
            raise self._refusal(f"{self.row_count} rows were read and {counted} came through; report this")

    async def _read(self) -> None:
        given = self._given
        options = {**_SETTINGS, "statement_timeout": f"{given['load_ms']}ms"}
        connection = await psycopg.AsyncConnection.connect(
            given["conninfo"], connect_timeout=max(2, -(-given["connect_timeout_ms"] // 1000))
        )
        async with connection:
            await connection.set_read_only(True)
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            for name, value in options.items():
                await connection.execute("SELECT set_config(%s, %s, true)", (name, value))
            await check_lag(connection, given["replica_lag_max_ms"], f"{self.dataset.setting}.postgres")
            problems: list[str] = []
            shape, _ = await read_table(connection, self.dataset, self._rules, problems)
            if problems or shape is None:
                raise ShapeError(*problems)
            self.matched = shape.matched
            if shape.row_security:
                self.warnings.append(f"{shape.shown}: row-level security may hide rows; what is hidden counts as none")
            if given["version_query"]:
                cursor = await connection.execute(sql.SQL("SELECT {}").format(version_sql(given["version_query"])), ())
                found = await cursor.fetchone()
                self.version = str(found[0])[:_VERSION_CHARS_MAX] if found and found[0] is not None else "none"
            with self._rows.open("w", encoding="utf-8", newline="") as out:
                await self._write(connection, shape, out)

    async def _write(self, connection: psycopg.AsyncConnection[Any], shape: TableShape, out: TextIO) -> None:
        rows_max = self._given["rows_max"]
        writer = RowWriter(self.dataset, self._rules.shown, out, rows_max=rows_max)
        async with connection.cursor(name="dataset_rows") as cursor:
            await cursor.execute(self._query(shape), {"limit": rows_max + 1})
            while batch := await cursor.fetchmany(_FETCH_ROWS):
                writer.add(batch)
        self.row_count = writer.count

    def _query(self, shape: TableShape) -> sql.Composed:
        fields = [self._field(shape, column) for column in self.dataset.columns]
        key = [
            sql.SQL('{}::text COLLATE "C"').format(sql.Identifier(shape.matched.used[name]))
            for name in self.dataset.key
        ]
        return sql.SQL("SELECT {} FROM {} ORDER BY {} LIMIT %(limit)s").format(
            sql.SQL(", ").join(fields), shape.name, sql.SQL(", ").join(key)
        )

    def _field(self, shape: TableShape, column: Column) -> sql.Composable:
        theirs = shape.matched.used.get(column.name)
        if theirs is None:
            return sql.SQL("''")
        raw = sql.Identifier(theirs)
        text = sql.SQL("{}::text").format(raw)
        if column.type is ColumnType.INSTANT:
            text = sql.SQL(_INSTANT).format(raw)
        elif shape.types[column.name] == "text array":
            text = sql.SQL("to_json({})::text").format(raw)
        # What is cut here is too long to be taken.
        return sql.SQL("coalesce(left({}, {}), '')").format(text, sql.Literal(FIELD_CHARS_MAX))

    def _refusal(self, text: str) -> RefusedError:
        return RefusedError(Problem(self._rules.shown, 0, "", text))
