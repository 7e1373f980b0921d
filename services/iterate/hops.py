"""The two hops of an attempt: chatd and validated over gRPC. Proto and metadata in, plain values out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import structlog

from iterate.attempt import AnswerEnd, Judgement, ModelAnswer
from iterate.brief import Brief
from iterate.config import HopTlsTable
from iterate.conversation import Turn
from iterate.knowledge import Knowledge
from iterate.task import ModelTarget, Task
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncChatClient, AsyncValidateClient
from lakehouse.errors import Fault, Reason, Violation
from lakehouse.server.tls import ChannelTls
from lakehouse.sessions.record import DatasetRecord
from lakehouse.settings import ConfigError
from lakehouse.trace_context import TraceContext, forward_metadata
from lakehouse.validated.v1 import validated_pb2


def hop_tls(tls: HopTlsTable | None) -> ChannelTls | None:
    """Return what the two channels are opened with; None for plain text. Raises ConfigError where a file cannot be
    used."""
    if tls is None:
        return None
    try:
        return ChannelTls(ca_file=tls.ca_file, certificate_file=tls.certificate_file, key_file=tls.key_file)
    except OSError as error:
        raise ConfigError([f"hop_tls: {error.filename}: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError([f"hop_tls: {error}"]) from None


_log = structlog.get_logger()

_ROLES = {
    "system": chatd_pb2.ROLE_SYSTEM,
    "user": chatd_pb2.ROLE_USER,
    "assistant": chatd_pb2.ROLE_ASSISTANT,
}
_ENDS: Mapping[int, AnswerEnd] = {
    chatd_pb2.FINISH_REASON_LENGTH: "cut_short",
    chatd_pb2.FINISH_REASON_CONTENT_FILTER: "filtered",
    chatd_pb2.FINISH_REASON_REFUSAL: "refused",
    chatd_pb2.FINISH_REASON_MALFORMED: "malformed",
}
# As far as Brief reads it.
_PROMPT_CHARS_MAX = 20_000
_TARGET_FIELD = re.compile(r"(?:target|fallbacks\[(\d{1,3})\])\.(provider|model)")
_JSON_OBJECT = chatd_pb2.ResponseFormat(type=chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT)


class ChatHop:
    """Asks chatd."""

    def __init__(self, client: AsyncChatClient) -> None:
        self._client = client

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
    ) -> ModelAnswer:
        """Return the answer of `target`, or of the first of `fallbacks` that gives one. Raises Fault."""
        request = chatd_pb2.CompleteRequest(
            messages=[
                chatd_pb2.Message(role=_ROLES[turn.role], content=turn.content, restricted_content=turn.restricted)
                for turn in turns
            ],
            target=_target(target),
            fallbacks=[_target(each) for each in fallbacks],
            temperature=task.temperature,
            max_tokens=task.max_tokens,
            response_format=_response_format(brief),
            attempt=iteration,
        )
        metadata = forward_metadata(trace, span_id, task.session_id, task.caller)
        try:
            response = await self._client.complete(request, timeout_s=timeout_s, metadata=metadata)
        except Fault as fault:
            _raise_where_not_listed(fault, Reason.CHATD_UNREACHABLE)
            passed_over = len(task.escalation) - len(fallbacks)
            fault.violations = tuple(_violation_of_session(each, passed_over) for each in fault.violations)
            raise
        return ModelAnswer(
            text=response.text,
            provider=response.provider,
            model=response.model,
            input_tokens=response.usage.input_tokens,
            output_tokens=response.usage.output_tokens,
            end=_ENDS.get(response.finish_reason, "whole"),
            reasoned=bool(response.reasoning),
            calls_tools=bool(response.tool_calls),
            cost_nano_usd=response.cost_nano_usd if response.HasField("cost_nano_usd") else None,
            from_reasoning=response.text_from_reasoning,
            saw_restricted=(
                response.sent.restricted_content or response.sent.schema == chatd_pb2.SentFormat.SCHEMA_RESTRICTED
            ),
        )


class GateHop:
    """Asks validated."""

    def __init__(self, client: AsyncValidateClient) -> None:
        self._client = client

    async def brief(
        self, task: Task, *, candidates_max: int, trace: TraceContext, span_id: str | None, timeout_s: float
    ) -> Knowledge:
        """Return what a model should know of `task`. Raises Fault."""
        request = validated_pb2.BriefRequest(
            kind=task.kind,
            prompt=task.prompt[:_PROMPT_CHARS_MAX],
            candidates_max=candidates_max,
            seed=task.session_id,
        )
        task.spec.copy_to(request)
        metadata = forward_metadata(trace, span_id, task.session_id, task.caller)
        try:
            response = await self._client.brief(request, timeout_s=timeout_s, metadata=metadata)
        except Fault as fault:
            _raise_where_not_listed(fault, Reason.VALIDATED_UNREACHABLE)
            raise
        return Knowledge(
            instructions=response.instructions,
            form_schema_json=response.form_schema_json,
            candidates_schema_json=response.candidates_schema_json,
            candidates_json=response.candidates_json,
            candidates_total=response.candidates_total,
            candidates_total_is_floor=response.candidates_total_is_floor,
            infeasible=response.infeasible,
            findings=tuple(response.findings),
            roster=response.roster.version if response.HasField("roster") else None,
        )

    async def validate(
        self, task: Task, artifact: str, *, trace: TraceContext, span_id: str | None, timeout_s: float
    ) -> Judgement:
        """Return the gate's judgement of `artifact`, canonical JSON text. Raises Fault."""
        request = validated_pb2.ValidateRequest(kind=task.kind, artifact_json=artifact)
        task.spec.copy_to(request)
        metadata = forward_metadata(trace, span_id, task.session_id, task.caller)
        try:
            response = await self._client.validate(request, timeout_s=timeout_s, metadata=metadata)
        except Fault as fault:
            _raise_where_not_listed(fault, Reason.VALIDATED_UNREACHABLE)
            raise
        return Judgement(
            # Both have to say so: a verdict that contradicts its findings must not let an artifact through.
            passed=response.passed and not response.findings,
            findings=tuple(response.findings),
            findings_left_out=response.findings_left_out,
            grounded_in_roster=response.grounded_in_roster if response.HasField("grounded_in_roster") else None,
            roster=response.roster.version if response.HasField("roster") else None,
            datasets=tuple(DatasetRecord(each.name, each.version) for each in response.datasets) or None,
        )


