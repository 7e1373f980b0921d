"""How the log's files are opened and its folders listed: never through a symlink, never waiting for a FIFO."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o640
FOLDER_MODE: Final = 0o750


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """Return what a file keeps under every name: its device and inode."""
    return status.st_dev, status.st_ino


def open_to_read(path: str | os.PathLike[str]) -> int:
    """Return a descriptor. Raises OSError: ENOENT, EACCES, ELOOP for a symlink."""
    # O_NONBLOCK: opening must not hang on a FIFO that someone put there. It has no effect on a regular file.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def regular_files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what stands in a folder but hidden files, folders and symlinks; nothing where there is no such folder.

    Raises OSError.
    """
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


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file into place in one instant, whole, and let it survive a power cut; a kill leaves the old one, or
    none, and a hidden file beside it. Raises OSError."""
    temporary = path.with_name(f".{path.stem}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    fsync_folder(path.parent)
