"""Rows into data files of the table, a file for each day of each piece.

The files are written by Arrow itself, with the table's field ids in them: PyIceberg's own writer, and its reader, turn
a list of structs that is null into an empty one, which would say of a gate that was never asked that it found nothing.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator
from datetime import date
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

_EPOCH: Final = date(1970, 1, 1).toordinal()
# So that a reader of one column of some rows need not take all of a file.
_GROUP_ROWS: Final = 16_384


class DataFileWriter:
    """Writes files whose names hold ``write``. No file counts before a commit names it."""

    def __init__(self, table: Table, write: uuid.UUID) -> None:
        from pyiceberg.io.pyarrow import schema_to_pyarrow  # noqa: PLC0415  a second, for who publishes

        self._table = table
        self._write = write
        self._numbers = itertools.count()
        self._schema: pa.Schema = schema_to_pyarrow(table.schema(), include_field_ids=True)

    def write_all(self, pieces: Iterable[pa.Table]) -> Iterator[DataFile]:
        """Write the rows of each piece and yield the files. Raises OSError."""
        import pyarrow.compute as pc  # noqa: PLC0415

        for piece in pieces:
            days = pc.cast(pc.cast(piece.column("timestamp"), "timestamp[us]"), "date32")
            for day in sorted(set(days.to_pylist()), key=str):
                rows = piece.filter(pc.is_null(days) if day is None else pc.equal(days, day))
                yield self._file(day, rows)

    def _file(self, day: date | None, rows: pa.Table) -> DataFile:
        import pyarrow.parquet as pq  # noqa: PLC0415
        from pyiceberg.io.pyarrow import parquet_file_to_data_file  # noqa: PLC0415
        from pyiceberg.partitioning import PartitionFieldValue, PartitionKey  # noqa: PLC0415

        table = self._table
        value = None if day is None else day.toordinal() - _EPOCH
        key = PartitionKey([PartitionFieldValue(table.spec().fields[0], value)], table.spec(), table.schema())
        location = table.location_provider().new_data_location(f"{next(self._numbers):05d}-{self._write}.parquet", key)
        with table.io.new_output(location).create(overwrite=True) as stream:
            pq.write_table(self._as_in_table(rows), stream, compression="zstd", row_group_size=_GROUP_ROWS)
        return parquet_file_to_data_file(table.io, table.metadata, location)

    def _as_in_table(self, rows: pa.Table) -> pa.Table:
        """Return the rows with the table's columns, in its order; what they lack is null."""
        import pyarrow as pa  # noqa: PLC0415

        columns = [
            rows.column(field.name).cast(field.type)
            if field.name in rows.column_names
            else pa.nulls(rows.num_rows, field.type)
            for field in self._schema
        ]
        return pa.Table.from_arrays(columns, schema=self._schema)