def _raise_where_not_listed(fault: Fault, unreachable: Reason) -> None:
    """Raise Fault where the hop knows iterate not, or does not serve it: that is the operator's to mend. The caller,
    whose credential may well be right, must not hear that it is wrong."""
    is_denied = fault.reason is Reason.CALLER_NOT_ALLOWED and fault.metadata.get("denied") == "rpc"
    if is_denied or fault.reason is Reason.CALLER_UNKNOWN:
        advice = (
            "name iterate's certificate in its callers' file, with may_name_callers and the rpcs that iterate calls"
        )
        _log.error("a service refuses iterate's calls", service=fault.where, reason=fault.reason, advice=advice)
        raise Fault(unreachable, where=fault.where) from None


def _target(target: ModelTarget) -> chatd_pb2.Target:
    return chatd_pb2.Target(provider=target.provider, model=target.model)


def _violation_of_session(violation: Violation, passed_over: int) -> Violation:
    """`violation` of a field of chatd's request as one of the field of a session's request that it came from, where it
    names a target. `passed_over`: how many targets of the escalation stand before the first fallback."""
    match = _TARGET_FIELD.fullmatch(violation.field)
    if match is None:
        return violation
    index = passed_over - 1 if match[1] is None else passed_over + int(match[1])
    return Violation(match[2] if index < 0 else f"escalation[{index}].{match[2]}", violation.description)


def _response_format(brief: Brief | None) -> chatd_pb2.ResponseFormat:
    if brief is None or not brief.knowledge.form_schema_json:
        return _JSON_OBJECT
    return chatd_pb2.ResponseFormat(
        type=chatd_pb2.ResponseFormat.TYPE_JSON_SCHEMA,
        schema_json=brief.knowledge.form_schema_json,
        restricted_schema_json=brief.knowledge.candidates_schema_json,
    )
