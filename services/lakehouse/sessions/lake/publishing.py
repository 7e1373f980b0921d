"""A log's compacted segments into the table, each there once, whatever is killed, retried or done twice.

What decides is the table alone. A publisher looks which segments stand in it (by the snapshots' properties, and by the
column ``segment`` where snapshots are gone), writes files with the rows of the others, and commits them on the
condition that the table is still at the snapshot that he looked at. If it is not, or if nobody knows whether the
commit has landed, he looks again. So neither two publishers of one segment nor a lost answer nor a kill at any
instruction can put a row there twice or leave one out; the publish lock beside the log only saves two of them the work.

Marks beside the log say what was seen in the table, so that a segment is not looked for each time. Files that a try
wrote in vain are known by their names, which are noted before they are written, and removed once a later commit has
gone well: what was still on its way cannot land after that.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from lakehouse.sessions.lake.columns import SEGMENT
from lakehouse.sessions.lake.data_files import DataFileWriter
from lakehouse.sessions.lake.erasures import Erasure, erasures_of
from lakehouse.sessions.lake.errors import LakeUnavailableError, PublishRefusedError
from lakehouse.sessions.lake.publications import Mark, Publications
from lakehouse.sessions.lake.segment_rows import SegmentRows
from lakehouse.sessions.lake.table import LakeTable, attempts, holds_commit
from lakehouse.sessions.lake.unreferenced import remove_unreferenced
from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError, Manifest
from lakehouse.sessions.store.days import reading

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

SEGMENTS_PROPERTY: Final = "lakehouse.segments"
HOST_PROPERTY: Final = "lakehouse.host"

SEGMENTS_A_COMMIT: Final = 50

PublishStep = Literal["looked", "noted", "written", "committed", "marked", "cleared"]
OnStep = Callable[[PublishStep], None]
"""Called after each step with which one it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of some segments."""

    segments: tuple[str, ...]
    rows: int
    """Those that this run added: 0 where all stood in the table."""
    reason: str = ""
    """Why they were not published, and what to do."""


def publish(
    log_path: str | os.PathLike[str],
    lake: LakeTable,
    *,
    segments_a_commit: int = SEGMENTS_A_COMMIT,
    on_step: OnStep = lambda _step: None,
) -> Iterator[Published]:
    """Publish the compacted segments that are not in the table, oldest first, and yield what became of them.

    May be killed and run again at any moment. A segment that is damaged is left, and said.

    Raises:
        PublishRefusedError: another process publishes this log, or erases from it.
        LakeUnavailableError: the table cannot be had, or every try failed.
        OSError: the log's folder cannot be read or written.
    """
    archive = Archive(Path(log_path))
    if not archive.folder.is_dir():
        return
    publications = Publications(archive)
    with publications.locked():
        if archive.erasure_interrupted:
            raise PublishRefusedError(
                f"an erasure of {archive.log_path} was interrupted: run the same `lakehouse sessions erase` again first"
            )
        table = attempts(lake.load_to_write)
        on_step("looked")
        published = publications.published(str(table.metadata.table_uuid))
        waiting = sorted(archive.committed() - published)
        for start in range(0, len(waiting), segments_a_commit):
            some = waiting[start : start + segments_a_commit]
            yield _Publisher(archive, publications, lake, on_step).publish(some)


class _Publisher:
    """One commit's work."""

    def __init__(self, archive: Archive, publications: Publications, lake: LakeTable, on_step: OnStep) -> None:
        self._archive = archive
        self._publications = publications
        self._lake = lake
        self._on_step = on_step
        self._written: tuple[frozenset[str], list[Erasure], list[DataFile]] | None = None
        """The files of these segments' rows, without what was erased."""
        self._rows: Counter[str] = Counter()
        self._data_write = self._commit_write = ""
        """What the names of the last try's data files and manifests hold; what is noted beside them is nobody's."""
        self._landed: bool | None = None
        """Whether the last try's commit stands in the table, or another's that came before it. None: neither yet."""

    def publish(self, segments: Sequence[str]) -> Published:
        manifests = []
        damaged = []
        for segment in segments:
            try:
                manifests.append(self._archive.read_manifest(segment))
            except (ArchiveDamagedError, OSError) as error:
                damaged.append(str(error))
        before = self._publications.writes()
        added = 0
        try:
            table, added = attempts(lambda: self._look_and_commit(manifests))
        except ArchiveDamagedError as error:
            return Published(segments=tuple(segments), rows=0, reason=str(error))
        for manifest in manifests:
            self._publications.mark(
                Mark(
                    segment=manifest.segment,
                    table_uuid=str(table.metadata.table_uuid),
                    rows=self._rows[manifest.segment],
                )
            )
        self._on_step("marked")
        # The table has moved on from where any try began, so that none of them can land any more.
        if self._landed is not None:
            ours = {self._data_write, self._commit_write} if self._landed else set()
            left = (before | self._publications.writes()) - ours
            if left:
                attempts(lambda: remove_unreferenced(self._lake.load(), left))
            self._publications.note_writes(())
            self._on_step("cleared")
        return Published(
            segments=tuple(manifest.segment for manifest in manifests), rows=added, reason="; ".join(damaged[:3])
        )

    def _look_and_commit(self, manifests: Sequence[Manifest]) -> tuple[Table, int]:
        """Return the table as it was looked at, and how many rows were added to it."""
        table = self._lake.load_to_write()
        present = segments_in(table, {manifest.segment for manifest in manifests})
        missing = [manifest for manifest in manifests if manifest.segment not in present]
        self._on_step("looked")
        if not missing:
            if self._commit_write:
                self._landed = holds_commit(table, self._commit_write)
            return table, sum(self._rows.values()) if self._landed else 0
        files = self._files(table, missing)
        if not files:
            return table, 0
        change = table.transaction()
        properties = {
            SEGMENTS_PROPERTY: ",".join(manifest.segment for manifest in missing),
            HOST_PROPERTY: self._lake.config.host_name,
        }
        with change.update_snapshot(snapshot_properties=properties).merge_append() as append:
            # Its manifests are written at the end of the block.
            self._commit_write = self._note(append.commit_uuid)
            for file in files:
                append.append_data_file(file)
        self._on_step("written")
        change.commit_transaction()
        self._landed = True
        self._on_step("committed")
        return table, sum(self._rows[manifest.segment] for manifest in missing)

    def _files(self, table: Table, missing: Sequence[Manifest]) -> list[DataFile]:
        """Return files with these segments' rows: those of the last try where they hold the same."""
        names = frozenset(manifest.segment for manifest in missing)
        try:
            erasures = erasures_of(table.properties)
        except ValueError as error:
            raise LakeUnavailableError(str(error)) from None
        if self._written is not None and self._written[:2] == (names, erasures):
            return self._written[2]
        self._rows.clear()
        write = uuid.uuid4()
        self._data_write = self._note(write)
        with reading(self._archive), SegmentRows(self._archive, missing) as rows:
            rows.check()

            def counted() -> Iterator[pa.Table]:
                for some in rows.tables(self._lake.config.host_name, erasures):
                    self._rows.update(some.column(SEGMENT).to_pylist())
                    yield some

            files = list(DataFileWriter(table, write).write_all(counted()))
        self._written = (names, erasures, files)
        return files

    def _note(self, write: uuid.UUID) -> str:
        """Note that files whose names hold this are about to be written."""
        self._publications.note_writes(self._publications.writes() | {str(write)})
        self._on_step("noted")
        return str(write)


def segments_in(table: Table, wanted: Iterable[str]) -> set[str]:
    """Return which of these segments have rows in the table, or had before somebody erased them."""
    from pyiceberg import expressions  # noqa: PLC0415
    from pyiceberg.table.snapshots import ancestors_of  # noqa: PLC0415

    missing, found = set(wanted), set()
    seen = 0
    for snapshot in ancestors_of(table.current_snapshot(), table.metadata):
        summary = snapshot.summary
        named = str(summary.additional_properties.get(SEGMENTS_PROPERTY, "")) if summary is not None else ""
        found |= missing & set(named.split(","))
        seen += 1
    missing -= found
    # Each snapshot has the next number: fewer of them are here where some have expired.
    newest = table.metadata.current_snapshot()
    if missing and newest is not None and seen != newest.sequence_number:
        made: Any = expressions  # their types are those of a model's fields, not of what they take
        scan = table.scan(row_filter=made.In(SEGMENT, missing), selected_fields=(SEGMENT,))
        for batch in scan.to_arrow_batch_reader():
            found |= set(batch.column(SEGMENT).to_pylist()) & missing
    return found
