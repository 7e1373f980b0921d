"""The SQL of ``PostgresRoster``: composed once for a shape of the tables, of identifiers, constants and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, LiteralString

from psycopg import sql

from validated.config import RosterTable
from validated.datasets.columns import WORKER_COLUMNS
from validated.datasets.names import table_key_sql
from validated.datasets.nobody import EVERY_CLIENT
from validated.datasets.postgres_replica import BEHIND, REPLAYED_AT, is_fresh_sql
from validated.datasets.postgres_shape import Shape, mark_sql
from validated.datasets.postgres_table import TableShape, version_sql

_FITTING_MAX: Final = 64
_LIKE_NAMES_MAX: Final = 8
_NAMESAKES_MAX: Final = 256
_INTEGERS: Final = ("int2", "int4", "int8")
_PLAIN: Final = ("text", "varchar")


class Statements:
    """The statements for a shape. Each row of a look-up begins with the version and the mark of the shape that it saw.

    Every value is cast, so that no prepared statement changes the type of its result under us.
    """

    def __init__(self, table: RosterTable, shape: Shape) -> None:
        settings = table.postgres
        self.source = f"{settings.schema_name}.{settings.table}"
        self.mark = shape.mark
        self.has_whole_ids = shape.workers.types["worker_id"] in _INTEGERS
        """Whether ids are whole numbers: then only texts that are written as PostgreSQL writes those can be one."""
        self._shape = shape
        used = shape.workers.matched.used
        raw = {name: sql.SQL("w.{}").format(sql.Identifier(used[name])) for name in WORKER_COLUMNS if name in used}
        texts = {
            name: sql.SQL("{}::text").format(raw[name]) if name in raw else sql.SQL("NULL::text")
            for name in WORKER_COLUMNS
        }
        number = "NULLIF(btrim({}), '')::float8"
        facts = [
            texts["worker_id"],
            sql.SQL("{} AS name").format(texts["name"]),
            *(texts[name] for name in ("role", "city", "state")),
            # A column that is not there was reported at the start; NULL in one that is there speaks for nobody.
            texts["active"] if "active" in raw else sql.SQL("'true'::text"),
            sql.SQL("to_json({})::text").format(raw["certifications"])
            if "certifications" in raw
            else sql.SQL("NULL::text"),
            *(sql.SQL(number).format(texts[name]) for name in ("latitude", "longitude")),
            texts["phone"],
            sql.SQL("o.shift_start"),
            sql.SQL("o.shift_end"),
            self._refused(shape.companions.get("do_not_send"), raw["worker_id"]),
        ]
        rows = sql.SQL("SELECT {facts} FROM {table} w LEFT JOIN LATERAL {overlap} o ON true ").format(
            facts=sql.SQL(", ").join(facts),
            table=shape.workers.name,
            overlap=self._overlap(shape.companions.get("assignments"), raw["worker_id"]),
        )
        ids = "{} = ANY(%(ids)s::bigint[])" if self.has_whole_ids else "{} = ANY(%(ids)s)"
        key = raw["worker_id"] if shape.workers.types["worker_id"] in (*_INTEGERS, *_PLAIN) else texts["worker_id"]
        by_id = sql.SQL(ids).format(key)
        by_name = sql.SQL("lower({}) = ANY(%(names)s)").format(texts["name"])
        lag_ms = settings.replica_lag_max_ms
        unnamed = REPLAYED_AT if lag_ms else "NULL"
        version = version_sql(settings.version_query or unnamed)
        # The version comes also where nobody is found.
        whole = sql.SQL(
            "SELECT v.version, v.mark, r.* FROM (SELECT {version} AS version, {mark} AS mark) v "
            "LEFT JOIN ({rows}) r ON true"
        )
        # Read in the look-up itself: behind a name or a balancer stand several servers.
        mark = sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(
            is_fresh_sql(lag_ms), mark_sql(table), sql.Literal(BEHIND)
        )
        self.by_id = whole.format(version=version, mark=mark, rows=rows + sql.SQL("WHERE ") + by_id)
        # One bearer of each spelling: a name that thousands bear must not crowd out the others.
        name_key = sql.SQL(table_key_sql(texts["name"].as_string(None)).replace("%", "%%"))
        either = sql.SQL(
            "({} WHERE {}) UNION ALL (SELECT DISTINCT ON (n.name) n.* FROM ({} WHERE {} = ANY(%(names)s)) n)"
        ).format(rows, by_id, rows, name_key)
        self.by_id_and_name = whole.format(version=version, mark=mark, rows=either)
        place = sql.SQL(
            "(cardinality(%(cities)s::text[]) = 0 OR EXISTS ("
            "SELECT 1 FROM unnest(%(cities)s::text[], %(states)s::text[]) AS p(city, state) "
            "WHERE (p.city = '' OR p.city = lower({city})) AND (p.state = '' OR p.state = lower({state}))))"
        ).format(city=texts["city"], state=texts["state"])
        limit = sql.Literal(_FITTING_MAX)
        # First what is found soonest: where the names take too long, these are suggested all the same.
        self.near = sql.SQL(
            "({rows} WHERE {by_id}) UNION ALL ({rows} WHERE lower({role}) = lower(%(role)s) AND {place} LIMIT {limit})"
        ).format(rows=rows, by_id=by_id, role=texts["role"], place=place, limit=limit)
        self._add_draws(version, mark, rows, raw["worker_id"], texts, by_id, name_key)
        self.near_names = sql.SQL("({rows} WHERE {by_name} LIMIT {limit})").format(
            rows=rows, by_name=by_name, limit=limit
        )
        if shape.similar:
            self.near_names += sql.SQL(
                " UNION ALL (SELECT n.* FROM unnest(%(names)s::text[]) AS s(name) "
                "CROSS JOIN LATERAL ({rows} WHERE {name} %% s.name ORDER BY {name} <-> s.name LIMIT {limit}) n)"
            ).format(rows=rows, name=texts["name"], limit=sql.Literal(_LIKE_NAMES_MAX))

    def _add_draws(
        self,
        version: sql.Composable,
        mark: sql.Composable,
        rows: sql.Composable,
        worker_id: sql.Composable,
        texts: Mapping[str, sql.Composable],
        by_id: sql.Composable,
        name_key: sql.Composable,
    ) -> None:
        """`draw` and `draw_all`: the version, the mark, how many were drawn, then the facts of who was drawn or asked
        for by id; and `ids_of_names`, which takes long where the names have no index.

        Everybody comes by the id: a second row with the same id comes with the first.
        """
        draw = sql.SQL(
            "WITH drawn AS MATERIALIZED (SELECT {worker_id} AS id FROM {table} w WHERE {fits} ORDER BY {likely}, "
            # Nobody is favoured: the seed decides.
            "hashtextextended({text}, %(seed)s::bigint), {text} LIMIT %(drawn_max)s::bigint) "
            "SELECT v.version, v.mark, v.drawn, r.* FROM (SELECT {version} AS version, {mark} AS mark, "
            "(SELECT count(*) FROM drawn) AS drawn) v LEFT JOIN (({rows} WHERE {worker_id} = ANY(ARRAY(SELECT id FROM "
            "drawn))) UNION ALL ({rows} WHERE {by_id})) r ON true"
        )
        parts = {
            "worker_id": worker_id,
            "table": self._shape.workers.name,
            "text": texts["worker_id"],
            "version": version,
            "mark": mark,
            "rows": rows,
            "by_id": by_id,
        }
        self.ids_of_names = sql.SQL(
            "SELECT {text} FROM {table} w WHERE {name_key} = ANY(%(names)s) LIMIT {limit}"
        ).format(
            text=texts["worker_id"],
            table=self._shape.workers.name,
            name_key=name_key,
            limit=sql.Literal(_NAMESAKES_MAX),
        )
        # Of many those first who seem to qualify. It is no judgement: nobody is left out by it where all are drawn.
        # Nothing here is a subquery for each row: of a role there may be hundreds of thousands.
        active = sql.SQL("lower(btrim({})) = ANY(%(trues)s::text[])").format(texts["active"])
        parts["likely"] = sql.SQL("{} DESC NULLS LAST, lower({}) LIKE ALL(%(held)s::text[]) DESC NULLS LAST").format(
            active if "active" in self._shape.workers.matched.used else sql.SQL("true"), texts["certifications"]
        )
        plain = {name: sql.SQL("lower({})").format(texts[name]) for name in ("role", "city", "state")}
        by_role = sql.SQL("{} = lower(%(role)s) AND {}").format(plain["role"], _in_places(plain, ""))
        self.draw = draw.format(fits=by_role, **parts)
        # As `fold` compares ASCII; of what it may find in other texts only `fold` itself knows.
        plain = {name: sql.SQL('lower({} COLLATE "C")').format(texts[name]) for name in plain}
        odd = {name: sql.SQL("{} COLLATE \"C\" !~ '^[!-~]+( [!-~]+)*$'").format(texts[name]) for name in plain}
        all_fits = sql.SQL("({} = %(folded_role)s OR {}) AND ({} OR {} OR {})").format(
            plain["role"], odd["role"], _in_places(plain, "folded_"), odd["city"], odd["state"]
        )
        self.draw_all = draw.format(fits=all_fits, **parts)

    def _same(self, companion: TableShape, worker_id: sql.Composable) -> sql.Composable:
        """Whether a companion's row is about the worker; as texts where the types differ."""
        theirs = sql.SQL("c.{}").format(sql.Identifier(companion.matched.used["worker_id"]))
        kinds = {companion.types["worker_id"], self._shape.workers.types["worker_id"]}
        if kinds <= set(_PLAIN) or kinds <= set(_INTEGERS):
            return sql.SQL("{} = {}").format(theirs, worker_id)
        return sql.SQL("{}::text = {}::text").format(theirs, worker_id)

    def _overlap(self, companion: TableShape | None, worker_id: sql.Composable) -> sql.Composable:
        if companion is None:
            return sql.SQL("(SELECT NULL::timestamptz AS shift_start, NULL::timestamptz AS shift_end)")
        used = companion.matched.used
        start, end = (sql.SQL("c.{}").format(sql.Identifier(used[name])) for name in ("shift_start", "shift_end"))
        # An end that is not known may be any, and so may one before 1970, of a year of two digits: it overlaps. So do
        # ends in the wrong order, from the one to the other.
        # What lies beyond the calendar of those who read it is cut to it.
        return sql.SQL(
            "(SELECT GREATEST(LEAST(x.a, x.b), '0002-01-01Z') AS shift_start, "
            "LEAST(GREATEST(x.a, x.b), '9998-12-31Z') AS shift_end FROM {table} c CROSS JOIN LATERAL (SELECT "
            "coalesce({start}, '-infinity'::timestamptz) AS a, "
            "coalesce(nullif(greatest({end}, '1970-01-01Z'), '1970-01-01Z'), 'infinity') AS b) x "
            "WHERE {same} AND LEAST(x.a, x.b) < %(end)s::timestamptz AND GREATEST(x.a, x.b) > %(start)s::timestamptz "
            "ORDER BY 1 LIMIT 1)"
        ).format(table=companion.name, start=start, end=end, same=self._same(companion, worker_id))

    def _refused(self, companion: TableShape | None, worker_id: sql.Composable) -> sql.Composable:
        """Return SQL for the clients who may be the one that is asked for, as a JSON list. ASCII is
        compared here; what is beyond it only `fold` can compare, whatever the database's locale calls lower case.
        """
        if companion is None:
            return sql.SQL("NULL::text")
        client = sql.SQL("c.{}").format(sql.Identifier(companion.matched.used["client_id"]))
        return sql.SQL(
            "(SELECT to_json(array_agg(DISTINCT {client}::text))::text FROM {table} c WHERE {same} "
            "AND cardinality(%(clients)s::text[]) > 0 AND ({client}::text ~ '[^\\u0001-\\u007f]' OR "
            "lower(btrim(regexp_replace({client}::text COLLATE \"C\", '\\s+', ' ', 'g'))) = ANY(%(clients)s::text[])))"
        ).format(table=companion.name, same=self._same(companion, worker_id), client=client)

    def strays(self, companion: TableShape) -> sql.Composed:
        """Of a companion: its rows, those with a text that is none (`_ODD_TEXT`), and those about nobody of the
        roster.
        """
        used = companion.matched.used
        texts = [
            sql.SQL("c.{}::text").format(sql.Identifier(used[each])) for each in used if not each.startswith("shift")
        ]
        odd = sql.SQL(" OR ").join(sql.SQL(_ODD_TEXT).format(each) for each in texts)
        worker_id = sql.SQL("w.{}").format(sql.Identifier(self._shape.workers.matched.used["worker_id"]))
        return sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE {odd}), "
            "count(*) FILTER (WHERE NOT EXISTS (SELECT 1 FROM {workers} w WHERE {same})) FROM {table} c"
        ).format(odd=odd, workers=self._shape.workers.name, same=self._same(companion, worker_id), table=companion.name)


# Nothing, spaces around it, marks alone (a star for all), what does not print, several in one, a word for all.
_ODD_TEXT: Final[LiteralString] = (
    "{0} IS NULL OR {0} <> btrim({0}) OR {0} ~ '^[[:punct:][:space:]]*$' "
    r"OR {0} ~ '[\u0001-\u001f\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]' "
    f"OR {{0}} ~ '[;|]' OR lower({{0}}) ~ '^({EVERY_CLIENT})$'"
)


def _in_places(texts: Mapping[str, sql.Composable], folded: str) -> sql.Composed:
    """Whether city and state, as `texts` has them, are one of the places of the parameters."""
    within = (
        "(%(is_anywhere)s::bool OR ({city}, {state}) IN (SELECT p.city, p.state "
        "FROM unnest(%({folded}cities)s::text[], %({folded}states)s::text[]) AS p(city, state)) "
        "OR {state} = ANY(%({folded}only_states)s::text[]) OR {city} = ANY(%({folded}only_cities)s::text[]))"
    )
    return sql.SQL(within.replace("{folded}", folded)).format(city=texts["city"], state=texts["state"])
