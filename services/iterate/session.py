"""One session from its beginning to its row.

What is promised, and where: the brief comes first, and a request that it refuses is no session; the beginning, which
holds the brief, is in the kernel's hands (`begun`) before the caller gets the session's ids (`on_begun`) and before the
first model call; the row is handed over in a `finally`, before anything there is awaited; and the answer leaves only
after the row was written or waited for (`written`). However the session ends, during the brief as well, it leaves
exactly one row and one root; one that is killed during the brief, or that a strict log refuses at its beginning, leaves
none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from iterate.attempt import Attempt, error_record
from iterate.brief import Brief, BriefSource, ask_brief, refuses_request
from iterate.limits import Limits
from iterate.loop import Budget, Chat, Gate, Loop, Progress, SessionListener
from iterate.session_log.logger import OpenSession, SessionLogger, SessionLogUnavailable
from iterate.session_trace import end_session_trace, start_session_trace
from iterate.task import Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import PROCESS_DIED, ErrorRecord, FinalVerdict, SessionRecord, rfc3339
from lakehouse.trace_context import TraceContext
from lakehouse.tracing import Span, Tracing
from lakehouse.wall_clock import ClockAnchor


class Caller(Protocol):
    """What a session needs of the call that it serves."""

    @property
    def trace(self) -> TraceContext: ...
    def fault_of(self, error: BaseException) -> Fault: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """A session that ended by an outcome."""

    record: SessionRecord
    attempts: tuple[Attempt, ...]
    brief: Brief | None


@dataclass(slots=True, kw_only=True)
class Sessions:
    """Runs sessions. One object a process; it holds no session but the set of ids that are running."""

    chat: Chat
    gate: Gate
    source: BriefSource
    log: SessionLogger
    tracing: Tracing
    limits: Limits
    daemon: str
    on_end: Callable[[SessionRecord], None] = lambda _: None
    """Called with every row that is handed over; for counters."""
    _running: set[str] = field(default_factory=set)

    async def run(
        self,
        task: Task,
        caller: Caller,
        listener: SessionListener | None,
        deadline_s: float,
        on_begun: Callable[[], Awaitable[None]],
        reserve: Callable[[], Budget] | None = None,
    ) -> SessionEnd:
        """Run one session, at most until `deadline_s` (time.monotonic). `on_begun` gives the caller the session's ids;
        `reserve` begins it on the caller's budget, where there is one, and may raise Fault: then it is no session.

        Raises Fault, the one that the row names. A status, too, leaves only after the row was written or waited for; a
        cancellation that ends the call goes on at once, with the row handed over.
        """
        if task.session_id in self._running:
            raise Fault(Reason.SESSION_ID_IN_FLIGHT, where="iterate")
        budget = reserve() if reserve is not None else None
        self._running.add(task.session_id)
        try:
            return await self._run(task, caller, listener, deadline_s, on_begun, budget)
        finally:
            self._running.discard(task.session_id)
            if budget is not None:
                budget.end()

    async def _run(
        self,
        task: Task,
        caller: Caller,
        listener: SessionListener | None,
        deadline_s: float,
        on_begun: Callable[[], Awaitable[None]],
        budget: Budget | None,
    ) -> SessionEnd:
        clock = ClockAnchor.now()
        trace = caller.trace
        begun = self._begun(task, trace, clock)
        # Its span hangs under the root, which is sent only where the session leaves a row.
        root = start_session_trace(self.tracing, begun, trace, clock)
        brief, unbriefed = await self._brief(task, trace, root, deadline_s)
        if brief is not None:
            begun = replace(begun, brief=brief.record)
        open_session = self.log.begin(begun, parent_span_id=trace.parent_span_id)
        progress = Progress()
        error: ErrorRecord | None = None
        failure: Fault | None = None
        refused = False
        try:
            await _open(open_session, on_begun, unbriefed)
            await self._loop(task, brief, caller, listener, deadline_s, root, progress, open_session, budget).run()
        except SessionLogUnavailable:
            refused = True
            raise Fault(Reason.SESSION_LOG_UNAVAILABLE, where="iterate") from None
        except BaseException as raised:
            failure = caller.fault_of(raised)
            error = error_record(failure)
            if not isinstance(raised, Exception) and not _asked_for_by_nobody(raised, failure):
                raise  # A cancellation is not held up; the row is on its way all the same.
            if failure is not raised:
                failure.__cause__ = raised
            failure.where = failure.where or "iterate"
        finally:
            if not refused:
                record = _ended(begun, progress, error, clock)
                handover = open_session.hand_over(record)
                self.on_end(record)
                end_session_trace(self.tracing, root, record)
        written = await handover.written()
        if failure is not None:
            raise failure
        if written != "written" and self.log.strict:
            raise Fault(Reason.SESSION_NOT_LOGGED, where="iterate")
        return SessionEnd(record=record, attempts=tuple(progress.attempts), brief=brief)

    async def _brief(
        self, task: Task, trace: TraceContext, root: Span, deadline_s: float
    ) -> tuple[Brief | None, BaseException | None]:
        """Return the brief, or what the session ends with. Raises Fault where the request is refused."""
        try:
            brief = await ask_brief(
                self.source, task, self.limits, trace=trace, span_id=root.span_id, deadline_s=deadline_s
            )
        except BaseException as raised:  # a cancellation leaves a row as well
            if isinstance(raised, Fault) and refuses_request(raised):
                raise
            return None, raised
        return brief, None

    def _loop(
        self,
        task: Task,
        brief: Brief | None,
        caller: Caller,
        listener: SessionListener | None,
        deadline_s: float,
        root: Span,
        progress: Progress,
        open_session: OpenSession,
        budget: Budget | None,
    ) -> Loop:
        return Loop(
            task=task,
            brief=brief,
            chat=self.chat,
            gate=self.gate,
            limits=self.limits,
            trace=caller.trace,
            root=root,
            progress=progress,
            listener=listener,
            deadline_s=deadline_s,
            fault_of=caller.fault_of,
            on_attempt=open_session.attempt_finished,
            budget=budget,
        )

    def _begun(self, task: Task, trace: TraceContext, clock: ClockAnchor) -> SessionRecord:
        """Return the session's row if the process died now."""
        return SessionRecord(
            session_id=task.session_id,
            timestamp=rfc3339(clock.unix_ns // 1000),
            daemon=self.daemon,
            trace_id=trace.trace_id,
            caller_trace=trace.caller_trace,
            kind=task.kind,
            provider=task.target.provider,
            model=task.target.model,
            prompt=task.prompt,
            spec=task.spec.text,
            max_iterations=task.max_iterations,
            final_verdict="infra_error",
            error=PROCESS_DIED,
            duration_ms=0,
            caller=task.caller,
        )


async def _open(
    open_session: OpenSession, on_begun: Callable[[], Awaitable[None]], unbriefed: BaseException | None
) -> None:
    """Wait until the session's beginning stands, then give its ids away. Raises `unbriefed` after that, or at once
    where it is a cancellation: that one is not held up."""
    if unbriefed is not None and not isinstance(unbriefed, Exception):
        raise unbriefed
    await open_session.begun()
    await on_begun()
    if unbriefed is not None:
        raise unbriefed


def _asked_for_by_nobody(raised: BaseException, fault: Fault) -> bool:
    """Whether a cancellation came of a bug: its caller is there and reads the status."""
    return isinstance(raised, asyncio.CancelledError) and fault.reason is Reason.BUG


def _ended(begun: SessionRecord, progress: Progress, error: ErrorRecord | None, clock: ClockAnchor) -> SessionRecord:
    duration_ns = time.monotonic_ns() - clock.monotonic_ns
    verdict: FinalVerdict = "infra_error"
    if error is None:
        verdict = "accepted" if progress.accepted else "max_iter_exhausted"
    return replace(
        begun,
        timestamp=rfc3339((clock.unix_ns + duration_ns) // 1000),
        final_verdict=verdict,
        error=error,
        artifact=progress.artifact,
        grounded_in_roster=progress.grounded_in_roster,
        attempts=tuple(each.record for each in progress.attempts),
        duration_ms=duration_ns // 1_000_000,
        token_budget_spent=progress.token_budget_spent,
        no_progress=progress.no_progress,
    )
