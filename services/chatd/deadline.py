"""``CallDeadline``: cancels what runs in a block once its time is over."""

from __future__ import annotations

import asyncio
from types import TracebackType


class CallDeadline:
    """`with CallDeadline(when):` raises TimeoutError out of the block that still runs at `when` (loop time).

    It is `asyncio.timeout_at` for the one use that every call makes of it: no coroutine to enter and to leave, nothing
    to reschedule. A cancellation from elsewhere passes through.
    """

    __slots__ = ("_cancelling", "_passed", "_task", "_timer", "_when")

    def __init__(self, when: float) -> None:
        self._when = when
        self._passed = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101  a coroutine that nobody runs as a task cannot be cancelled
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = loop.call_at(self._when, self._pass)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self._passed:
            return
        # Others may have cancelled the task as well: then theirs stands.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()
