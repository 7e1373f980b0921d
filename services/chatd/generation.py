"""The Langfuse generation `chat` of one RPC: input, output, parameters, usage, cost, time to first token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from chatd.completion import Completion, CompletionRequest, Message
from chatd.endpoint import Tally
from chatd.routes import Answer
from lakehouse.errors import Fault
from lakehouse.trace_context import TraceContext
from lakehouse.tracing import NOOP_SPAN, Span, Tracing


def start_generation(
    tracing: Tracing, context: TraceContext, session_id: str | None, request: CompletionRequest, model: str
) -> Span:
    """Start the span. Nothing is serialised where tracing is off.

    The input of a request that holds what not every target may see is known at the end alone.
    """
    if not tracing.enabled:
        return NOOP_SPAN
    return tracing.start_remote(
        "chat",
        type="generation",
        context=context,
        session_id=session_id,
        input="" if request.restricted else _turns(request),
        model=model,
        model_parameters=_text(_parameters(request)),
    )


def end_generation(span: Span, answer: Answer, tally: Tally) -> None:
    """End the span with its answer."""
    if not span.recording:
        return
    completion = answer.completion
    usage = completion.usage
    # Langfuse counts cached tokens apart from `input`, reasoning apart from `output`.
    details = {
        "input": max(usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens, 0),
        "output": max(usage.output_tokens - usage.reasoning_tokens, 0),
        "total": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_input_tokens:
        details["input_cached_tokens"] = usage.cached_input_tokens
    if usage.cache_write_tokens:
        details["input_cache_creation"] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        details["output_reasoning_tokens"] = usage.reasoning_tokens
    cost = answer.cost
    span.end(
        output=_output(completion),
        model=completion.model,
        usage_details=details if usage.input_tokens or usage.output_tokens else None,
        cost_details=None
        if cost is None
        else {"input": float(cost.input_usd), "output": float(cost.output_usd), "total": float(cost.total_usd)},
        completion_start_monotonic_ns=int(completion.first_token * 1e9),
        metadata=_answer_facts(answer, tally),
        input=_turns(answer.sent) if answer.sent.sent_format is not None else None,
    )


def fail_generation(span: Span, fault: Fault, tally: Tally) -> None:
    """End the span of a call that gave no answer, with the reason's fixed sentence."""
    if span.recording:
        span.end(
            level="ERROR",
            status_message=f"{fault.reason}: {fault.message}",
            metadata=_facts(tally, tally.sent, provider=tally.provider),
            input=None if tally.sent is None or tally.sent.sent_format is None else _turns(tally.sent),
        )


def _answer_facts(answer: Answer, tally: Tally) -> Mapping[str, str | int | bool]:
    completion = answer.completion
    facts = _facts(tally, answer.sent, provider=answer.provider, finish_reason=str(completion.finish_reason))
    if answer.cost is not None:
        facts["cost_nano_usd"] = answer.cost.nano_usd
    if completion.text_from_reasoning:
        facts["text_from_reasoning"] = True
    return facts


def _facts(tally: Tally, request: CompletionRequest | None, **known: str) -> dict[str, str | int | bool]:
    facts: dict[str, str | int | bool] = {
        **known,
        "upstream_requests": tally.upstream_requests,
        "fallbacks": tally.fallbacks,
    }
    if tally.adapted:
        facts["adapted"] = ", ".join(tally.adapted)
    sent = None if request is None else request.sent_format
    if sent is not None:
        facts["sent_form"] = sent.form
        facts["sent_restricted_content"] = sent.restricted_content
        if sent.schema:
            facts["sent_schema"] = sent.schema
        if sent.dialect:
            facts["sent_dialect"] = sent.dialect
        if sent.degraded:
            facts["degraded"] = sent.degraded
    return facts


def _turns(request: CompletionRequest) -> str:
    return _text([_turn(message) for message in request.messages])


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments": call.arguments_json} for call in message.tool_calls
        ]
    return turn


def _parameters(request: CompletionRequest) -> dict[str, Any]:
    given: dict[str, Any] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "response_format": request.response_format and request.response_format.form,
        "tools": [tool.name for tool in request.tools] or None,
        "tool_choice": request.tool_choice or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _output(completion: Completion) -> str:
    if not completion.tool_calls and not completion.reasoning:
        return completion.text
    output: dict[str, Any] = {"role": "assistant", "content": completion.text}
    if completion.reasoning:
        output["reasoning"] = completion.reasoning
    if completion.tool_calls:
        output["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments": call.arguments_json} for call in completion.tool_calls
        ]
    return _text(output)


def _text(value: object) -> str:
    return orjson.dumps(value).decode()
