"""Erasing sessions from one log: all that stands beside it, while no iterate runs.

First everything is looked through, so that it is known which sessions go; then each file that has some of them is put
in its place anew. A kill at any moment loses nothing that stays, and the same erasure, run again, ends what it left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lakehouse.sessions.index.store import index_folder
from lakehouse.sessions.lake.errors import PublishRefusedError
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.days import segment_files, unread
from lakehouse.sessions.store.disk import FOLDER_MODE, fsync_folder, open_to_read
from lakehouse.sessions.store.journal import list_journals, list_spills, list_unread
from lakehouse.sessions.store.lines import SegmentDamagedError
from lakehouse.sessions.store.log_files import list_log_files
from lakehouse.sessions.upkeep.closing import alone
from lakehouse.sessions.upkeep.erasing import Counts, Erasing, Found, LineFilter, look_at, rewrite_lines
from lakehouse.sessions.upkeep.erasing_archive import ArchiveEraser

_WAIT_S: Final = 5.0
_STEP_S: Final = 0.01
_NAMES_MAX: Final = 20

EraseStep = Callable[[str], None]
"""Called with the name of each file before it is changed."""


@dataclass(slots=True)
class LogErasure:
    """What was found beside a log, and what became of it."""

    found: Found = field(default_factory=Found)
    in_lines: Counts = field(default_factory=Counts)
    """What went out of JSONL files and journals that nobody could read."""
    in_parquet: Counts = field(default_factory=Counts)
    files: list[str] = field(default_factory=list)
    """Names of the files of the log that are, or would be, written anew."""
    removed: list[str] = field(default_factory=list)
    """Names of half-built files, leftovers and indexes that are gone."""
    not_reached: list[str] = field(default_factory=list)
    """What may still hold what was erased, in a sentence each, and what to do."""


def refuse_while_open(log_path: Path, spill_dir: str) -> None:
    """Raise PublishRefusedError while an iterate runs on the log, or has left something that is not settled."""
    spills = list_spills(spill_dir, log_path) if spill_dir else []
    for path in (*list_journals(log_path), *spills):
        with contextlib.suppress(FileNotFoundError):
            fd = open_to_read(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PublishRefusedError(
                    f"an iterate runs on {log_path}: stop it first, and start it when this is done"
                ) from None
            finally:
                os.close(fd)
            raise PublishRefusedError(
                f"{path} holds sessions of a process that died and could not be settled: see what the lines above say,"
                " mend that and run again"
            )


@contextlib.contextmanager
def erasing_alone(archive: Archive, *, retention: bool = False) -> Iterator[None]:
    """Keep compactions and readers away from the archive.

    Raises PublishRefusedError, CompactionRefusedError: the latter for a ``retention`` also where an erasure was
    interrupted.
    """
    archive.folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    deadline = time.monotonic() + _WAIT_S
    with alone(archive, erases=not retention):
        while True:
            with unread(archive) as alone_here:
                if alone_here:
                    yield
                    return
            if time.monotonic() >= deadline:
                raise PublishRefusedError(f"somebody reads {archive.folder}: run again when no query runs on the log")
            time.sleep(_STEP_S)


def erase_from_log(
    log_path: Path, erasing: Erasing, *, spill_dir: str = "", dry_run: bool = False, on_file: EraseStep = lambda _: None
) -> LogErasure:
    """Erase from all that stands beside the log, or only look with ``dry_run``.

    Dead journals and spills were settled before, and whoever calls this has the archive (``erasing_alone``).

    Raises:
        PublishRefusedError: an iterate runs, or something is not settled.
        ArchiveDamagedError: a manifest or a Parquet file is missing: nothing was changed.
        OSError, duckdb.Error: run the same again when that is mended.
    """
    refuse_while_open(log_path, spill_dir)
    archive, done = Archive(log_path), LogErasure()
    again: list[Path] = []
    listing = list_log_files(log_path)
    for file in (*listing.files, *listing.doubles):
        try:
            if look_at(file.path, erasing, done.found):
                again.append(file.path)
        except SegmentDamagedError as error:
            done.not_reached.append(str(error))
    done.not_reached += (
        f"{file.path} is compressed in a way that is not read here: decompress it, and run this again"
        for file in listing.not_read
    )
    if listing.strangers:
        names = ", ".join(path.name for path in listing.strangers[:_NAMES_MAX])
        done.not_reached.append(f"copies beside the log are no part of it, and were not looked at: {names}")
    with ArchiveEraser(archive) as eraser:
        parquet = eraser.look(erasing, done.found)
        lines = LineFilter(erasing, done.found)
        if dry_run:
            done.files = [*(path.name for path in again), *(Path(file.path).name for file in parquet)]
            return done
        for path in again:
            on_file(path.name)
            with _locked(path, live=path == log_path):
                counts = rewrite_lines(path, lines)
            done.in_lines.add(counts)
            done.files += [path.name] if counts.gone else []
        for path in list_unread(log_path, spill_dir):
            on_file(path.name)
            gone = _rewrite_unread(path, lines)
            done.in_lines.torn += gone
            done.files += [path.name] if gone else []
        done.in_parquet = eraser.erase(parquet, erasing, lines, on_file=on_file)
        done.files += eraser.written
        done.removed = [*eraser.finish(), *_remove_leftovers(archive)]
    refuse_while_open(log_path, spill_dir)
    return done


@contextlib.contextmanager
def _locked(path: Path, *, live: bool) -> Iterator[None]:
    """Keep writers of other languages out of the live file. They notice by themselves that it is another one."""
    fd = open_to_read(path)
    try:
        deadline = time.monotonic() + _WAIT_S
        while live:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise PublishRefusedError(f"somebody writes to {path}: stop whoever it is first") from None
                time.sleep(_STEP_S)
        yield
    finally:
        os.close(fd)


def _rewrite_unread(path: Path, lines: LineFilter) -> int:
    """Take the lines of sessions that go out of a journal that no program could read whole. Return how many went."""
    kept = path.read_bytes().split(b"\n")
    numbers = {_number(line) for line in kept if lines.names(line)} - {b""}
    staying = [line for line in kept if not lines.names(line) and _number(line) not in numbers]
    if len(staying) == len(kept):
        return 0
    temporary = path.with_name(f"{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(b"\n".join(staying))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    fsync_folder(path.parent)
    return len(kept) - len(staying)


def _number(line: bytes) -> bytes:
    """Return the session's number within its journal; nothing where the line has none."""
    parts = line.split(b" ", 2)
    return parts[1] if len(parts) > 2 and parts[1].isdigit() else b""


def _remove_leftovers(archive: Archive) -> list[str]:
    """Remove what an earlier run of anything has left: claimed files whose rows stand in Parquet, files that were being
    written anew, the index of recalls."""
    removed = []
    committed = archive.committed()
    for segment, path in list(archive.claimed_files()):
        if segment in committed:
            segment_files(archive, segment)
            path.unlink()
            removed.append(path.name)
    # It is made again from the log by the next iterate.
    index = index_folder(archive.log_path)
    if index.is_dir():
        shutil.rmtree(index)
        removed.append(index.name)
    folders = (archive.log_path.parent, archive.claimed)
    for path in [path for folder in folders if folder.is_dir() for path in folder.glob(".*.erasing")]:
        if path.name.startswith(f".{archive.log_path.stem}") or path.parent == archive.claimed:
            path.unlink()
            removed.append(path.name)
    return removed
