"""The table's columns, made from those of the view ``sessions``, and a log's rows in them.

A key that a row gains is a column that the table gains: nothing is listed here a second time. Beside the row's keys
stand ``segment`` (the compacted segment that a row came in) and ``host`` (whose log it was).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from lakehouse.sessions.query.views import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

SEGMENT: Final = "segment"
HOST: Final = "host"

# JSON has no type of its own in the table.
_TYPES: Final = {name: kind.replace("JSON", "VARCHAR") for name, kind in COLUMNS.items()}


def table_values() -> str:
    """Return the columns of ``sessions`` with the table's types, as SQL over that view."""
    return ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in _TYPES.items())


@cache
def arrow_schema() -> pa.Schema:
    """Return the table's columns as Arrow's types; each may be null, so that the table can gain more of them."""
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    empty = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in _TYPES.items())
    with duckdb.connect() as connection:
        made = connection.sql(
            f'SELECT {empty}, CAST(NULL AS VARCHAR) AS "{SEGMENT}", CAST(NULL AS VARCHAR) AS "{HOST}" WHERE false'
        ).to_arrow_table()
    return in_utc(made).schema


def in_utc(rows: pa.Table) -> pa.Table:
    """Return the rows with ``timestamp`` as an instant: engines that have both types take one without a zone for the
    reader's own wall time."""
    import pyarrow as pa  # noqa: PLC0415  half a second, for who publishes or reads the table

    place = rows.schema.get_field_index("timestamp")
    return rows.set_column(place, "timestamp", rows.column(place).cast(pa.timestamp("us", tz="UTC")))


def as_sessions(have: Collection[str], wanted: Mapping[str, str] = COLUMNS) -> str:
    """Return columns of the view ``sessions`` (or of ``facts``: ``wanted``) as SQL over the table's rows, which have
    the columns ``have``; the others are NULL."""
    values = []
    for name, kind in wanted.items():
        if name not in have:
            values.append(f'CAST(NULL AS {kind}) AS "{name}"')
        elif name == "timestamp":
            # By way of a number: a cast would ask for the reader's time zone.
            values.append('make_timestamp(epoch_us("timestamp")) AS "timestamp"')
        else:
            values.append(f'CAST("{name}" AS {kind}) AS "{name}"')
    return ", ".join(values)
