"""Erasing sessions from the table: its rows, the snapshots that still hold them, and their files.

PyIceberg's own deletion would read and write files by its own reader and writer (see ``data_files``), and it expires
snapshots without removing a file. So each data file that has rows to go is written anew here and takes the old one's
place in one commit; then every other snapshot expires, and the files that nobody names any more are removed.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from lakehouse.sessions.lake.data_files import DataFileWriter
from lakehouse.sessions.lake.erasures import Erasure, digest
from lakehouse.sessions.lake.errors import LakeUnavailableError
from lakehouse.sessions.lake.table import LakeTable, attempts, holds_commit
from lakehouse.sessions.lake.unreferenced import IN_FLIGHT_S, referenced, remove_unreferenced

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

_MAIN: Final = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of the table: those that fit all of what is given."""

    caller: str | None = None
    session_ids: tuple[str, ...] = ()
    before: datetime | None = None
    """Naive UTC."""

    def in_iceberg(self) -> BooleanExpression:
        """Return the expression that finds the files that may have some."""
        from pyiceberg import expressions  # noqa: PLC0415

        made: Any = expressions  # their types are those of a model's fields, not of what they take
        found: BooleanExpression = expressions.AlwaysTrue()
        if self.caller is not None:
            found = expressions.And(found, made.EqualTo("caller", self.caller))
        if self.session_ids:
            found = expressions.And(found, made.In("session_id", self.session_ids))
        if self.before is not None:
            moment = self.before.replace(tzinfo=UTC).isoformat()
            found = expressions.And(found, made.LessThan("timestamp", moment))
        return found

    def in_arrow(self, rows: pa.Table) -> pa.Array:
        """Return of each row whether it fits; never null."""
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.compute as pc  # noqa: PLC0415

        fits = pa.chunked_array([pa.repeat(pa.scalar(value=True), rows.num_rows)])
        if self.caller is not None:
            fits = pc.and_(fits, pc.equal(rows.column("caller"), self.caller))
        if self.session_ids:
            fits = pc.and_(fits, pc.is_in(rows.column("session_id"), value_set=pa.array(self.session_ids, pa.string())))
        if self.before is not None:
            moment = pa.scalar(self.before.replace(tzinfo=UTC), rows.schema.field("timestamp").type)
            fits = pc.and_(fits, pc.less(rows.column("timestamp"), moment))
        return pc.fill_null(fits, False)  # noqa: FBT003  Arrow's own signature


@dataclass(slots=True)
class TableErasure:
    """What became of the table."""

    rows: int = 0
    traces: dict[str, set[str]] = field(default_factory=dict)
    """The trace ids of the rows that went, by their session ids."""
    snapshots_expired: int = 0
    files_removed: int = 0
    not_reached: list[str] = field(default_factory=list)
    """What may still hold what was erased, in a sentence each, and what to do."""


@dataclass(slots=True)
class _Try:
    """One commit that takes rows out of the table, landed or not."""

    data_write: str = ""
    commit_write: str = ""
    """What the names of its data files and of its manifests hold."""
    rows: int = 0
    traces: dict[str, set[str]] = field(default_factory=dict)

    def stands_in(self, table: Table) -> bool:
        return bool(self.commit_write) and holds_commit(table, self.commit_write)

    def add_to(self, done: TableErasure) -> None:
        done.rows += self.rows
        for session_id, traces in self.traces.items():
            done.traces.setdefault(session_id, set()).update(traces)


def erase_from_table(
    lake: LakeTable, rows: Rows, erasure: Erasure | None, writes: AbstractSet[str], *, dry_run: bool = False
) -> TableErasure | None:
    """Erase rows from the table; None where there is no table.

    ``erasure``: what the table keeps of it, so that no log publishes such rows again; None for rows that no log has any
    more. ``writes``: the names of this log's own begun files, whose publisher does not run.

    Raises LakeUnavailableError.
    """
    done = TableErasure()
    tries: list[_Try] = []

    def commit() -> bool:
        table = lake.load_or_none()
        if table is None:
            return False
        # One of which nobody knew may have landed, and its rows are no longer there to be counted.
        before = [each for each in tries if each.stands_in(table)]
        tries.append(_Try())
        _replace_files(table, rows, erasure, tries[-1], dry_run=dry_run)
        for each in (*before, tries[-1]):
            each.add_to(done)
        return True

    if not attempts(commit):
        return None
    if not dry_run:
        ended = {name for each in tries for name in (each.data_write, each.commit_write) if name}
        were_named: set[str] = set()
        older: set[int] = set()
        attempts(lambda: _clear(lake, rows, writes | ended, were_named, older, done))
    return done


def expire_days(lake: LakeTable, before: date) -> TableErasure | None:
    """Remove the rows of days before this one, whoever published them; None where there are none.

    The table's older snapshots go with them. Raises LakeUnavailableError.
    """
    moment = datetime(before.year, before.month, before.day)  # noqa: DTZ001  naive UTC
    rows = Rows(before=moment)
    table = attempts(lake.load_or_none)
    if table is None or not any(_files(table, rows)):
        return None
    return erase_from_table(lake, rows, None, frozenset())


