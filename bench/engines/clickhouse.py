"""ClickHouse, in the process (chdb), by its table functions icebergLocal and icebergS3."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from typing import Any

from bench.engines.answer import Place, answer, read_place
from bench.engines.questions import Dialect
from chdb.session import Session

DIALECT = Dialect(
    characters="lengthUTF8({})",
    utf8_bytes="length({})",
    unix_us="toUnixTimestamp64Micro({})",
    day="formatDateTime({}, '%Y-%m-%d', 'UTC')",
    moment="toDateTime64('{} 00:00:00', 6, 'UTC')",
    elements="SELECT {keep}, arrayJoin({list}) AS {name} FROM {source}",
)


def source(place: Place) -> str:
    """Return the table function's call."""
    named = f"SETTINGS iceberg_metadata_file_path = 'metadata/{place.metadata.rpartition('/')[2]}'"
    if not place.s3:
        return f"icebergLocal('{place.folder}', {named})"
    url = f"{place.s3['endpoint']}/{place.location.removeprefix('s3://')}"
    return f"icebergS3('{url}', '{place.s3['key']}', '{place.s3['secret']}', {named})"


def main() -> None:
    place = read_place()
    # It reads no file outside of the folder in which it was started.
    os.chdir("/")
    session = Session()

    def query(sql: str, output: str = "JSONCompactEachRow") -> list[Any]:
        settings = "output_format_json_quote_64bit_integers = 0, aggregate_functions_null_for_empty = 1"
        text = str(session.query(f"{sql} SETTINGS {settings}", output))
        return [json.loads(line) for line in text.splitlines() if line]

    session.query("CREATE DATABASE lake")
    session.query("USE lake")
    session.query(f"CREATE VIEW sessions AS SELECT * FROM {source(place)}")
    rows = query("SELECT * REPLACE (toUnixTimestamp64Micro(timestamp) AS timestamp) FROM sessions", "JSONEachRow")
    # An Array cannot be null there.
    (engine,) = query("SELECT version()")
    answer(f"ClickHouse {engine[0]} (chdb {version('chdb')})", DIALECT, query, rows, null_lists=False)


if __name__ == "__main__":
    main()
