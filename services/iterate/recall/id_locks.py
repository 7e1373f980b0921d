"""One lock an id, under which it is looked up, begun and run: held until its session's row stands in the log.

A byte of ``.sessions.jsonl.ids`` beside the log stands for an id, and who has the byte locked is the only one who may
begin a session of it. The locks belong to this process's open file (open file description locks): the kernel gives them
back when the process dies, and two of these objects exclude one another in one process as well. Nothing is ever written
into the file. Local file systems only.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import threading
from pathlib import Path
from typing import Final

from lakehouse.sessions.store.disk import FILE_MODE, identity_of

_OFFSETS: Final = 2**62
# struct flock: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK: Final = struct.Struct("hhqqi0q")


def id_locks_path(log_path: str) -> Path:
    """Where the file of the locks stands."""
    path = Path(log_path)
    return path.with_name(f".{path.name}.ids")


class IdLocks:
    """The locks of one process. Any thread may call it."""

    def __init__(self, log_path: str) -> None:
        self._path = id_locks_path(log_path)
        self._mutex = threading.Lock()
        self._fd = -1
        self._held: dict[str, int] = {}

    def try_lock(self, session_id: str) -> bool:
        """Hold the id once more; False where another process holds it. Never waits. Raises OSError."""
        with self._mutex:
            held = self._held.get(session_id, 0)
            if not held:
                self._open()
                try:
                    fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, session_id))
                except OSError as error:
                    if error.errno in (errno.EAGAIN, errno.EACCES):
                        return False
                    raise
            self._held[session_id] = held + 1
            return True

    def unlock(self, session_id: str) -> None:
        """Give back one hold. Raises nothing."""
        with self._mutex:
            held = self._held.get(session_id, 0)
            if held > 1:
                self._held[session_id] = held - 1
            elif held == 1:
                del self._held[session_id]
                if self._fd >= 0:
                    fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, session_id))

    def close(self) -> None:
        """Give back all of them."""
        with self._mutex:
            self._held.clear()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _open(self) -> None:
        if self._fd >= 0:
            try:
                if identity_of(os.fstat(self._fd)) == identity_of(self._path.stat(follow_symlinks=False)):
                    return
            except FileNotFoundError:
                pass
            # The file was removed: others lock another one by now, and what we hold is theirs to find in our journal.
            os.close(self._fd)
            self._fd = -1
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        for session_id in self._held:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, session_id))


def _flock(kind: int, session_id: str) -> bytes:
    offset = int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:8]) % _OFFSETS
    return _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0)
