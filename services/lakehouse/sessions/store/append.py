"""The one way in which bytes get into the session log: under ``flock``, after a whole line, until whole.

Go and Rust producers follow the same rules on the same file:

1. ``flock(LOCK_EX)`` on a descriptor opened ``O_APPEND``, never through a symlink;
2. is the path still this inode? Otherwise (rotation by rename) reopen and lock again;
3. is the last byte LF? Otherwise (a writer was killed in the middle of a row) write LF first;
4. write until the line is whole; unlock.

Without the lock, step 3 glues good rows onto a row that another process is still writing. Local file systems only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lakehouse.sessions.store.disk import FILE_MODE, identity_of

# What a file and its truncated and regrown self differ in: its first bytes, the first row's session id and timestamp.
HEAD_BYTES: Final = 128

# Each turn costs a rename between our open and our lock; so many in a row is no rotation.
_REOPENS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A place in the log: everything appended later stands behind it, or in another file."""

    device: int = 0
    inode: int = 0
    """0 where there was no log file."""
    size: int = 0
    head: str = "-"
    """CRC-32 of the file's first ``HEAD_BYTES`` bytes in hex; ``-`` where it was shorter than that."""


def head_of(fd: int) -> str:
    """Return what ``LogPosition.head`` says of an open file. Raises OSError."""
    head = os.pread(fd, HEAD_BYTES, 0)
    return f"{zlib.crc32(head):08x}" if len(head) == HEAD_BYTES else "-"


class LogFile:
    """One descriptor of the log. Not thread-safe: its owner serialises every call but ``position``.

    ``flock`` belongs to the open file description, so two LogFiles exclude one another in one process as well.
    """

    def __init__(self, path: str | os.PathLike[str], *, synced: bool = True) -> None:
        """Take ``synced``: the owner calls ``take_unsynced`` now and then; False where nobody wants an fsync."""
        self.path = os.fspath(path)
        self._synced = synced
        self._fd = -1
        self._identity = (0, 0)
        self._size = 0
        # (identity, head) in one attribute: `position` is called by a thread that does not hold the owner's lock.
        self._head: tuple[tuple[int, int], str] = ((0, 0), "-")
        self._retired: list[int] = []
        self._unsynced = False

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @property
    def needs_sync(self) -> bool:
        """True when rows were appended since ``take_unsynced``."""
        return self._unsynced or bool(self._retired)

    def position(self) -> LogPosition:
        """Return where the log ends now. One ``stat``, no lock, never raises; callable from any thread."""
        try:
            found = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116  Path costs 3 us a call
        except OSError:
            return LogPosition()
        identity, head = self._head
        same = identity == identity_of(found)
        return LogPosition(found.st_dev, found.st_ino, found.st_size, head if same else "-")

    def try_lock(self) -> bool:
        """Lock the file that the path names now, opening or creating it. Never waits.

        Returns False where another process holds the lock. Raises OSError where the path cannot be opened: ENOENT
        (no folder), EACCES, ELOOP (a symlink), EROFS, ENOSPC, and EISDIR or EINVAL for what is not a regular file.
        """
        for _ in range(_REOPENS_MAX):
            if self._fd < 0:
                self._open()
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            try:
                found = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116  Path costs 3 us a call
            except FileNotFoundError:
                found = None
            except OSError:
                self.unlock()
                raise
            if found is not None and identity_of(found) == self._identity:
                self._size = found.st_size
                return True
            # The lock was taken after the rename, so the rotated file is closed to writers from here on.
            self.unlock()
            self._retire()
        return False

    def append(self, line: bytes) -> None:
        """Append one LF-ended line; the lock must be held. Raises OSError, and then no byte of the line stays.

        A line that a full disk cut short is truncated away rather than left for the next writer's LF: every retry
        would otherwise leave another torn row and eat the room that the retry waits for. That is safe since we hold
        the lock, and is done only if the file ends where we stopped: copytruncate holds no lock, and truncating
        after it would grow the file with zeros. If even this fails, the next append's LF ends the torn row.
        """
        fd, before = self._fd, self._size
        size = before
        try:
            if before and os.pread(fd, 1, before - 1) != b"\n":
                size += os.write(fd, b"\n")
            written = os.write(fd, line)
            size += written
            while written < len(line):
                more = os.write(fd, memoryview(line)[written:])
                written += more
                size += more
        except OSError:
            self._cut_back(before, size)
            raise
        self._size = size
        self._unsynced = self._synced
        if self._head[1] == "-":
            self._head = (self._identity, head_of(fd))

    def unlock(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def take_unsynced(self) -> list[int]:
        """Return descriptors for the caller to fsync and close, rotated files first, and forgets what was unsynced.

        They are duplicates: an fsync takes long, and the file may be rotated and closed meanwhile. Raises OSError.
        """
        descriptors = list(self._retired)
        if self._unsynced and self._fd >= 0:
            descriptors.append(fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 0))
        self._retired.clear()
        self._unsynced = False
        return descriptors

    def close(self) -> None:
        for fd in (*self._retired, self._fd):
            if fd >= 0:
                os.close(fd)
        self._retired.clear()
        self._fd = -1

    def _open(self) -> None:
        # O_NONBLOCK: opening must not hang on a FIFO that someone put there. It has no effect on a regular file.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(self.path, flags, FILE_MODE)
        try:
            found = os.fstat(fd)
            _check_regular(found, self.path)
            identity = identity_of(found)
            self._head = (identity, head_of(fd))
        except OSError:
            os.close(fd)
            raise
        self._fd, self._identity = fd, identity

    def _retire(self) -> None:
        if self._unsynced and len(self._retired) < _REOPENS_MAX:
            self._retired.append(self._fd)
        else:
            os.close(self._fd)
        self._fd = -1
        self._unsynced = False

    def _cut_back(self, before: int, size: int) -> None:
        try:
            if size > before and os.fstat(self._fd).st_size == size:
                os.ftruncate(self._fd, before)
        except OSError:
            return


def _check_regular(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "the session log must be a regular file", path)


def folder_of(log_path: str) -> Path:
    """Return the folder in which the log, its rotated files and its journals stand."""
    return Path(log_path).parent
