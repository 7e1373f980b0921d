"""The loop: ask, read, validate, feed back; at most `max_iterations` times and never past the deadline.

It knows no gRPC and writes no log: what crosses a hop comes in as two objects, and what happened goes into `Progress`,
which its caller (``session``) holds. However the loop ends, by an outcome, a Fault, a cancellation or a bug, every
attempt that was begun stands in `Progress.attempts`, the last one with the error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from iterate.attempt import Attempt, Draft, Judgement, ModelAnswer, error_record
from iterate.brief import Brief
from iterate.conversation import Conversation, Turn
from iterate.feedback import Feedback, refused_feedback, unparsable_feedback
from iterate.limits import Limits
from iterate.span_texts import attempt_input, attempt_output
from iterate.task import ModelTarget, Task
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.record import ErrorRecord, SessionAttemptRecord
from lakehouse.strict_json.answer import Unparsable, read_artifact
from lakehouse.trace_context import TraceContext
from lakehouse.tracing import Span


class Chat(Protocol):
    async def complete(
        self,
        task: Task,
        turns: Sequence[Turn],
        brief: Brief | None,
        *,
        iteration: int,
        target: ModelTarget,
        fallbacks: Sequence[ModelTarget],
        trace: TraceContext,
        span_id: str | None,
        timeout_s: float,
    ) -> ModelAnswer: ...


class Gate(Protocol):
    async def validate(
        self, task: Task, artifact: str, *, trace: TraceContext, span_id: str | None, timeout_s: float
    ) -> Judgement: ...


class Budget(Protocol):
    """What the session's caller may use."""

    def charge(self, tokens: int, nano_usd: int | None) -> None: ...
    def is_spent(self) -> bool: ...
    def end(self) -> None: ...


class SessionListener(Protocol):
    """Hears each thing as it happens. May raise Fault where the caller is gone."""

    async def briefed(self, brief: Brief) -> None: ...
    async def attempt_started(self, iteration: int, target: ModelTarget) -> None: ...
    async def model_answered(self, iteration: int, answer: ModelAnswer, chat_ms: int) -> None: ...
    async def attempt_finished(self, attempt: Attempt) -> None: ...


