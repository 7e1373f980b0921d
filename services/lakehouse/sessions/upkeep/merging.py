"""The small Parquet files of a day into few, so that a query does not open a file for each compaction.

For each day with too many: write what they hold into one file beside the archive, with the column ``segment``, read it
back and compare count and content of each segment with what its compaction noted, move the file into place, commit
(rename the day's manifest into place), remove what it took the place of. A kill or a power cut between any two steps
leaves each row readable once: before the commit in the small files, after it in the merged one. Files that a reader
may still be at are left for the next run. The manifests of the segments stay as they are.

Which files: those of the fewest lines, as long as the next one has no more than ``_GROWTH`` times the lines that are
merged already. So a row is written a handful of times however often its day grows, and a day has ``DAY_FILES_MAX``
files at most, beside those that have reached ``MERGED_BYTES_MAX``.
"""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lakehouse.sessions.query.views import stored_rows
from lakehouse.sessions.store.archive import Archive, merged_name, new_segment
from lakehouse.sessions.store.days import ArchiveView, DayManifest, Part, StandingFile, read_archive, read_day, unread
from lakehouse.sessions.store.disk import FOLDER_MODE, fsync_folder, replace_file
from lakehouse.sessions.store.lines import Progress
from lakehouse.sessions.store.parquet_rows import connect_bare, quoted, stored_lines, stored_segment_lines
from lakehouse.sessions.upkeep.closing import alone
from lakehouse.sessions.upkeep.compaction import MEMORY_BYTES, OnStart, duckdb_bytes
from lakehouse.sessions.upkeep.content import ContentTally
from lakehouse.sessions.upkeep.parquet_writer import group_rows, write_parquet

if TYPE_CHECKING:
    import duckdb

DAY_FILES_MAX: Final = 4
MERGED_BYTES_MAX: Final = 128 * 1024**2
_GROWTH: Final = 3
# Opened at once.
_FILES_MAX: Final = 256

MergeStep = Literal["written", "verified", "placed", "committed", "removed"]
OnMergeStep = Callable[[MergeStep, str], None]
"""Called after each step with which one it was and of which day; ``removed`` after each file, with its path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOutcome:
    day: str
    """Empty where it is about the archive as a whole."""
    merged: bool
    files: int = 0
    """How many became one."""
    lines: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    reason: str = ""
    """Why it was not done, and what to do."""


class _MergeRefusedError(Exception):
    """A day stays as it is."""


def merge_days(
    log_path: str | os.PathLike[str],
    *,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
    on_start: OnStart = lambda _name, _size_bytes: None,
    on_step: OnMergeStep = lambda _step, _day: None,
) -> Iterator[MergeOutcome]:
    """Merge what is small, oldest day first, and yield what became of each day that had something to merge.

    Where a file or a manifest is missing or damaged nothing is merged and nothing removed. ``memory_bytes``: as in
    ``compact``. Raises CompactionRefusedError while a compaction or another merge runs, OSError.
    """
    archive = Archive(Path(log_path))
    if not archive.manifests.is_dir():
        return
    with alone(archive):
        archive.days.mkdir(mode=FOLDER_MODE, exist_ok=True)
        archive.building.mkdir(mode=FOLDER_MODE, exist_ok=True)
        for folder in archive.building.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        view = read_archive(archive, archive.committed())
        if view.unreadable:
            yield MergeOutcome(day="", merged=False, reason="; ".join(view.unreadable[:3]))
            return
        _remove_merged_away(archive, view, on_step)
        days = {day: list(files) for day, files in groupby(view.files, key=lambda file: file.day)}
        if not any(map(choose, days.values())):
            return
        spill = archive.building / "spill"
        with closing(connect_bare(spill, memory_bytes=duckdb_bytes(memory_bytes))) as connection:
            for day, files in days.items():
                yield from _merge_day(archive, day, files, connection, progress, on_start, on_step)
        view = read_archive(archive, archive.committed())
        if not view.unreadable:
            _remove_merged_away(archive, view, on_step)


def _merge_day(
    archive: Archive,
    day: str,
    standing: list[StandingFile],
    connection: duckdb.DuckDBPyConnection,
    progress: Progress | None,
    on_start: OnStart,
    on_step: OnMergeStep,
) -> Iterator[MergeOutcome]:
    while chosen := choose(standing):
        on_start(f"merging {day}", sum(file.size_bytes for file in chosen))
        try:
            made = _merge(archive, day, chosen, connection, progress, on_step)
        except _MergeRefusedError as refusal:
            yield MergeOutcome(day=day, merged=False, files=len(chosen), reason=str(refusal))
            return
        standing = [made, *(file for file in standing if file not in chosen)]
        yield MergeOutcome(
            day=day,
            merged=True,
            files=len(chosen),
            lines=made.lines,
            bytes_before=sum(file.size_bytes for file in chosen),
            bytes_after=made.size_bytes,
        )


def choose(files: Sequence[StandingFile]) -> list[StandingFile]:
    """Which of a day's files become one next; none, or at least two."""
    smallest = sorted(files, key=lambda file: (file.lines, file.path))
    chosen = smallest[:1]
    lines, size_bytes = sum(file.lines for file in chosen), sum(file.size_bytes for file in chosen)
    for place, file in enumerate(smallest[1:_FILES_MAX], 1):
        size_bytes += file.size_bytes
        too_many = len(smallest) - place >= DAY_FILES_MAX
        if size_bytes > MERGED_BYTES_MAX or not (too_many or file.lines <= _GROWTH * lines):
            break
        chosen.append(file)
        lines += file.lines
    return chosen if len(chosen) > 1 else []


