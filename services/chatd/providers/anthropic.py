"""Provider type `anthropic`: the Messages API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import orjson
from yarl import URL

from chatd.completion import Completion, CompletionRequest, Message, OnDelta, ToolDefinition
from chatd.config import AnthropicTable
from chatd.providers.anthropic_answer import StreamedMessage, read_message
from chatd.providers.http import HttpEndpoint


class AnthropicProvider:
    """One endpoint that speaks the Messages API. It has no seed: a request's seed is left out."""

    calls_upstream: ClassVar[bool] = True

    def __init__(self, table: AnthropicTable) -> None:
        """Raise ConfigError where the key's file cannot be read."""
        self._http = HttpEndpoint(table, key_header="x-api-key: {key}", headers={"anthropic-version": table.version})
        self._table = table
        self._url = URL(table.base_url + "/v1/messages")

    async def complete(
        self, request: CompletionRequest, model: str, deadline_s: float, on_delta: OnDelta | None
    ) -> Completion:
        """See ``Provider.complete``."""
        body = self._body(request, model, stream=on_delta is not None or request.form.stream)
        return await self._http.ask(
            self._url, body, model, deadline_s, on_delta, whole=read_message, streamed=StreamedMessage
        )

    async def close(self) -> None:
        """See ``Provider.close``."""
        await self._http.close()

    def _body(self, request: CompletionRequest, model: str, *, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            **request.form.extra_body,
            "model": model,
            "max_tokens": request.max_tokens or self._table.default_max_tokens,
            "messages": _turns(request.messages),
        }
        system = "\n\n".join(each.content for each in request.messages if each.role == "system")
        if system:
            body["system"] = system
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop_sequences"] = request.stop
        wanted = request.response_format
        if wanted is not None and wanted.form == "json_schema":
            schema = orjson.Fragment(wanted.schema_json)
            # The operator's `effort` stands in the same table.
            body["output_config"] = {
                **body.get("output_config", {}),
                "format": {"type": "json_schema", "schema": schema},
            }
        if request.tools:
            body["tools"] = [_tool(each) for each in request.tools]
        if request.tool_choice:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if stream:
            body["stream"] = True
        return body


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the turns without the system's; results of one round of tool calls are one user turn, as the API wants."""
    turns: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for message in messages:
        if message.role == "system":
            continue
        if message.role != "tool":
            results = None
            turns.append({"role": message.role, "content": _content(message)})
            continue
        if results is None:
            results = []
            turns.append({"role": "user", "content": results})
        results.append({"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content})
    return turns


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.tool_calls:
        return message.content
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    blocks += (
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call.arguments_json)}
        for call in message.tool_calls
    )
    return blocks


def _arguments(text: str) -> object:
    """Return the API wants an object; arguments that are none were the model's own slip, and are shown to it as they
    were."""
    try:
        readable = isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        readable = False
    # As it is: read and printed again, a long integer would lose digits.
    return orjson.Fragment(text) if readable else {"unreadable_arguments": text}


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    made: dict[str, Any] = {"name": tool.name, "input_schema": orjson.Fragment(tool.parameters_json)}
    if tool.description:
        made["description"] = tool.description
    return made


def _tool_choice(choice: str) -> dict[str, str]:
    if choice in {"auto", "none"}:
        return {"type": choice}
    if choice == "required":
        return {"type": "any"}
    return {"type": "tool", "name": choice}
