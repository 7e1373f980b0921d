"""The official SDKs against our fake endpoint: they understand it, so what chatd's tests hold it for is true."""

from __future__ import annotations

import sys
from typing import Any

import pytest

fakes = sys.modules["chatd_tests_fake_endpoint"]


async def test_openai_reads_our_answer(openai_sdk: Any) -> None:
    calls = [{"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
    async with fakes.FakeEndpoint([fakes.respond(200, fakes.completion("naïve 😀", tool_calls=calls))]) as endpoint:
        answer = await openai_sdk(f"{endpoint.url}/v1", "whole")

    assert answer["choices"][0]["message"]["content"] == "naïve 😀"
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "look_up"
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3
    assert (endpoint.exchanges[0].method, endpoint.exchanges[0].path) == ("POST", "/v1/chat/completions")


async def test_openai_reads_our_stream(openai_sdk: Any) -> None:
    whole = b"".join(fakes.openai_events("naïve ", "😀"))
    at = whole.index("😀".encode()) + 1
    async with fakes.FakeEndpoint([fakes.stream(whole[:at], whole[at:])]) as endpoint:
        answer = await openai_sdk(f"{endpoint.url}/v1", "stream")

    assert answer == {"text": "naïve 😀", "finish_reason": "stop", "total_tokens": 19}


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(401, "invalid_api_key", "AuthenticationError"), (429, "insufficient_quota", "RateLimitError"),
     (400, "context_length_exceeded", "BadRequestError"), (500, None, "InternalServerError")],
)  # fmt: skip
async def test_openai_reads_our_refusals(status: int, code: str | None, error: str, openai_sdk: Any) -> None:
    async with fakes.FakeEndpoint([fakes.error(status, code=code)]) as endpoint:
        answer = await openai_sdk(f"{endpoint.url}/v1", "whole")

    assert answer == {"error": error, "status": status, "code": code}


async def test_anthropic_reads_our_answer(anthropic_sdk: Any) -> None:
    body = fakes.anthropic_message(
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "text", "text": "naïve 😀"},
        {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"n": 1}},
        stop_reason="tool_use",
    )
    async with fakes.FakeEndpoint([fakes.respond(200, body)]) as endpoint:
        answer = await anthropic_sdk(endpoint.url, "whole")

    assert [block["type"] for block in answer["content"]] == ["thinking", "text", "tool_use"]
    assert answer["content"][1]["text"] == "naïve 😀"
    assert answer["stop_reason"] == "tool_use"
    assert answer["usage"]["cache_read_input_tokens"] == 3
    sent = endpoint.exchanges[0]
    assert sent.path == "/v1/messages"
    assert "anthropic-version" in sent.headers
    assert "sk-sdk" in {sent.headers.get("x-api-key"), sent.headers.get("authorization", "").removeprefix("Bearer ")}


async def test_anthropic_reads_our_stream(anthropic_sdk: Any) -> None:
    async with fakes.FakeEndpoint([fakes.stream(*fakes.anthropic_events("naïve ", "😀", thinking="Hm."))]) as endpoint:
        answer = await anthropic_sdk(endpoint.url, "stream")

    assert answer["pieces"] == ["naïve ", "😀"]
    assert [block["type"] for block in answer["message"]["content"]] == ["thinking", "text"]
    assert answer["message"]["stop_reason"] == "end_turn"
    assert answer["message"]["usage"]["output_tokens"] == 7


async def test_anthropic_reads_our_refusals(anthropic_sdk: Any) -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    async with fakes.FakeEndpoint([fakes.respond(529, body)]) as endpoint:
        answer = await anthropic_sdk(endpoint.url, "whole")

    assert answer["status"] == 529
