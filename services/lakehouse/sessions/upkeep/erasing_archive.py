"""The archive without what is to be erased: its Parquet files, the manifests that name them, and what is half built.

Who erases has the compaction's lock and the archive for himself. A file is written anew under another name, and the
manifest that names it takes its place in one instant; then the old one goes. Of a merged file a day's manifest is
changed first and those of its segments after it: what a kill leaves between the two is put right by the next run, which
knows by ``_erasing`` that there was one.
"""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from lakehouse.sessions.query.views import stored_rows
from lakehouse.sessions.record import SCHEMA
from lakehouse.sessions.store.archive import (
    Archive,
    ArchiveDamagedError,
    Manifest,
    ParquetFile,
    merged_name,
    parquet_name,
)
from lakehouse.sessions.store.days import DayManifest, Part, StandingFile, read_archive, read_day
from lakehouse.sessions.store.disk import fsync_folder, replace_file
from lakehouse.sessions.store.parquet_rows import connect_bare, quoted, stored_lines, stored_segment_lines
from lakehouse.sessions.upkeep.content import ContentTally
from lakehouse.sessions.upkeep.erasing import Counts, Erasing, Found, LineFilter, read_object
from lakehouse.sessions.upkeep.parquet_writer import group_rows, write_parquet

if TYPE_CHECKING:
    pass

_FETCH_ROWS: Final = 512
_NOTHING: Final = ContentTally()


