"""The SQL of ``PostgresRoster``: composed once for one shape of the table, of identifiers, constants and parameters."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from validated.config import RosterTable
from validated.roster.columns import WORKER_COLUMNS
from validated.roster.names import table_key_sql

_REQUIRED: Final = ("worker_id", "name")
_FITTING_MAX: Final = 64
_LIKE_NAMES_MAX: Final = 8


class Statements:
    """The statements for one shape of the table. Raises psycopg.ProgrammingError where a required column is missing."""

    def __init__(self, table: RosterTable, have: frozenset[str], *, similar: bool) -> None:
        settings = table.postgres
        self.source = f"{settings.schema_name}.{settings.table}"
        names = {name: table.columns.get(name, name) for name in WORKER_COLUMNS}
        for name in _REQUIRED:
            if names[name] not in have:
                raise psycopg.ProgrammingError(f'{self.source} has no column "{names[name]}" for {name}')
        columns = {
            name: sql.SQL("w.{}").format(sql.Identifier(column)) if column in have else sql.SQL("NULL::text")
            for name, column in names.items()
        }
        facts = [
            columns["worker_id"],
            sql.SQL("{} AS name").format(columns["name"]),
            *(columns[name] for name in ("role", "city", "state")),
            sql.SQL("{}::text").format(columns["active"]),
            columns["certifications"],
            *(sql.SQL("{}::float8").format(columns[name]) for name in ("latitude", "longitude")),
            sql.SQL("{}::text").format(columns["phone"]),
            sql.SQL("o.shift_start"),
            sql.SQL("o.shift_end"),
            self._refused(settings.schema_name, settings.do_not_send_table, columns["worker_id"]),
        ]
        rows = sql.SQL("SELECT {facts} FROM {table} w LEFT JOIN LATERAL {overlap} o ON true ").format(
            facts=sql.SQL(", ").join(facts),
            table=sql.Identifier(settings.schema_name, settings.table),
            overlap=self._overlap(settings.schema_name, settings.assignments_table, columns["worker_id"]),
        )
        by_id = sql.SQL("{} = ANY(%(ids)s)").format(columns["worker_id"])
        by_name = sql.SQL("lower({}) = ANY(%(names)s)").format(columns["name"])
        version = sql.SQL("({})::text").format(sql.SQL(settings.version_query.replace("%", "%%") or "NULL"))
        # The version comes also where nobody is found.
        whole = sql.SQL("SELECT v.version, r.* FROM (SELECT {version} AS version) v LEFT JOIN ({rows}) r ON true")
        self.by_id = whole.format(version=version, rows=rows + sql.SQL("WHERE ") + by_id)
        # One bearer of each spelling: a name that thousands bear must not crowd out the others.
        key = table_key_sql(sql.SQL("{}::text").format(columns["name"]).as_string(None)).replace("%", "%%")
        either = sql.SQL(
            "({} WHERE {}) UNION ALL (SELECT DISTINCT ON (n.name) n.* FROM ({} WHERE {} = ANY(%(names)s)) n)"
        ).format(rows, by_id, rows, sql.SQL(key))
        self.by_id_and_name = whole.format(version=version, rows=either)
        place = sql.SQL(
            "(cardinality(%(cities)s::text[]) = 0 OR EXISTS ("
            "SELECT 1 FROM unnest(%(cities)s::text[], %(states)s::text[]) AS p(city, state) "
            "WHERE (p.city = '' OR p.city = lower({city})) AND (p.state = '' OR p.state = lower({state}))))"
        ).format(city=columns["city"], state=columns["state"])
        self.near = sql.SQL(
            "({rows} WHERE {by_id}) UNION ALL ({rows} WHERE {by_name} LIMIT {limit}) "
            "UNION ALL ({rows} WHERE lower({role}) = lower(%(role)s) AND {place} LIMIT {limit})"
        ).format(
            rows=rows, by_id=by_id, by_name=by_name, role=columns["role"], place=place, limit=sql.Literal(_FITTING_MAX)
        )
        self.like_name = None
        if similar:
            self.like_name = sql.SQL(
                "SELECT n.* FROM unnest(%(names)s::text[]) AS s(name) "
                "CROSS JOIN LATERAL ({rows} WHERE {name} %% s.name ORDER BY {name} <-> s.name LIMIT {limit}) n"
            ).format(rows=rows, name=columns["name"], limit=sql.Literal(_LIKE_NAMES_MAX))

    def _overlap(self, schema: str, table: str, worker_id: sql.Composable) -> sql.Composable:
        if not table:
            return sql.SQL("(SELECT NULL::timestamptz AS shift_start, NULL::timestamptz AS shift_end)")
        return sql.SQL(
            "(SELECT a.shift_start, a.shift_end FROM {} a WHERE a.worker_id = {} "
            "AND a.shift_start < %(end)s::timestamptz AND a.shift_end > %(start)s::timestamptz "
            "ORDER BY a.shift_start LIMIT 1)"
        ).format(sql.Identifier(schema, table), worker_id)

    def _refused(self, schema: str, table: str, worker_id: sql.Composable) -> sql.Composable:
        if not table:
            return sql.SQL("false")
        return sql.SQL(
            "EXISTS (SELECT 1 FROM {} d WHERE d.client_id = %(client_id)s::text AND d.worker_id = {})"
        ).format(sql.Identifier(schema, table), worker_id)
