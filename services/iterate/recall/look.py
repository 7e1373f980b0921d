"""What the session of an id has left, wherever it stands: journals and spills, settled first, then the log.

The order is the one in which a row moves, so that it cannot slip past: a journal owes a session its row until that row
stands in the log. Blocking: for a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lakehouse.sessions.index.search import LogSearch, NotSearchedError
from lakehouse.sessions.record import SessionRecord
from lakehouse.sessions.row_reading import RowBreach, decode_row
from lakehouse.sessions.store.disk import open_to_read
from lakehouse.sessions.store.journal import is_in_the_making, list_journals, list_spills, owed_row

_STEP_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class InFlight:
    """A living process's journal owes the session its row."""

    row: SessionRecord | None
    """The row that it began with, or ended with; None where it cannot be read."""


class Look:
    """Looks for ids in one log; of one thread."""

    def __init__(self, log_path: str, spill_dir: str, sweep: Callable[[], None]) -> None:
        """``sweep`` gives the sessions of dead processes their rows, as far as the disk lets it."""
        self._log_path = log_path
        self._spill_dir = spill_dir
        self._sweep = sweep
        self._search = LogSearch(log_path)

    @property
    def uncovered_bytes(self) -> int:
        return self._search.uncovered_bytes

    def measured_bytes(self, since_unix_us: int) -> int:
        """Measure how much of the log the index does not cover. Raises OSError."""
        with contextlib.suppress(NotSearchedError):
            self._search.last_row("", since_unix_us, given_up=lambda: True)
        return self._search.uncovered_bytes

    def close(self) -> None:
        self._search.close()

    def last_row(
        self, session_id: str, since_unix_us: int, give_up_at: float, given_up: Callable[[], bool], *, claimed: bool
    ) -> SessionRecord | InFlight | None:
        """Return what the id's last session left, of those that ended since then; None where there was none. Wait
        until `give_up_at` (time.monotonic) for what is on its way; for a living process's session only where the id is
        `claimed`, so that this can last a moment alone.

        Raises NotSearchedError where that is not known by then, OSError.
        """

        def over() -> bool:
            return given_up() or time.monotonic() >= give_up_at

        swept = False
        while True:
            owed = self._owed(session_id)
            if owed is None:
                break
            path, row, locked = owed
            if not locked and not swept:
                self._sweep()
                swept = True
                continue
            if locked and not claimed:
                return InFlight(_decoded(row))
            if over():
                if locked:
                    return InFlight(_decoded(row))
                raise NotSearchedError(f"{path} holds a session of this id that has no row yet")
            swept = False
            time.sleep(_STEP_S)
        while True:
            try:
                return self._search.last_row(session_id, since_unix_us, given_up=over)
            except NotSearchedError:
                if over():
                    raise
                time.sleep(_STEP_S)

    def _owed(self, session_id: str) -> tuple[str, bytes, bool] | None:
        """Return a journal or spill that owes the session its row: its path, that row, and whether its owner, or a
        sweep, holds it. Raises OSError."""
        paths = list_journals(self._log_path)
        if self._spill_dir:
            paths += list_spills(self._spill_dir, self._log_path)
        for path in paths:
            if is_in_the_making(path):
                continue  # a whole one stands beside it
            try:
                fd = open_to_read(path)
            except FileNotFoundError:
                continue  # settled meanwhile: its rows stand in the log
            try:
                row = owed_row(fd, session_id)
                if row is not None:
                    return path, row, _is_locked(fd)
            finally:
                os.close(fd)
        return None


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _decoded(row: bytes) -> SessionRecord | None:
    try:
        return decode_row(row)
    except RowBreach:
        return None
