"""What counts in the archive: the files that compaction wrote, and those in which several of them stand merged.

A day's manifest lists the day's merged files, each with its parts: the files of segments that it took the place of.
Renaming it into place is the one instant in which readers turn from the parts to the merged file. The manifests of the
segments stay as they are, so that a segment keeps its name, its count and its content; within a merged file the column
``segment`` says which rows are whose.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError, Manifest, day_of_path, known

DAY_SCHEMA: Final = "session.day.v1"

# Held against readers for as long as it takes to remove some files.
_LOCK_WAIT_S: Final = 5.0
_LOCK_STEP_S: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file as compaction wrote it for one segment and day."""

    segment: str
    path: str
    """Relative to the archive's folder; the file itself is gone where it stands merged."""
    lines: int
    content: str
    """As ``Manifest.content``; empty where it was not noted and the file has not been merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingFile:
    """A Parquet file whose rows count."""

    day: str
    path: str
    """Relative to the archive's folder."""
    size_bytes: int
    parts: tuple[Part, ...]
    """What it holds: itself, or what was merged in it."""
    merged: bool = False

    @property
    def lines(self) -> int:
        return sum(part.lines for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayManifest:
    """The merged files of one day."""

    day: str
    files: tuple[StandingFile, ...]

    def to_json(self) -> bytes:
        files = [
            {"path": file.path, "size_bytes": file.size_bytes, "parts": [asdict(part) for part in file.parts]}
            for file in self.files
        ]
        return orjson.dumps({"schema": DAY_SCHEMA, "day": self.day, "files": files}, option=orjson.OPT_INDENT_2) + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveView:
    """The archive at one moment: each compacted row in one of ``files``."""

    manifests: tuple[Manifest, ...] = ()
    """Of the segments of which all rows stand."""
    files: tuple[StandingFile, ...] = ()
    """Those that stand with the size that they should have."""
    unreadable: tuple[str, ...] = ()
    """What is missing or damaged, in a sentence each."""


def read_day(archive: Archive, day: str) -> DayManifest:
    """Return the merged files of a day; none where it has no manifest. Raises ArchiveDamagedError, OSError."""
    path = archive.day_path(day)
    try:
        with archive.parsed(path, DAY_SCHEMA) as values:
            manifest = DayManifest(
                day=values["day"],
                files=tuple(
                    StandingFile(
                        day=day,
                        path=file["path"],
                        size_bytes=file["size_bytes"],
                        parts=tuple(known(Part, part) for part in file["parts"]),
                        merged=True,
                    )
                    for file in values["files"]
                ),
            )
    except FileNotFoundError:
        return DayManifest(day=day, files=())
    if manifest.day != day:
        raise ArchiveDamagedError(f"{path} is the manifest of {manifest.day}: remove this copy of it")
    return manifest


def read_archive(archive: Archive, segments: AbstractSet[str]) -> ArchiveView:
    """Return what counts of these committed segments. Never raises: what cannot be read is said in ``unreadable``.

    Files go as soon as nobody reads, so that it is asked within ``reading`` by whoever opens them.
    """
    unreadable: list[str] = []
    damaged_days: set[str] = set()
    merged: list[StandingFile] = []
    try:
        days = archive.merged_days()
    except OSError as error:
        return ArchiveView(unreadable=(f"{archive.days} cannot be read: {error.strerror}",))
    for day in days:
        try:
            merged += read_day(archive, day).files
        except (ArchiveDamagedError, OSError) as error:
            unreadable.append(str(error))
            damaged_days.add(day)
    manifests = []
    own: list[StandingFile] = []
    held = {part.path for file in merged for part in file.parts}
    lost: set[str] = set()
    for segment in sorted(segments):
        try:
            manifest = archive.read_manifest(segment)
        except (ArchiveDamagedError, OSError) as error:
            unreadable.append(str(error))
            continue
        manifests.append(manifest)
        for file in manifest.files:
            day = day_of_path(file.path)
            if day in damaged_days:
                lost.add(segment)
            elif file.path not in held:
                part = Part(segment=segment, path=file.path, lines=file.lines, content=file.content)
                own.append(StandingFile(day=day, path=file.path, size_bytes=file.size_bytes, parts=(part,)))
    files = []
    for standing in sorted([*own, *merged], key=lambda file: file.path):
        try:
            archive.check_file(standing.path, standing.size_bytes)
        except (ArchiveDamagedError, OSError) as error:
            unreadable.append(str(error))
            lost.update(part.segment for part in standing.parts)
            continue
        files.append(standing)
        unreadable += (
            f"{archive.manifest_path(segment)} is missing, and {standing.path} holds rows of it: restore it from a"
            " backup"
            for segment in sorted({part.segment for part in standing.parts} - segments)
        )
    return ArchiveView(
        manifests=tuple(manifest for manifest in manifests if manifest.segment not in lost),
        files=tuple(files),
        unreadable=tuple(unreadable),
    )


def segment_files(archive: Archive, segment: str) -> list[Path]:
    """Return the files in which a committed segment's rows stand; a merged one holds those of others too.

    Raises ArchiveDamagedError where one is missing, OSError.
    """
    found: dict[str, None] = {}
    manifest = archive.read_manifest(segment)
    merged = {
        part.path: file
        for day in {day_of_path(file.path) for file in manifest.files}
        for file in read_day(archive, day).files
        for part in file.parts
    }
    for own in manifest.files:
        file = merged.get(own.path, own)
        archive.check_file(file.path, file.size_bytes)
        found[file.path] = None
    return [archive.folder / path for path in found]


@contextmanager
def reading(archive: Archive) -> Iterator[None]:
    """Keep every Parquet file that counts now in its place, for a moment. Raises ArchiveBusyError, OSError."""
    fd = hold_archive(archive)
    try:
        yield
    finally:
        if fd is not None:
            os.close(fd)


class ArchiveBusyError(OSError):
    """Merged files were being removed for longer than that can take."""


def hold_archive(archive: Archive) -> int | None:
    """Return a descriptor that keeps every Parquet file that counts from now on in its place until it is closed, or its
    process ends; None where there is no archive. Raises ArchiveBusyError, OSError."""
    try:
        fd = os.open(archive.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    deadline = time.monotonic() + _LOCK_WAIT_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ArchiveBusyError(
                        None,
                        f"a compaction has been removing files for {_LOCK_WAIT_S:.0f} s: see whether it hangs, and try"
                        " again",
                        str(archive.folder),
                    ) from None
                time.sleep(_LOCK_STEP_S)
            else:
                return fd
    except BaseException:
        os.close(fd)
        raise


@contextmanager
def unread(archive: Archive) -> Iterator[bool]:
    """Whether nobody reads the archive, and nobody does within the block. Raises OSError."""
    fd = os.open(archive.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
