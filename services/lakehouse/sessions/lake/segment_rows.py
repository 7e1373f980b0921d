"""Rows of compacted segments, out of the log's Parquet files, in the table's columns and in bounded memory."""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from lakehouse.sessions.lake.columns import HOST, SEGMENT, in_utc, table_values
from lakehouse.sessions.lake.erasures import Erasure, not_erased
from lakehouse.sessions.query.views import MACROS, from_stored_rows, stored_rows
from lakehouse.sessions.record import SCHEMA
from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError, Manifest
from lakehouse.sessions.store.days import StandingFile, read_archive
from lakehouse.sessions.store.parquet_rows import connect_bare, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# How many rows are read at once, and how much of them, as Arrow holds them, becomes a file of the table.
_BATCH_ROWS: Final = 1024
FILE_BYTES: Final = 64 * 1024**2
MEMORY_BYTES: Final = 512 * 1024**2


class SegmentRows:
    """The files in which some segments stand, at one moment; a context manager. Whoever opens it holds the archive
    (``days.reading``)."""

    def __init__(self, archive: Archive, manifests: Sequence[Manifest]) -> None:
        """Raise ArchiveDamagedError where a file is missing or damaged."""
        self.manifests = manifests
        names = {manifest.segment for manifest in manifests}
        view = read_archive(archive, archive.committed())
        whole = {manifest.segment for manifest in view.manifests}
        if not names <= whole:
            raise ArchiveDamagedError("; ".join(view.unreadable[:3]) or f"{min(names - whole)} is not whole")
        self._folder = archive.folder
        self._files = [file for file in view.files if any(part.segment in names for part in file.parts)]
        self._connection = connect_bare(archive.building / "spill-publish", memory_bytes=MEMORY_BYTES)
        self._connection.execute(MACROS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def check(self) -> None:
        """Raise ArchiveDamagedError unless each segment has as many lines as were compacted."""
        found: dict[str, int] = {}
        for file in self._files:
            counted = self._connection.execute(
                f"SELECT {SEGMENT}, count(*) FROM ({self._stored(file)}) GROUP BY ALL"
            ).fetchall()
            for segment, lines in counted:
                found[segment] = found.get(segment, 0) + lines
        for manifest in self.manifests:
            if found.get(manifest.segment, 0) != manifest.lines:
                raise ArchiveDamagedError(
                    f"{manifest.segment} has {found.get(manifest.segment, 0)} lines in its files and not"
                    f" {manifest.lines}: run `lakehouse sessions verify`"
                )

    def tables(self, host: str, erasures: Sequence[Erasure]) -> Iterator[pa.Table]:
        """Yield the rows in pieces of ``FILE_BYTES``, day by day, without what was erased. Raises duckdb.Error."""
        import pyarrow as pa  # noqa: PLC0415  half a second, for who publishes

        kept, parameters = not_erased(erasures)
        batches: list[pa.RecordBatch] = []
        held = 0
        for file in self._files:
            relation = self._connection.execute(
                f"SELECT {table_values()}, {SEGMENT}, $host AS {HOST} FROM (SELECT {from_stored_rows()}, {SEGMENT} FROM"
                f" (SELECT *, coalesce(reading, line) AS text FROM ({self._stored(file)}) WHERE schema = '{SCHEMA}'))"
                f" WHERE {kept}",
                {"host": host, **parameters},
            )
            for batch in _batches(relation):
                batches.append(batch)
                held += batch.nbytes
                if held >= FILE_BYTES:
                    yield in_utc(pa.Table.from_batches(batches))
                    batches, held = [], 0
        if batches:
            yield in_utc(pa.Table.from_batches(batches))

    def _stored(self, file: StandingFile) -> str:
        """Return a query for the file's lines of these segments, with the column ``segment``."""
        names = ", ".join(quoted(manifest.segment) for manifest in self.manifests)
        stored = f"SELECT * EXCLUDE ({SEGMENT}), {self._segment(file)} AS {SEGMENT} FROM"
        return f"SELECT * FROM ({stored} ({stored_rows([self._folder / file.path])})) WHERE {SEGMENT} IN ({names})"

    @staticmethod
    def _segment(file: StandingFile) -> str:
        return SEGMENT if file.merged else quoted(file.parts[0].segment)


def _batches(relation: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    import warnings  # noqa: PLC0415

    with warnings.catch_warnings():
        # It advises against parameters, which is the safe way to hand values over.
        warnings.simplefilter("ignore")
        reader: Any = relation.to_arrow_reader(_BATCH_ROWS)
    yield from (batch for batch in reader if batch.num_rows)
