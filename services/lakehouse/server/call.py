"""``Call``: what a handler knows of its RPC. The interceptor makes one for each and logs it at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from lakehouse.errors import Fault, Reason
from lakehouse.trace_context import TraceContext

_current: ContextVar[Call] = ContextVar("lakehouse_call")


@dataclass(slots=True)
class Call:
    """One RPC in flight."""

    method: str
    """`/package.Service/Method`."""
    trace: TraceContext
    session_id: str
    """The session that the call belongs to; iterate fills it in when the session gets its id."""
    draining: Callable[[], bool]
    """Whether the process is going away."""
    time_remaining: Callable[[], float | None]
    """Seconds to the caller's deadline; None without one."""
    started: float = field(default_factory=time.monotonic)
    facts: dict[str, object] = field(default_factory=dict)
    """Further fields of the call's one log line."""

    def ended_by(self) -> Fault:
        """Why the call's task was cancelled, in the order that DESIGN.md section 6 gives."""
        if self.draining():
            return Fault(Reason.SHUTTING_DOWN)
        remaining = self.time_remaining()
        if remaining is not None and remaining <= 0:
            return Fault(Reason.DEADLINE)
        return Fault(Reason.CALLER_GONE)


def current_call() -> Call:
    """The call whose handler is running. Raises LookupError outside of one."""
    return _current.get()


def enter_call(call: Call) -> None:
    """Make `call` the current one of this task."""
    _current.set(call)
