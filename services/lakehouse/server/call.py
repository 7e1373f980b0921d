"""``Call``: what a handler knows of its RPC. The interceptor makes one for each and logs it at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio

from lakehouse.errors import Fault, Reason
from lakehouse.server.callers.policy import Caller
from lakehouse.trace_context import TraceContext

DEADLINE_MARGIN_S: Final = 0.05
"""A handler ends this long before its caller's deadline, so that our own status, which says where the time went,
arrives before gRPC's bare one."""

_current: ContextVar[Call] = ContextVar("lakehouse_call")


@dataclass(slots=True)
class Call:
    """One RPC in flight."""

    method: str
    """`/package.Service/Method`."""
    trace: TraceContext
    session_id: str
    """The session that the call belongs to; iterate fills it in when the session gets its id."""
    task: asyncio.Task[Any]
    """What serves the call: aio cancels it when the caller goes away or its deadline passes."""
    draining: Callable[[], bool]
    """Whether the process is going away."""
    time_remaining: Callable[[], float | None]
    """Seconds to the caller's deadline; None without one. A handler asks `seconds_left`."""
    started: float = field(default_factory=time.monotonic)
    caller: Caller | None = None
    """Who calls; None where callers are off."""
    facts: dict[str, object] = field(default_factory=dict)
    """Further fields of the call's one log line."""
    session_begun: bool = False
    """Whether the call is a session that leaves a row: whatever ends it but an outcome is a failed session."""
    _end: Fault | None = None
    """Why the call was cut off, once that was asked."""

    def seconds_left(self) -> float | None:
        """Seconds that the handler may use: to `DEADLINE_MARGIN_S` before the caller's deadline, at least 0; None where
        the caller set no deadline.
        """
        remaining = self.time_remaining()
        return None if remaining is None else max(remaining - DEADLINE_MARGIN_S, 0.0)

    def fault_of(self, error: BaseException) -> Fault:
        """Return the fault that `error`, raised while the call was served, stands for; it has a reason.

        A call that was cut off ended, in this order, by the drain (SHUTTING_DOWN), by its deadline (DEADLINE), or by
        its caller (CALLER_GONE); a cancellation that none of the three asked for is a BUG, as is whatever else is no
        fault of ours. The first answer for a cut is kept, so that row, span, log line and status name one reason.
        """
        if isinstance(error, Fault) and error.reason is not None:
            return error
        peer_lost = isinstance(error, grpc.aio.InternalError)
        if not (peer_lost or _may_be_a_cut(error)):
            return Fault(Reason.BUG)
        if self._end is None:
            self._end = Fault(self._cut_by(peer_lost=peer_lost))
        return self._end

    def _cut_by(self, *, peer_lost: bool) -> Reason:
        if self.draining():
            return Reason.SHUTTING_DOWN
        remaining = self.time_remaining()
        if remaining is not None and remaining <= 0:
            return Reason.DEADLINE
        return Reason.CALLER_GONE if peer_lost or self.task.cancelling() else Reason.BUG


def current_call() -> Call:
    """Return the call whose handler is running. Raises LookupError outside of one."""
    return _current.get()


def enter_call(call: Call) -> None:
    """Make `call` the current one of this task."""
    _current.set(call)


def _may_be_a_cut(error: BaseException) -> bool:
    """Whether `error` may come of the call's own end.

    A cut during ``context.write`` is an ``InternalError`` of aio with every cancelled flag false; one during a hop may
    come back as the hop's CANCELLED.
    """
    if isinstance(error, Fault):
        return error.code == "CANCELLED"
    if isinstance(error, grpc.aio.AioRpcError):
        return bool(error.code() is grpc.StatusCode.CANCELLED)
    # Of aio's own errors the others say that the RPC, or the server, has ended already.
    return isinstance(error, (asyncio.CancelledError, grpc.aio.BaseError))
