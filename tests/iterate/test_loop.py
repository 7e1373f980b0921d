"""Goal: however a session goes, the loop's outcome, attempts and record show it as it was.

Method: the real loop between a scripted chat and gate; no processes, no network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from iterate.attempt import Attempt, Judgement, ModelAnswer
from iterate.brief import Brief
from iterate.conversation import Turn
from iterate.knowledge import Knowledge
from iterate.limits import Limits
from iterate.loop import Loop, Progress
from iterate.spec import Spec
from iterate.task import ModelTarget, Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import SessionAttemptRecord
from lakehouse.trace_context import TraceContext
from lakehouse.tracing import Tracing, TracingConfig
from lakehouse.validated.v1.validated_pb2 import Finding, Suggestion

TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c")
BO = Suggestion(worker_id="W-2", name="Bo Yu", facts_json='{"name":"Bo Yu","worker_id":"W-2"}')
PHANTOM = Finding(
    code="PHANTOM_WORKER", path="/workers/0/worker_id", message="W-9 is not in the roster", suggestions=[BO]
)

Step = str | ModelAnswer | BaseException | Callable[[], Any]


@dataclass
class ScriptedChat:
    steps: list[Step]
    asked: list[tuple[list[Turn], ModelTarget, float]] = field(default_factory=list)
    fallbacks: list[Sequence[ModelTarget]] = field(default_factory=list)
    briefs: list[Brief | None] = field(default_factory=list)

    async def complete(
        self,
        task: Task,
        turns: Sequence[Turn],
        brief: Brief | None,
        *,
        iteration: int,
        target: ModelTarget,
        fallbacks: Sequence[ModelTarget],
        timeout_s: float,
        **_: Any,
    ) -> ModelAnswer:
        self.fallbacks.append(fallbacks)
        self.briefs.append(brief)
        self.asked.append((list(turns), target, timeout_s))
        step = self.steps[iteration - 1]
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, ModelAnswer):
            return step
        if not isinstance(step, str):
            step = await step()
        return ModelAnswer(text=step, provider="p", model="m", input_tokens=10, output_tokens=5)


@dataclass
class ScriptedGate:
    steps: list[Judgement | BaseException]
    judged: list[str] = field(default_factory=list)

    async def validate(self, task: Task, artifact: str, **_: Any) -> Judgement:
        self.judged.append(artifact)
        step = self.steps[len(self.judged) - 1]
        if isinstance(step, BaseException):
            raise step
        return step


def passed() -> Judgement:
    return Judgement(passed=True, findings=(), findings_left_out=0, grounded_in_roster=True, roster="sha256:1")


def rejected() -> Judgement:
    return Judgement(
        passed=False, findings=(PHANTOM,), findings_left_out=0, grounded_in_roster=False, roster="sha256:1"
    )


def fault_of(error: BaseException) -> Fault:
    if isinstance(error, Fault):
        return error
    return Fault(Reason.CALLER_GONE if isinstance(error, asyncio.CancelledError) else Reason.BUG)


class Session:
    """One loop and what came of it."""

    def __init__(
        self,
        chat: list[Step],
        gate: list[Judgement | BaseException],
        *,
        max_iterations: int = 3,
        escalation: tuple[ModelTarget, ...] = (),
        seconds: float = 60,
        tokens_max: int = 0,
        brief: Brief | None = None,
        asks_infeasible: bool = False,
        stops_repeats: bool = False,
    ) -> None:
        self.chat = ScriptedChat(chat)
        self.gate = ScriptedGate(gate)
        self.progress = Progress()
        self.journalled: list[SessionAttemptRecord] = []
        task = Task(
            session_id="s",
            kind="fill",
            spec=Spec(),
            prompt="p",
            target=ModelTarget("cheap", "small"),
            escalation=escalation,
            max_iterations=max_iterations,
        )
        tracing = Tracing(TracingConfig(), service="iterate")
        self.loop = Loop(
            task=task,
            brief=brief,
            chat=self.chat,
            gate=self.gate,
            limits=Limits(
                chat_ms_min=100,
                validate_ms_max=1000,
                session_tokens_max=tokens_max,
                artifact_bytes_max=1000,
                context_bytes_max=100_000,
                asks_infeasible=asks_infeasible,
                stops_repeats=stops_repeats,
            ),
            trace=TRACE,
            root=tracing.start_root("iterate.fill", context=TRACE, session_id="s", input="", kind="fill"),
            progress=self.progress,
            listener=None,
            deadline_s=time.monotonic() + seconds,
            fault_of=fault_of,
            on_attempt=self.journalled.append,
        )

    @property
    def verdicts(self) -> list[str]:
        return [attempt.record.verdict for attempt in self.progress.attempts]

    @property
    def last(self) -> Attempt:
        return self.progress.attempts[-1]


async def test_a_phantom_is_fed_back_and_the_corrected_answer_accepted() -> None:
    session = Session(['{"workers":[9]}', '{"workers":[1]}'], [rejected(), passed()])

    await session.loop.run()

    assert session.verdicts == ["rejected", "accepted"]
    assert session.progress.accepted
    assert session.progress.artifact == '{"workers":[1]}'
    assert session.progress.grounded_in_roster is True
    second_turns = session.chat.asked[1][0]
    assert [turn.role for turn in second_turns] == ["system", "user", "assistant", "user"]
    assert "W-9 is not in the roster" in second_turns[-1].content


async def test_attempts_that_run_out_are_an_outcome_not_a_fault() -> None:
    session = Session(["{}"] * 3, [rejected()] * 3)

    await session.loop.run()

    assert session.verdicts == ["rejected"] * 3
    assert not session.progress.accepted
    assert session.progress.artifact == "{}"
    assert session.progress.grounded_in_roster is False


async def test_an_answer_without_json_is_an_unparsable_attempt_with_feedback_of_its_own() -> None:
    session = Session(["no idea", "{}"], [passed()])

    await session.loop.run()

    assert session.verdicts == ["unparsable", "accepted"]
    assert session.progress.attempts[0].record.findings is None
    assert "no JSON object" in str(session.progress.attempts[0].record.parse_problem)
    assert "no JSON object" in session.chat.asked[1][0][-1].content
    assert session.gate.judged == ["{}"]


def ended(text: str, **how: Any) -> ModelAnswer:
    return ModelAnswer(text=text, provider="p", model="m", input_tokens=10, output_tokens=5, **how)


@pytest.mark.parametrize(
    ("answer", "words", "raw"),
    [
        (ended(""), "empty", ""),
        (ended("  \n"), "empty", "  \n"),
        (ended("", reasoned=True), "reasoning did not end", ""),
        (ended("", calls_tools=True), "called a tool", ""),
        (ended('{"workers": [', end="malformed"), "no valid output", '{"workers": ['),
        (ended("I will not", end="refused"), "refused", "I will not"),
        # Whatever stands in a refusal is no answer.
        (ended('{"a":1}', end="refused"), "refused", '{"a":1}'),
    ],
    ids=["empty", "white space", "thinking", "tool call", "malformed", "refused", "refused with JSON"],
)
async def test_an_answer_that_is_none_is_an_attempt_and_no_turn(answer: ModelAnswer, words: str, raw: str) -> None:
    session = Session([answer, "{}"], [passed()])

    await session.loop.run()

    assert session.verdicts == ["unparsable", "accepted"]
    first = session.progress.attempts[0]
    assert words in str(first.record.parse_problem)
    assert first.record.raw == raw
    assert first.record.findings is None
    turns = session.chat.asked[1][0]
    assert [turn.role for turn in turns] == ["system", "user"]
    assert "one JSON object" in turns[1].content.removeprefix(session.chat.asked[0][0][1].content)
    assert not raw.strip() or raw not in turns[1].content
    assert session.gate.judged == ["{}"]


async def test_validated_checks_the_canonical_text_that_the_caller_gets() -> None:
    session = Session(['```json\n{ "b": 1.0, "a": 12345678901234567890 }\n```'], [passed()])

    await session.loop.run()

    assert session.gate.judged == ['{"a":12345678901234567890,"b":1}']
    assert session.progress.artifact == session.gate.judged[0]


async def test_a_chat_fault_ends_the_session_with_the_attempt_on_record() -> None:
    fault = Fault(Reason.PROVIDER_RATE_LIMITED, where="chatd")
    session = Session(["{}", fault], [rejected()])

    with pytest.raises(Fault) as caught:
        await session.loop.run()

    assert caught.value is fault
    assert session.verdicts == ["rejected", "infra_error"]
    error = session.last.record.error
    assert error is not None
    assert (error.code, error.reason, error.where) == ("RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", "chatd")
    assert session.progress.artifact == "{}", "the last artifact that parsed stays"


async def test_a_gate_fault_keeps_the_answer_and_claims_no_grounding() -> None:
    session = Session(['{"a":1}'], [Fault(Reason.VALIDATED_UNREACHABLE, where="validated")])

    with pytest.raises(Fault):
        await session.loop.run()

    record = session.last.record
    assert (record.verdict, record.raw, record.findings) == ("infra_error", '{"a":1}', None)
    assert session.progress.artifact == '{"a":1}'
    assert session.progress.grounded_in_roster is None


async def test_a_bug_is_on_record_as_a_bug_without_its_text() -> None:
    session = Session([ValueError("secret detail")], [])

    with pytest.raises(ValueError, match="secret detail"):
        await session.loop.run()

    error = session.last.record.error
    assert error is not None
    assert (error.code, error.reason, error.where) == ("INTERNAL", "BUG", "iterate")
    assert "secret" not in error.message


async def test_a_cancelled_session_says_that_the_caller_is_gone() -> None:
    started = asyncio.Event()

    async def hang() -> str:
        started.set()
        await asyncio.Event().wait()
        return ""

    session = Session([hang], [])
    running = asyncio.create_task(session.loop.run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    error = session.last.record.error
    assert error is not None
    assert error.reason == "CALLER_GONE"


async def test_no_model_call_is_spent_when_time_is_too_short() -> None:
    session = Session(["{}"], [passed()], seconds=0.1)

    with pytest.raises(Fault) as caught:
        await session.loop.run()

    assert caught.value.reason is Reason.DEADLINE
    assert session.chat.asked == []


async def test_each_hop_gets_the_time_that_is_left() -> None:
    session = Session(["{}"], [passed()], seconds=5)

    await session.loop.run()

    timeout_s = session.chat.asked[0][2]
    assert 4 < timeout_s <= 5


async def test_a_spent_token_budget_stops_before_the_next_call_and_never_after_an_acceptance() -> None:
    stopped = Session(["{}"] * 3, [rejected()] * 3, tokens_max=30)
    await stopped.loop.run()
    accepted = Session(["{}"], [passed()], tokens_max=1)
    await accepted.loop.run()

    assert stopped.verdicts == ["rejected", "rejected"]
    assert stopped.progress.token_budget_spent
    assert accepted.progress.accepted
    assert not accepted.progress.token_budget_spent


async def test_escalation_goes_by_attempt_and_its_last_target_answers_the_rest() -> None:
    strong, stronger = ModelTarget("dear", "big"), ModelTarget("dear", "biggest")
    session = Session(["{}"] * 4, [rejected()] * 4, max_iterations=4, escalation=(strong, stronger))

    await session.loop.run()

    assert [asked[1] for asked in session.chat.asked] == [ModelTarget("cheap", "small"), strong, stronger, stronger]


async def test_those_whose_turn_comes_later_are_fallbacks() -> None:
    strong, stronger = ModelTarget("dear", "big"), ModelTarget("dear", "biggest")
    session = Session(["{}"] * 4, [rejected()] * 4, max_iterations=4, escalation=(strong, stronger))

    await session.loop.run()

    assert session.chat.fallbacks == [(strong, stronger), (stronger,), (), ()]


async def test_every_attempt_is_journalled_once_and_in_order() -> None:
    session = Session(["x", "{}", Fault(Reason.PROVIDER_FAILED, where="chatd")], [rejected()])

    with pytest.raises(Fault):
        await session.loop.run()

    assert [(record.iteration, record.verdict) for record in session.journalled] == [
        (1, "unparsable"),
        (2, "rejected"),
        (3, "infra_error"),
    ]
    assert tuple(session.journalled) == tuple(attempt.record for attempt in session.progress.attempts)


FACTS = '[{"name":"Ann Li","worker_id":"W-1"},{"name":"Bo Yu","worker_id":"W-2"}]'


def grounded(*, infeasible: bool = False) -> Brief:
    return Brief(
        grounding="candidates",
        knowledge=Knowledge(
            candidates_json=FACTS, infeasible=infeasible, findings=(PHANTOM,) if infeasible else (), candidates_total=2
        ),
        candidates=({"worker_id": "W-1", "name": "Ann Li"}, {"worker_id": "W-2", "name": "Bo Yu"}),
        brief_ms=1,
    )


async def test_where_no_answer_can_pass_no_model_is_asked_unless_the_deployment_wants_it() -> None:
    stopped = Session([], [], brief=grounded(infeasible=True))
    asked = Session(["{}"], [passed()], brief=grounded(infeasible=True), asks_infeasible=True)

    await stopped.loop.run()
    await asked.loop.run()

    assert (stopped.chat.asked, stopped.verdicts, stopped.progress.accepted) == ([], [], False)
    assert asked.verdicts == ["accepted"]


async def test_every_attempt_of_a_session_gets_the_same_brief() -> None:
    brief = grounded()
    session = Session(["{}", "{}"], [rejected(), passed()], brief=brief)

    await session.loop.run()

    assert session.chat.briefs == [brief, brief]


async def test_a_rejected_worker_is_met_with_candidates_that_were_not_used_each_once() -> None:
    used = '{"workers":[{"name":"Ann Li","worker_id":"W-1"},{"name":"No Body","worker_id":"W-9"}]}'
    session = Session([used] * 3, [rejected()] * 3, brief=grounded())

    await session.loop.run()

    second, third = session.chat.asked[1][0][-1], session.chat.asked[2][0][-1]
    assert '[{"name":"Bo Yu","worker_id":"W-2"}]' in second.restricted
    assert "W-1" not in second.restricted
    assert "Bo Yu" not in second.content
    assert "W-2" not in third.restricted, "no candidate is offered twice"


def answered(text: str, model: str = "m") -> ModelAnswer:
    return ModelAnswer(text=text, provider="p", model=model, input_tokens=1, output_tokens=1)


async def test_an_answer_that_came_again_ends_the_session_where_nobody_else_may_answer() -> None:
    stopped = Session(['{"a":1}', '{"a": 1}', "{}"], [rejected()] * 3, stops_repeats=True)
    watched_by_nobody = Session(['{"a":1}'] * 3, [rejected()] * 3)

    await stopped.loop.run()
    await watched_by_nobody.loop.run()

    assert stopped.verdicts == ["rejected", "rejected"], "the same canonical text"
    assert stopped.progress.no_progress
    assert watched_by_nobody.verdicts == ["rejected"] * 3
    assert not watched_by_nobody.progress.no_progress


async def test_attempts_that_run_out_with_an_answer_that_came_again_just_ran_out() -> None:
    session = Session(['{"a":1}'] * 2, [rejected()] * 2, max_iterations=2, stops_repeats=True)

    await session.loop.run()

    assert session.verdicts == ["rejected"] * 2
    assert not session.progress.no_progress


@pytest.mark.parametrize(
    ("answers", "judgements"),
    [
        ([answered('{"a":1}'), answered('{"a":1}', "another"), answered('{"a":2}')], [rejected()] * 3),
        (
            [answered('{"a":1}')] * 3,
            [
                rejected(),
                Judgement(
                    passed=False,
                    findings=(Finding(code="PHANTOM_WORKER", path="/workers/1/worker_id", message="m"),),
                    findings_left_out=0,
                    grounded_in_roster=False,
                    roster=None,
                ),
                passed(),
            ],
        ),
        ([answered("no idea"), answered("no idea"), answered("no idea")], []),
    ],
    ids=["another model", "another finding", "nothing to read"],
)
async def test_what_differs_in_model_artifact_or_finding_is_progress(
    answers: list[Step], judgements: list[Judgement | BaseException]
) -> None:
    session = Session(answers, judgements, stops_repeats=True)

    await session.loop.run()

    assert len(session.verdicts) == 3
    assert not session.progress.no_progress


async def test_an_answer_that_came_again_passes_over_the_rest_of_its_targets_attempts() -> None:
    cheap, strong = ModelTarget("cheap", "small"), ModelTarget("dear", "big")
    session = Session(
        ['{"a":1}', '{"a":1}', answered('{"a":1}', "big"), answered('{"a":1}', "big"), "{}"],
        [rejected()] * 5,
        max_iterations=5,
        escalation=(cheap, cheap, strong),
        stops_repeats=True,
    )

    await session.loop.run()

    assert [asked[1] for asked in session.chat.asked] == [cheap, cheap, strong, strong]
    assert session.chat.fallbacks[2] == (), "nobody's turn would come after it"
    assert [attempt.record.iteration for attempt in session.progress.attempts] == [1, 2, 3, 4]
    assert session.progress.no_progress
