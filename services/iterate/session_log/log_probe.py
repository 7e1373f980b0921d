"""Under the guarantee ``strict``: whether the log's disk takes anything now, found out without a session."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from iterate.session_log.config import SessionLogConfig
from lakehouse.sessions.store.journal import new_owner

_EVERY_S: Final = 1.0
# A probe that takes longer hangs in the disk.
_HANGS_S: Final = 3.0
# More than a file system keeps inside an inode: a full disk has to refuse it.
_PROBE: Final = b"\n" * 8192


class LogProbe:
    """Writes and removes a small file beside the log once a second, in a thread of its own.

    Refused sessions tell as well, but while health says NOT_SERVING there are none, and somebody must see the cause go.
    """

    def __init__(self, config: SessionLogConfig) -> None:
        folder, name = os.path.split(config.session_log_path)
        self._log = Path(config.session_log_path)
        # Hidden, and none of the names that readers and sweeps look for.
        self._file = Path(folder) / f".{name}.{new_owner()}.probe"
        self._problem = f"the session log {self._log} was not tried yet"
        self._began = time.monotonic()
        self._stop = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[LogProbe]:
        """Probe for the time of the block."""
        thread = threading.Thread(target=self._run, name="session-log-probe", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()

    def problem(self) -> str:
        """Why the log takes no rows; empty where it does."""
        if time.monotonic() - self._began > _EVERY_S + _HANGS_S:
            return f"the session log {self._log} cannot be written: its disk does not answer"
        return self._problem

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            # Of processes that were killed in the middle of one; a living one makes its own again.
            for left in self._log.parent.glob(f".{self._log.name}.*.probe"):
                left.unlink(missing_ok=True)
        while True:
            self._began = time.monotonic()
            try:
                self._probe()
            except OSError as error:
                self._problem = f"the session log {self._log} cannot be written: {error.strerror}"
            else:
                self._problem = ""
            if self._stop.wait(_EVERY_S):
                return

    def _probe(self) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._file, flags, 0o600)
            try:
                if os.write(descriptor, _PROBE) < len(_PROBE):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
        finally:
            self._file.unlink(missing_ok=True)
        # The log itself may refuse where its folder does not.
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