class ArchiveEraser:
    """Erases from one archive; a context manager. Whoever makes it holds the archive's lock and its folder."""

    def __init__(self, archive: Archive, *, purpose: bytes = b"erasure") -> None:
        """Raise ArchiveDamagedError where anything is missing: what cannot be read cannot be looked through."""
        self._archive = archive
        self._purpose = purpose
        view = read_archive(archive, archive.committed())
        if view.unreadable:
            raise ArchiveDamagedError("; ".join(view.unreadable[:3]))
        self._files = view.files
        self.written: list[str] = []
        """Names of the files that were written anew."""
        # What an interrupted run has left is put right by the next.
        self._changed = archive.erasing.exists()
        self._connection = connect_bare(archive.building / "spill-erase")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def look(self, erasing: Erasing, found: Found) -> list[StandingFile]:
        """Note what is to go, and return the files that have to be written anew, or may have to.

        Raises duckdb.Error.
        """
        where, parameters = erasing.where()
        again = []
        for file in self._files:
            rows = self._connection.execute(
                f"SELECT session_id, trace_id FROM ({self._stored(file)}) WHERE schema = '{SCHEMA}' AND {where}",
                parameters,
            ).fetchall()
            for session_id, trace_id in rows:
                found.note({"session_id": session_id, "trace_id": trace_id})
            others = len(rows)
            for _, line, torn in self._other_lines(file):
                row = None if torn is not None else read_object(line.encode())
                if row is None or erasing.fits(row):
                    others += 1
                if row is not None and erasing.fits(row):
                    found.note(row)
            if others:
                again.append(file)
        return again

    def erase(
        self,
        files: Iterable[StandingFile],
        erasing: Erasing,
        lines: LineFilter,
        *,
        on_file: Callable[[str], None] = lambda _: None,
    ) -> Counts:
        """Write these files anew without what goes. Raises duckdb.Error, OSError."""
        total = Counts()
        for file in files:
            on_file(Path(file.path).name)
            counts, going = self._going(file, erasing, lines)
            total.add(counts)
            if going:
                self._replace(file, going)
                self.written.append(Path(file.path).name)
        self._settle_manifests()
        return total

    def drop(self, days: Collection[str]) -> int:
        """Remove all files of these days. Return how many lines went. Raises OSError."""
        dropped = [file for file in self._files if file.day in days]
        for file in dropped:
            self._put(file, None)
        self._settle_manifests()
        return sum(file.lines for file in dropped)

    def finish(self) -> list[str]:
        """Remove what no manifest names, and what is half built. Return which files, for the report. Raises OSError."""
        view = read_archive(self._archive, self._archive.committed())
        standing = {file.path for file in view.files}
        removed = []
        if not view.unreadable:
            for path in self._archive.files_of_days():
                if str(path.relative_to(self._archive.folder)) not in standing:
                    path.unlink()
                    removed.append(path.name)
        for folder in self._archive.building.iterdir() if self._archive.building.is_dir() else ():
            if folder.name != "spill-erase":
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder.name)
        self._archive.erasing.unlink(missing_ok=True)
        return removed

    def _going(self, file: StandingFile, erasing: Erasing, lines: LineFilter) -> tuple[Counts, list[int]]:
        """Return what goes of a file, by the numbers of its rows."""
        where, parameters = erasing.where()
        counts = Counts()
        going = [
            number
            for (number,) in self._connection.execute(
                f"SELECT file_row_number FROM ({self._stored(file)}) WHERE schema = '{SCHEMA}' AND {where}", parameters
            ).fetchall()
        ]
        counts.rows = len(going)
        for number, line, torn in self._other_lines(file):
            if not lines.keeps(line.encode() if torn is None else torn, counts):
                going.append(number)
        return counts, going

    def _other_lines(self, file: StandingFile) -> Iterator[tuple[int, str, bytes | None]]:
        """Yield what is no row of ours: its number, and its text, or the bytes of a torn line."""
        result = self._connection.execute(
            f"SELECT file_row_number, line, torn FROM ({self._stored(file)}) WHERE schema IS DISTINCT FROM '{SCHEMA}'"
        )
        while rows := result.fetchmany(_FETCH_ROWS):
            yield from rows

    def _stored(self, file: StandingFile) -> str:
        return stored_rows([self._archive.folder / file.path], numbered=True)

    def _replace(self, file: StandingFile, going: list[int]) -> None:
        """Put a file in the place of this one that does not have these rows."""
        if len(going) == file.lines:
            self._put(file, None)
            return
        name = merged_name(file.day) if file.merged else self._next_name(file)
        target = self._archive.folder / name
        kept = (
            f"SELECT * EXCLUDE (file_row_number) FROM read_parquet({quoted(self._archive.folder / file.path)},"
            " hive_partitioning = false, file_row_number = true) WHERE file_row_number NOT IN"
        )
        self._connection.execute("CREATE OR REPLACE TEMP TABLE going AS SELECT unnest(?) AS number", [going])
        size = write_parquet(
            self._connection,
            f"{kept} (SELECT number FROM going)",
            target,
            group_rows(file.lines, max(file.size_bytes * 4, 1)),
        )
        fsync_folder(target.parent)
        tallies = self._tallied(target, file)
        lines = sum(tally.lines for tally in tallies.values())
        if lines != file.lines - len(going):
            target.unlink()
            raise OSError(None, f"{lines} lines were written and not {file.lines - len(going)}", str(target))
        parts = tuple(
            Part(
                segment=part.segment,
                path=part.path if file.merged else name,
                lines=tallies.get(part.segment, _NOTHING).lines,
                content=tallies.get(part.segment, _NOTHING).content,
            )
            for part in file.parts
        )
        made = StandingFile(day=file.day, path=name, size_bytes=size, parts=parts, merged=file.merged)
        self._put(file, made)

    def _put(self, file: StandingFile, made: StandingFile | None) -> None:
        """Let a file take another's place, or nothing, and remove that one."""
        if not self._changed:
            # From here on until `finish` manifests and files may differ.
            self._archive.erasing.write_bytes(self._purpose)
            self._changed = True
        if file.merged:
            kept = [each for each in read_day(self._archive, file.day).files if each.path != file.path]
            manifest = DayManifest(day=file.day, files=(*kept, made) if made is not None else tuple(kept))
            self._gone_parts(file, made)
            replace_file(self._archive.day_path(file.day), manifest.to_json())
        else:
            part = file.parts[0]
            old = self._archive.read_manifest(part.segment)
            files = [each for each in old.files if each.path != file.path]
            if made is not None:
                files.append(ParquetFile(made.path, made.lines, made.size_bytes, made.parts[0].content))
            self._write_manifest(old, files)
        with suppress(FileNotFoundError):
            (self._archive.folder / file.path).unlink()
        fsync_folder((self._archive.folder / file.path).parent)

    def _gone_parts(self, file: StandingFile, made: StandingFile | None) -> None:
        """Take the parts of a merged file that goes as a whole out of their segments' manifests, first: once the day's
        manifest does not name them any more, they would be missing files."""
        if made is None:
            for part in file.parts:
                old = self._archive.read_manifest(part.segment)
                self._write_manifest(old, [each for each in old.files if each.path != part.path])

    def _settle_manifests(self) -> None:
        """Let the manifests of segments say what the merged files hold of them. Raises OSError, ArchiveDamagedError."""
        if not self._changed:
            return
        merged = {
            part.path: part
            for day in self._archive.merged_days()
            for file in read_day(self._archive, day).files
            for part in file.parts
        }
        for segment in sorted(self._archive.committed()):
            old = self._archive.read_manifest(segment)
            files = [
                replace(each, lines=merged[each.path].lines, content=merged[each.path].content)
                if each.path in merged
                else each
                for each in old.files
            ]
            if list(old.files) != files:
                self._write_manifest(old, files)

    def _write_manifest(self, old: Manifest, files: list[ParquetFile]) -> None:
        tally = ContentTally()
        filled = []
        for file in files:
            content = file.content or self._content_of(file)
            tally.add_content(file.lines, content)
            filled.append(replace(file, content=content))
        manifest = replace(
            old, lines=tally.lines, torn=min(old.torn, tally.lines), content=tally.content, files=tuple(filled)
        )
        replace_file(self._archive.manifest_path(old.segment), manifest.to_json())

    def _content_of(self, file: ParquetFile) -> str:
        """Of a file whose content was not noted when it was compacted."""
        tally = ContentTally()
        for line, torn in stored_lines(self._connection, [self._archive.folder / file.path]):
            tally.add(line, torn=torn)
        return tally.content

    def _tallied(self, path: Path, file: StandingFile) -> dict[str, ContentTally]:
        """Count what a file holds of each segment."""
        found: dict[str, ContentTally] = {}
        if file.merged:
            for line, torn, segment in stored_segment_lines(self._connection, path):
                found.setdefault(segment, ContentTally()).add(line, torn=torn)
        else:
            tally = found.setdefault(file.parts[0].segment, ContentTally())
            for line, torn in stored_lines(self._connection, [path]):
                tally.add(line, torn=torn)
        return found

    def _next_name(self, file: StandingFile) -> str:
        """Return a name of the segment and day that no file has had."""
        segment = file.parts[0].segment
        numbers = [int(path.stem.rpartition("-")[2]) for path in self._archive.placed_files(segment)]
        return parquet_name(file.day, segment, max(numbers, default=-1) + 1)
