"""Where the rows are: the live file, the rotated files beside it and the Parquet folder, as one snapshot.

A ``Snapshot`` holds an open descriptor of every JSONL file, taken from a listing that did not change while it was
opened. Whatever a rotation or a compaction does afterwards, its readers see each row of that moment once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError, Manifest

DEFAULT_LOG_PATH: Final = "/var/lib/lakehouse/gateway/sessions.jsonl"
SEGMENTS_MAX: Final = 512

Compression = Literal["none", "gzip", "zstd"]

_COMPRESSIONS: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}
# What rotation adds to a name: ".1", "-20261124", "-20261124-1795478400", ".2026-11-24T10:00:00Z". A digit first, so
# that "sessions.jsonl.bak" or a file that is being compressed is no part of the log.
_ROTATION = re.compile(r"(?:[.\-_][0-9][0-9TZ:.\-_]*)?")
# Each turn costs a rotation between two listings; so many in a row is no rotation.
_LISTINGS_MAX: Final = 16
_LOCK_WAIT_S: Final = 0.5
_LOCK_STEP_S: Final = 0.002


class SessionLogUnavailableError(Exception):
    """There is nothing to read at the path, or it may not be read; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One JSONL file of the log, open for reading."""

    path: Path
    fd: int
    compression: Compression
    live: bool
    size_bytes: int
    """Of the file. For the live one taken while no writer was within a row, unless ``quiet`` is False."""
    quiet: bool
    """False where a writer held the live file's lock all the time: its last line may be still in the making."""
    modified_unix_s: float
    identity: tuple[int, int]

    @property
    def source(self) -> str:
        """A path that leads to this very file, even if it was renamed or removed since."""
        descriptor = f"/proc/self/fd/{self.fd}"
        return descriptor if os.path.exists(descriptor) else os.fspath(self.path)  # noqa: PTH110  a string's turn


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """The log at one moment; a context manager that closes what it holds."""

    log_path: Path
    segments: tuple[Segment, ...]
    """Oldest first, the live file last."""
    manifests: tuple[Manifest, ...]
    """Of the compacted segments whose Parquet files all stand."""
    warnings: tuple[str, ...] = field(default=())
    """What could not be read, in a sentence each: a damaged manifest, a missing Parquet file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for segment in self.segments:
            os.close(segment.fd)
        self.segments = ()

    @property
    def parquet_files(self) -> tuple[Path, ...]:
        folder = Archive(self.log_path).folder
        return tuple(folder / file.path for manifest in self.manifests for file in manifest.files)

    @property
    def size_bytes(self) -> int:
        """Bytes to read for all of it, compressed files as they are."""
        return sum(segment.size_bytes for segment in self.segments) + sum(
            file.size_bytes for manifest in self.manifests for file in manifest.files
        )


@dataclass(frozen=True, slots=True)
class _Listing:
    files: tuple[tuple[Path, tuple[int, int], bool], ...]
    committed: frozenset[str]
    left_out: tuple[Path, ...]


def open_snapshot(log_path: str | os.PathLike[str]) -> Snapshot:
    """Opens the log whose live file has this path; that file need not exist where rotated files or Parquet do.

    Raises:
        SessionLogUnavailableError: nothing is there, it may not be read, or the log rotates too fast to be listed.
    """
    path = Path(log_path)
    archive = Archive(path)
    try:
        listing = _list(path, archive)
        for _ in range(_LISTINGS_MAX):
            segments = _open_all(listing)
            again = _list(path, archive)
            if segments is not None and again == listing:
                break
            for segment in segments or ():
                os.close(segment.fd)
            listing = again
        else:
            raise SessionLogUnavailableError(f"{path} is rotated faster than its folder can be listed: try again later")
    except PermissionError as error:
        raise SessionLogUnavailableError(
            f"{error.filename} may not be read: run as a user of the log's group (the files are 0640)"
        ) from None
    except OSError as error:
        raise SessionLogUnavailableError(f"{error.filename or path} cannot be read: {error.strerror}") from None
    manifests, warnings = _manifests(archive, listing.committed)
    warnings += (f"{path} is left out: the uncompressed file stands beside it" for path in listing.left_out)
    if not segments and not manifests and not warnings:
        if path.is_symlink():
            raise SessionLogUnavailableError(f"{path} is a symbolic link: name the file itself with --log")
        raise SessionLogUnavailableError(
            f"there is no session log at {path}: name it with --log or LAKEHOUSE_SESSION_LOG (it is iterate's"
            " session_log_path); iterate creates it with its first session"
        )
    return Snapshot(log_path=path, segments=tuple(segments), manifests=manifests, warnings=tuple(warnings))


def is_segment_name(log_path: Path, name: str) -> bool:
    """Whether a file of this name beside the log is the live file or one of its rotated files."""
    stem, extension = log_path.stem, log_path.suffix
    for suffix in _COMPRESSIONS:
        name = name.removesuffix(suffix)
    if not name.startswith(stem):
        return False
    rest = name[len(stem) :]
    if rest.startswith(extension) and _ROTATION.fullmatch(rest[len(extension) :]):
        return True
    return bool(extension) and rest.endswith(extension) and bool(_ROTATION.fullmatch(rest.removesuffix(extension)))


def compression_of(name: str) -> Compression:
    return _COMPRESSIONS.get(os.path.splitext(name)[1], "none")  # noqa: PTH122  string work, no file


def identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _list(log_path: Path, archive: Archive) -> _Listing:
    """Files in the order in which rows move: beside the log, claimed, committed. What moves on between two steps is
    seen twice and told apart here; nothing is missed."""
    files: dict[tuple[int, int], tuple[Path, bool]] = {}
    names: set[str] = set()
    for path, status in _regular_files(log_path.parent):
        if is_segment_name(log_path, path.name):
            names.add(path.name)
            files[identity_of(status)] = (path, path.name == log_path.name)
    claimed = {identity_of(status): path for path, status in _regular_files(archive.claimed) if ".jsonl" in path.name}
    committed = archive.committed()
    for identity, path in claimed.items():
        files[identity] = (path, False)
        if path.name.partition(".")[0] in committed:
            del files[identity]
    kept: list[tuple[Path, tuple[int, int], bool]] = []
    left_out: list[Path] = []
    for identity, (path, live) in files.items():
        # Until gzip and zstd have finished and removed the original, that one is the whole file.
        if compression_of(path.name) != "none" and path.name.rpartition(".")[0] in names:
            left_out.append(path)
        else:
            kept.append((path, identity, live))
    if len(kept) > SEGMENTS_MAX:
        raise SessionLogUnavailableError(
            f"{len(kept)} files stand beside {log_path}, and {SEGMENTS_MAX} are read at most: run"
            " `lakehouse sessions compact`"
        )
    return _Listing(tuple(sorted(kept)), committed, tuple(sorted(left_out)))


def _regular_files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Path(entry.path), status
    except (FileNotFoundError, NotADirectoryError):
        return


def _open_all(listing: _Listing) -> list[Segment] | None:
    """Oldest first; None where a file is gone or another one since it was listed. Raises OSError."""
    segments: list[Segment] = []
    try:
        for path, identity, live in listing.files:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                quiet = not live or _wait_quiet(fd)
                status = os.fstat(fd)
            finally:
                if live:
                    fcntl.flock(fd, fcntl.LOCK_UN)
            segments.append(
                Segment(
                    path=path,
                    fd=fd,
                    compression=compression_of(path.name),
                    live=live,
                    size_bytes=status.st_size,
                    quiet=quiet,
                    modified_unix_s=status.st_mtime,
                    identity=identity_of(status),
                )
            )
            if segments[-1].identity != identity:
                raise FileNotFoundError(errno.ENOENT, "replaced", os.fspath(path))
    except OSError as error:
        for segment in segments:
            os.close(segment.fd)
        if isinstance(error, FileNotFoundError):
            return None
        raise
    segments.sort(key=lambda segment: (segment.live, segment.modified_unix_s, segment.path))
    return segments


def _wait_quiet(fd: int) -> bool:
    """Takes the lock under which rows are written, shared, within half a second: no writer is within a row then.

    It is held for one fstat; a writer that finds it taken tries again and keeps its row queued.
    """
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOCK_STEP_S)
        else:
            return True


def _manifests(archive: Archive, committed: frozenset[str]) -> tuple[tuple[Manifest, ...], list[str]]:
    manifests: list[Manifest] = []
    warnings: list[str] = []
    for segment in sorted(committed):
        try:
            manifest = archive.read_manifest(segment)
            archive.check_files(manifest)
        except (ArchiveDamagedError, OSError) as error:
            warnings.append(str(error))
        else:
            manifests.append(manifest)
    return tuple(manifests), warnings
