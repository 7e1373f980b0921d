"""Appends whole rows to a path that other writers share, whatever their language."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

# How often a log that is rotated between its opening and its locking is opened anew.
REOPEN_MAX = 100


class Log:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def append(self, row: bytes) -> None:
        """Write one LF-ended row under the log's lock, on a line of its own."""
        for _ in range(REOPEN_MAX):
            if self._fd < 0:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o640)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if self._is_current():
                try:
                    self._write(row)
                finally:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
                return
            # Rotated since it was opened: closing gives up the lock too.
            self.close()
        raise OSError(f"{self._path} was renamed {REOPEN_MAX} times in a row")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_current(self) -> bool:
        try:
            named = self._path.lstat()
        except FileNotFoundError:
            return False
        opened = os.fstat(self._fd)
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)

    def _write(self, row: bytes) -> None:
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            # A killed writer's torn row keeps its line to itself.
            row = b"\n" + row
        left = memoryview(row)
        while left:
            left = left[os.write(self._fd, left) :]
