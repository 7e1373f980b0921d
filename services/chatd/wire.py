"""proto ↔ domain: checks every argument of a request with all problems at once, and builds responses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from chatd.completion import (
    CompletionRequest,
    FinishReason,
    Message,
    ResponseFormat,
    Role,
    ToolCall,
    ToolDefinition,
)
from chatd.endpoint import Tally
from chatd.routes import Answer, Target
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault, Reason, Violation
from lakehouse.sessions.canonical_json import JsonBreach, canonicalize

MESSAGES_MAX: Final = 1000
CONTENT_BYTES_MAX: Final = 4 * 1024 * 1024
FALLBACKS_MAX: Final = 8
STOP_MAX: Final = 16
STOP_BYTES_MAX: Final = 256
TOOLS_MAX: Final = 128
MAX_TOKENS_MAX: Final = 1_000_000
_VIOLATIONS_MAX: Final = 32
_MODEL_CHARS_MAX: Final = 256

_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROLES: Final[dict[int, Role]] = {
    chatd_pb2.ROLE_SYSTEM: "system",
    chatd_pb2.ROLE_USER: "user",
    chatd_pb2.ROLE_ASSISTANT: "assistant",
    chatd_pb2.ROLE_TOOL: "tool",
}
_FINISH_REASONS: Final = {
    FinishReason.UNSPECIFIED: chatd_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: chatd_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chatd_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: chatd_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: chatd_pb2.FINISH_REASON_CONTENT_FILTER,
}


def read_request(request: chatd_pb2.CompleteRequest) -> CompletionRequest:
    """The domain's request. Raises Fault (BAD_REQUEST) with a violation for each field that cannot be used."""
    found: list[Violation] = []
    messages = _messages(request, found)
    tools = _tools(request, found)
    _check_sampling(request, found)
    stop = tuple(request.stop)
    if len(stop) > STOP_MAX or not all(0 < len(each.encode()) <= STOP_BYTES_MAX for each in stop):
        found.append(Violation("stop", f"at most {STOP_MAX} strings of 1 to {STOP_BYTES_MAX} bytes"))
    choice = request.tool_choice
    if choice and choice not in {"auto", "none", "required", *(tool.name for tool in tools)}:
        found.append(Violation("tool_choice", 'must be "auto", "none", "required" or the name of one of `tools`'))
    if len(request.fallbacks) > FALLBACKS_MAX:
        found.append(Violation("fallbacks", f"at most {FALLBACKS_MAX}"))
    for index, target in enumerate((request.target, *request.fallbacks[:FALLBACKS_MAX])):
        if len(target.model) > _MODEL_CHARS_MAX or not target.model.isprintable():
            where = f"fallbacks[{index - 1}]" if index else "target"
            found.append(Violation(f"{where}.model", f"at most {_MODEL_CHARS_MAX} printable characters"))
    if request.attempt < 0:
        found.append(Violation("attempt", "must be 1 or more, or left out"))
    response_format = _response_format(request, found)
    if found:
        raise Fault(Reason.BAD_REQUEST, where="chatd", violations=tuple(found[:_VIOLATIONS_MAX]))
    return CompletionRequest(
        messages=messages,
        temperature=request.temperature if request.HasField("temperature") else None,
        top_p=request.top_p if request.HasField("top_p") else None,
        max_tokens=request.max_tokens if request.HasField("max_tokens") else None,
        stop=stop,
        seed=request.seed if request.HasField("seed") else None,
        response_format=response_format,
        tools=tools,
        tool_choice=choice,
        attempt=request.attempt or 1 + sum(message.role == "assistant" for message in messages),
    )


def read_targets(request: chatd_pb2.CompleteRequest) -> tuple[Target, tuple[Target, ...]]:
    """Who is to answer, and who after it."""
    fallbacks = tuple(Target(each.provider, each.model) for each in request.fallbacks)
    return Target(request.target.provider, request.target.model), fallbacks


def to_response(answer: Answer, tally: Tally) -> chatd_pb2.CompleteResponse:
    """The proto of an answer."""
    completion = answer.completion
    usage = completion.usage
    return chatd_pb2.CompleteResponse(
        text=completion.text,
        reasoning=completion.reasoning,
        tool_calls=[
            chatd_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)
            for call in completion.tool_calls
        ],
        provider=answer.provider,
        model=completion.model,
        usage=chatd_pb2.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        ),
        cost=None
        if answer.cost is None
        else chatd_pb2.Cost(
            input_usd=answer.cost.input_usd,
            output_usd=answer.cost.output_usd,
            total_usd=answer.cost.total_usd,
        ),
        finish_reason=_FINISH_REASONS[completion.finish_reason],
        time_to_first_token_ms=int((completion.first_token - completion.sent) * 1000),
        upstream_requests=tally.upstream_requests,
    )


def _messages(request: chatd_pb2.CompleteRequest, found: list[Violation]) -> tuple[Message, ...]:
    count = len(request.messages)
    if not 0 < count <= MESSAGES_MAX:
        found.append(Violation("messages", f"must be 1 to {MESSAGES_MAX} messages; there are {count}"))
        return ()
    if request.ByteSize() > CONTENT_BYTES_MAX and _content_bytes(request) > CONTENT_BYTES_MAX:
        found.append(Violation("messages", f"must be at most {CONTENT_BYTES_MAX} bytes together"))
        return ()
    return tuple(_message(message, f"messages[{index}]", found) for index, message in enumerate(request.messages))


