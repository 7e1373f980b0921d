"""A session whose id its caller gave runs in a task of its own, and all calls with that id and request wait for it.

It is cancelled when the last of them leaves, and keeps the deadline of the first. Events go to the first alone, for as
long as it is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from iterate.attempt import Attempt, ModelAnswer
from iterate.brief import Brief
from iterate.loop import SessionListener
from iterate.task import ModelTarget, Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import SessionRecord
from lakehouse.trace_context import TraceContext

OnBegun = Callable[[SessionRecord], Awaitable[None]]
"""Gives a caller the ids of the session that answers him."""


class Caller(Protocol):
    """What a session needs of the call that it serves."""

    @property
    def trace(self) -> TraceContext: ...
    def fault_of(self, error: BaseException) -> Fault: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """A session that ended by an outcome."""

    record: SessionRecord
    recalled: bool = False
    """Whether it is not of this call's own making."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """One call that waits."""

    caller: Caller
    on_begun: OnBegun
    listener: SessionListener | None
    deadline_s: float


class SharedSession:
    """One session and those who wait for it; on the event loop. Towards the session it is the caller (``Caller``) and
    the listener (``SessionListener``)."""

    def __init__(self, task: Task, first: Waiter) -> None:
        self._digest = task.request_digest
        self.owner = task.caller
        self._first = first
        self._waiters = {first}
        self._last = first
        self._why: Fault | None = None
        """Why the last one left, where it was not cut off."""
        self._begun: SessionRecord | None = None
        self._begun_event = asyncio.Event()
        self.running: asyncio.Task[SessionEnd] | None = None
        self.leaving = False
        """Whether it was cancelled: its end is to be waited for, not its answer."""

    def start(self, session: Coroutine[Any, Any, SessionEnd]) -> asyncio.Task[SessionEnd]:
        self.running = asyncio.get_running_loop().create_task(session)
        return self.running

    def is_asked_by(self, task: Task) -> bool:
        """Whether it is the same request of the same caller."""
        return task.request_digest == self._digest and task.caller == self.owner

    async def answer(self, waiter: Waiter) -> SessionEnd:
        """Return the session's end, for `waiter`. Raises Fault, as the session does; DEADLINE at the waiter's own."""
        running = self.running
        if running is None:
            raise RuntimeError("the session was not started")
        self._waiters.add(waiter)
        try:
            if waiter is not self._first:
                await self._follow(waiter, running)
            await asyncio.wait((running,))
        except Fault as fault:
            self._why = fault
            raise
        finally:
            self._waiters.discard(waiter)
            if not self._waiters and not running.done():
                self._last = waiter
                self.leaving = True
                running.cancel()
                # Its row is handed over before its call is over.
                await asyncio.wait((running,))
        if running.cancelled():
            raise Fault(Reason.BUG, where="iterate")
        end = running.result()
        return end if waiter is self._first else SessionEnd(record=end.record, recalled=True)

    async def _follow(self, waiter: Waiter, running: asyncio.Task[SessionEnd]) -> None:
        """Give a later caller the ids as soon as there are any, and waits no longer than it."""
        begun = asyncio.ensure_future(self._begun_event.wait())
        try:
            await asyncio.wait(
                (begun, running),
                timeout=max(waiter.deadline_s - time.monotonic(), 0.0),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            begun.cancel()
        if self._begun is not None:
            await waiter.on_begun(self._begun)
        done, _ = await asyncio.wait((running,), timeout=max(waiter.deadline_s - time.monotonic(), 0.0))
        if not done:
            raise Fault(Reason.DEADLINE, where="iterate")

    # What the session sees.

    @property
    def trace(self) -> TraceContext:
        return self._first.caller.trace

    def fault_of(self, error: BaseException) -> Fault:
        if self.leaving and self._why is not None and isinstance(error, asyncio.CancelledError):
            return self._why
        present = self._first if self._first in self._waiters else next(iter(self._waiters), self._last)
        return present.caller.fault_of(error)

    async def on_begun(self, begun: SessionRecord) -> None:
        self._begun = begun
        self._begun_event.set()
        await self._unless_left(lambda first: first.on_begun(begun))

    async def briefed(self, brief: Brief) -> None:
        await self._hear(lambda listener: listener.briefed(brief))

    async def attempt_started(self, iteration: int, target: ModelTarget) -> None:
        await self._hear(lambda listener: listener.attempt_started(iteration, target))

    async def model_answered(self, iteration: int, answer: ModelAnswer, chat_ms: int) -> None:
        await self._hear(lambda listener: listener.model_answered(iteration, answer, chat_ms))

    async def attempt_finished(self, attempt: Attempt) -> None:
        await self._hear(lambda listener: listener.attempt_finished(attempt))

    async def _hear(self, tell: Callable[[SessionListener], Awaitable[None]]) -> None:
        async def to(first: Waiter) -> None:
            if first.listener is not None:
                await tell(first.listener)

        await self._unless_left(to)

    async def _unless_left(self, tell: Callable[[Waiter], Awaitable[None]]) -> None:
        if self._first not in self._waiters:
            return
        try:
            await tell(self._first)
        except Exception:
            # The first caller is gone; the session goes on for the others.
            if not self._waiters - {self._first}:
                raise
            self._waiters.discard(self._first)
