"""Where a session stands until its row is in the log: in the journal, or in the spill where the log's disk refuses.

Each session is owned by one of the two files. Its end moves it from the journal to the spill, never back: first the
end stands in the spill, then the journal is marked. Killed between the two, it stands in both, and the sweep, which
goes through the spills first, finds the row of the journal's session in the log.

Every method but ``rescue`` is the writer thread's, and none raises for a disk.
"""

from __future__ import annotations

import errno
import threading
from dataclasses import dataclass, field
from typing import Final

import structlog

from iterate.session_log.counts import MinuteWarning, SessionLogCounts, errno_name
from iterate.session_log.exchange import BeginningOutcome, HandoverOutcome, Receipt
from iterate.session_log.journal import Journal, JournalEntry
from lakehouse.sessions.store.append import LogPosition

# What a file of the living may hold of sessions whose rows the log has not got yet.
_JOURNAL_BYTES_MAX: Final = 64 * 1024 * 1024
_SPILL_BYTES_MAX: Final = 1024 * 1024 * 1024

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class SessionInFlight:
    """One session on its way. The event loop reads and writes the receipts, `row` before the end is queued, and
    `attempts_whole`; the rest is the writer thread's."""

    session_id: str
    begun: Receipt[BeginningOutcome]
    ended: Receipt[HandoverOutcome] = field(default_factory=lambda: Receipt(0))
    row: bytes = b""
    """The LF-ended row, while it is held in memory."""
    attempts_whole: bool = True
    """False once an attempt was left out: what is known of a session is always its first attempts."""
    file: Journal | None = None
    entry: JournalEntry | None = None
    rescued: bool = False
    """The spill holds the end as well, whatever ``file`` is: see ``InFlightFiles.rescue``."""


class InFlightFiles:
    """The journal and the spill of one process; either may be missing."""

    def __init__(
        self,
        journal: Journal | None,
        spill: Journal | None,
        *,
        counts: SessionLogCounts,
        warning: MinuteWarning,
    ) -> None:
        self.journal = journal
        self.spill = spill
        self._counts = counts
        self._warning = warning
        # Two threads spill only where one of them hangs in a disk: see `rescue`.
        self._spilling = threading.Lock()

    def open(self) -> None:
        if self.journal is not None:
            try:
                self.journal.open()
            except OSError as error:
                self._refused(self.journal, error)

    def begin(
        self, session: SessionInFlight, row: bytes, position: LogPosition, parent_span_id: str | None
    ) -> BeginningOutcome:
        """Write a session's beginning, into the spill where the journal's disk refuses."""
        if self.journal is None:
            return "journaled"  # as far as it was asked for
        for file in (self.journal, self.spill):
            if file is not None:
                try:
                    session.entry = file.begin(row, position, parent_span_id)
                except OSError as error:
                    self._refused(file, error)
                else:
                    session.file = file
                    return "journaled"
        return "unjournaled"

    def attempt(self, session: SessionInFlight, attempt: str, unix_us: int) -> None:
        if session.file is not None and session.entry is not None:
            try:
                session.file.attempt(session.entry, attempt, unix_us=unix_us)
            except OSError as error:
                self._refused(session.file, error)

    def end(self, session: SessionInFlight) -> bool:
        """Write a session's end, into the spill where the journal's disk refuses. False where it stands nowhere."""
        if session.file is None or session.file is self.journal:
            if self.journal is None:
                return False
            try:
                session.entry = self.journal.end(session.entry, session.row)
            except OSError as error:
                self._refused(self.journal, error)
            else:
                session.file = self.journal
                return True
        return self.move_to_spill(session)

    def is_spilled(self, session: SessionInFlight) -> bool:
        """Return True where the spill holds the end."""
        return (
            self.spill is not None
            and session.file is self.spill
            and session.entry is not None
            and session.entry.has_end
        )

    def move_to_spill(self, session: SessionInFlight) -> bool:
        """Have the spill hold the end, whatever the journal holds. False where none takes it."""
        spill = self.spill
        if spill is None:
            return False
        with self._spilling:
            if session.rescued or self.is_spilled(session):
                return True
            try:
                if spill.live_bytes + len(session.row) > _SPILL_BYTES_MAX:
                    raise OSError(errno.EDQUOT, "the spill is full", spill.path)  # noqa: TRY301
                here = session.file is spill
                entry = spill.end(session.entry if here else None, session.row)
            except OSError as error:
                self._refused(spill, error)
                return False
            if not here:
                self.mark(session)
            session.file, session.entry = spill, entry
            self._counts.add("rows_spilled")
            return True

    def read_spilled(self, session: SessionInFlight) -> bytes | None:
        """Return the row of a session whose end is spilled; None where the spill does not give it back."""
        if session.row:
            return session.row
        if self.spill is not None and session.entry is not None:
            try:
                return self.spill.read_end(session.entry)
            except OSError as error:
                self._refused(self.spill, error)
        return None

    def mark(self, session: SessionInFlight) -> None:
        """Note that the file owes the session nothing any more."""
        if session.file is not None and session.entry is not None:
            try:
                session.file.done(session.entry)
            except OSError as error:
                self._refused(session.file, error)

    def keeps(self, session: SessionInFlight) -> bool:
        """Leave a session whose row is given up to the next process's sweep, if its end stands and there is room.
        Otherwise its beginning must not stand either: the sweep would contradict the answer."""
        entry, file = session.entry, session.file
        if entry is not None and file is not None and entry.has_end:
            there_is_room = file is self.spill or file.live_bytes <= _JOURNAL_BYTES_MAX
            if there_is_room:
                return True
        self.mark(session)
        return False

    def rescue(self, session: SessionInFlight, row: bytes) -> bool:
        """``move_to_spill`` from another thread than the writer's, which hangs in the log's disk: it does not touch
        that disk. Where the row gets into the log as well in the end, the sweep finds it there."""
        spill = self.spill
        if spill is None or not self._spilling.acquire(timeout=1):
            return False
        try:
            if not self.is_spilled(session):
                spill.end(session.entry if session.file is spill else None, row)
                session.rescued = True
                self._counts.add("rows_spilled")
        except OSError as error:
            self._refused(spill, error)
            return False
        finally:
            self._spilling.release()
        return True

    def close(self) -> None:
        for file in (self.journal, self.spill):
            if file is not None:
                file.close()

    def _refused(self, file: Journal, error: OSError) -> None:
        name = "spill" if file is self.spill else "journal"
        self._counts.add_error(f"{name}_errors", error)
        self._warning.warn(f"session_log_{name}_unavailable", errno_name(error), path=file.path)
