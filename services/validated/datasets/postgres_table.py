"""What one table (or view) in PostgreSQL looks like: which column is which of a dataset's, of which type, and whether
the role may read it. Read from the catalogue, so that a role which may read only the columns that we name is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, LiteralString, NamedTuple

import psycopg
from psycopg import sql

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
    ColumnType.INTEGER: (*_INTEGERS, *_TEXTS),
    ColumnType.DECIMAL: ("numeric", *_INTEGERS, *_TEXTS),
    ColumnType.DATE: ("date", *_TEXTS),
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


class TableRules(NamedTuple):
    """Where a dataset's table stands, and how it is read."""

    schema: str
    table: str
    columns: Mapping[str, str]
    """Our name of a column to the table's, where they differ."""
    ignore_columns: Collection[str]
    setting: str
    """The table of the configuration that says so."""

    @property
    def shown(self) -> str:
        """The table's name for people."""
        return f"{self.schema}.{self.table}"


def mark_of_tables(schema: str, tables: Sequence[str]) -> sql.Composable:
    """Return a scalar that changes whenever a column of the tables is renamed, retyped, added or dropped."""
    names = [sql.Identifier(schema, name).as_string() for name in tables]
    return sql.SQL(
        "(SELECT md5(string_agg(concat_ws(':', a.attrelid, a.attnum, a.attname, a.atttypid), ',' "
        "ORDER BY a.attrelid, a.attnum)) FROM pg_attribute a WHERE a.attrelid = ANY (ARRAY[{}]::oid[]) "
        "AND a.attnum > 0 AND NOT a.attisdropped)"
    ).format(sql.SQL(", ").join(sql.SQL("to_regclass({})::oid").format(sql.Literal(name)) for name in names))


def version_sql(query: str) -> sql.Composed:
    """Return an operator's query of one value as a text, to be run with parameters; NULL for an empty one."""
    return sql.SQL("({})::text").format(sql.SQL(query.replace("%", "%%") or "NULL"))


async def read_table(
    connection: psycopg.AsyncConnection[Any], dataset: Dataset, rules: TableRules, problems: list[str]
) -> tuple[TableShape | None, float]:
    """Return the shape of a table now, and how many rows the server believes it has; None where there is no such
    table. What is wrong is added to `problems`. Raises psycopg.Error.
    """
    shown = rules.shown
    cursor = await connection.execute(_COLUMNS, (rules.schema, rules.table))
    columns = await cursor.fetchall()
    if not columns:
        problems.append(f"{shown}: there is no such table; check {rules.setting}, and that the role may see it")
        return None, 0.0
    names = [str(column[0]) for column in columns]
    kinds = {str(column[0]): str(column[1]) for column in columns}
    unreadable = {str(column[0]) for column in columns if not column[2]}
    ignore = set(rules.ignore_columns)
    matched, found = match(dataset, names, rules.columns, ignore)
    if found and matched.used.keys() >= {column.name for column in dataset.columns if column.is_favourable}:
        # Who was given the columns that we name, and these alone, is not asked about the others.
        matched, found = match(dataset, names, rules.columns, ignore | (unreadable - set(matched.used.values())))
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
    unread = tuple(sorted(unreadable - set(matched.used.values())))
    identifier = sql.Identifier(rules.schema, rules.table)
    return TableShape(dataset, identifier, shown, matched, types, bool(columns[0][3]), unread), float(columns[0][4])
