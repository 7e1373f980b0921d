"""The fsyncs have a thread of their own: one may take a second, and beginnings must not wait behind it.

``Syncer`` belongs to the writer's thread, which asks it when something is due; one fsync runs at a time, and rows that
come meanwhile share the next one.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Literal

from iterate.session_log.counts import MinuteWarning, SessionLogCounts, errno_name
from iterate.session_log.in_flight import SessionInFlight
from lakehouse.sessions.store.append import LogFile

FsyncPolicy = Literal["never", "interval", "row"]
SyncedRows = list[SessionInFlight]
# `unsynced`: the row stands in the log, and the fsync that was to make it durable failed.
SyncFate = Literal["written", "unsynced"]


class Syncer:
    """See the module."""

    def __init__(
        self,
        log: LogFile,
        policy: FsyncPolicy,
        interval_s: float,
        on_synced: Callable[[SyncedRows, SyncFate], None],
        *,
        counts: SessionLogCounts,
        warning: MinuteWarning,
    ) -> None:
        """``on_synced`` is called in the fsyncs' thread."""
        self.waiting: SyncedRows = []
        """Rows that stand in the log and wait for the next fsync."""
        self._log = log
        self._policy = policy
        self._interval_s = interval_s
        self._next_at = time.monotonic() + interval_s
        self._busy = False
        self._on_synced = on_synced
        self._counts = counts
        self._warning = warning
        self._due: queue.SimpleQueue[tuple[list[int], SyncedRows] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="session-log-fsync", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """True where every row that is to be fsynced is."""
        return not self._busy and (self._policy == "never" or not self._log.needs_sync)

    def due_at(self, *, closing: bool) -> float | None:
        """When ``sync_if_due`` has something to do (time.monotonic); None: not before a row is appended or synced."""
        if self._busy or self._policy == "never" or not self._log.needs_sync:
            return None
        return 0.0 if closing or self._policy == "row" else self._next_at

    def sync_if_due(self, *, closing: bool) -> SyncedRows:
        """Return the rows of which is known at once that they are not synced."""
        due_at = self.due_at(closing=closing)
        now = time.monotonic()
        if due_at is None or now < due_at:
            return []
        self._next_at = now + self._interval_s
        rows, self.waiting = self.waiting, []
        try:
            descriptors = self._log.take_unsynced()
        except OSError:
            self._counts.add("fsync_errors")
            return rows
        self._busy = True
        self._due.put((descriptors, rows))
        return []

    def close(self) -> None:
        self._due.put(None)

    def _run(self) -> None:
        while (due := self._due.get()) is not None:
            descriptors, rows = due
            fate: SyncFate = "written"
            try:
                for fd in descriptors:
                    os.fsync(fd)
                    self._counts.add("fsyncs")
            except OSError as error:
                # The kernel forgets the failed pages: a second fsync would succeed and prove nothing.
                fate = "unsynced"
                self._counts.add("fsync_errors")
                self._warning.warn("session_log_fsync_failed", errno_name(error), path=self._log.path)
            finally:
                for fd in descriptors:
                    os.close(fd)
            self._busy = False
            self._on_synced(rows, fate)
