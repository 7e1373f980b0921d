"""Proto to domain and back: argument checks, initial metadata, deadline, responses. Both RPCs run one coroutine."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from iterate.attempt import Attempt, ModelAnswer
from iterate.brief import Brief
from iterate.config import IterateConfig
from iterate.permission import permitted
from iterate.response import attempt_of, brief_of, response_of
from iterate.session import Sessions
from iterate.spec import read_spec
from iterate.task import Grounding, ModelTarget, Task, new_session_id
from lakehouse.errors import Fault, Reason, Violation, bad_request
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.server.call import Call, current_call
from lakehouse.server.callers.policy import Caller
from lakehouse.sessions.record import ErrorRecord, SessionRecord
from lakehouse.sessions.row import cut_raw
from lakehouse.trace_context import SESSION_ID_HEADER, TRACE_ID_HEADER, is_valid_session_id

if TYPE_CHECKING:
    from lakehouse.server.callers.access import Callers
    from lakehouse.server.callers.budgets import Reservation

# GROUNDING_UNSPECIFIED is the deployment's default.
_GROUNDINGS: Mapping[int, Grounding] = {
    iterate_pb2.GROUNDING_NONE: "none",
    iterate_pb2.GROUNDING_FORM: "form",
    iterate_pb2.GROUNDING_CANDIDATES: "candidates",
}
_SESSION_ID_RULE = "must be 1 to 128 of the characters A-Z a-z 0-9 . _ -"
_NAME_CHARS_MAX = 200
# As many as chatd takes as `fallbacks`.
_ESCALATION_MAX = 8


class IterateServicer(iterate_pb2_grpc.IterateServiceServicer):
    """``lakehouse.iterate.v1.IterateService``."""

    def __init__(self, *, sessions: Sessions, config: IterateConfig, callers: Callers | None = None) -> None:
        self._sessions = sessions
        self._config = config
        self._callers = callers

    async def Iterate(  # noqa: N802  gRPC's name
        self, request: iterate_pb2.IterateRequest, context: Any
    ) -> iterate_pb2.IterateResponse:
        return await self._run(request, context, stream=False)

    async def StreamIterate(  # type: ignore[override]  # noqa: N802  aio takes a coroutine that writes, the stub's types do not
        self, request: iterate_pb2.StreamIterateRequest, context: Any
    ) -> None:
        response = await self._run(request.request, context, stream=True)
        await _write(context, iterate_pb2.StreamIterateResponse(response=response), current_call())

    async def GetSession(  # noqa: N802  gRPC's name
        self, request: iterate_pb2.GetSessionRequest, context: Any
    ) -> iterate_pb2.GetSessionResponse:
        call = current_call()
        if not is_valid_session_id(request.session_id):
            raise bad_request(Violation("session_id", _SESSION_ID_RULE))
        call.session_id = request.session_id
        caller = call.caller.name if call.caller is not None else None
        record = await self._sessions.find(request.session_id, caller, self._deadline_s(call))
        call.facts["final_verdict"] = record.final_verdict
        # The session's own trace, on a status as well.
        call.trace = call.trace._replace(trace_id=record.trace_id)
        if record.error is not None:
            raise _recorded_fault(record.error)
        await _sent(context.send_initial_metadata(_ids_of(record)), call)
        return iterate_pb2.GetSessionResponse(response=response_of(record, recalled=True))

    async def _run(
        self, request: iterate_pb2.IterateRequest, context: Any, *, stream: bool
    ) -> iterate_pb2.IterateResponse:
        call = current_call()
        task = self._task(request, call.caller)
        call.session_id = request.session_id
        call.facts["kind"] = task.kind[:64]
        deadline_s = self._deadline_s(call)

        async def on_begun(record: SessionRecord) -> None:
            # Not before: nobody holds the id of a session that leaves no row.
            call.session_id = record.session_id
            call.session_begun = True
            await _sent(context.send_initial_metadata(_ids_of(record)), call)

        listener = _Events(context, call, task, deadline_s) if stream else None
        end = await self._sessions.run(task, call, listener, deadline_s, on_begun, self._reserve(call))
        record = end.record
        call.facts.update(final_verdict=record.final_verdict, iterations=record.iterations)
        if end.recalled:
            call.facts["recalled"] = True
        if record.brief is not None:
            call.facts.update(grounding=record.brief.grounding, brief_ms=record.brief.brief_ms)
            if record.brief.degraded:
                call.facts["degraded"] = True
        return response_of(record, recalled=end.recalled)

    def _deadline_s(self, call: Call) -> float:
        left_s = call.seconds_left()
        return time.monotonic() + (self._config.session_ms_max / 1000 if left_s is None else left_s)

    def _reserve(self, call: Call) -> Callable[[], Reservation] | None:
        caller, callers = call.caller, self._callers
        return None if caller is None or callers is None else lambda: callers.reserve(caller)

    def _task(self, request: iterate_pb2.IterateRequest, caller: Caller | None) -> Task:
        """Return the task, once every argument was checked. Raises Fault with all violations found."""
        config = self._config
        violations = list(_violations(request, config))
        try:
            spec = read_spec(request)
        except Fault as fault:
            violations += fault.violations
        if violations:
            raise bad_request(*violations)
        grounding_asked = _GROUNDINGS.get(request.grounding)
        max_iterations_asked = request.max_iterations if request.HasField("max_iterations") else None
        task = Task(
            session_id=request.session_id or new_session_id(),
            request_digest=_digest(request) if request.session_id else None,
            kind=request.kind,
            spec=spec,
            prompt=request.prompt,
            grounding=config.grounding_of(grounding_asked),
            target=ModelTarget(request.provider, request.model),
            escalation=tuple(ModelTarget(each.provider, each.model) for each in request.escalation),
            max_iterations=config.max_iterations_default if max_iterations_asked is None else max_iterations_asked,
            temperature=request.temperature if request.HasField("temperature") else None,
            max_tokens=request.max_tokens if request.HasField("max_tokens") else None,
        )
        if caller is None:
            return task
        return permitted(task, caller, grounding_asked=grounding_asked, max_iterations_asked=max_iterations_asked)


def _digest(request: iterate_pb2.IterateRequest) -> str:
    """Return what two requests have in common that ask for the same: all but the id, as sent."""
    asked = iterate_pb2.IterateRequest()
    asked.CopyFrom(request)
    asked.session_id = ""
    asked.DiscardUnknownFields()
    return f"sha256:{hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()[:32]}"


def _ids_of(record: SessionRecord) -> tuple[tuple[str, str], ...]:
    return ((TRACE_ID_HEADER, record.trace_id), (SESSION_ID_HEADER, record.session_id))


def _recorded_fault(error: ErrorRecord) -> Fault:
    """Return the status with which a session ended, as its row has it."""
    if error.reason in Reason.__members__:
        return Fault(Reason(error.reason), where=error.where)
    return Fault(Reason.BUG, where=error.where)


def _violations(request: iterate_pb2.IterateRequest, config: IterateConfig) -> list[Violation]:
    found = []

    def refuse(field: str, description: str) -> None:
        found.append(Violation(field, description))

    if not request.prompt.strip():
        refuse("prompt", "is empty: say in words what is wanted")
    elif (size := len(request.prompt.encode())) > config.prompt_bytes_max:
        refuse("prompt", f"has {size} bytes; at most {config.prompt_bytes_max} are taken")
    if request.HasField("max_iterations") and not 1 <= request.max_iterations <= config.max_iterations_cap:
        refuse("max_iterations", f"is {request.max_iterations}; it must be 1 to {config.max_iterations_cap}")
    if request.session_id and not is_valid_session_id(request.session_id):
        refuse("session_id", _SESSION_ID_RULE)
    if request.HasField("temperature") and not 0 <= request.temperature <= 2:
        refuse("temperature", "must be 0 to 2")
    if request.HasField("max_tokens") and not 1 <= request.max_tokens <= 1_000_000:
        refuse("max_tokens", f"is {request.max_tokens}; it must be 1 to 1000000")
    if len(request.escalation) > _ESCALATION_MAX:
        refuse("escalation", f"has {len(request.escalation)} targets; at most {_ESCALATION_MAX} are taken")
    if request.grounding and request.grounding not in _GROUNDINGS:
        refuse("grounding", f"is {request.grounding}; it must be a value of Grounding")
    for field in ("kind", "provider", "model"):
        if len(getattr(request, field)) > _NAME_CHARS_MAX:
            refuse(field, f"is longer than {_NAME_CHARS_MAX} characters")
    return found


class _Events:
    """The listener that sends a stream's caller an event for each thing as it happens."""

    def __init__(self, context: Any, call: Call, task: Task, deadline_s: float) -> None:
        self._context = context
        self._call = call
        self._task = task
        self._deadline_s = deadline_s

    async def briefed(self, brief: Brief) -> None:
        facts = brief.knowledge.candidates_json if brief.candidates else ""
        await self._send(iterate_pb2.StreamIterateResponse(brief=brief_of(brief.record), candidates_json=facts))

    async def attempt_started(self, iteration: int, target: ModelTarget) -> None:
        await self._send(
            iterate_pb2.StreamIterateResponse(
                attempt_started=iterate_pb2.AttemptStarted(
                    iteration=iteration,
                    max_iterations=self._task.max_iterations,
                    provider=target.provider,
                    model=target.model,
                )
            )
        )

    async def model_answered(self, iteration: int, answer: ModelAnswer, chat_ms: int) -> None:
        await self._send(
            iterate_pb2.StreamIterateResponse(
                model_answered=iterate_pb2.ModelAnswered(
                    iteration=iteration,
                    provider=answer.provider,
                    model=answer.model,
                    raw=cut_raw(answer.text)[0],
                    chat_ms=chat_ms,
                )
            )
        )

    async def attempt_finished(self, attempt: Attempt) -> None:
        await self._send(iterate_pb2.StreamIterateResponse(attempt_finished=attempt_of(attempt.record)))

    async def _send(self, event: iterate_pb2.StreamIterateResponse) -> None:
        # A caller that stops reading must not hold the session past its end.
        try:
            async with asyncio.timeout_at(self._deadline_s):
                await _write(self._context, event, self._call)
        except TimeoutError:
            raise Fault(Reason.DEADLINE, where="iterate") from None


async def _write(context: Any, event: iterate_pb2.StreamIterateResponse, call: Call) -> None:
    await _sent(context.write(event), call)


async def _sent(sending: Awaitable[None], call: Call) -> None:
    """Raise Fault where the caller is gone."""
    try:
        await sending
    except Exception as error:
        raise call.fault_of(error) from error
