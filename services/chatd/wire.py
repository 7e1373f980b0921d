"""proto ↔ domain: checks every argument of a request with all problems at once, and builds responses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, TypeVar

from chatd.completion import (
    CompletionRequest,
    FinishReason,
    Message,
    ResponseFormat,
    Role,
    SentFormat,
    ToolCall,
    ToolDefinition,
)
from chatd.endpoint import Tally
from chatd.routes import Answer, Target
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault, Reason, Violation
from lakehouse.strict_json.parser import JsonBreach, canonicalize

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
_SPEAKERS: Final = ("system", "user", "assistant")
_FINISH_REASONS: Final = {
    FinishReason.UNSPECIFIED: chatd_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: chatd_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chatd_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: chatd_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: chatd_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.REFUSAL: chatd_pb2.FINISH_REASON_REFUSAL,
    FinishReason.MALFORMED: chatd_pb2.FINISH_REASON_MALFORMED,
}
_TYPE: Final = chatd_pb2.ResponseFormat
_FORMS: Final = {
    "text": _TYPE.TYPE_TEXT,
    "json_object": _TYPE.TYPE_JSON_OBJECT,
    "json_schema": _TYPE.TYPE_JSON_SCHEMA,
}
_SCHEMAS: Final = {
    "": chatd_pb2.SentFormat.SCHEMA_UNSPECIFIED,
    "none": chatd_pb2.SentFormat.SCHEMA_NONE,
    "plain": chatd_pb2.SentFormat.SCHEMA_PLAIN,
    "restricted": chatd_pb2.SentFormat.SCHEMA_RESTRICTED,
}
_JSON_OBJECT: Final = ResponseFormat("json_object")

_Number = TypeVar("_Number", int, float)


def read_request(request: chatd_pb2.CompleteRequest) -> tuple[CompletionRequest, Target, tuple[Target, ...]]:
    """Return what is to be answered, by whom, and by whom after that one.

    Raises Fault (BAD_REQUEST) with a violation for each field that cannot be used.
    """
    # Each access of a field makes a new Python object: once is enough, here and below.
    found: list[Violation] = []
    given = request.HasField
    messages, restricted = _messages(request.messages, found)
    tools = _tools(request.tools, found) if request.tools else ()
    temperature = _within("temperature", request.temperature, 0, 2, found) if given("temperature") else None
    top_p = _within("top_p", request.top_p, 0, 1, found) if given("top_p") else None
    max_tokens = _within("max_tokens", request.max_tokens, 1, MAX_TOKENS_MAX, found) if given("max_tokens") else None
    stop = _stop(request.stop, found) if request.stop else ()
    choice = request.tool_choice
    if choice and choice not in {"auto", "none", "required", *(tool.name for tool in tools)}:
        found.append(Violation("tool_choice", 'must be "auto", "none", "required" or the name of one of `tools`'))
    target = _target(request.target, "target", found)
    fallbacks = _fallbacks(request.fallbacks, found) if request.fallbacks else ()
    attempt = request.attempt
    if attempt < 0:
        found.append(Violation("attempt", "must be 1 or more, or left out"))
    response_format = _response_format(request.response_format, found) if given("response_format") else None
    seed = request.seed if given("seed") else None
    if found:
        raise Fault(Reason.BAD_REQUEST, where="chatd", violations=tuple(found[:_VIOLATIONS_MAX]))
    attempt = attempt or 1 + sum(message.role == "assistant" for message in messages)
    completion = CompletionRequest(
        messages, temperature, top_p, max_tokens, stop, seed, response_format, tools, choice, attempt
    )
    if restricted or (response_format is not None and response_format.restricted_schema_json):
        completion = completion._replace(restricted=True)
    return completion, target, fallbacks


def to_response(answer: Answer, tally: Tally) -> chatd_pb2.CompleteResponse:
    """Return the proto of an answer."""
    completion = answer.completion
    usage = completion.usage
    # Set one by one: keywords of the constructor cost protobuf three times as much.
    response = chatd_pb2.CompleteResponse()
    response.text = completion.text
    response.provider = answer.provider
    response.model = completion.model
    response.finish_reason = _FINISH_REASONS[completion.finish_reason]
    response.time_to_first_token_ms = int((completion.first_token - completion.sent) * 1000)
    response.upstream_requests = tally.upstream_requests
    stated = response.usage
    stated.input_tokens = usage.input_tokens
    stated.output_tokens = usage.output_tokens
    if usage.cached_input_tokens:
        stated.cached_input_tokens = usage.cached_input_tokens
    if usage.reasoning_tokens:
        stated.reasoning_tokens = usage.reasoning_tokens
    if completion.reasoning:
        response.reasoning = completion.reasoning
    for call in completion.tool_calls:
        response.tool_calls.add(id=call.id, name=call.name, arguments_json=call.arguments_json)
    if usage.cache_write_tokens:
        stated.cache_write_input_tokens = usage.cache_write_tokens
    if completion.text_from_reasoning:
        response.text_from_reasoning = True
    if answer.sent.sent_format is not None:
        _state_sent(answer.sent.sent_format, response.sent)
    cost = answer.cost
    if cost is not None:
        response.cost.input_usd = float(cost.input_usd)
        response.cost.output_usd = float(cost.output_usd)
        response.cost.total_usd = float(cost.total_usd)
        response.cost_nano_usd = cost.nano_usd
    return response


def _state_sent(sent: SentFormat, stated: chatd_pb2.SentFormat) -> None:
    stated.type = _FORMS[sent.form]
    stated.schema = _SCHEMAS[sent.schema]
    stated.dialect = sent.dialect
    stated.restricted_content = sent.restricted_content
    stated.degraded = sent.degraded


def _messages(turns: Sequence[chatd_pb2.Message], found: list[Violation]) -> tuple[tuple[Message, ...], bool]:
    """Return the turns, and whether anything in them is restricted."""
    count = len(turns)
    if not 0 < count <= MESSAGES_MAX:
        found.append(Violation("messages", f"must be 1 to {MESSAGES_MAX} messages; there are {count}"))
        return (), False
    messages: list[Message] = []
    chars = restricted_chars = 0
    for turn in turns:
        role, content = _ROLES.get(turn.role), turn.content
        restricted = turn.restricted_content
        if restricted:
            message = _restricted_turn(turn, role, restricted, f"messages[{len(messages)}]", found)
            restricted_chars += len(restricted)
        elif content and role in _SPEAKERS and not (turn.tool_calls or turn.tool_call_id):
            message = Message(role, content)
        else:
            message = _tool_turn(turn, role, f"messages[{len(messages)}]", found)
            chars += sum(len(call.arguments_json) for call in message.tool_calls)
        chars += len(content)
        messages.append(message)
    if restricted_chars and not any(
        message.role == "tool" or (message.role != "system" and (message.content or message.tool_calls))
        for message in messages
    ):
        found.append(
            Violation("messages", "one that is no system turn needs a content: others than it may be left out")
        )
    # A character is at most four bytes: nearly every conversation fits on sight.
    if (chars + restricted_chars) * 4 > CONTENT_BYTES_MAX and _content_bytes(messages) > CONTENT_BYTES_MAX:
        found.append(Violation("messages", f"must be at most {CONTENT_BYTES_MAX} bytes together"))
    return tuple(messages), restricted_chars > 0


def _restricted_turn(
    turn: chatd_pb2.Message, role: Role | None, restricted: str, where: str, found: list[Violation]
) -> Message:
    """Return a turn whose words depend on who gets them. Without a content it is left out for whoever may not see
    it."""
    if role not in _SPEAKERS:
        found.append(Violation(f"{where}.restricted_content", "is not for ROLE_TOOL"))
        role = "user"
    if turn.tool_calls or turn.tool_call_id:
        found.append(Violation(f"{where}.restricted_content", "is for turns without tools"))
    return Message(role, turn.content, restricted_content=restricted)


def _tool_turn(turn: chatd_pb2.Message, role: Role | None, where: str, found: list[Violation]) -> Message:
    """Return a turn that is not mere words; says what is amiss with it."""
    content, tool_call_id, tool_calls = turn.content, turn.tool_call_id, turn.tool_calls
    if role is None:
        found.append(Violation(f"{where}.role", "must be ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL"))
        role = "user"
    if tool_calls and role != "assistant":
        found.append(Violation(f"{where}.tool_calls", "only the assistant calls tools"))
    if (role == "tool") != bool(tool_call_id):
        found.append(Violation(f"{where}.tool_call_id", "must be set for ROLE_TOOL, and for no other role"))
    if not content and role in {"system", "user"}:
        found.append(Violation(f"{where}.content", "must not be empty"))
    calls = tuple(ToolCall(call.id, call.name, call.arguments_json) for call in tool_calls)
    if not all(call.id and call.name for call in calls):
        found.append(Violation(f"{where}.tool_calls", "each has the id and the name that it came with"))
    return Message(role, content, tool_call_id, calls)


def _content_bytes(messages: Sequence[Message]) -> int:
    return sum(
        len(message.content.encode())
        + len(message.restricted_content.encode())
        + sum(len(call.arguments_json.encode()) for call in message.tool_calls)
        for message in messages
    )


def _within(field: str, value: _Number, low: int, high: int, found: list[Violation]) -> _Number:
    if not (math.isfinite(value) and low <= value <= high):
        found.append(Violation(field, f"must be from {low} to {high}"))
    return value


def _stop(strings: Sequence[str], found: list[Violation]) -> tuple[str, ...]:
    stop = tuple(strings)
    if len(stop) > STOP_MAX or not all(0 < len(each.encode()) <= STOP_BYTES_MAX for each in stop):
        found.append(Violation("stop", f"at most {STOP_MAX} strings of 1 to {STOP_BYTES_MAX} bytes"))
    return stop


def _fallbacks(targets: Sequence[chatd_pb2.Target], found: list[Violation]) -> tuple[Target, ...]:
    if len(targets) > FALLBACKS_MAX:
        found.append(Violation("fallbacks", f"at most {FALLBACKS_MAX}"))
    return tuple([_target(each, f"fallbacks[{n}]", found) for n, each in enumerate(targets[:FALLBACKS_MAX])])


def _target(target: chatd_pb2.Target, where: str, found: list[Violation]) -> Target:
    model = target.model
    if len(model) > _MODEL_CHARS_MAX or not model.isprintable():
        found.append(Violation(f"{where}.model", f"at most {_MODEL_CHARS_MAX} printable characters"))
    return Target(target.provider, model)


def _tools(definitions: Sequence[chatd_pb2.ToolDefinition], found: list[Violation]) -> tuple[ToolDefinition, ...]:
    if len(definitions) > TOOLS_MAX:
        found.append(Violation("tools", f"at most {TOOLS_MAX}"))
        return ()
    tools: list[ToolDefinition] = []
    names: set[str] = set()
    for index, tool in enumerate(definitions):
        where = f"tools[{index}]"
        if not _FUNCTION_NAME.fullmatch(tool.name):
            found.append(Violation(f"{where}.name", "must be 1 to 64 of letters, digits, '_' and '-'"))
        elif tool.name in names:
            found.append(Violation(f"{where}.name", "another tool has this name"))
        names.add(tool.name)
        parameters = _json_object(tool.parameters_json, f"{where}.parameters_json", found)
        tools.append(ToolDefinition(tool.name, tool.description, parameters))
    return tuple(tools)


def _response_format(wanted: chatd_pb2.ResponseFormat, found: list[Violation]) -> ResponseFormat | None:
    form = wanted.type
    if form == _TYPE.TYPE_JSON_SCHEMA:
        if wanted.schema_name and not _FUNCTION_NAME.fullmatch(wanted.schema_name):
            found.append(Violation("response_format.schema_name", "must be 1 to 64 of letters, digits, '_' and '-'"))
        schema = _json_object(wanted.schema_json, "response_format.schema_json", found)
        restricted = wanted.restricted_schema_json
        if restricted:
            restricted = _json_object(restricted, "response_format.restricted_schema_json", found)
        return ResponseFormat("json_schema", schema, wanted.schema_name, restricted)
    if wanted.schema_json or wanted.schema_name or wanted.restricted_schema_json:
        found.append(Violation("response_format.type", "a schema is for TYPE_JSON_SCHEMA"))
    if form == _TYPE.TYPE_JSON_OBJECT:
        return _JSON_OBJECT
    if form not in {_TYPE.TYPE_UNSPECIFIED, _TYPE.TYPE_TEXT}:
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
    """Return the stream events of one piece, which is text, reasoning, or (rarely) both."""
    events = []
    if reasoning:
        events.append(chatd_pb2.StreamCompleteResponse(reasoning_delta=reasoning))
    if text:
        events.append(chatd_pb2.StreamCompleteResponse(text_delta=text))
    return events
