"""What the tables of a roster in PostgreSQL look like, together.

Every look-up carries the `mark` of the shape that it was written for: a table that was altered since answers nothing
before it is read again.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from validated.config import RosterTable
from validated.datasets.columns import ASSIGNMENTS, DO_NOT_SEND, WORKERS
from validated.datasets.dataset import Dataset
from validated.datasets.postgres_table import ShapeError, TableRules, TableShape, mark_of_tables, read_table

_SIMILAR: Final[LiteralString] = """
SELECT EXISTS (SELECT 1 FROM pg_index i JOIN pg_opclass o ON o.oid = ANY (i.indclass)
               WHERE i.indrelid = to_regclass(%s) AND o.opcname IN ('gin_trgm_ops', 'gist_trgm_ops'))
FROM pg_extension WHERE extname = 'pg_trgm'
"""
# Without an index each suggestion reads the whole table: up to so many rows that is quick.
_SCANNED_ROWS_MAX: Final = 20_000


class Shape(NamedTuple):
    """All tables of a roster."""

    workers: TableShape
    companions: dict[str, TableShape]
    """By the name of their dataset."""
    mark: str
    """Of the columns' names and types, as `mark_sql` gives it."""
    similar: bool
    """Whether likeness of names can be asked for in time."""

    def tables(self) -> list[TableShape]:
        """Return the workers, then the companions."""
        return [self.workers, *self.companions.values()]


def named_tables(table: RosterTable) -> list[tuple[Dataset, str]]:
    """Return the datasets that the configuration names a table for, the workers first."""
    given = table.postgres
    named = ((WORKERS, given.table), (ASSIGNMENTS, given.assignments_table), (DO_NOT_SEND, given.do_not_send_table))
    return [(dataset, name) for dataset, name in named if name]


def mark_sql(table: RosterTable) -> sql.Composable:
    """Return a scalar that changes whenever a column of the tables is renamed, retyped, added or dropped."""
    return mark_of_tables(table.postgres.schema_name, [name for _, name in named_tables(table)])


async def read_shape(connection: psycopg.AsyncConnection[Any], table: RosterTable, needed: frozenset[str]) -> Shape:
    """Return the shape now. `needed` are our worker columns that were read before: one that has gone is a fault, and no
    reason to go on without it. Raises ShapeError with every problem, psycopg.Error.
    """
    cursor = await connection.execute(sql.SQL("SELECT {}").format(mark_sql(table)))
    mark = str((await cursor.fetchone() or ("",))[0])
    problems: list[str] = []
    shapes: dict[str, TableShape] = {}
    rows = 0.0
    for dataset, name in named_tables(table):
        mapping = table.columns if dataset is WORKERS else {}
        rules = TableRules(table.postgres.schema_name, name, mapping, table.ignore_columns, "roster.postgres")
        shape, counted = await read_table(connection, dataset, rules, problems)
        if shape is None:
            continue
        shapes[dataset.name] = shape
        rows = counted if dataset is WORKERS else rows
        if shape.row_security and dataset is not WORKERS and table.postgres.row_security == "refuse":
            problems.append(
                f"{shape.shown}: row-level security may hide rows from this role, and a hidden row would count as "
                'none; grant BYPASSRLS, or set roster.postgres.row_security = "allow"'
            )
    workers = shapes.get("workers")
    if workers is not None:
        problems += [
            f"{workers.shown}: {name}: the column that was read has gone; bring it back, or start anew without it"
            for name in sorted(needed - workers.matched.used.keys())
        ]
    if problems or workers is None:
        raise ShapeError(*problems)
    similar = False
    if table.postgres.similarity == "auto":
        cursor = await connection.execute(_SIMILAR, (workers.name.as_string(),))
        installed = await cursor.fetchone()
        similar = installed is not None and (installed[0] or 0 <= rows <= _SCANNED_ROWS_MAX)
    return Shape(workers, {name: each for name, each in shapes.items() if name != "workers"}, mark, similar)
