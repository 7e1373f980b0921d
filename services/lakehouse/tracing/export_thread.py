"""What the exports of spans and of scores have in common: a queue, the thread that empties it, and their end."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from lakehouse.tracing.losses import CountName, ExportCounts

_Item = TypeVar("_Item")


class ExportThread(ABC, Generic[_Item]):
    """A queue that any thread fills and one thread empties. Whoever fills it bounds it.

    `_lock` guards the queue and what is said about it here: `_in_flight` items are taken and not yet done with,
    `_flush_waiters` callers wait in `flush`.
    """

    def __init__(
        self, name: str, counts: ExportCounts, *, dropped_at_shutdown: CountName, flush_interval_ms: int
    ) -> None:
        self._counts = counts
        self._dropped_at_shutdown = dropped_at_shutdown
        self._flush_interval_s = flush_interval_ms / 1_000
        self._queue: deque[_Item] = deque()
        self._in_flight = 0
        self._flush_waiters = 0
        self._closing = False
        self._abandoned = False
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def flush(self, timeout_s: float) -> bool:
        """Export what is queued now; return False if that took longer than `timeout_s`."""
        with self._lock:
            self._flush_waiters += 1
            self._wake.set()
            try:
                return self._idle.wait_for(lambda: not self._queue and not self._in_flight, timeout_s)
            finally:
                self._flush_waiters -= 1

    def start_closing(self) -> None:
        """Refuse what comes from now on and let the thread end once the queue is empty."""
        with self._lock:
            self._closing = True
        self._wake.set()

    def finish_closing(self, timeout_s: float) -> None:
        """Wait for the thread at most `timeout_s`; what it has not exported by then is dropped and counted."""
        if self._thread.ident is not None:  # it was started
            self._thread.join(max(timeout_s, 0.0))
        with self._lock:
            left = len(self._queue) + self._in_flight
            self._abandoned = left > 0
            self._queue.clear()
        if left:
            self._counts.add(self._dropped_at_shutdown, left)

    @abstractmethod
    def _export_queued(self) -> None:
        """Export what is due; return at once where `_abandoned`, since `finish_closing` has counted it."""

    def _run(self) -> None:
        while True:
            self._wake.wait(self._flush_interval_s)
            self._wake.clear()
            with self._lock:
                closing = self._closing
            self._export_queued()
            if closing or self._abandoned:
                return
