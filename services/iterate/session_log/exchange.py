"""What passes between the event loop and the writer's thread: jobs to the one, outcomes to the other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

from iterate.session_log.counts import SessionLogCounts

BeginningOutcome = Literal["journaled", "unjournaled"]
HandoverOutcome = Literal["written", "spilled", "late", "dropped", "disabled"]

T = TypeVar("T")


class Receipt(Generic[T]):
    """One step of a session on its way to the disk. It belongs to the event loop."""

    __slots__ = ("_deadline", "_waiting", "on_settled", "outcome")

    def __init__(self, wait_s: float, outcome: T | None = None) -> None:
        self.outcome = outcome
        """None while it is not known."""
        self.on_settled: Callable[[T], None] | None = None
        """Called with each outcome: a row that was spilled may be written later."""
        self._deadline = time.monotonic() + wait_s
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> T | None:
        """Return the outcome as soon as it is known, and at the latest what is known ``wait_s`` after the making.
        Cancelling it changes nothing for the session, or for others who wait."""
        if self.outcome is None:
            wait_s = self._deadline - time.monotonic()
            if wait_s > 0:
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                self._waiting.append(future)
                timer = loop.call_later(wait_s, resolve, future)
                try:
                    await future
                finally:
                    timer.cancel()
        return self.outcome

    def settle(self, outcome: T) -> None:
        self.outcome = outcome
        for future in self._waiting:
            resolve(future)
        self._waiting.clear()
        if self.on_settled is not None:
            self.on_settled(outcome)


class Handover:
    """A row that was handed over: whether it stands in the log."""

    __slots__ = ("_counts", "_receipt")

    def __init__(self, receipt: Receipt[HandoverOutcome], counts: SessionLogCounts) -> None:
        self._receipt = receipt
        self._counts = counts

    @property
    def outcome(self) -> HandoverOutcome | None:
        """What is known now; None while the row is queued."""
        return self._receipt.outcome

    def on_settled(self, call: Callable[[HandoverOutcome], None]) -> None:
        """Has `call` made with what became of the row, at once where that is known; and again where a spilled row is
        written later."""
        if self._receipt.outcome is not None:
            call(self._receipt.outcome)
        self._receipt.on_settled = call

    async def written(self) -> HandoverOutcome:
        """Wait until the row stands in the log, at most until ``append_wait_ms`` after its hand-over.

        Returns ``written``; ``spilled`` (the log's disk refused it, the spill has it); ``late`` (the row is queued, or
        its fsync failed); ``dropped`` (the queue was full, the row could not be encoded, or the logger was closed);
        ``disabled`` (no path). Cancelling it changes nothing for the row.
        """
        outcome = await self._receipt.wait()
        if outcome is None:
            self._counts.add("rows_late")
            return "late"
        return outcome


def settle_all(settled: Sequence[tuple[Receipt[str], str]]) -> None:
    """Do what one wake-up of the event loop does."""
    for receipt, outcome in settled:
        receipt.settle(outcome)


def resolve(future: asyncio.Future[None]) -> None:
    """End the wait for a future that nobody may have ended or left before."""
    if not future.done():
        future.set_result(None)


class JobQueue:
    """Jobs in the order of their ``put``, bounded in rows and bytes. ``put`` is one thread's, ``do_one`` and ``wait``
    are another's; ``add`` and ``wake`` are anybody's."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Callable[..., None], tuple[Any, ...], int, int]] = deque()
        self._bell = threading.Lock()  # rung by releasing it
        self._bell.acquire()
        # Each is written by one thread alone; what is queued is the difference.
        self._rows_in = self._rows_out = self._bytes_in = self._bytes_out = 0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def rows(self) -> int:
        """Beginnings and ends that are queued."""
        return self._rows_in - self._rows_out

    @property
    def size_bytes(self) -> int:
        return self._bytes_in - self._bytes_out

    def put(
        self,
        do: Callable[..., None],
        arguments: tuple[Any, ...],
        *,
        rows: int,
        size: int,
        rows_max: int,
        bytes_max: int,
        wake: bool = True,
    ) -> bool:
        """Return False where the job passes a bound; one of any size is taken by an empty queue."""
        if self.rows + rows > rows_max or (self._jobs and self.size_bytes + size > bytes_max):
            return False
        self._rows_in += rows
        self._bytes_in += size
        self._jobs.append((do, arguments, rows, size))
        if wake:
            self.wake()
        return True

    def add(self, do: Callable[..., None], *arguments: Any) -> None:
        """Put a job that weighs nothing."""
        self._jobs.append((do, arguments, 0, 0))
        self.wake()

    def wake(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # rung already

    def do_one(self) -> None:
        do, arguments, rows, size = self._jobs.popleft()
        self._rows_out += rows
        self._bytes_out += size
        do(*arguments)

    def wait(self, timeout_s: float | None) -> None:
        """Until ``wake``. None: for ever."""
        self._bell.acquire(timeout=-1 if timeout_s is None else timeout_s)