def _message(message: chatd_pb2.Message, where: str, found: list[Violation]) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        found.append(Violation(f"{where}.role", "must be ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL"))
        role = "user"
    # Each access of a field makes a new Python object: once is enough.
    content, tool_call_id, tool_calls = message.content, message.tool_call_id, message.tool_calls
    if tool_calls and role != "assistant":
        found.append(Violation(f"{where}.tool_calls", "only the assistant calls tools"))
    if (role == "tool") != bool(tool_call_id):
        found.append(Violation(f"{where}.tool_call_id", "must be set for ROLE_TOOL, and for no other role"))
    if not content and role in {"system", "user"}:
        found.append(Violation(f"{where}.content", "must not be empty"))
    if not tool_calls:
        return Message(role, content, tool_call_id)
    calls = tuple(ToolCall(call.id, call.name, call.arguments_json) for call in tool_calls)
    if not all(call.id and call.name for call in calls):
        found.append(Violation(f"{where}.tool_calls", "each has the id and the name that it came with"))
    return Message(role, content, tool_call_id, calls)


def _content_bytes(request: chatd_pb2.CompleteRequest) -> int:
    return sum(
        len(message.content.encode()) + sum(len(call.arguments_json.encode()) for call in message.tool_calls)
        for message in request.messages
    )


def _check_sampling(request: chatd_pb2.CompleteRequest, found: list[Violation]) -> None:
    if request.HasField("temperature") and not _within(request.temperature, 0, 2):
        found.append(Violation("temperature", "must be from 0 to 2"))
    if request.HasField("top_p") and not _within(request.top_p, 0, 1):
        found.append(Violation("top_p", "must be from 0 to 1"))
    if request.HasField("max_tokens") and not 1 <= request.max_tokens <= MAX_TOKENS_MAX:
        found.append(Violation("max_tokens", f"must be from 1 to {MAX_TOKENS_MAX}"))


def _within(value: float, low: float, high: float) -> bool:
    return math.isfinite(value) and low <= value <= high


def _tools(request: chatd_pb2.CompleteRequest, found: list[Violation]) -> tuple[ToolDefinition, ...]:
    if len(request.tools) > TOOLS_MAX:
        found.append(Violation("tools", f"at most {TOOLS_MAX}"))
        return ()
    tools: list[ToolDefinition] = []
    names: set[str] = set()
    for index, tool in enumerate(request.tools):
        where = f"tools[{index}]"
        if not _FUNCTION_NAME.fullmatch(tool.name):
            found.append(Violation(f"{where}.name", "must be 1 to 64 of letters, digits, '_' and '-'"))
        elif tool.name in names:
            found.append(Violation(f"{where}.name", "another tool has this name"))
        names.add(tool.name)
        parameters = _json_object(tool.parameters_json, f"{where}.parameters_json", found)
        tools.append(ToolDefinition(tool.name, tool.description, parameters))
    return tuple(tools)


def _response_format(request: chatd_pb2.CompleteRequest, found: list[Violation]) -> ResponseFormat | None:
    if not request.HasField("response_format"):
        return None
    wanted = request.response_format
    if wanted.type == chatd_pb2.ResponseFormat.TYPE_JSON_SCHEMA:
        if wanted.schema_name and not _FUNCTION_NAME.fullmatch(wanted.schema_name):
            found.append(Violation("response_format.schema_name", "must be 1 to 64 of letters, digits, '_' and '-'"))
        schema = _json_object(wanted.schema_json, "response_format.schema_json", found)
        return ResponseFormat("json_schema", schema, wanted.schema_name)
    if wanted.schema_json or wanted.schema_name:
        found.append(Violation("response_format.type", "a schema is for TYPE_JSON_SCHEMA"))
    if wanted.type == chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT:
        return ResponseFormat("json_object")
    if wanted.type not in {
        chatd_pb2.ResponseFormat.TYPE_UNSPECIFIED,
        chatd_pb2.ResponseFormat.TYPE_TEXT,
    }:
        found.append(Violation("response_format.type", "unknown type"))
    return None


def _json_object(text: str, field: str, found: list[Violation]) -> str:
    try:
        canonical = canonicalize(text)
    except JsonBreach as breach:
        found.append(Violation(field, f"must be a JSON object: {breach.problem}"))
        return "{}"
    if not canonical.startswith("{"):
        found.append(Violation(field, "must be a JSON object"))
        return "{}"
    return canonical


def delta_event(text: str, reasoning: str) -> Sequence[chatd_pb2.StreamCompleteResponse]:
    """The stream events of one piece, which is text, reasoning, or (rarely) both."""
    events = []
    if reasoning:
        events.append(chatd_pb2.StreamCompleteResponse(reasoning_delta=reasoning))
    if text:
        events.append(chatd_pb2.StreamCompleteResponse(text_delta=text))
    return events
