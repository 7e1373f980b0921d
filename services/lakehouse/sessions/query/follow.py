"""The live file as it grows, across rotation by rename and by copytruncate."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lakehouse.sessions.record import ROW_BYTES_MAX
from lakehouse.sessions.store.disk import identity_of, open_to_read
from lakehouse.sessions.store.segments import Segment

_PIECE_BYTES: Final = 1 << 20


class LogFollower:
    """Gives each line that was appended since the last ``poll``; a context manager.

    A file that is rotated away is read to its end: until its lock was taken after the rename, a writer may still be
    within a row in it. A file that is created and rotated away between two polls is not seen.
    """

    def __init__(self, log_path: Path, *, after: Segment | None = None) -> None:
        """``after``: the live segment of a snapshot, behind whose end to start; the file's beginning without it."""
        self._path = log_path
        self._fd = -1
        self._identity = (0, 0)
        self._offset = 0
        self._skipping = False
        if after is not None:
            self._fd = os.dup(after.fd)
            self._identity = after.identity
            self._offset = after.size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def poll(self) -> Iterator[bytes]:
        """Yield the new lines, without LF and without blank ones; the last line of a file that was rotated away even
        if it is torn. Raises OSError where the log cannot be opened; a path without a file is waited for."""
        while True:
            if self._fd < 0 and not self._open():
                return
            yield from self._grown()
            if self._is_live() or not self._is_closed():
                return
            yield from self._grown()
            rest = os.pread(self._fd, ROW_BYTES_MAX, self._offset)
            if rest.strip():
                yield rest
            self.close()

    def _open(self) -> bool:
        try:
            self._fd = open_to_read(self._path)
        except FileNotFoundError:
            return False
        self._identity = identity_of(os.fstat(self._fd))
        self._offset = 0
        self._skipping = False
        return True

    def _is_live(self) -> bool:
        """Also while the path names no file: the next writer creates it."""
        try:
            return identity_of(self._path.stat(follow_symlinks=False)) == self._identity
        except FileNotFoundError:
            return True

    def _is_closed(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return True

    def _grown(self) -> Iterator[bytes]:
        if os.fstat(self._fd).st_size < self._offset:
            self._offset = 0  # truncated: copytruncate
        pending = b""
        while piece := os.pread(self._fd, _PIECE_BYTES, self._offset + len(pending)):
            whole, line_end, pending_tail = (pending + piece).rpartition(b"\n")
            if not line_end:
                pending = pending_tail
                if len(pending) > ROW_BYTES_MAX:
                    self._offset += len(pending)
                    pending, self._skipping = b"", True
                continue
            self._offset += len(whole) + 1
            pending = pending_tail
            lines = whole.split(b"\n")
            if self._skipping:
                self._skipping = False
                del lines[0]
            yield from (line for line in lines if line.strip())
