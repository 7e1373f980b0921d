"""The in-flight journal: what a killed process's sessions are rebuilt from (``sweep``).

The file's name and its lines are described in ``lakehouse.sessions.store.journal``.

An entry is one ``pwrite``: in the kernel's hands when the call returns, so that a SIGKILL takes nothing back. A kill
within it leaves a last line without LF. Overwriting a byte needs no room on the disk, so a full disk never keeps a
session that was written from being marked as such. Nothing here is ever fsynced: a power cut may lose entries.

The spill is a journal on another volume: it takes what the log's own disk refuses.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lakehouse.sessions.store.append import LogPosition
from lakehouse.sessions.store.disk import FILE_MODE, identity_of
from lakehouse.sessions.store.journal import (
    WRITTEN_MARK,
    attempt_line,
    beginning_line,
    end_line,
    new_journal_path,
    new_owner,
    path_in_the_making,
    spill_path,
)

_SPILL_MODE: Final = 0o600
# With no session living, the file is emptied once it is so long.
EMPTY_BYTES_MIN: Final = 1024 * 1024
# With sessions living, it is rewritten with them alone once so much of it, and half of it, is dead.
DEAD_BYTES_MAX: Final = 8 * 1024 * 1024
# After a failed try to create or rewrite the file, how long to go on without another one.
RETRY_S: Final = 1.0


@dataclass(slots=True)
class JournalEntry:
    """One living session's lines in the file: (offset, bytes), in order. The first one carries the mark."""

    number: int
    lines: list[tuple[int, int]] = field(default_factory=list)
    attempts: int = 0
    """How many attempts are written down."""
    complete: bool = False
    """True while the beginning and every attempt handed in could be written down."""
    has_end: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self.lines)


