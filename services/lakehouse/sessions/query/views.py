"""DuckDB over a snapshot: the views ``sessions`` and ``attempts``, whatever file a row stands in.

``sessions`` has a row's keys as columns, ``attempts`` one row an attempt with its session's key columns before it. A
session is known by its id and ``try``, which is NULL for the first use of the id, as its row does not have it.
``timestamp`` is UTC; ``spec`` and ``artifact`` are JSON text, to the byte as the row has it (``artifact->>'$.subject'``
works on it). The views hold the lines that ``row_lines.read_row_line`` calls rows, and no others: ``verify`` counts
what is torn, of another schema, or of ours without its keys. An unknown key is ignored. A session that has two rows
shows twice, as it stands in the log: ``verify`` finds those.

The view ``facts`` is ``sessions`` without its long texts (prompt, spec, artifact, each attempt's raw). Parquet holds
these columns ready and each row's exact bytes in ``line``, from which the long texts are taken when asked for; of a row
that JSON readers may take for something else, ``reading`` has the text that says the same to all of them.
"""

# ruff: noqa: S608 - the texts put into SQL here are this module's own and quoted file names
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lakehouse.sessions.record import ROW_BYTES_MAX, SCHEMA

if TYPE_CHECKING:
    import duckdb

    from lakehouse.sessions.store.names import Compression
    from lakehouse.sessions.store.segments import Snapshot

MEMORY_BYTES: Final = 2 * 1024**3
SPILL_BYTES_MAX: Final = 16 * 1024**3

_ERROR: Final = 'STRUCT(code VARCHAR, reason VARCHAR, "where" VARCHAR, message VARCHAR)'
_FINDINGS: Final = "STRUCT(code VARCHAR, path VARCHAR, message VARCHAR, suggestions JSON[])[]"
_BRIEF: Final = (
    "STRUCT(grounding VARCHAR, candidates BIGINT, candidates_total BIGINT, candidates_total_is_floor BOOLEAN,"
    f" infeasible BOOLEAN, degraded BOOLEAN, findings {_FINDINGS}, roster VARCHAR, brief_ms BIGINT)"
)


def _attempts_type(*, raw: bool) -> str:
    return (
        "STRUCT(iteration BIGINT, provider VARCHAR, model VARCHAR, verdict VARCHAR, span_id VARCHAR,"
        f"{' raw VARCHAR,' if raw else ''} raw_truncated BOOLEAN, findings {_FINDINGS}, error {_ERROR},"
        " input_tokens BIGINT, output_tokens BIGINT, chat_ms BIGINT, validate_ms BIGINT, roster VARCHAR,"
        " datasets STRUCT(name VARCHAR, version VARCHAR)[], cost_nano_usd BIGINT, parse_problem VARCHAR)[]"
    )


# In the order of the row's keys.
COLUMNS: Final[dict[str, str]] = {
    "schema": "VARCHAR",
    "session_id": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "daemon": "VARCHAR",
    "trace_id": "VARCHAR",
    "caller_trace": "VARCHAR",
    "kind": "VARCHAR",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "prompt": "VARCHAR",
    "spec": "VARCHAR",
    "max_iterations": "BIGINT",
    "iterations": "BIGINT",
    "final_verdict": "VARCHAR",
    "error": _ERROR,
    "artifact": "VARCHAR",
    "grounded_in_roster": "BOOLEAN",
    "attempts": _attempts_type(raw=True),
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "duration_ms": "BIGINT",
    "caller": "VARCHAR",
    "brief": _BRIEF,
    "token_budget_spent": "BOOLEAN",
    "no_progress": "BOOLEAN",
    "try": "BIGINT",
    "request_digest": "VARCHAR",
    "cost_nano_usd": "BIGINT",
}
LONG_TEXTS: Final = ("prompt", "spec", "artifact")
# How DuckDB reads what the view then casts or respells: a timestamp that is none must not lose its row.
_READ_AS: Final = {"timestamp": "VARCHAR", "spec": "JSON", "artifact": "JSON"}
FACT_COLUMNS: Final[dict[str, str]] = {
    name: _attempts_type(raw=False) if name == "attempts" else kind
    for name, kind in COLUMNS.items()
    if name not in LONG_TEXTS
}
_ATTEMPT_COLUMNS: Final = (
    "iteration", "provider", "model", "verdict", "span_id", "raw_truncated", "findings", "error",
    "input_tokens", "output_tokens", "chat_ms", "validate_ms", "roster", "datasets", "cost_nano_usd", "parse_problem",
)  # fmt: skip
_KEY_COLUMNS: Final = 'session_id, "try", trace_id, timestamp, kind, final_verdict'

# Before 2.0 DuckDB does not know "none".
_COMPRESSION_WORDS: Final = {"none": "uncompressed", "gzip": "gzip", "zstd": "zstd"}