def _replace_files(table: Table, rows: Rows, erasure: Erasure | None, found: _Try, *, dry_run: bool) -> None:
    """Commit the table's files without these rows, if there are some. Raises what PyIceberg raises."""
    import pyarrow.compute as pc  # noqa: PLC0415

    gone: list[DataFile] = []
    write = uuid.uuid4()
    found.data_write = str(write)
    writer = DataFileWriter(table, write)
    made: list[DataFile] = []
    for file in _files(table, rows):
        if rows.before is not None and erasure is None and _is_before(file, rows.before):
            found.rows += file.record_count
            gone.append(file)
            continue
        stored = _stored(table, file)
        going = rows.in_arrow(stored)
        fitting = stored.filter(going)
        if not fitting.num_rows:
            continue
        found.rows += fitting.num_rows
        for row in fitting.select(["session_id", "trace_id"]).to_pylist():
            found.traces.setdefault(row["session_id"], set()).add(row["trace_id"] or "")
        gone.append(file)
        if fitting.num_rows < stored.num_rows and not dry_run:
            made += writer.write_all([stored.filter(pc.invert(going))])
    if dry_run:
        return
    change = table.transaction()
    if erasure is not None:
        name, value = erasure.to_property()
        change.set_properties({name: value})
    if gone:
        with change.update_snapshot().overwrite() as overwrite:
            found.commit_write = str(overwrite.commit_uuid)
            for file in gone:
                overwrite.delete_data_file(file)
            for file in made:
                overwrite.append_data_file(file)
    change.commit_transaction()


def _is_before(file: DataFile, moment: datetime) -> bool:
    """Whether a whole file is, as its partition says; one without a moment is not."""
    day = file.partition[0] if len(file.partition) == 1 else None
    return isinstance(day, int) and date(1970, 1, 1).toordinal() + day < moment.date().toordinal()


def _files(table: Table, rows: Rows) -> Iterator[DataFile]:
    for task in table.scan(row_filter=rows.in_iceberg()).plan_files():
        if task.delete_files:
            raise LakeUnavailableError(
                "another engine has marked rows of the table as deleted, in files of their own: have it rewrite the"
                " table's data files first (Spark: CALL system.rewrite_data_files)"
            )
        yield task.file


def _stored(table: Table, file: DataFile) -> pa.Table:
    """Return what a file holds, as it stands there."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    with table.io.new_input(file.file_path).open() as stream:
        return pq.read_table(stream)


def _clear(
    lake: LakeTable, rows: Rows, writes: AbstractSet[str], were_named: set[str], older: set[int], done: TableErasure
) -> None:
    """Expire what still holds the rows and remove the files that nobody names. Raises what PyIceberg raises.

    ``were_named`` and ``older`` gather, over all tries, what snapshots named and which of them were to go: an expiry of
    which nobody knows may have landed."""
    table = lake.load()
    were_named |= referenced(table)
    heads = {reference.snapshot_id for reference in table.metadata.refs.values()}
    going = {snapshot.snapshot_id for snapshot in table.metadata.snapshots} - heads
    older |= going
    if going:
        table.maintenance.expire_snapshots().by_ids(sorted(going)).commit()
        table = lake.load()
    done.snapshots_expired = len(older - {snapshot.snapshot_id for snapshot in table.metadata.snapshots})
    removal = remove_unreferenced(table, writes, were_named=were_named, older_s=IN_FLIGHT_S)
    done.files_removed += len(removal.removed)
    done.not_reached = list(_unreached(table, rows, removal.left))


def _unreached(table: Table, rows: Rows, left: Collection[str]) -> Iterator[str]:
    main = table.current_snapshot()
    for name, reference in sorted(table.metadata.refs.items()):
        if name == _MAIN or (main is not None and reference.snapshot_id == main.snapshot_id):
            continue
        scan = table.scan(row_filter=rows.in_iceberg(), snapshot_id=reference.snapshot_id)
        if any(True for _ in scan.plan_files()):
            yield (
                f"the {reference.snapshot_ref_type} {name} of the table holds a snapshot that may have such rows:"
                " remove it and run this again"
            )
    # Metadata and manifests hold no row, and a text of none.
    data = [path for path in left if path.endswith(".parquet")]
    if data:
        yield (
            f"{len(data)} data files in the table's folder are named by nobody and younger than a day, such as"
            f" {data[0]}: another host's publisher may be about to name them; run this there too, or again tomorrow"
        )


def tombstone(rows: Rows, until: datetime) -> Erasure:
    """Return what the table keeps of an erasure of these rows that was asked for then (naive UTC)."""

    def text(moment: datetime) -> str:
        return moment.isoformat(timespec="microseconds") + "Z"

    values: dict[str, Any] = {
        "until": text(until),
        "caller_sha256": None if rows.caller is None else digest(rows.caller),
        "session_sha256": tuple(sorted(map(digest, rows.session_ids))),
        "before": None if rows.before is None else text(rows.before),
    }
    return Erasure(**values)
