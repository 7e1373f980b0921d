"""Files that are read again when they change: certificates, keys, authorities."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import structlog

_POLL_S: Final = 2.0

_log = structlog.get_logger()

Signature = tuple[tuple[int, int, int] | None, ...]


class WatchedFiles:
    """Looks at files now and then, in a thread of its own: a disk that hangs holds up nothing else."""

    def __init__(self, files: Sequence[Path], on_change: Callable[[], None]) -> None:
        """`on_change` is called in the thread, with the files at rest; what it raises as ValueError or OSError says why
        they cannot be used. It is then called again once they change."""
        self._files = files
        self._on_change = on_change
        self._seen = self.signature()
        self._wake = threading.Event()
        self._stopped = False

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
            if now != self._seen and (asked or now == before):
                self._changed(now)
            before = now

    def _changed(self, now: Signature) -> None:
        self._seen = now
        names = [str(file) for file in self._files]
        try:
            self._on_change()
        except (OSError, ValueError) as error:
            _log.warning("files cannot be used, what was read before stays", files=names, problem=str(error))
        else:
            _log.info("files read again", files=names)


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