# DuckDB keeps the digits of every integer but prints doubles and escapes as yyjson does: `1e21`, `\u001F`. The row
# has `1e+21` and `\u001f`. Strings are split from what is between them first, and within a string its escapes, so
# that neither "1e21" nor an escaped backslash before `u001F` is touched.
MACROS: Final = r"""
CREATE MACRO respelled_string(token) AS array_to_string(list_transform(
    regexp_extract_all(token, '\\u[0-9A-F]{4}|\\.|[^\\]+'),
    lambda part: CASE WHEN starts_with(part, '\u') THEN lower(part) ELSE part END), '');
CREATE MACRO canonical(value) AS CASE
    WHEN regexp_matches(value, '[0-9]e[0-9]|\\u00[01][0-9]?[A-F]') THEN array_to_string(list_transform(
        regexp_extract_all(value, '"(?:[^"\\]|\\.)*"|[^"]+'),
        lambda token: CASE WHEN starts_with(token, '"') THEN respelled_string(token)
            ELSE regexp_replace(token, '([0-9])e([0-9])', '\1e+\2', 'g') END), '')
    ELSE value END;
"""


@dataclass(frozen=True, slots=True)
class JsonSource:
    """A file in which DuckDB finds the rows of a segment, and no others."""

    path: str
    compression: Compression


def connect(snapshot: Snapshot, sources: Sequence[JsonSource], *, spill_folder: str) -> duckdb.DuckDBPyConnection:
    """Return a connection with the views over the snapshot's Parquet and ``sources``, which must stay as long.

    As ``connect_views``, of which it has ``spill_folder``.
    """
    allowed = [*(source.path for source in sources), *map(os.fspath, snapshot.parquet_files)]
    return connect_views(_view_statements(snapshot, sources), allowed, spill_folder=spill_folder)


def connect_views(
    statements: Iterable[str],
    allowed: Sequence[str],
    *,
    spill_folder: str,
    prepare: Callable[[duckdb.DuckDBPyConnection], None] = lambda _connection: None,
) -> duckdb.DuckDBPyConnection:
    """Return a connection with the views that the statements make.

    Its queries read the ``allowed`` files and nothing else: other files, settings and extensions are locked away.
    ``spill_folder``: where DuckDB may put what exceeds its memory, at most ``SPILL_BYTES_MAX``; need not exist.
    ``prepare`` is called before the statements. Raises duckdb.Error.
    """
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    connection = duckdb.connect(
        config={
            "memory_limit": f"{MEMORY_BYTES}B",
            "temp_directory": spill_folder,
            "max_temp_directory_size": f"{SPILL_BYTES_MAX}B",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "preserve_insertion_order": "false",
        }
    )
    try:
        # Both are for `query_progress`, which shows nothing by itself.
        connection.execute("SET enable_progress_bar = true")
        connection.execute("SET enable_progress_bar_print = false")
        connection.execute(MACROS)
        prepare(connection)
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"SET allowed_paths = {_texts(allowed)}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def facts_from_lines(source: str, text: str) -> str:
    """Return a query for the columns of ``facts`` and for ``line``, ``torn`` and ``reading``, from a query that has
    those three and the valid JSON of a row, or NULL, in the column named by ``text``."""
    kinds = ", ".join(f'"{name}" {_READ_AS.get(name, kind)}' for name, kind in FACT_COLUMNS.items())
    columns = ", ".join(
        f'{_moment("r.timestamp")} AS "timestamp"' if name == "timestamp" else f'r."{name}" AS "{name}"'
        for name in FACT_COLUMNS
    )
    # A cast from JSON to a struct takes a value of another type as NULL, as reading a file does.
    parsed = f"SELECT try_cast(CAST({text} AS JSON) AS STRUCT({kinds})) AS r, line, torn, reading FROM ({source})"
    return f"SELECT {columns}, line, torn, reading FROM ({parsed})"


def _view_statements(snapshot: Snapshot, sources: Sequence[JsonSource]) -> Iterable[str]:
    json_sources = _json_sources(sources, COLUMNS)
    # Read on its own: a raw answer that is not named is not copied out of the file.
    fact_sources = _json_sources(sources, FACT_COLUMNS)
    sessions, facts, attempts = [], [], []
    for name in json_sources:
        yield f"CREATE VIEW {name} AS {json_sources[name]}"
        sessions.append(f"SELECT {', '.join(map(_from_json_column, COLUMNS))} FROM {name}")
        facts.append(f"SELECT {', '.join(map(_from_json_column, FACT_COLUMNS))} FROM ({fact_sources[name]})")
        attempts.append(
            f"SELECT {_KEY_COLUMNS}, a.raw AS raw, {_attempt_columns()} FROM"
            f' (SELECT session_id, "try", trace_id, {_from_json_column("timestamp")}, kind, final_verdict,'
            f" unnest(attempts) AS a FROM {name})"
        )
    if snapshot.parquet_files:
        yield (
            "CREATE VIEW parquet_rows AS SELECT *, coalesce(reading, line) AS text"
            f" FROM ({stored_rows(snapshot.parquet_files)}) WHERE schema = '{SCHEMA}'"
        )
        sessions.append(f"SELECT {from_stored_rows()} FROM parquet_rows")
        facts.append(f"SELECT {_quoted(FACT_COLUMNS)} FROM parquet_rows")
        attempts.append(
            f"SELECT {_KEY_COLUMNS}, json_extract_string(text, '$.attempts[' || place || '].raw') AS raw,"
            f" {_attempt_columns()} FROM (SELECT {_KEY_COLUMNS}, text, unnest(attempts) AS a,"
            " unnest(range(len(attempts))) AS place FROM parquet_rows)"
        )
    for view, parts, empty in (
        ("sessions", sessions, COLUMNS),
        ("facts", facts, FACT_COLUMNS),
    ):
        yield f"CREATE VIEW {view} AS {' UNION ALL '.join(parts) or _no_rows(empty)}"
    all_attempts = " UNION ALL ".join(attempts)
    yield _attempts_view(all_attempts) if all_attempts else attempts_of_sessions()


