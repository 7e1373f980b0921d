"""One session from its beginning to its row.

What is promised, and where: the brief comes first, and a request that it refuses is no session; the beginning, which
holds the brief, is in the kernel's hands (`begun`) before the caller gets the session's ids (`on_begun`) and before the
first model call; the row is handed over in a `finally`, before anything there is awaited; and the answer leaves only
after the row was written or waited for (`written`). However the session ends, during the brief as well, it leaves
exactly one row and one root; one that is killed during the brief, or that a strict log refuses at its beginning, leaves
none.

A session whose id its caller gave is looked for first, and runs as a ``SharedSession``; one whose id is ours runs in
its call and does neither.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from iterate.attempt import error_record
from iterate.brief import Brief, BriefSource, ask_brief, refuses_request
from iterate.limits import Limits
from iterate.loop import Budget, Chat, Gate, Loop, Progress, SessionListener
from iterate.recall.look import InFlight
from iterate.recall.recall import Claim, Recall
from iterate.session_log.logger import OpenSession, SessionLogger, SessionLogUnavailable
from iterate.session_trace import end_session_trace, start_session_trace
from iterate.shared_session import Caller, OnBegun, SessionEnd, SharedSession, Waiter
from iterate.task import Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import PROCESS_DIED, ErrorRecord, FinalVerdict, SessionRecord, rfc3339
from lakehouse.trace_context import TraceContext
from lakehouse.tracing import Span, Tracing
from lakehouse.wall_clock import ClockAnchor


@dataclass(slots=True, kw_only=True)
class Sessions:
    """Runs sessions, and answers for those that it ran. One object a process; it holds no session but those that are
    running."""

    chat: Chat
    gate: Gate
    source: BriefSource
    log: SessionLogger
    tracing: Tracing
    limits: Limits
    daemon: str
    recall: Recall | None = None
    """None: sessions that ended are not known."""
    on_end: Callable[[SessionRecord], None] = lambda _: None
    """Called with every row that is handed over; for counters."""
    on_asked_again: Callable[[str], None] = lambda _: None
    """Called with what became of a call whose id was used before: `recalled`, `awaited`, `run_again` or `taken`."""
    _running: dict[str, str | None] = field(default_factory=dict)
    """The caller of each session whose id is ours."""
    _shared: dict[str, SharedSession] = field(default_factory=dict)
    """By ids that callers gave."""

    async def run(
        self,
        task: Task,
        caller: Caller,
        listener: SessionListener | None,
        deadline_s: float,
        on_begun: OnBegun,
        reserve: Callable[[], Budget] | None = None,
    ) -> SessionEnd:
        """Run one session, at most until `deadline_s` (time.monotonic), or say how the one of this id ended. `on_begun`
        gives the caller the session's ids; `reserve` begins it on the caller's budget, where there is one, and may
        raise Fault: then it is no session. A session that is recalled or waited for uses no budget.

        Raises Fault, the one that the row names. A status, too, leaves only after the row was written or waited for; a
        cancellation that ends the call goes on at once, with the row handed over.
        """
        if task.request_digest is not None:
            return await self._run_or_recall(task, Waiter(caller, on_begun, listener, deadline_s), reserve)
        if task.session_id in self._running:
            raise Fault(Reason.SESSION_ID_IN_FLIGHT, where="iterate")
        budget = reserve() if reserve is not None else None
        self._running[task.session_id] = task.caller
        try:
            return await self._run(task, caller, listener, deadline_s, on_begun, budget)
        finally:
            del self._running[task.session_id]
            if budget is not None:
                budget.end()

    async def find(self, session_id: str, caller: str | None, deadline_s: float) -> SessionRecord:
        """Return the row of the last session of this id, which is `caller`'s. Raises Fault."""
        found: SessionRecord | InFlight | None = None
        running = self._shared.get(session_id)
        if session_id in self._running or running is not None:
            owner = running.owner if running is not None else self._running[session_id]
            raise Fault(Reason.SESSION_ID_IN_FLIGHT if owner == caller else Reason.SESSION_NOT_FOUND, where="iterate")
        if self.recall is not None:
            found = await self.recall.find(session_id, deadline_s)
        if isinstance(found, InFlight) and (found.row is None or found.row.caller == caller):
            raise Fault(Reason.SESSION_ID_IN_FLIGHT, where="iterate")
        if not isinstance(found, SessionRecord) or found.caller != caller:
            raise Fault(Reason.SESSION_NOT_FOUND, where="iterate")
        return found

    async def close(self) -> None:
        """Wait for the rows of sessions whose callers have gone."""
        if running := [each.running for each in self._shared.values() if each.running is not None]:
            await asyncio.wait(running)

    async def _run_or_recall(self, task: Task, waiter: Waiter, reserve: Callable[[], Budget] | None) -> SessionEnd:
        session_id = task.session_id
        if session_id in self._running:
            raise Fault(Reason.SESSION_ID_TAKEN, where="iterate")
        while (shared := self._shared.get(session_id)) is not None:
            if not shared.is_asked_by(task):
                self.on_asked_again("taken")
                raise Fault(Reason.SESSION_ID_TAKEN, where="iterate")
            if not shared.leaving:
                self.on_asked_again("awaited")
                return await shared.answer(waiter)
            if shared.running is not None:
                await asyncio.wait((shared.running,))
            # Its own callback may come after ours.
            self._forget(session_id, shared)
        shared = SharedSession(task, waiter)
        self._shared[session_id] = shared
        running = shared.start(self._recalled_or_run(shared, task, waiter.deadline_s, reserve))
        running.add_done_callback(lambda _: self._forget(session_id, shared))
        return await shared.answer(waiter)

    def _forget(self, session_id: str, shared: SharedSession) -> None:
        if self._shared.get(session_id) is shared:
            del self._shared[session_id]

    async def _recalled_or_run(
        self, shared: SharedSession, task: Task, deadline_s: float, reserve: Callable[[], Budget] | None
    ) -> SessionEnd:
        claim = None if self.recall is None else await self.recall.claim(task.session_id, deadline_s)
        try:
            last = None if claim is None else claim.last
            if last is not None:
                if (last.request_digest, last.caller) != (task.request_digest, task.caller):
                    self.on_asked_again("taken")
                    raise Fault(Reason.SESSION_ID_TAKEN, where="iterate")
                if last.final_verdict != "infra_error":
                    self.on_asked_again("recalled")
                    await shared.on_begun(last)
                    return SessionEnd(record=last, recalled=True)
                self.on_asked_again("run_again")
                task = replace(task, try_number=last.try_number + 1)
            budget = reserve() if reserve is not None else None
            try:
                return await self._run(task, shared, shared, deadline_s, shared.on_begun, budget, claim)
            finally:
                if budget is not None:
                    budget.end()
        finally:
            if claim is not None:
                claim.release()

    async def _run(
        self,
        task: Task,
        caller: Caller,
        listener: SessionListener | None,
        deadline_s: float,
        on_begun: OnBegun,
        budget: Budget | None,
        claim: Claim | None = None,
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
            await _open(open_session, begun, on_begun, unbriefed)
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
                if claim is not None:
                    claim.keep_until_written(record, handover)
                self.on_end(record)
                end_session_trace(self.tracing, root, record)
        written = await handover.written()
        if failure is not None:
            raise failure
        if written != "written" and self.log.strict:
            raise Fault(Reason.SESSION_NOT_LOGGED, where="iterate")
        return SessionEnd(record=record)

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
            try_number=task.try_number,
            request_digest=task.request_digest,
        )


async def _open(
    open_session: OpenSession, begun: SessionRecord, on_begun: OnBegun, unbriefed: BaseException | None
) -> None:
    """Wait until the session's beginning stands, then give its ids away. Raises `unbriefed` after that, or at once
    where it is a cancellation: that one is not held up."""
    if unbriefed is not None and not isinstance(unbriefed, Exception):
        raise unbriefed
    await open_session.begun()
    await on_begun(begun)
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
