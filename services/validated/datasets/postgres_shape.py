"""What the tables in PostgreSQL look like: which column is which of ours, of which type, and whether the role may
read it.

Read from the catalogue, so that a role which may read only the columns that we name is enough. Every look-up carries
the `mark` of the shape that it was written for: a table that was altered since answers nothing before it is read again.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from validated.config import RosterTable
from validated.datasets.columns import ASSIGNMENTS, DO_NOT_SEND, WORKERS
from validated.datasets.dataset import ColumnType, Dataset
from validated.datasets.header import Matched, match

_INTEGERS: Final = ("int2", "int4", "int8")
_TEXTS: Final = ("text", "varchar", "bpchar", "citext", "name", "enum")
# A float is no id, and a timestamp without a zone is no instant: reading it would need a guess.
_TYPES: Final = {
    ColumnType.ID: (*_TEXTS, *_INTEGERS, "uuid"),
    ColumnType.NAME: _TEXTS,
    ColumnType.TEXT: (*_TEXTS, *_INTEGERS, "numeric", "uuid"),
    ColumnType.FLAG: ("bool", *_TEXTS, *_INTEGERS),
    ColumnType.LABELS: (*_TEXTS, "text array", "json", "jsonb"),
    ColumnType.LATITUDE: ("float8", "float4", "numeric", *_INTEGERS, *_TEXTS),
    ColumnType.LONGITUDE: ("float8", "float4", "numeric", *_INTEGERS, *_TEXTS),
    ColumnType.INSTANT: ("timestamptz",),
}
_COLUMNS: Final[LiteralString] = """
SELECT a.attname, CASE WHEN t.typtype = 'e' THEN 'enum' WHEN t.typtype = 'd' THEN b.typname
         WHEN t.typcategory = 'A' AND (e.typcategory = 'S' OR e.typtype = 'e') THEN 'text array' ELSE t.typname END,
       has_column_privilege(c.oid, a.attnum, 'SELECT'),
       CASE WHEN c.relrowsecurity THEN row_security_active(c.oid) ELSE false END, c.reltuples
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
LEFT JOIN pg_type e ON e.oid = t.typelem
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'v', 'm', 'f', 'p') AND a.attnum > 0
  AND NOT a.attisdropped ORDER BY a.attnum
"""
_SIMILAR: Final[LiteralString] = """
SELECT EXISTS (SELECT 1 FROM pg_index i JOIN pg_opclass o ON o.oid = ANY (i.indclass)
               WHERE i.indrelid = to_regclass(%s) AND o.opcname IN ('gin_trgm_ops', 'gist_trgm_ops'))
FROM pg_extension WHERE extname = 'pg_trgm'
"""
# Without an index each suggestion reads the whole table: up to so many rows that is quick.
_SCANNED_ROWS_MAX: Final = 20_000


class ShapeError(Exception):
    """The tables cannot be read as a roster; each of `problems` names table and column, and says what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems[:20]))
        self.problems = problems


class TableShape(NamedTuple):
    """One table."""

    dataset: Dataset
    name: sql.Identifier
    shown: str
    matched: Matched
    types: dict[str, str]
    """Of each of our columns that it has."""
    row_security: bool
    """Whether row-level security may hide rows from this role."""
    unread: tuple[str, ...]
    """Columns that the role may not read, and that nothing is read from."""


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
    schema = table.postgres.schema_name
    names = [sql.Identifier(schema, name).as_string() for _, name in named_tables(table)]
    return sql.SQL(
        "(SELECT md5(string_agg(concat_ws(':', a.attrelid, a.attnum, a.attname, a.atttypid), ',' "
        "ORDER BY a.attrelid, a.attnum)) FROM pg_attribute a WHERE a.attrelid = ANY (ARRAY[{}]::oid[]) "
        "AND a.attnum > 0 AND NOT a.attisdropped)"
    ).format(sql.SQL(", ").join(sql.SQL("to_regclass({})::oid").format(sql.Literal(name)) for name in names))


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
        cursor = await connection.execute(_COLUMNS, (table.postgres.schema_name, name))
        columns = await cursor.fetchall()
        shown = f"{table.postgres.schema_name}.{name}"
        if not columns:
            problems.append(f"{shown}: there is no such table; check roster.postgres, and that the role may see it")
            continue
        shapes[dataset.name] = _shape(dataset, table, shown, columns, problems)
        rows = max(rows, columns[0][4]) if dataset is WORKERS else rows
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


def _shape(
    dataset: Dataset, table: RosterTable, shown: str, columns: list[tuple[Any, ...]], problems: list[str]
) -> TableShape:
    names = [str(column[0]) for column in columns]
    kinds = {str(column[0]): str(column[1]) for column in columns}
    unreadable = {str(column[0]) for column in columns if not column[2]}
    mapping = table.columns if dataset is WORKERS else {}
    ignore = set(table.ignore_columns)
    matched, found = match(dataset, names, mapping, ignore)
    if found and matched.used.keys() >= {column.name for column in dataset.columns if column.is_favourable}:
        # Who was given the columns that we name, and these alone, is not asked about the others.
        matched, found = match(dataset, names, mapping, ignore | (unreadable - set(matched.used.values())))
    problems += [f"{shown}: {column}: {text}" for column, text in found]
    types: dict[str, str] = {}
    for name, theirs in matched.used.items():
        column = dataset.column(name)
        types[name] = kinds[theirs]
        if theirs in unreadable:
            problems.append(f'{shown}: {name}: the role may not read "{theirs}"; GRANT SELECT ("{theirs}") ON {shown}')
        elif kinds[theirs] not in _TYPES[column.type]:
            allowed = ", ".join(_TYPES[column.type])
            problems.append(f'{shown}: {name}: "{theirs}" is of type {kinds[theirs]}; it must be one of {allowed}')
    secured = bool(columns[0][3])
    if secured and dataset is not WORKERS and table.postgres.row_security == "refuse":
        problems.append(
            f"{shown}: row-level security may hide rows from this role, and a hidden row would count as none; grant "
            'BYPASSRLS, or set roster.postgres.row_security = "allow"'
        )
    identifier = sql.Identifier(table.postgres.schema_name, shown.removeprefix(f"{table.postgres.schema_name}."))
    unread = tuple(sorted(unreadable - set(matched.used.values())))
    return TableShape(dataset, identifier, shown, matched, types, secured, unread)