def attempts_of_sessions(*more_columns: str) -> str:
    """Return the statement that makes the view ``attempts`` from ``sessions``, with more of that view's columns behind
    the key columns."""
    more = "".join(f", {name}" for name in more_columns)
    return _attempts_view(
        f"SELECT {_KEY_COLUMNS}{more}, a.raw AS raw, {_attempt_columns()}"
        " FROM (SELECT *, unnest(attempts) AS a FROM sessions)",
        more,
    )


def _attempts_view(query: str, more: str = "") -> str:
    names = "iteration, provider, model, verdict, span_id, raw, " + ", ".join(_ATTEMPT_COLUMNS[5:])
    return f"CREATE VIEW attempts AS SELECT {_KEY_COLUMNS}{more}, {names} FROM ({query})"


def stored_rows(files: Iterable[os.PathLike[str]], *, numbered: bool = False) -> str:
    """Return a query for all columns of Parquet files of the archive, one at least; ``file`` is each row's file.
    ``numbered``: and ``file_row_number`` its place there, from 0.

    The empty part gives files of before a key its column, and a struct of before a field the field: both as NULL."""
    return (
        f"{_no_rows({**FACT_COLUMNS, 'reading': 'VARCHAR', 'segment': 'VARCHAR'})} UNION ALL BY NAME SELECT * FROM"
        f" read_parquet({_texts(map(os.fspath, files))}, hive_partitioning = false, union_by_name = true,"
        f" filename = 'file'{', file_row_number = true' if numbered else ''})"
    )


def from_stored_rows() -> str:
    """Return the columns of ``sessions`` out of ``stored_rows`` whose column ``text`` is a row's valid JSON; they need
    ``MACROS``."""
    return ", ".join(map(_from_parquet_column, COLUMNS))


def _json_sources(read: Sequence[JsonSource], wanted: dict[str, str]) -> dict[str, str]:
    """Return a query for each compression in use, by the name of its view."""
    columns = ", ".join(f"\"{name}\": '{_READ_AS.get(name, kind)}'" for name, kind in wanted.items())
    sources = {}
    for compression, word in _COMPRESSION_WORDS.items():
        files = [source.path for source in read if source.compression == compression]
        if files:
            sources[f"{compression}_rows"] = (
                f"SELECT * FROM read_json({_texts(files)}, columns = {{{columns}}}, format = 'newline_delimited',"
                f" compression = '{word}', ignore_errors = true, maximum_object_size = {ROW_BYTES_MAX})"
                f" WHERE schema = '{SCHEMA}'"
            )
    return sources


def _from_json_column(name: str) -> str:
    if name == "timestamp":
        return f"{_moment('timestamp')} AS timestamp"
    if name in ("spec", "artifact"):
        return f"canonical(CAST({name} AS VARCHAR)) AS {name}"
    if name == "attempts":
        return "attempts"
    return f'"{name}"'


def _moment(text: str) -> str:
    """Return the moment that a timestamp's text is, of the years that the contract and a calendar have: DuckDB knows
    more, `infinity` too, with which nothing else can do anything. It is evaluated once."""
    cast = f"try_cast({text} AS TIMESTAMP)"
    return f"CASE WHEN {cast} BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999' THEN {cast} END"


def _from_parquet_column(name: str) -> str:
    if name == "prompt":
        return "json_extract_string(text, '$.prompt') AS prompt"
    if name in LONG_TEXTS:
        return f"canonical(CAST(nullif(json_extract(text, '$.{name}'), 'null') AS VARCHAR)) AS {name}"
    if name == "attempts":
        return f"try_cast(json_extract(text, '$.attempts') AS {COLUMNS[name]}) AS attempts"
    return f'"{name}"'


def _attempt_columns() -> str:
    return ", ".join(f"a.{name} AS {name}" for name in _ATTEMPT_COLUMNS)


def _no_rows(columns: dict[str, str]) -> str:
    return "SELECT " + ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in columns.items()) + " WHERE false"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _texts(values: Iterable[str]) -> str:
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"
