"""Where the rows are: the live file, the rotated files beside it and the Parquet folder, as one snapshot.

A ``Snapshot`` holds an open descriptor of every JSONL file, taken from a listing that did not change while it was
opened, and keeps the Parquet files of that moment from being removed. Whatever a rotation, a compaction or a merge does
afterwards, its readers see each row of that moment once.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lakehouse.sessions.store.archive import Archive, Manifest
from lakehouse.sessions.store.days import ArchiveView, StandingFile, hold_archive, read_archive
from lakehouse.sessions.store.disk import identity_of, open_to_read
from lakehouse.sessions.store.log_files import FoundFile, LogFiles, list_log_files
from lakehouse.sessions.store.names import Compression

SEGMENTS_MAX: Final = 512
# How many names a warning holds; it counts all.
_NAMES_MAX: Final = 5

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
    """Of the compacted segments of which all rows stand."""
    parquet: tuple[StandingFile, ...] = ()
    """The Parquet files that count; each compacted row is in one of them."""
    unreadable: tuple[str, ...] = field(default=())
    """Rows of the log that are missing here, in a sentence each: a damaged manifest, a missing Parquet file, a
    rotated file that cannot be decompressed."""
    notices: tuple[str, ...] = field(default=())
    """Files whose rows do not count, since they look like copies of others, in a sentence each."""
    archive_fd: int | None = None
    """Holds the Parquet files in their places."""

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.unreadable + self.notices

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
        if self.archive_fd is not None:
            os.close(self.archive_fd)
            self.archive_fd = None

    @property
    def parquet_files(self) -> tuple[Path, ...]:
        folder = Archive(self.log_path).folder
        return tuple(folder / file.path for file in self.parquet)

    @property
    def size_bytes(self) -> int:
        """Bytes to read for all of it, compressed files as they are."""
        return sum(segment.size_bytes for segment in self.segments) + sum(file.size_bytes for file in self.parquet)


def open_snapshot(log_path: str | os.PathLike[str]) -> Snapshot:
    """Open the log whose live file has this path; that file need not exist where rotated files or Parquet do.

    Raises:
        SessionLogUnavailableError: nothing is there, it may not be read, or the log rotates too fast to be listed.
    """
    path = Path(log_path)
    archive = Archive(path)
    with _reported(path), ExitStack() as held:
        archive_fd = hold_archive(archive)
        if archive_fd is not None:
            held.callback(os.close, archive_fd)
        listing = list_log_files(path)
        for _ in range(_LISTINGS_MAX):
            if len(listing.files) > SEGMENTS_MAX:
                raise SessionLogUnavailableError(
                    f"{len(listing.files)} files stand beside {path}, and {SEGMENTS_MAX} are read at most: run"
                    " `lakehouse sessions compact`"
                )
            with ExitStack() as opened:
                segments = _open_all(listing, opened)
                # Before the second listing: a segment that this finds merged was committed by then.
                archived = read_archive(archive, listing.committed)
                again = list_log_files(path)
                if again == listing and segments is not None and (archive_fd is not None or not listing.committed):
                    snapshot = _snapshot(path, listing, segments, archived, archive_fd)
                    opened.pop_all()
                    held.pop_all()
                    return snapshot
            if archive_fd is None:
                archive_fd = hold_archive(archive)
                if archive_fd is not None:
                    held.callback(os.close, archive_fd)
            listing = again
        raise SessionLogUnavailableError(f"{path} is rotated faster than its folder can be listed: try again later")


def _snapshot(
    path: Path, listing: LogFiles, segments: list[Segment], archived: ArchiveView, archive_fd: int | None
) -> Snapshot:
    unreadable = [
        *archived.unreadable,
        *(
            f"{file.path} is compressed in a way that is not read here, and its rows are missing: compress it with gzip"
            " or zstd, or move it out of the folder"
            for file in listing.not_read
        ),
    ]
    notices = _notices(path, listing)
    if not segments and not archived.files and not archived.manifests and not unreadable:
        raise _absent(path, notices)
    return Snapshot(
        log_path=path,
        segments=tuple(segments),
        manifests=archived.manifests,
        parquet=archived.files,
        unreadable=tuple(unreadable),
        notices=notices,
        archive_fd=archive_fd,
    )


def rotated_files(log_path: str | os.PathLike[str]) -> tuple[FoundFile, ...]:
    """Return the rotated and claimed files of a log, however many, oldest first. None is opened; what is renamed
    meanwhile may be missed.

    Raises:
        SessionLogUnavailableError: nothing is there, or the folder may not be read.
    """
    path = Path(log_path)
    with _reported(path):
        listing = list_log_files(path)
    if not (listing.files or listing.not_read or listing.committed):
        raise _absent(path, _notices(path, listing))
    return tuple(
        sorted((file for file in listing.files if not file.live), key=lambda file: (file.status.st_mtime, file.path))
    )


@contextmanager
def _reported(log_path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise SessionLogUnavailableError(
            f"{error.filename} may not be read: run as a user of the log's group (the files are 0640)"
        ) from None
    except OSError as error:
        raise SessionLogUnavailableError(f"{error.filename or log_path} cannot be read: {error.strerror}") from None


def _absent(log_path: Path, notices: tuple[str, ...]) -> SessionLogUnavailableError:
    if log_path.is_symlink():
        return SessionLogUnavailableError(f"{log_path} is a symbolic link: name the file itself with --log")
    return SessionLogUnavailableError(
        f"there is no session log at {log_path}: name it with --log or LAKEHOUSE_SESSION_LOG (it is iterate's"
        " session_log_path); iterate creates it with its first session" + "".join(f". {each}" for each in notices)
    )


def segment_of(path: Path, fd: int, compression: Compression, *, live: bool = False, quiet: bool = True) -> Segment:
    """Return the open file as it is now. Raises OSError."""
    status = os.fstat(fd)
    return Segment(
        path=path,
        fd=fd,
        compression=compression,
        live=live,
        size_bytes=status.st_size,
        quiet=quiet,
        modified_unix_s=status.st_mtime,
        identity=identity_of(status),
    )


def _notices(log_path: Path, listing: LogFiles) -> tuple[str, ...]:
    notices = [f"{file.path} is left out: the same file stands beside it, less compressed" for file in listing.doubles]
    if listing.strangers:
        names = ", ".join(path.name for path in listing.strangers[:_NAMES_MAX])
        more = len(listing.strangers) - _NAMES_MAX
        notices.append(
            f"no part of the log by name, and not counted: {names}{f' and {more} more' if more > 0 else ''}; a rotated"
            f" file is called {log_path.name}.1 or {log_path.name}-20261126, and a copy belongs into another folder"
        )
    return tuple(notices)


def _open_all(listing: LogFiles, opened: ExitStack) -> list[Segment] | None:
    """Oldest first, closed by ``opened``; None where a file is gone or another one since it was listed. Raises
    OSError."""
    segments: list[Segment] = []
    for file in listing.files:
        try:
            segment = _open(file)
        except FileNotFoundError:
            return None
        opened.callback(os.close, segment.fd)
        if segment.identity != file.identity:
            return None
        segments.append(segment)
    segments.sort(key=lambda segment: (segment.live, segment.modified_unix_s, segment.path))
    return segments


def _open(file: FoundFile) -> Segment:
    fd = open_to_read(file.path)
    try:
        if not file.live:
            return segment_of(file.path, fd, file.compression)
        quiet = _wait_quiet(fd)
        segment = segment_of(file.path, fd, file.compression, live=True, quiet=quiet)
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        os.close(fd)
        raise
    return segment


def _wait_quiet(fd: int) -> bool:
    """Take the lock under which rows are written, shared, within half a second: no writer is within a row then.

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
