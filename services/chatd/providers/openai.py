"""Provider type `openai`: any endpoint with OpenAI's `/chat/completions`, and Azure's form of it."""

from __future__ import annotations

from typing import Any, ClassVar, Final
from urllib.parse import quote

import orjson
from yarl import URL

from chatd.completion import Completion, CompletionRequest, Message, OnDelta, ResponseFormat, ToolDefinition
from chatd.config import OpenAiTable
from chatd.providers.http import HttpEndpoint
from chatd.providers.openai_answer import StreamedAnswer, read_answer
from chatd.schemas.dialects import DIALECTS

_BESIDE_JSON_OBJECT: Final = frozenset(name for name, each in DIALECTS.items() if each.beside_json_object)


class OpenAiProvider:
    """One OpenAI-compatible endpoint."""

    calls_upstream: ClassVar[bool] = True

    def __init__(self, table: OpenAiTable) -> None:
        """Raise ConfigError where the key's file cannot be read."""
        azure = table.api_style == "azure"
        key_header = "api-key: {key}" if azure else "Authorization: Bearer {key}"
        self._http = HttpEndpoint(table, key_header=key_header, headers={})
        self._table = table
        self._azure = azure
        self._url = URL(table.base_url + "/chat/completions").with_query(table.query or None)

    async def complete(
        self, request: CompletionRequest, model: str, deadline_s: float, on_delta: OnDelta | None
    ) -> Completion:
        """See ``Provider.complete``."""
        body = self._body(request, model, stream=on_delta is not None or request.form.stream)
        url = self._azure_url(model) if self._azure else self._url
        return await self._http.ask(url, body, model, deadline_s, on_delta, whole=read_answer, streamed=StreamedAnswer)

    async def close(self) -> None:
        """See ``Provider.close``."""
        await self._http.close()

    def _azure_url(self, model: str) -> URL:
        path = f"{self._table.base_url}/openai/deployments/{quote(model, safe='')}/chat/completions"
        return URL(path, encoded=True).with_query(self._table.query or None)

    def _body(self, request: CompletionRequest, model: str, *, stream: bool) -> dict[str, Any]:
        form = request.form
        body: dict[str, Any] = {**form.extra_body, "model": model}
        body["messages"] = [
            _tool_turn(each) if each.tool_calls or each.tool_call_id else {"role": each.role, "content": each.content}
            for each in request.messages
        ]
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.max_tokens is not None:
            body[form.max_tokens_field] = request.max_tokens
        if request.stop:
            body["stop"] = request.stop
        if request.seed is not None:
            body["seed"] = request.seed
        if request.response_format is not None:
            body["response_format"] = _response_format(request.response_format)
        if request.tools:
            body["tools"] = [_tool(each) for each in request.tools]
        if request.tool_choice:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if stream:
            body["stream"] = True
            if form.stream_usage:
                body["stream_options"] = {"include_usage": True}
        return body


def _response_format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.form == "json_object":
        return {"type": "json_object"}
    schema = orjson.Fragment(wanted.schema_json)
    if wanted.dialect in _BESIDE_JSON_OBJECT:
        return {"type": "json_object", "schema": schema}
    named = {"name": wanted.schema_name or "answer", "schema": schema, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": named}


def _tool_turn(message: Message) -> dict[str, Any]:
    """Return a turn that calls tools, or tells what one gave."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in message.tool_calls
        ]
        turn["content"] = message.content or None
    return turn


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": orjson.Fragment(tool.parameters_json)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}
