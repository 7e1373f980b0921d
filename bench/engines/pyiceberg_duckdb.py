"""PyIceberg reads the table (`Table.scan().to_arrow()`), DuckDB computes: one engine of two parts."""

from __future__ import annotations

from importlib.metadata import version

import duckdb
from bench.engines.answer import Place, read_place
from bench.engines.duckdb_extension import answer_by
from pyiceberg.table import StaticTable


def static_table(place: Place) -> StaticTable:
    """Return the table as its metadata file has it."""
    properties = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    if place.s3:
        properties |= {
            "s3.endpoint": place.s3["endpoint"],
            "s3.access-key-id": place.s3["key"],
            "s3.secret-access-key": place.s3["secret"],
            "s3.region": place.s3["region"],
        }
    return StaticTable.from_metadata(place.metadata, properties)


def main() -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("sessions", static_table(read_place()).scan().to_arrow())
        name = f"PyIceberg {version('pyiceberg')} and DuckDB {duckdb.__version__}"
        # PyIceberg's reader makes an empty list of a null one.
        answer_by(connection, name, null_lists=False)


if __name__ == "__main__":
    main()
