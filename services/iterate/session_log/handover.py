"""A row on its way into the log, as the session that waits for it sees it."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from iterate.session_log.counts import SessionLogCounts

HandoverOutcome = Literal["written", "late", "dropped", "disabled"]


class Handover:
    """A row that was handed over: whether it stands in the log."""

    __slots__ = ("_counts", "_deadline", "_fate", "_future")

    def __init__(self, outcome: HandoverOutcome | None, deadline: float, counts: SessionLogCounts) -> None:
        self._fate = outcome
        self._deadline = deadline
        self._counts = counts
        self._future: asyncio.Future[None] | None = None

    @property
    def outcome(self) -> HandoverOutcome | None:
        """What is known now; None while the row is queued."""
        return self._fate

    async def written(self) -> HandoverOutcome:
        """Waits until the row stands in the log, at most until ``append_wait_ms`` after its hand-over.

        Returns ``written``; ``late`` (the row is queued, or its fsync failed); ``dropped`` (the queue was full, the
        row could not be encoded, or the logger was closed); ``disabled`` (no path). Cancelling it changes nothing for
        the row.
        """
        if self._fate is None:
            wait_s = self._deadline - time.monotonic()
            if wait_s > 0:
                if self._future is None:
                    self._future = asyncio.get_running_loop().create_future()
                # `wait`, unlike `wait_for`, leaves the future alone when this task is cancelled.
                await asyncio.wait((self._future,), timeout=wait_s)
            if self._fate is None:
                self._counts.add("rows_late")
                return "late"
        return self._fate

    def settle(self, outcome: HandoverOutcome) -> None:
        """For the logger, on the event loop."""
        self._fate = outcome
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
