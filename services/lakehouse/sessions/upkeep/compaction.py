"""Closed segments to Parquet, and only then away with them.

For each rotated file: claim it (rename, so that logrotate loses sight of it), close it (take its lock, now that it has
another name, so that no writer is left), write Parquet, read it back and compare count and content, move the files
into place, commit (rename a manifest into place), remove the claimed file. A kill or a power cut between any two
steps leaves each row readable once: before the commit in JSONL, after it in Parquet. The next run takes up claimed
files where this one stopped. The live file is never touched. Every line survives to the byte but blank ones: rows of
other producers and torn lines too. Few files are made of many by ``merging``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError, Manifest, new_segment
from lakehouse.sessions.store.days import segment_files
from lakehouse.sessions.store.disk import FOLDER_MODE, fsync_folder, replace_file
from lakehouse.sessions.store.lines import Progress, SegmentDamagedError, read_lines
from lakehouse.sessions.store.log_files import FoundFile
from lakehouse.sessions.store.names import Compression
from lakehouse.sessions.store.parquet_rows import connect_bare
from lakehouse.sessions.store.segments import Segment, rotated_files
from lakehouse.sessions.upkeep.closing import (
    CompactionRefusedError,
    SegmentRecalledError,
    SegmentRefusedError,
    SegmentYoungError,
    alone,
    closed_segment,
    refuse_unless_settled,
    refuse_while_recalled,
    refuse_while_unsettled,
)
from lakehouse.sessions.upkeep.parquet_writer import ParquetWriter

if TYPE_CHECKING:
    import duckdb

SETTLE_S: Final = 60.0
MEMORY_BYTES: Final = 400 * 1024**2
# Of these, what is not DuckDB's.
_PYTHON_BYTES: Final = 160 * 1024**2
_DUCKDB_BYTES_MIN: Final = 96 * 1024**2

Step = Literal["claimed", "written", "verified", "placed", "committed", "removed"]
OnStart = Callable[[str, int], None]
"""Called with the name and the size in bytes of each file before it is read; ``progress`` then counts up to it."""
OnStep = Callable[[Step, str], None]
"""Called after each step with which one it was and of which segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOutcome:
    source: str
    segment: str | None
    """Its name in the archive; None where it was not claimed."""
    compacted: bool
    lines: int = 0
    torn: int = 0
    source_bytes: int = 0
    parquet_bytes: int = 0
    reason: str = ""
    """Why it was not compacted and what to do."""
    young: bool = False
    """It was not since it was written just now: the next run takes it."""
    recalled: bool = False
    """It was not since a repeated call is answered from it: nothing is to be done."""


@dataclass(frozen=True, slots=True)
class _Run:
    settle_s: float
    recall_hours: float
    connection: duckdb.DuckDBPyConnection
    compacted: dict[tuple[int, str], str]
    """Each committed segment with lines, by their number and content."""


def duckdb_bytes(memory_bytes: int) -> int:
    """Return what is left to DuckDB of what the process may take."""
    return max(memory_bytes - _PYTHON_BYTES, _DUCKDB_BYTES_MIN)


def compact(
    log_path: str | os.PathLike[str],
    *,
    settle_s: float = SETTLE_S,
    recall_hours: float = 0.0,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
    on_start: OnStart = lambda _name, _size_bytes: None,
    on_step: OnStep = lambda _step, _segment: None,
) -> Iterator[SegmentOutcome]:
    """Compact every closed segment, oldest first, and yield what became of each.

    A file last written less than ``settle_s`` ago is left for the next run: its last writer may still have to note
    that its row stands. One that was written within ``recall_hours`` stays JSONL, from which a repeated call is
    answered at once. ``memory_bytes``: what the process takes, about; two rows of ``ROW_BYTES_MAX`` take more.

    Raises:
        SessionLogUnavailableError: there is no log here.
        CompactionRefusedError: another compaction runs, or sessions of a killed process are still to be settled.
        OSError, duckdb.Error: the disk or a file failed; run again when that is mended.
    """
    archive = Archive(Path(log_path))
    rotated = rotated_files(archive.log_path)
    refuse_while_unsettled(archive)
    _make_folders(archive)
    with alone(archive):
        _clear_building(archive)
        if rotated:
            settling = (settle_s, recall_hours)
            yield from _compact_all(archive, rotated, settling, memory_bytes, progress, on_start, on_step)
        _remove_committed(archive, on_step)


def _compact_all(
    archive: Archive,
    rotated: Sequence[FoundFile],
    settling: tuple[float, float],
    memory_bytes: int,
    progress: Progress | None,
    on_start: OnStart,
    on_step: OnStep,
) -> Iterator[SegmentOutcome]:
    with closing(connect_bare(archive.building / "spill", memory_bytes=duckdb_bytes(memory_bytes))) as connection:
        run = _Run(*settling, connection, _contents(archive))
        for file in rotated:
            on_start(file.path.name, file.status.st_size)
            claim = archive.parse_claimed(file.path.name) if file.path.parent == archive.claimed else None
            if claim is not None:
                yield _compact_claimed(archive, file.path, claim[0], file.path.name, run, progress, on_step)
            else:
                yield _claim_and_compact(archive, file.path, file.compression, run, progress, on_step)


