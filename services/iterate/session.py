"""One session from its beginning to its row.

What is promised, and where: the beginning is in the kernel's hands (`begun`) before the caller gets the session's ids
(`on_begun`) and before the first model call, the row is handed over in a `finally`, before anything there is awaited,
and the answer leaves only after the row was written or waited for (`written`). However the session ends, it leaves
exactly one row; one that a strict log refuses at its beginning is none.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from iterate.attempt import Attempt, error_record, fault_of
from iterate.loop import Chat, Gate, Limits, Listener, Loop, Progress
from iterate.session_log.logger import OpenSession, SessionLogger, SessionLogUnavailable
from iterate.span_texts import outcome_text, request_text
from iterate.task import Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import PROCESS_DIED, ErrorRecord, FinalVerdict, SessionRecord, rfc3339
from lakehouse.trace_context import TraceContext
from lakehouse.tracing import Span, Tracing


class Caller(Protocol):
    """What a session needs of the call that it serves."""

    @property
    def trace(self) -> TraceContext: ...
    def ended_by(self) -> Fault: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """A session that ended by an outcome."""

    record: SessionRecord
    attempts: tuple[Attempt, ...]
    token_budget_spent: bool


@dataclass(slots=True, kw_only=True)
class Sessions:
    """Runs sessions. One object a process; it holds no session but the set of ids that are running."""

    chat: Chat
    gate: Gate
    log: SessionLogger
    tracing: Tracing
    limits: Limits
    daemon: str
    on_end: Callable[[SessionRecord], None] = lambda _: None
    """Hears of every row that is handed over; for counters."""
    _running: set[str] = field(default_factory=set)

    async def run(
        self,
        task: Task,
        caller: Caller,
        listener: Listener | None,
        deadline: float,
        on_begun: Callable[[], Awaitable[None]],
    ) -> SessionEnd:
        """Run one session until `deadline` (time.monotonic). `on_begun` gives the caller the session's ids.

        Raises Fault; whatever else the loop raises goes on. A status, too, leaves only after the row was written or
        waited for; a cancellation goes on at once, with the row handed over.
        """
        if task.session_id in self._running:
            raise Fault(Reason.SESSION_ID_IN_FLIGHT, where="iterate")
        self._running.add(task.session_id)
        try:
            return await self._run(task, caller, listener, deadline, on_begun)
        finally:
            self._running.discard(task.session_id)

    async def _run(
        self,
        task: Task,
        caller: Caller,
        listener: Listener | None,
        deadline: float,
        on_begun: Callable[[], Awaitable[None]],
    ) -> SessionEnd:
        started = time.monotonic()
        trace = caller.trace
        begun = self._begun(task, trace)
        open_session = self.log.begin(begun)
        progress = Progress()
        root: Span | None = None
        error: ErrorRecord | None = None
        failure: Exception | None = None
        refused = False
        try:
            await open_session.begun()
            await on_begun()
            root = self._start_trace(task, trace)
            await self._loop(task, caller, listener, deadline, root, progress, open_session).run()
        except SessionLogUnavailable:
            refused = True
            raise Fault(Reason.SESSION_LOG_UNAVAILABLE, where="iterate") from None
        except Fault as raised:
            failure = fault_of(raised, caller.ended_by)
            error = error_record(failure)
        except BaseException as raised:
            error = error_record(fault_of(raised, caller.ended_by))
            if not isinstance(raised, Exception):
                raise  # A cancellation is not held up; the row is on its way all the same.
            failure = raised
        finally:
            if not refused:
                record = _ended(begun, progress, error, int((time.monotonic() - started) * 1000))
                handover = open_session.hand_over(record)
                self.on_end(record)
                if root is not None:
                    self._end_trace(root, record)
        written = await handover.written()
        if failure is not None:
            raise failure
        if written != "written" and self.log.strict:
            raise Fault(Reason.SESSION_NOT_LOGGED, where="iterate")
        return SessionEnd(
            record=record, attempts=tuple(progress.attempts), token_budget_spent=progress.token_budget_spent
        )

    def _start_trace(self, task: Task, trace: TraceContext) -> Span:
        return self.tracing.start_root(
            f"iterate.{task.kind}",
            context=trace,
            session_id=task.session_id,
            input=request_text(task) if self.tracing.enabled else "",
            kind=task.kind,
        )

    def _loop(
        self,
        task: Task,
        caller: Caller,
        listener: Listener | None,
        deadline: float,
        root: Span,
        progress: Progress,
        open_session: OpenSession,
    ) -> Loop:
        return Loop(
            task=task,
            chat=self.chat,
            gate=self.gate,
            limits=self.limits,
            trace=caller.trace,
            root=root,
            progress=progress,
            listener=listener,
            deadline=deadline,
            ended_by=caller.ended_by,
            on_attempt=open_session.attempt_finished,
        )

    def _begun(self, task: Task, trace: TraceContext) -> SessionRecord:
        """The session's row if the process died now."""
        return SessionRecord(
            session_id=task.session_id,
            timestamp=rfc3339(time.time_ns() // 1000),
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
        )

    def _end_trace(self, root: Span, record: SessionRecord) -> None:
        if not root.recording:
            return
        error = record.error
        root.end(
            output=outcome_text(record),
            level="ERROR" if error else "",
            status_message=error.message if error else "",
            trace_metadata={"kind": record.kind, "final_verdict": record.final_verdict},
        )
        self.tracing.score_session(
            record.trace_id,
            accepted=record.final_verdict == "accepted",
            iterations=record.iterations,
            grounded_in_roster=record.grounded_in_roster,
        )


def _ended(begun: SessionRecord, progress: Progress, error: ErrorRecord | None, duration_ms: int) -> SessionRecord:
    verdict: FinalVerdict = "infra_error"
    if error is None:
        verdict = "accepted" if progress.accepted else "max_iter_exhausted"
    return replace(
        begun,
        timestamp=rfc3339(time.time_ns() // 1000),
        final_verdict=verdict,
        error=error,
        artifact=progress.artifact,
        grounded_in_roster=progress.grounded_in_roster,
        attempts=tuple(each.record for each in progress.attempts),
        duration_ms=duration_ms,
    )
