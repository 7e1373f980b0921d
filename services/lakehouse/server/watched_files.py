"""Files that are read again when they change: certificates, keys, authorities."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import structlog

_POLL_S: Final = 2.0
# What could not be used is tried again so often: what it names may come later, or the descriptors be free again.
_RETRY_S: Final = 10.0

_log = structlog.get_logger()

Signature = tuple[tuple[int, int, int] | None, ...]


class WatchedFiles:
    """Looks at files now and then, in a thread of its own: a disk that hangs holds up nothing else."""

    def __init__(self, files: Sequence[Path], on_change: Callable[[], None]) -> None:
        """`on_change` is called in the thread, with the files at rest; what it raises as ValueError or OSError says why
        they cannot be used. It is then called again once they change, when somebody asks, and every ten seconds."""
        self._files = files
        self._on_change = on_change
        self._seen = self.signature()
        self._wake = threading.Event()
        self._stopped = False
        self._problem = ""
        self._tried_s = 0.0

    def signature(self) -> Signature:
        """Return what tells one state of the files from another."""
        return tuple(map(_signature, self._files))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the files for the time of the block."""
        threading.Thread(target=self._run, name="watched-files", daemon=True).start()
        try:
            yield
        finally:
            self._stopped = True
            self._wake.set()

    def look(self) -> None:
        """Look now (SIGHUP); from any thread, and it returns at once."""
        self._wake.set()

    def _run(self) -> None:
        before = self._seen
        while True:
            self._wake.wait(_POLL_S)
            asked = self._wake.is_set()
            self._wake.clear()
            if self._stopped:
                return
            now = self.signature()
            # Several files are replaced one after the other: they have to hold still first.
            changed = now != self._seen and (asked or now == before)
            if changed or (asked and self._problem):
                self._read_again(now, quiet=False)
            elif self._problem and time.monotonic() - self._tried_s >= _RETRY_S:
                self._read_again(now, quiet=True)
            before = now

    def _read_again(self, now: Signature, *, quiet: bool) -> None:
        """`quiet`: say nothing where the problem is the one that was said before."""
        self._seen = now
        names = [str(file) for file in self._files]
        try:
            self._on_change()
        except Exception as error:  # noqa: BLE001  whatever it is, the thread that reads the next version goes on
            problem = str(error) if isinstance(error, (OSError, ValueError)) else type(error).__name__
            if problem != self._problem or not quiet:
                _log.warning("files cannot be used, what was read before stays", files=names, problem=problem)
            self._problem = problem or type(error).__name__
        else:
            self._problem = ""
            _log.info("files read again", files=names)
        self._tried_s = time.monotonic()


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
