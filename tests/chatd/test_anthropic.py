"""Provider type `anthropic`: the Messages API."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond = fakes.respond
SCHEMA = '{"type":"object"}'


@pytest.fixture
def anthropic_chatd(chatd: Any, tmp_path: Any) -> Any:
    (tmp_path / "key").write_text("sk-ant-1")

    @contextlib.asynccontextmanager
    async def start(behaviours: Any, **table: Any) -> AsyncIterator[Any]:
        async with fakes.FakeEndpoint(behaviours) as endpoint:
            provider = {
                "type": "anthropic",
                "base_url": endpoint.url,
                "api_key_file": str(tmp_path / "key"),
                "default_model": "fake-claude-1",
                "retry": {"base_ms": 5},
                **table,
            }
            async with chatd(providers={"claude": provider}) as running:
                yield running, endpoint

    return start


async def test_the_conversation_takes_the_form_that_the_api_wants(anthropic_chatd: Any) -> None:
    message, role = chatd_pb2.Message, chatd_pb2
    call_1 = chatd_pb2.ToolCall(id="toolu_1", name="look_up", arguments_json='{"n": 1}')
    call_2 = chatd_pb2.ToolCall(id="toolu_2", name="look_up", arguments_json="{oops")
    async with anthropic_chatd([respond(200, fakes.anthropic_message())], json_mode="json_schema") as (chatd, endpoint):
        await chatd.ask(
            messages=[
                message(role=role.ROLE_SYSTEM, content="Be brief."),
                message(role=role.ROLE_USER, content="How many?"),
                message(role=role.ROLE_ASSISTANT, content="Let me see.", tool_calls=[call_1, call_2]),
                message(role=role.ROLE_TOOL, content="3", tool_call_id="toolu_1"),
                message(role=role.ROLE_TOOL, content="none", tool_call_id="toolu_2"),
                message(role=role.ROLE_SYSTEM, content="In French."),
                message(role=role.ROLE_USER, content="Well?"),
            ],
            temperature=0.5,
            top_p=0.9,
            stop=["END"],
            seed=7,
            response_format=chatd_pb2.ResponseFormat(
                type=chatd_pb2.ResponseFormat.TYPE_JSON_SCHEMA, schema_json=SCHEMA
            ),
            tools=[chatd_pb2.ToolDefinition(name="look_up", parameters_json=SCHEMA)],
            tool_choice="required",
        )

    exchange = endpoint.exchanges[0]
    assert exchange.path == "/v1/messages"
    assert exchange.headers["x-api-key"] == "sk-ant-1"
    assert exchange.headers["anthropic-version"] == "2023-06-01"
    assert exchange.json == {
        "model": "fake-claude-1",
        "max_tokens": 4096,
        "system": "Be brief.\n\nIn French.",
        "messages": [
            {"role": "user", "content": "How many?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"n": 1}},
                    {
                        "type": "tool_use",
                        "id": "toolu_2",
                        "name": "look_up",
                        "input": {"unreadable_arguments": "{oops"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "3"},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "content": "none"},
                ],
            },
            {"role": "user", "content": "Well?"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "tools": [{"name": "look_up", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
    }


async def test_the_answer_has_its_blocks_sorted(anthropic_chatd: Any) -> None:
    body = fakes.anthropic_message(
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "?"},
        {"type": "text", "text": "One "},
        {"type": "text", "text": "two."},
        {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"n": 1}},
        stop_reason="tool_use",
    )
    async with anthropic_chatd([respond(200, body)]) as (chatd, _):
        response = await chatd.ask()

    assert (response.text, response.reasoning) == ("One two.", "Hm.")
    assert [(call.id, call.name, call.arguments_json) for call in response.tool_calls] == [
        ("toolu_1", "look_up", '{"n":1}')
    ]
    assert (response.provider, response.model) == ("claude", "fake-claude-1")
    assert response.finish_reason == chatd_pb2.FINISH_REASON_TOOL_CALLS
    # The API leaves cached tokens out of its input_tokens; ours have them in.
    assert response.usage == chatd_pb2.Usage(
        input_tokens=12, output_tokens=7, cached_input_tokens=3, reasoning_tokens=2, cache_write_input_tokens=1
    )


async def test_a_stream_gives_pieces_and_then_the_whole(anthropic_chatd: Any) -> None:
    events = fakes.anthropic_events("naïve ", "😀", thinking="Hm.")
    whole = b"".join(events)
    at = whole.index("😀".encode()) + 2
    async with anthropic_chatd([fakes.stream(whole[:at], whole[at:])]) as (chatd, _):
        pieces, response = await chatd.stream()

    assert pieces[0] == ("reasoning_delta", "Hm.")
    assert "".join(text for kind, text in pieces if kind == "text_delta") == response.text == "naïve 😀"
    assert response.reasoning == "Hm."
    assert response.finish_reason == chatd_pb2.FINISH_REASON_STOP
    assert response.usage == chatd_pb2.Usage(
        input_tokens=12, output_tokens=7, cached_input_tokens=3, reasoning_tokens=2, cache_write_input_tokens=1
    )


async def test_a_tool_call_of_a_stream_is_put_together(anthropic_chatd: Any) -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {}}
    parts = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"n"', ": 1}")]
    events = [
        fakes.event({"type": "content_block_start", "index": 0, "content_block": block}),
        *(fakes.event({"type": "content_block_delta", "index": 0, "delta": part}) for part in parts),
        fakes.event({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
        fakes.event({"type": "message_stop"}),
    ]
    async with anthropic_chatd([fakes.stream(*events)]) as (chatd, _):
        _, response = await chatd.stream()

    assert [(call.id, call.arguments_json) for call in response.tool_calls] == [("toolu_1", '{"n": 1}')]


async def test_the_field_that_it_finds_wrong_is_named(anthropic_chatd: Any) -> None:
    message = "temperature: this parameter was removed in 2026-10-21"
    async with anthropic_chatd([_error(400, "invalid_request_error", message)]) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask(temperature=1.0)

    assert [each.field for each in caught.value.violations] == ["temperature"]
    assert "removed" not in str(caught.value)


def _error(status: int, kind: str, message: str = "no") -> Any:
    return respond(status, {"type": "error", "error": {"type": kind, "message": message}})


@pytest.mark.parametrize(
    ("behaviour", "reason", "requests"),
    [
        (_error(401, "authentication_error"), "PROVIDER_AUTH", 1),
        (_error(403, "permission_error"), "PROVIDER_AUTH", 1),
        (_error(404, "not_found_error"), "MODEL_NOT_FOUND", 1),
        (_error(413, "request_too_large"), "CONTEXT_TOO_LONG", 1),
        (_error(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), "CONTEXT_TOO_LONG", 1),
        (_error(400, "invalid_request_error", "Your credit balance is too low"), "PROVIDER_QUOTA", 1),
        (_error(400, "invalid_request_error", "temperature: too hot"), "BAD_REQUEST", 1),
        (_error(429, "rate_limit_error"), "PROVIDER_RATE_LIMITED", 3),
        (_error(529, "overloaded_error"), "PROVIDER_UNREACHABLE", 3),
        (_error(500, "api_error"), "PROVIDER_FAILED", 1),
        (respond(200, {"type": "message"}), "PROVIDER_BAD_ANSWER", 1),
    ],
)
async def test_its_refusals_have_their_reasons(
    behaviour: Any, reason: str, requests: int, anthropic_chatd: Any
) -> None:
    async with anthropic_chatd([behaviour]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == reason
    assert len(endpoint.exchanges) == requests


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (fakes.anthropic_events("Once")[:4], "PROVIDER_FAILED"),
        (
            [
                *fakes.anthropic_events("Once")[:4],
                fakes.event({"type": "error", "error": {"type": "api_error", "message": "no"}}, "error"),
            ],
            "PROVIDER_FAILED",
        ),
    ],
    ids=["cut", "error event"],
)
async def test_a_stream_that_breaks_off_is_a_fault_after_its_pieces(
    events: Any, reason: str, anthropic_chatd: Any
) -> None:
    async with anthropic_chatd([fakes.stream(*events)], retry={"repeat_billed": True}) as (chatd, endpoint):
        pieces, fault = await chatd.stream()

    assert pieces == [("text_delta", "Once")]
    assert fault.reason == reason
    assert len(endpoint.exchanges) == 1


@pytest.mark.parametrize("text", ["", "I can tell you that"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_refusal_is_an_answer_that_says_so(text: str, streamed: bool, anthropic_chatd: Any) -> None:
    whole = fakes.anthropic_message({"type": "text", "text": text}, stop_reason="refusal")
    events = [each.replace(b"end_turn", b"refusal") for each in fakes.anthropic_events(text)]
    async with anthropic_chatd([fakes.stream(*events) if streamed else respond(200, whole)]) as (chatd, _):
        response = (await chatd.stream())[1] if streamed else await chatd.ask()

    assert response.text == text
    assert response.finish_reason == chatd_pb2.FINISH_REASON_REFUSAL


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [("max_tokens", "LENGTH"), ("model_context_window_exceeded", "LENGTH"), ("pause_turn", "LENGTH")],
)
async def test_an_answer_that_was_cut_says_so(stop_reason: str, expected: str, anthropic_chatd: Any) -> None:
    async with anthropic_chatd([respond(200, fakes.anthropic_message(stop_reason=stop_reason))]) as (chatd, _):
        response = await chatd.ask()

    assert chatd_pb2.FinishReason.Name(response.finish_reason) == f"FINISH_REASON_{expected}"


BIG = '{"n":123456789012345678901234567890}'


async def test_integers_of_a_tools_input_keep_every_digit_there_and_back(anthropic_chatd: Any) -> None:
    block = '{"type":"tool_use","id":"toolu_1","name":"look_up","input":BIG}'.replace("BIG", BIG)
    body = '{"content":[BLOCK],"stop_reason":"tool_use"}'.replace("BLOCK", block)
    start = fakes.event('{"type":"content_block_start","index":0,"content_block":BLOCK}'.replace("BLOCK", block))
    end = fakes.event({"type": "message_delta", "delta": {"stop_reason": "tool_use"}})
    async with anthropic_chatd([respond(200, body), fakes.stream(start, end)]) as (chatd, endpoint):
        answered = await chatd.ask()
        call = answered.tool_calls[0]
        turns = [
            chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content="How many?"),
            chatd_pb2.Message(role=chatd_pb2.ROLE_ASSISTANT, tool_calls=[call]),
            chatd_pb2.Message(role=chatd_pb2.ROLE_TOOL, content="3", tool_call_id=call.id),
        ]
        _, streamed = await chatd.stream(messages=turns)

    assert call.arguments_json == streamed.tool_calls[0].arguments_json == BIG
    assert f'"input":{BIG}'.encode() in endpoint.exchanges[1].body


async def test_thinking_in_the_text_is_reasoning_here_too(anthropic_chatd: Any) -> None:
    text = "<thinking>hm</thinking>\n{}"
    events = fakes.anthropic_events(*text)
    whole = fakes.anthropic_message({"type": "text", "text": text})
    async with anthropic_chatd([respond(200, whole), fakes.stream(*events)]) as (chatd, _):
        answered = await chatd.ask()
        pieces, streamed = await chatd.stream()

    for response in (answered, streamed):
        assert (response.text, response.reasoning) == ("{}", "hm")
    assert "".join(text for kind, text in pieces if kind == "text_delta") == "{}"


async def test_a_stream_that_breaks_after_its_stop_reason_is_whole(anthropic_chatd: Any) -> None:
    async def then(exchange: Any) -> None:
        exchange.reset()

    events = fakes.anthropic_events("All.")[:-1]
    async with anthropic_chatd([fakes.stream(*events, end=False, then=then), fakes.stream(*events)]) as (chatd, _):
        _, broken = await chatd.stream()
        _, ended = await chatd.stream()

    assert broken.text == ended.text == "All."


@pytest.mark.parametrize("kind", ["overloaded_error", "rate_limit_error", "api_error"])
async def test_an_error_after_text_is_aborted_whatever_its_words(kind: str, anthropic_chatd: Any) -> None:
    late = fakes.event({"type": "error", "error": {"type": kind, "message": "no"}}, "error")
    async with anthropic_chatd([fakes.stream(*fakes.anthropic_events("Once")[:4], late)]) as (chatd, endpoint):
        pieces, fault = await chatd.stream()

    assert pieces == [("text_delta", "Once")]
    assert fault.code == "ABORTED"
    assert len(endpoint.exchanges) == 1
