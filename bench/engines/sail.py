"""Sail as a cluster of a driver and workers, which exchange data by Arrow Flight, behind Spark Connect."""

from __future__ import annotations

import os
import warnings
from importlib.metadata import version

from bench.engines.answer import Place, answer, read_place
from bench.engines.questions import Dialect

DIALECT = Dialect(
    characters="length({})",
    utf8_bytes="octet_length({})",
    unix_us="unix_micros({})",
    day="date_format({}, 'yyyy-MM-dd')",
    moment="TIMESTAMP '{} 00:00:00Z'",
    elements="SELECT {keep}, explode({list}) AS {name} FROM {source}",
)


def settings(place: Place) -> dict[str, str]:
    """Return the variables that the server reads."""
    made = {"SAIL_MODE": "local-cluster", "RUST_LOG": "error"}
    if place.s3:
        made |= {
            "AWS_ENDPOINT": place.s3["endpoint"],
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": place.s3["key"],
            "AWS_SECRET_ACCESS_KEY": place.s3["secret"],
            "AWS_REGION": place.s3["region"],
        }
    return made


def main() -> None:
    place = read_place()
    os.environ |= settings(place)
    # The client warns of pandas 3.
    warnings.simplefilter("ignore")
    from pysail.spark import SparkConnectServer  # noqa: PLC0415  after the variables
    from pyspark.sql import SparkSession  # noqa: PLC0415
    from pyspark.sql.functions import unix_micros  # noqa: PLC0415

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    spark = SparkSession.builder.remote(f"sc://127.0.0.1:{server.listening_address[1]}").getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    table = spark.read.format("iceberg").option("snapshotId", str(place.snapshot_id)).load(place.location)
    table.createOrReplaceTempView("sessions")
    rows = table.withColumn("timestamp", unix_micros("timestamp")).toArrow().to_pylist()
    name = f"Sail {version('pysail')} in local-cluster mode, pyspark-client {version('pyspark-client')}"
    answer(name, DIALECT, lambda sql: [tuple(row) for row in spark.sql(sql).collect()], rows)
    spark.stop()
    server.stop()


if __name__ == "__main__":
    main()
