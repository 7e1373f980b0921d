"""DuckDB with its own reader of Iceberg tables, the extension `iceberg`; the extensions come from the package index."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb
from bench.engines.answer import Place, answer, read_place
from bench.engines.questions import Dialect

DIALECT = Dialect(
    characters="length({})",
    utf8_bytes="strlen({})",
    unix_us="epoch_us({})",
    day="strftime({}, '%Y-%m-%d')",
    moment="TIMESTAMPTZ '{} 00:00:00+00'",
    elements="SELECT {keep}, unnest({list}) AS {name} FROM {source}",
)


def connect(place: Place) -> duckdb.DuckDBPyConnection:
    """Return a connection with the view ``sessions``."""
    connection = duckdb.connect()
    for name in ("avro", "httpfs", "iceberg"):
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or spec.origin is None:
            raise SystemExit(f"duckdb-extension-{name} is not installed")
        (file,) = Path(spec.origin).parent.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension")
        connection.execute(f"LOAD '{file}'")
    if place.s3:
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{place.s3['key']}', SECRET '{place.s3['secret']}',"
            f" REGION '{place.s3['region']}', ENDPOINT '{place.s3['endpoint'].removeprefix('http://')}',"
            " URL_STYLE 'path', USE_SSL false)"
        )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE VIEW sessions AS SELECT * FROM iceberg_scan('{place.metadata}')")
    return connection


def answer_by(connection: duckdb.DuckDBPyConnection, name: str, *, null_lists: bool = True) -> None:
    """Answer out of the connection's ``sessions``."""
    rows = connection.sql("SELECT * REPLACE (epoch_us(timestamp) AS timestamp) FROM sessions").to_arrow_table()
    answer(name, DIALECT, lambda sql: connection.execute(sql).fetchall(), rows.to_pylist(), null_lists=null_lists)


def main() -> None:
    with connect(read_place()) as connection:
        answer_by(connection, f"DuckDB {duckdb.__version__}, extension iceberg")


if __name__ == "__main__":
    main()