class Journal:
    """One process's journal. Every method may be called from any thread; each is a few system calls.

    ``begin``, ``attempt`` and ``end`` raise OSError where the disk does not take the entry; what was written of it
    is overwritten by the next one.
    """

    def __init__(
        self,
        log_path: str,
        *,
        owner: str = "",
        spill_dir: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``spill_dir``: the file is the owner's spill and stands there, for nobody's eyes but the owner's."""
        owner = owner or new_owner()
        self.path = spill_path(spill_dir, log_path, owner) if spill_dir else new_journal_path(log_path, owner)
        self._mode = _SPILL_MODE if spill_dir else FILE_MODE
        self._new_path = path_in_the_making(self.path)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._fd = -1
        self._identity = (0, 0)
        self._end = 0
        self._tail_dirty = False
        self._live: dict[int, JournalEntry] = {}
        self._live_bytes = 0
        self._next_number = 1
        self._retry_at = 0.0
        self._last_error: OSError | None = None

    @property
    def size_bytes(self) -> int:
        return self._end

    @property
    def live_bytes(self) -> int:
        """Bytes of the sessions that have no row in the log yet."""
        return self._live_bytes

    def open(self) -> None:
        """Create and lock the file. Raises OSError; ``begin`` tries again."""
        with self._lock:
            self._rebuild()

    def begin(self, row: bytes, position: LogPosition, parent_span_id: str | None = None) -> JournalEntry:
        """Write a session's beginning, in a file that sweepers find; ``row`` is LF-ended."""
        with self._lock:
            self._ensure_reachable()
            entry = self._new_entry()
            self._add(entry, beginning_line(entry.number, position, row, parent_span_id))
            entry.complete = True
            return entry

    def attempt(self, entry: JournalEntry, attempt: str, *, unix_us: int) -> None:
        """Write a finished attempt, given as its JSON text. After one that could not be written, later ones are left
        out: what is known of a session is always its first attempts."""
        with self._lock:
            if not entry.complete:
                return
            entry.complete = False
            self._add(entry, attempt_line(entry.number, unix_us, attempt))
            entry.attempts += 1
            entry.complete = True

    def end(self, entry: JournalEntry | None, row: bytes) -> JournalEntry:
        """Write a session's end. Without a beginning (the disk was full then) the row makes a session of its own.
        Returns the session's entry."""
        with self._lock:
            if entry is None:
                self._ensure_reachable()
                entry = self._new_entry()
            self._add(entry, end_line(entry.number, row))
            entry.has_end = True
            return entry

    def read_end(self, entry: JournalEntry) -> bytes:
        """Return the row that ``end`` was given. Raises OSError, EIO where the file does not hold it any more."""
        with self._lock:
            offset, size = entry.lines[-1]
            line = os.pread(self._fd, size, offset)
        head = end_line(entry.number, b"")
        if len(line) != size or not line.startswith(head):
            raise OSError(errno.EIO, "the row cannot be read back", self.path)
        return line[len(head) :]

    def done(self, entry: JournalEntry) -> None:
        """Mark a session as one to which the file owes nothing; idempotent. Raises OSError where even one byte cannot
        be overwritten."""
        with self._lock:
            if self._live.pop(entry.number, None) is None:
                return
            self._live_bytes -= entry.size_bytes
            # An unmarked row that stands in the log is found there by the sweep: a lost mark costs a search only.
            os.pwrite(self._fd, WRITTEN_MARK, entry.lines[0][0])
            if not self._live and self._end >= EMPTY_BYTES_MIN:
                os.ftruncate(self._fd, 0)
                self._end = 0

    def close(self) -> None:
        """Remove the file if no session is left in it, and give up the lock. Raises nothing."""
        with self._lock:
            if self._fd < 0:
                return
            try:
                if not self._live and self._is_reachable():
                    os.unlink(self.path)  # noqa: PTH108  beside os.open on the same string
            except OSError:
                pass  # an empty journal is swept away by the next process
            finally:
                os.close(self._fd)
                self._fd = -1

    def _new_entry(self) -> JournalEntry:
        entry = JournalEntry(self._next_number)
        self._next_number += 1
        return entry

    def _add(self, entry: JournalEntry, line: bytes) -> None:
        if self._fd < 0:
            raise self._last_error or OSError(errno.EBADF, "the journal is closed")
        if self._end > 2 * self._live_bytes + DEAD_BYTES_MAX and self._monotonic() >= self._retry_at:
            try:
                self._rebuild()
            except OSError as error:
                self._hold_off(error)  # the file stays as it is, only longer than it should be
        if self._tail_dirty:
            os.ftruncate(self._fd, self._end)
            self._tail_dirty = False
        written = 0
        try:
            while written < len(line):
                written += os.pwrite(self._fd, memoryview(line)[written:] if written else line, self._end + written)
        except OSError:
            self._tail_dirty = True
            raise
        entry.lines.append((self._end, len(line)))
        self._end += len(line)
        self._live[entry.number] = entry
        self._live_bytes += len(line)

    def _ensure_reachable(self) -> None:
        # A journal whose folder was removed and made anew is written to, but no sweeper would find it.
        if self._fd >= 0 and self._is_reachable():
            return
        if self._monotonic() < self._retry_at:
            raise self._last_error or OSError(errno.ENOENT, "no journal")
        try:
            self._rebuild()
        except OSError as error:
            self._hold_off(error)
            raise

    def _is_reachable(self) -> bool:
        try:
            found = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116  Path costs 3 us a call
        except OSError:
            return False
        return identity_of(found) == self._identity

    def _hold_off(self, error: OSError) -> None:
        self._last_error = error
        self._retry_at = self._monotonic() + RETRY_S

    def _rebuild(self) -> None:
        """Put a file with the living sessions' lines alone in place of the present one, if any.

        The new file is locked before it gets its name, so no sweeper ever holds it; the old one keeps its lock until
        it has lost its name. A kill in between leaves the old file whole, and one in the making that sweepers remove.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._new_path, flags, self._mode)
        except FileExistsError:
            os.unlink(self._new_path)  # noqa: PTH108  left by a try of ours that failed
            fd = os.open(self._new_path, flags, self._mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            moved: list[tuple[JournalEntry, list[tuple[int, int]]]] = []
            end = 0
            for entry in self._live.values():
                lines: list[tuple[int, int]] = []
                for offset, size in entry.lines:
                    self._copy(fd, offset, end, size)
                    lines.append((end, size))
                    end += size
                moved.append((entry, lines))
            found = os.fstat(fd)
            os.rename(self._new_path, self.path)  # noqa: PTH104  beside os.open on the same string
        except OSError:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._identity, self._end, self._tail_dirty = fd, identity_of(found), end, False
        for entry, lines in moved:
            entry.lines = lines

    def _copy(self, fd: int, source: int, target: int, size: int) -> None:
        data = os.pread(self._fd, size, source)
        while data:
            written = os.pwrite(fd, data, target)
            data, target = data[written:], target + written