def _claim_and_compact(
    archive: Archive,
    path: Path,
    compression: Compression,
    run: _Run,
    progress: Progress | None,
    on_step: OnStep,
) -> SegmentOutcome:
    try:
        refuse_while_recalled(path, run.recall_hours)
        refuse_unless_settled(path, run.settle_s)
        name = new_segment()
        claimed = archive.claimed_path(name, compression)
        # Whatever rotated file has this name by now is the one that is taken: each is as good as another.
        path.rename(claimed)
    except FileNotFoundError:
        return SegmentOutcome(source=path.name, segment=None, compacted=False, reason="it was rotated away: run again")
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise CompactionRefusedError(f"{archive.folder} must be on the same file system as the log") from None
    except SegmentRecalledError as refusal:
        return SegmentOutcome(source=path.name, segment=None, compacted=False, reason=str(refusal), recalled=True)
    except SegmentRefusedError as refusal:
        return _refused(path.name, None, refusal)
    fsync_folder(archive.claimed)
    fsync_folder(path.parent)
    on_step("claimed", name)
    return _compact_claimed(archive, claimed, name, path.name, run, progress, on_step)


def _compact_claimed(
    archive: Archive,
    path: Path,
    name: str,
    source: str,
    run: _Run,
    progress: Progress | None,
    on_step: OnStep,
) -> SegmentOutcome:
    with contextlib.ExitStack() as stack:
        try:
            segment = stack.enter_context(closed_segment(path, run.settle_s))
            manifest = _build(archive, segment, name, source, run, progress, on_step)
        except SegmentRefusedError as refusal:
            return _refused(source, name, refusal)
        _place(archive, manifest)
        on_step("placed", name)
        if os.fstat(segment.fd).st_size != segment.size_bytes:
            return SegmentOutcome(source=source, segment=name, compacted=False, reason="it grew meanwhile: run again")
        _commit(archive, manifest)
        run.compacted[manifest.lines, manifest.content] = name
        on_step("committed", name)
    path.unlink()
    fsync_folder(archive.claimed)
    on_step("removed", name)
    return SegmentOutcome(
        source=source,
        segment=name,
        compacted=True,
        lines=manifest.lines,
        torn=manifest.torn,
        source_bytes=manifest.source_bytes,
        parquet_bytes=sum(file.size_bytes for file in manifest.files),
    )


def _refused(source: str, segment: str | None, refusal: SegmentRefusedError) -> SegmentOutcome:
    young = isinstance(refusal, SegmentYoungError)
    return SegmentOutcome(source=source, segment=segment, compacted=False, reason=str(refusal), young=young)


def _build(
    archive: Archive,
    segment: Segment,
    name: str,
    source: str,
    run: _Run,
    progress: Progress | None,
    on_step: OnStep,
) -> Manifest:
    """Parquet in the building folder that was read back and compared with what the segment holds."""
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    folder = archive.building / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=FOLDER_MODE)
    lines = source_bytes = 0
    try:
        with ParquetWriter(folder, name, run.connection) as writer:
            for line in read_lines(segment, progress):
                if line.too_long:
                    raise SegmentRefusedError(f"line {line.number} is longer than any row: move the file away")
                source_bytes = line.offset + len(line.data) + line.ended
                if line.data.strip():
                    writer.add(line.data)
                    lines += 1
            writer.flush()
            on_step("written", name)
            files, stored = writer.read_back()
    except SegmentDamagedError as error:
        raise SegmentRefusedError(str(error)) from None
    except duckdb.OutOfMemoryException:
        raise SegmentRefusedError("its longest rows need more memory: run again with a larger --memory") from None
    except ValueError as error:
        raise SegmentRefusedError(f"its Parquet is not what was written ({error}): nothing was removed") from None
    if stored.lines != lines:
        raise SegmentRefusedError(
            f"its Parquet holds {stored.lines} lines, the file {lines}: nothing was removed; check the disk and run"
            " again"
        )
    before = run.compacted.get((lines, stored.content)) if lines else None
    if before is not None:
        raise SegmentRefusedError(
            f"the same lines were compacted before, as {before}: a copy was put back or a compressor was still at work;"
            " remove this file"
        )
    on_step("verified", name)
    return Manifest(
        segment=name,
        source=source,
        source_bytes=source_bytes,
        lines=lines,
        torn=stored.torn,
        content=stored.content,
        files=files,
    )


def _contents(archive: Archive) -> dict[tuple[int, str], str]:
    found = {}
    for segment in sorted(archive.committed()):
        with contextlib.suppress(ArchiveDamagedError):
            manifest = archive.read_manifest(segment)
            found[manifest.lines, manifest.content] = segment
    return found


def _place(archive: Archive, manifest: Manifest) -> None:
    folders = {archive.folder}
    for file in manifest.files:
        target = archive.folder / file.path
        target.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        folders.add(target.parent)
        (archive.building / manifest.segment / file.path).rename(target)
    for folder in folders:
        fsync_folder(folder)
    shutil.rmtree(archive.building / manifest.segment, ignore_errors=True)


def _commit(archive: Archive, manifest: Manifest) -> None:
    for file in manifest.files:
        archive.check_file(file.path, file.size_bytes)
    replace_file(archive.manifest_path(manifest.segment), manifest.to_json())


def _remove_committed(archive: Archive, on_step: OnStep) -> None:
    """Remove claimed files whose manifest was committed by a run that ended before it removed them."""
    committed = archive.committed()
    for name, path in archive.claimed_files():
        if name in committed:
            segment_files(archive, name)
            path.unlink()
            on_step("removed", name)
    fsync_folder(archive.claimed)


def _clear_building(archive: Archive) -> None:
    """Remove what a run that ended before its commit has left: of no segment that has a manifest."""
    for folder in archive.building.iterdir():
        shutil.rmtree(folder, ignore_errors=True)
    committed = archive.committed()
    for name, _ in archive.claimed_files():
        if name not in committed:
            for file in archive.placed_files(name):
                file.unlink()


def _make_folders(archive: Archive) -> None:
    for folder in (archive.folder, archive.manifests, archive.days, archive.claimed, archive.building):
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    fsync_folder(archive.log_path.parent)
