"""Daft on Ray: PyIceberg plans, tasks on Ray's workers read and compute."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from bench.engines.answer import Place, answer, read_place
from bench.engines.pyiceberg_duckdb import static_table
from bench.engines.questions import Dialect

DIALECT = Dialect(
    characters="length({})",
    utf8_bytes="length_bytes({})",
    unix_us="CAST({} AS BIGINT)",
    day="strftime({}, '%Y-%m-%d')",
    moment="to_datetime('{} 00:00:00+00:00', '%Y-%m-%d %H:%M:%S%:z')",
    # An empty list gives one element that is null.
    elements="SELECT * FROM (SELECT {keep}, explode({list}) AS {name} FROM {source}) AS exploded"
    " WHERE {name} IS NOT NULL",
)
CPUS = 2


def main() -> None:
    place = read_place()
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "DAFT_ANALYTICS_ENABLED": "0"}
    import daft  # noqa: PLC0415  after the variables
    import ray  # noqa: PLC0415

    ray.init(address="local", num_cpus=CPUS, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    daft.set_runner_ray()
    table = daft.read_iceberg(static_table(place), io_config=_io_config(place))

    def query(sql: str) -> Iterable[Sequence[Any]]:
        return [tuple(row.values()) for row in daft.sql(sql, sessions=table).to_pylist()]

    rows = table.with_column("timestamp", table["timestamp"].cast(daft.DataType.int64())).to_pylist()
    answer(f"Daft {version('daft')} on Ray {version('ray')}", DIALECT, query, rows)
    ray.shutdown()


def _io_config(place: Place) -> Any:
    from daft.io import IOConfig, S3Config  # noqa: PLC0415  after the variables

    if not place.s3:
        return None
    return IOConfig(
        s3=S3Config(
            endpoint_url=place.s3["endpoint"],
            key_id=place.s3["key"],
            access_key=place.s3["secret"],
            region_name=place.s3["region"],
            use_ssl=False,
            force_virtual_addressing=False,
        )
    )


if __name__ == "__main__":
    main()
