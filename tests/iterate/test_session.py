"""Goal: a session's row is handed over on every path, before its status leaves, and a strict log holds answers back.

Method: real sessions between a scripted chat and gate, with a log that says what happened to it and when.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from iterate.attempt import Judgement, ModelAnswer
from iterate.knowledge import Knowledge
from iterate.limits import Limits
from iterate.session import Sessions
from iterate.session_log.logger import SessionLogUnavailable
from iterate.shared_session import SessionEnd
from iterate.spec import Spec
from iterate.task import ModelTarget, Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import PROCESS_DIED, SessionRecord
from lakehouse.trace_context import TraceContext
from lakehouse.tracing import Tracing, TracingConfig

TASK = Task(
    session_id="s",
    kind="fill",
    spec=Spec(text="{}"),
    prompt="p",
    grounding="candidates",
    target=ModelTarget("", ""),
    max_iterations=1,
)
LIMITS = Limits(
    chat_ms_min=1, validate_ms_max=1000, session_tokens_max=0, artifact_bytes_max=1000, context_bytes_max=10_000
)


@dataclass
class RecordingLog:
    """Stands where the session log does."""

    outcome: str = "written"
    strict: bool = False
    available: bool = True
    begins: asyncio.Event | None = None
    events: list[str] = field(default_factory=list)
    beginnings: list[SessionRecord] = field(default_factory=list)
    rows: list[SessionRecord] = field(default_factory=list)

    def begin(self, begun: SessionRecord, *, parent_span_id: str | None) -> RecordingLog:
        self.beginnings.append(begun)
        return self

    async def begun(self) -> None:
        if not self.available:
            raise SessionLogUnavailable("no disk")
        if self.begins is not None:
            await self.begins.wait()
        self.events.append("begun")

    def attempt_finished(self, attempt: Any) -> None:
        self.events.append("attempt")

    def hand_over(self, record: SessionRecord) -> RecordingLog:
        self.events.append("row")
        self.rows.append(record)
        return self

    async def written(self) -> str:
        self.events.append("waited")
        return self.outcome


@dataclass
class Hops:
    """Chat, gate and brief in one; `step` is what the model does, `knows` what validated answers first."""

    step: Any
    events: list[str]
    knows: Any = None

    async def brief(self, *_: Any, **__: Any) -> Knowledge:
        self.events.append("brief")
        if isinstance(self.knows, BaseException):
            raise self.knows
        if self.knows == "hang":
            await asyncio.Event().wait()
        return self.knows or Knowledge(candidates_json='[{"id":1}]', candidates_total=1)

    async def complete(self, *_: Any, **__: Any) -> ModelAnswer:
        self.events.append("model")
        if isinstance(self.step, BaseException):
            raise self.step
        if self.step == "hang":
            await asyncio.Event().wait()
        return ModelAnswer(text="{}", provider="p", model="m", input_tokens=1, output_tokens=1)

    async def validate(self, *_: Any, **__: Any) -> Judgement:
        return Judgement(passed=True, findings=(), findings_left_out=0, grounded_in_roster=True, roster=None)


@dataclass
class Caller:
    trace: TraceContext = field(default_factory=lambda: TraceContext("0af7651916cd43dd8448eb211c80319c"))
    cancellation: Reason = Reason.CALLER_GONE
    """What a cancellation comes of."""

    def fault_of(self, error: BaseException) -> Fault:
        if isinstance(error, Fault):
            return error
        return Fault(self.cancellation if isinstance(error, asyncio.CancelledError) else Reason.BUG)


async def run(
    log: RecordingLog, step: Any = None, caller: Caller | None = None, ids: Fault | None = None, knows: Any = None
) -> SessionEnd:
    async def on_begun(_: SessionRecord) -> None:
        log.events.append("ids")
        if ids is not None:
            raise ids

    hops = Hops(step, log.events, knows)
    sessions = Sessions(
        chat=hops,
        gate=hops,
        source=hops,
        log=log,  # type: ignore[arg-type]  # the part of it that a session uses
        tracing=Tracing(TracingConfig(), service="iterate"),
        limits=LIMITS,
        daemon="iterate-blue",
    )
    return await sessions.run(TASK, caller or Caller(), None, time.monotonic() + 10, on_begun)


async def test_the_beginning_stands_before_the_ids_and_the_model_call_and_the_row_before_the_answer() -> None:
    log = RecordingLog()

    end = await run(log)

    assert log.events == ["brief", "begun", "ids", "model", "attempt", "row", "waited"]
    assert end.record is log.rows[0]
    assert end.record.final_verdict == "accepted"


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Fault(Reason.PROVIDER_AUTH, where="chatd"), "PROVIDER_AUTH"),
        (ZeroDivisionError("secret"), "BUG"),
        (asyncio.CancelledError(), "BUG"),
    ],
)
async def test_a_status_leaves_only_after_its_row_was_waited_for(step: BaseException, reason: str) -> None:
    log = RecordingLog()

    with pytest.raises(Fault) as caught:
        await run(log, step, Caller(cancellation=Reason.BUG))

    assert log.events == ["brief", "begun", "ids", "model", "attempt", "row", "waited"]
    error = log.rows[0].error
    assert error is not None
    assert error.reason == reason == caught.value.reason
    assert step in (caught.value, caught.value.__cause__), "the log gets its details"


async def test_a_cancellation_hands_the_row_over_and_waits_for_nothing() -> None:
    log = RecordingLog()
    session = asyncio.create_task(run(log, "hang"))
    async with asyncio.timeout(5):
        while "model" not in log.events:
            await asyncio.sleep(0)

    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session

    assert log.events == ["brief", "begun", "ids", "model", "attempt", "row"]
    error = log.rows[0].error
    assert error is not None
    assert error.reason == "CALLER_GONE"


@pytest.mark.parametrize("outcome", ["late", "dropped", "spilled"])
async def test_best_effort_answers_without_the_row_and_strict_does_not(outcome: str) -> None:
    assert (await run(RecordingLog(outcome))).record.final_verdict == "accepted"
    with pytest.raises(Fault) as caught:
        await run(RecordingLog(outcome, strict=True))

    assert caught.value.reason is Reason.SESSION_NOT_LOGGED
    assert caught.value.code == "ABORTED"
    assert caught.value.retry_delay_ms is None, "a repetition would be billed again"


async def test_strict_spends_no_model_call_on_a_log_that_takes_nothing() -> None:
    log = RecordingLog(strict=True, available=False)

    with pytest.raises(Fault) as caught:
        await run(log)

    assert caught.value.reason is Reason.SESSION_LOG_UNAVAILABLE
    assert log.events == ["brief"]


async def test_a_session_that_is_cancelled_before_its_beginning_stands_leaves_its_row_and_shows_no_ids() -> None:
    log = RecordingLog(begins=asyncio.Event())
    session = asyncio.create_task(run(log))
    async with asyncio.timeout(5):
        while not log.beginnings:
            await asyncio.sleep(0)

    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session

    assert log.events == ["brief", "row"]
    error = log.rows[0].error
    assert error is not None
    assert error.reason == "CALLER_GONE"


async def test_a_caller_who_is_gone_when_the_ids_are_sent_costs_no_model_call_and_leaves_a_row() -> None:
    log = RecordingLog()

    with pytest.raises(Fault) as caught:
        await run(log, ids=Fault(Reason.CALLER_GONE))

    assert caught.value.reason is Reason.CALLER_GONE
    assert log.events == ["brief", "begun", "ids", "row", "waited"]


async def test_a_session_that_failed_says_so_even_when_a_strict_log_is_late() -> None:
    with pytest.raises(Fault) as caught:
        await run(RecordingLog("late", strict=True), Fault(Reason.PROVIDER_AUTH, where="chatd"))

    assert caught.value.reason is Reason.PROVIDER_AUTH


async def test_the_row_is_the_beginning_with_the_end_in_place_of_the_death_that_did_not_come() -> None:
    log = RecordingLog()

    await run(log)

    (begun,), (row,) = log.beginnings, log.rows
    assert (begun.final_verdict, begun.error, begun.attempts, begun.duration_ms) == ("infra_error", PROCESS_DIED, (), 0)
    assert begun.daemon == "iterate-blue"
    ended = {"timestamp", "final_verdict", "error", "artifact", "grounded_in_roster", "attempts", "duration_ms"}
    assert replace(row, **{name: getattr(begun, name) for name in ended}) == begun


async def test_the_beginning_holds_the_brief_so_that_a_killed_sessions_row_has_it() -> None:
    log = RecordingLog()

    await run(log)

    brief = log.beginnings[0].brief
    assert brief is not None
    assert (brief.grounding, brief.candidates, brief.candidates_total) == ("candidates", 1, 1)
    assert log.rows[0].brief == brief


async def test_a_request_that_the_brief_refuses_is_no_session() -> None:
    log = RecordingLog()
    refusal = Fault(Reason.UNKNOWN_KIND, where="validated")

    with pytest.raises(Fault) as caught:
        await run(log, knows=refusal)

    assert caught.value is refusal
    assert log.events == ["brief"]
    assert (log.beginnings, log.rows) == ([], [])


@pytest.mark.parametrize("reason", [Reason.VALIDATED_UNREACHABLE, Reason.OVERLOADED, Reason.SHUTTING_DOWN, Reason.BUG])
async def test_a_session_that_ends_at_its_brief_gives_its_ids_and_leaves_its_row_and_no_model_call(
    reason: Reason,
) -> None:
    log = RecordingLog()

    with pytest.raises(Fault) as caught:
        await run(log, knows=Fault(reason, where="validated"))

    assert caught.value.reason is reason
    assert log.events == ["brief", "begun", "ids", "row", "waited"]
    (row,) = log.rows
    assert row.error is not None
    assert (row.error.reason, row.error.where) == (reason, "validated")
    assert (row.brief, row.attempts) == (None, ())


async def test_a_cancellation_during_the_brief_hands_the_row_over_and_waits_for_nothing() -> None:
    log = RecordingLog()
    session = asyncio.create_task(run(log, knows="hang"))
    async with asyncio.timeout(5):
        while log.events != ["brief"]:
            await asyncio.sleep(0)

    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session

    assert log.events == ["brief", "row"]
    error = log.rows[0].error
    assert error is not None
    assert error.reason == "CALLER_GONE"


async def test_where_no_answer_can_pass_there_is_one_row_and_no_model_call() -> None:
    log = RecordingLog()

    end = await run(log, knows=Knowledge(infeasible=True, candidates_total=0))

    assert log.events == ["brief", "begun", "ids", "row", "waited"]
    assert end.record.final_verdict == "max_iter_exhausted"
    assert end.record.is_infeasible
    assert end.record.brief is not None
    assert end.record.brief.infeasible