@dataclass(slots=True)
class Progress:
    """What has happened so far."""

    attempts: list[Attempt] = field(default_factory=list)
    artifact: str | None = None
    """The last artifact that could be read, canonical text."""
    grounded_in_roster: bool | None = None
    """Of `artifact`, as validated said."""
    accepted: bool = False
    token_budget_spent: bool = False
    no_progress: bool = False

    @property
    def tokens(self) -> int:
        return sum(each.record.input_tokens + each.record.output_tokens for each in self.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One session's loop and all that it needs."""

    task: Task
    brief: Brief | None
    """What the models get to know before the first attempt; None: nothing."""
    chat: Chat
    gate: Gate
    limits: Limits
    trace: TraceContext
    root: Span
    progress: Progress
    listener: SessionListener | None
    deadline_s: float
    """When the loop stops (time.monotonic); its own status, which names the hop, has the time to arrive after that."""
    fault_of: Callable[[BaseException], Fault]
    """The fault that an exception out of an attempt stands for."""
    on_attempt: Callable[[SessionAttemptRecord], None]
    """Called with each finished attempt, before the listener."""
    budget: Budget | None = None

    async def run(self) -> None:
        """Run until an artifact passes, the attempts are spent, or none is worth making. Raises Fault, or whatever a
        bug raises."""
        task, progress, brief = self.task, self.progress, self.brief
        if brief is not None:
            if self.listener is not None:
                await self.listener.briefed(brief)
            if brief.infeasible and not self.limits.asks_infeasible:
                return
        conversation = Conversation(
            prompt=task.prompt, spec=task.spec.text, brief=brief, context_bytes_max=self.limits.context_bytes_max
        )
        feedback, repeats = Feedback(brief), Repeats()
        turn = 0
        for iteration in range(1, task.max_iterations + 1):
            if self._is_budget_spent(iteration):
                progress.token_budget_spent = True
                return
            turn += 1
            attempt = await self._attempt(iteration, turn, conversation, feedback)
            if progress.accepted:
                return
            if self.limits.stops_repeats and repeats.has_come_again(attempt) and iteration < task.max_iterations:
                another = task.turn_of_another(turn)
                if another is None:
                    progress.no_progress = True
                    return
                turn = another - 1

    def _is_budget_spent(self, iteration: int) -> bool:
        tokens_max = self.limits.session_tokens_max
        if tokens_max and self.progress.tokens >= tokens_max:
            return True
        # The first attempt is what was reserved.
        return self.budget is not None and iteration > 1 and self.budget.is_spent()

    async def _attempt(self, iteration: int, turn: int, conversation: Conversation, feedback: Feedback) -> Attempt:
        target = self.task.target_of(turn)
        draft = Draft(iteration, target)
        span = self.root.start_child(
            f"attempt-{iteration}",
            input=attempt_input(iteration, target, conversation.last) if self.root.recording else "",
        )
        draft.span_id = span.span_id
        error: ErrorRecord | None = None
        try:
            next_turn = await self._ask_and_judge(draft, turn, conversation, feedback)
        except BaseException as raised:
            draft.verdict = "infra_error"
            error = error_record(self.fault_of(raised))
            raise
        finally:
            attempt = draft.finish(error)
            self.progress.attempts.append(attempt)
            self.on_attempt(attempt.record)
            if self.budget is not None:
                record = attempt.record
                self.budget.charge(record.input_tokens + record.output_tokens, record.cost_nano_usd)
            _end_span(span, attempt)
        if self.listener is not None:
            await self.listener.attempt_finished(attempt)
        if next_turn is not None:
            # A refusal and broken output are no turns to go on from: shown to the model they invite more of the same.
            conversation.add("" if draft.withheld else draft.raw, next_turn, restricted=draft.saw_restricted)
        return attempt

    async def _ask_and_judge(
        self, draft: Draft, turn: int, conversation: Conversation, feedback: Feedback
    ) -> Turn | None:
        """One attempt; the feedback for the next one, None where the artifact passed."""
        if self._left_s() * 1000 < self.limits.chat_ms_min:
            raise Fault(Reason.DEADLINE, where="iterate")
        if self.listener is not None:
            await self.listener.attempt_started(draft.iteration, draft.target)
        answer = await self._ask(draft, turn, conversation)
        if self.listener is not None:
            await self.listener.model_answered(draft.iteration, answer, draft.chat_ms)
        try:
            artifact = self._read(answer)
        except Unparsable as unparsable:
            draft.verdict = "unparsable"
            draft.parse_problem = unparsable.problem
            draft.withheld = answer.end in {"refused", "malformed"}
            said = refused_feedback() if answer.end == "refused" else unparsable_feedback(unparsable.problem)
            return Turn("user", said)
        progress = self.progress
        progress.artifact, progress.grounded_in_roster = artifact, None
        judgement = await self._judge(draft, artifact)
        progress.grounded_in_roster = judgement.grounded_in_roster
        if judgement.passed:
            draft.verdict = "accepted"
            progress.accepted = True
            return None
        draft.verdict = "rejected"
        draft.artifact = artifact
        return feedback.rejected(artifact, judgement.findings, judgement.findings_left_out)

    def _read(self, answer: ModelAnswer) -> str:
        """Return the artifact in `answer`. Raises Unparsable."""
        if answer.problem:
            raise Unparsable(answer.problem)
        try:
            return read_artifact(answer.text, bytes_max=self.limits.artifact_bytes_max)
        except Unparsable as unparsable:
            raise Unparsable(answer.read_problem(unparsable.problem)) from None

    async def _ask(self, draft: Draft, turn: int, conversation: Conversation) -> ModelAnswer:
        timeout_s = self._left_s()
        started = time.monotonic()
        try:
            answer = await self.chat.complete(
                self.task,
                conversation.turns(),
                self.brief,
                iteration=draft.iteration,
                target=draft.target,
                fallbacks=self.task.fallbacks_of(turn),
                trace=self.trace,
                span_id=draft.span_id,
                timeout_s=timeout_s,
            )
        finally:
            draft.chat_ms = _since_ms(started)
        draft.raw = answer.text
        draft.provider, draft.model = answer.provider, answer.model
        draft.input_tokens, draft.output_tokens = answer.input_tokens, answer.output_tokens
        draft.cost_nano_usd, draft.from_reasoning = answer.cost_nano_usd, answer.from_reasoning
        draft.saw_restricted = answer.saw_restricted
        return answer

    async def _judge(self, draft: Draft, artifact: str) -> Judgement:
        timeout_s = self._left_s()
        if timeout_s <= 0:
            raise Fault(Reason.DEADLINE, where="validated")
        started = time.monotonic()
        try:
            judgement = await self.gate.validate(
                self.task,
                artifact,
                trace=self.trace,
                span_id=draft.span_id,
                timeout_s=min(timeout_s, self.limits.validate_ms_max / 1000),
            )
        finally:
            draft.validate_ms = _since_ms(started)
        draft.findings = judgement.findings
        draft.judged = True
        draft.roster = judgement.roster
        draft.datasets = judgement.datasets
        return judgement

    def _left_s(self) -> float:
        return self.deadline_s - time.monotonic()


class Repeats:
    """Which rejected answers have been given."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str, str, tuple[tuple[str, str], ...]]] = set()

    def has_come_again(self, attempt: Attempt) -> bool:
        """Whether the same model gave the same artifact before and the gate found the same in it."""
        record = attempt.record
        if attempt.artifact is None:
            return False
        pairs = tuple((finding.code, finding.path) for finding in attempt.findings)
        answer = (record.provider, record.model, attempt.artifact, pairs)
        if answer in self._seen:
            return True
        self._seen.add(answer)
        return False


def _end_span(span: Span, attempt: Attempt) -> None:
    if not span.recording:
        return
    record = attempt.record
    facts: dict[str, int | bool] = {}
    if record.cost_nano_usd is not None:
        facts["cost_nano_usd"] = record.cost_nano_usd
    if attempt.from_reasoning:
        facts["text_from_reasoning"] = True
    accepted = record.verdict == "accepted"
    message = record.verdict if record.error is None else record.error.message
    span.end(
        output=attempt_output(record),
        level="" if accepted else "WARNING",
        status_message="" if accepted else message,
        metadata=facts or None,
    )


def _since_ms(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
