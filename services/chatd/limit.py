"""``ConcurrencyLimit``: at most so many calls at a time, and a bounded queue before them."""

from __future__ import annotations

import asyncio
import time
from collections import deque


class QueueFullError(Exception):
    """No turn within the bounds of the queue."""


class ConcurrencyLimit:
    """First come, first served. Not to be shared between event loops.

    A turn is given back to the first that waits, not to the crowd, so nobody who comes later overtakes it.
    """

    def __init__(self, concurrency: int, *, queue_max: int, queue_s: float) -> None:
        self._concurrency = concurrency
        self._queue_max = queue_max
        self._queue_s = queue_s
        self._queue: deque[asyncio.Future[None]] = deque()
        self.running = 0

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def take_free(self) -> bool:
        """Take a turn where one is free. False: ask `wait_turn`."""
        # Nobody waits while a turn is free: `release` hands turns over.
        if self.running >= self._concurrency:
            return False
        self.running += 1
        return True

    async def wait_turn(self, deadline_s: float) -> None:
        """Wait for a turn, at most until `deadline_s` (time.monotonic).

        Raises QueueFullError where the queue is full or the wait over.
        """
        if len(self._queue) >= self._queue_max:
            raise QueueFullError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout_at(min(deadline_s, time.monotonic() + self._queue_s)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # The turn was handed over in the moment in which the wait ended: it goes to the next.
                self.release()
            elif turn in self._queue:
                self._queue.remove(turn)
            if isinstance(error, TimeoutError):
                raise QueueFullError from None
            raise

    def release(self) -> None:
        """Give a turn back."""
        while self._queue:
            turn = self._queue.popleft()
            # One who was cancelled and has not run since is still in the queue.
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
