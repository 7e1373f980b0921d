"""The fsyncs have a thread of their own: one may take a second, and beginnings must not wait behind it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Literal

from iterate.session_log.counts import MinuteWarning, SessionLogCounts, errno_name
from iterate.session_log.in_flight import SessionInFlight

SyncedRows = list[SessionInFlight]
# `unsynced`: the row stands in the log, and the fsync that was to make it durable failed.
SyncFate = Literal["written", "unsynced"]


class Syncer:
    """One fsync at a time; rows that come meanwhile share the next one."""

    def __init__(
        self,
        path: str,
        on_synced: Callable[[SyncedRows, SyncFate], None],
        *,
        counts: SessionLogCounts,
        warning: MinuteWarning,
    ) -> None:
        """``on_synced`` is called in this thread."""
        self.busy = False
        self._path = path
        self._on_synced = on_synced
        self._counts = counts
        self._warning = warning
        self._due: queue.SimpleQueue[tuple[list[int], SyncedRows] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="session-log-fsync", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def sync(self, descriptors: list[int], rows: SyncedRows) -> None:
        """Takes the descriptors over and closes them after their fsync. Only while not ``busy``."""
        self.busy = True
        self._due.put((descriptors, rows))

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
                self._warning.warn("session_log_fsync_failed", errno_name(error), path=self._path)
            finally:
                for fd in descriptors:
                    os.close(fd)
            self.busy = False
            self._on_synced(rows, fate)