def _merge(
    archive: Archive,
    day: str,
    files: Sequence[StandingFile],
    connection: duckdb.DuckDBPyConnection,
    progress: Progress | None,
    on_step: OnMergeStep,
) -> StandingFile:
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    name = merged_name(day)
    folder = archive.building / new_segment()
    target = folder / name
    target.parent.mkdir(mode=FOLDER_MODE, parents=True)
    try:
        parts = _noted(archive, connection, files)
        size = _write(archive, connection, files, target)
        on_step("written", day)
        _check(connection, target, parts)
        on_step("verified", day)
    except duckdb.OutOfMemoryException:
        raise _MergeRefusedError("its longest rows need more memory: run again with a larger --memory") from None
    except duckdb.Error as error:
        raise _MergeRefusedError(f"DuckDB failed, and nothing was removed: {error}") from None
    if progress is not None:
        progress(sum(file.size_bytes for file in files))
    made = StandingFile(day=day, path=name, size_bytes=size, parts=parts, merged=True)
    target.rename(archive.folder / name)
    fsync_folder((archive.folder / name).parent)
    shutil.rmtree(folder, ignore_errors=True)
    on_step("placed", day)
    archive.check_file(name, size)
    kept = [file for file in read_day(archive, day).files if file not in files]
    replace_file(archive.day_path(day), DayManifest(day=day, files=(*kept, made)).to_json())
    on_step("committed", day)
    return made


def _noted(archive: Archive, connection: duckdb.DuckDBPyConnection, files: Sequence[StandingFile]) -> tuple[Part, ...]:
    """Return the parts of what is merged, each with its content. Raises duckdb.Error, OSError."""
    parts: list[Part] = []
    for file in files:
        if all(part.content for part in file.parts):
            parts += file.parts
            continue
        # Compacted before contents were noted by file: a segment's own file, which is its only part.
        tally = ContentTally()
        for line, torn in stored_lines(connection, [archive.folder / file.path]):
            tally.add(line, torn=torn)
        manifest = archive.read_manifest(file.parts[0].segment)
        whole = (manifest.lines, manifest.content) if len(manifest.files) == 1 else (file.lines, tally.content)
        if (tally.lines, tally.content) != whole:
            raise _MergeRefusedError(f"{file.path} holds other lines than were compacted: restore it from a backup")
        parts.append(replace(file.parts[0], content=tally.content))
    return tuple(parts)


def _write(archive: Archive, connection: duckdb.DuckDBPyConnection, files: Sequence[StandingFile], target: Path) -> int:
    paths = [archive.folder / file.path for file in files]
    names = ", ".join(map(quoted, paths))
    [(text_bytes,)] = connection.execute(
        f"SELECT sum(total_uncompressed_size) FROM parquet_metadata([{names}]) WHERE path_in_schema IN ('line', 'torn')"
    ).fetchall()
    own = " ".join(
        f"WHEN {quoted(archive.folder / file.path)} THEN {quoted(file.parts[0].segment)}"
        for file in files
        if not file.merged
    )
    segment = f"coalesce(segment, CASE file {own} END)" if own else "segment"
    return write_parquet(
        connection,
        f"SELECT * EXCLUDE (file, segment), {segment} AS segment FROM ({stored_rows(paths)})",
        target,
        group_rows(sum(file.lines for file in files), int(text_bytes or 0)),
    )


def _check(connection: duckdb.DuckDBPyConnection, target: Path, parts: Sequence[Part]) -> None:
    """Raise _MergeRefusedError unless the file holds of each segment the lines of its parts, duckdb.Error."""
    wanted: dict[str, ContentTally] = {}
    for part in parts:
        wanted.setdefault(part.segment, ContentTally()).add_content(part.lines, part.content)
    found: dict[str, ContentTally] = {}
    for line, torn, segment in stored_segment_lines(connection, target):
        found.setdefault(segment, ContentTally()).add(line, torn=torn)
    if {name: (tally.lines, tally.content) for name, tally in found.items()} != {
        name: (tally.lines, tally.content) for name, tally in wanted.items()
    }:
        raise _MergeRefusedError(
            "the merged file holds other lines than were compacted, and nothing was removed: run `lakehouse sessions"
            " verify`"
        )


def _remove_merged_away(archive: Archive, view: ArchiveView, on_step: OnMergeStep) -> None:
    """Remove the files whose rows count elsewhere by now, and merged files of a run that ended before its commit,
    unless somebody reads."""
    standing = {file.path for file in view.files}
    parts = (part.path for file in view.files for part in file.parts)
    left = {path for path in parts if path not in standing}
    left |= {str(path) for path in archive.merged_files() if str(path) not in standing}
    present = sorted(path for path in left if (archive.folder / path).exists())
    if not present:
        return
    with unread(archive) as alone_here:
        if not alone_here:
            return
        for path in present:
            with suppress(FileNotFoundError):
                (archive.folder / path).unlink()
            on_step("removed", path)
    for folder in {(archive.folder / path).parent for path in present}:
        fsync_folder(folder)
