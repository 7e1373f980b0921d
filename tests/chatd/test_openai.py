"""Provider type `openai`: what is sent, and what is made of the answers that compatible endpoints send."""

from __future__ import annotations

import gzip
import json
import sys
from typing import Any

import pytest

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond, completion = fakes.respond, fakes.completion
SCHEMA = '{"type":"object","properties":{"n":{"type":"integer"}}}'


async def _sent(openai_chatd: Any, table: dict[str, Any] | None = None, **fields: Any) -> Any:
    async with openai_chatd([respond(200, completion())], **(table or {})) as (chatd, endpoint):
        await chatd.ask(**fields)
        return endpoint.exchanges[0]


async def test_a_plain_request_holds_the_model_and_the_messages_and_nothing_else(openai_chatd: Any) -> None:
    exchange = await _sent(openai_chatd)

    assert (exchange.method, exchange.path) == ("POST", "/v1/chat/completions")
    assert exchange.json == {"model": "fake-1", "messages": [{"role": "user", "content": "Hi."}]}
    assert "authorization" not in exchange.headers


async def test_every_field_of_the_request_reaches_the_endpoint(openai_chatd: Any) -> None:
    tool = chatd_pb2.ToolDefinition(name="look_up", description="Looks up.", parameters_json=SCHEMA)
    call = chatd_pb2.ToolCall(id="call_1", name="look_up", arguments_json='{"n": 1}')
    messages = [
        chatd_pb2.Message(role=chatd_pb2.ROLE_SYSTEM, content="Be brief."),
        chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content="How many?"),
        chatd_pb2.Message(role=chatd_pb2.ROLE_ASSISTANT, tool_calls=[call]),
        chatd_pb2.Message(role=chatd_pb2.ROLE_TOOL, content="3", tool_call_id="call_1"),
    ]
    exchange = await _sent(
        openai_chatd,
        {"json_mode": "json_schema", "extra_body": {"reasoning_effort": "low"}, "headers": {"X-Team": "ops"}},
        messages=messages,
        target=chatd_pb2.Target(model="other-2"),
        temperature=0.0,
        top_p=0.5,
        max_tokens=100,
        stop=["END"],
        seed=2**62,
        response_format=chatd_pb2.ResponseFormat(
            type=chatd_pb2.ResponseFormat.TYPE_JSON_SCHEMA, schema_json=SCHEMA, schema_name="count"
        ),
        tools=[tool],
        tool_choice="look_up",
    )

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert exchange.headers["x-team"] == "ops"
    assert exchange.json == {
        "model": "other-2",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "How many?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"n": 1}'}}
                ],
            },
            {"role": "tool", "content": "3", "tool_call_id": "call_1"},
        ],
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 100,
        "stop": ["END"],
        "seed": 2**62,
        "response_format": {"type": "json_schema", "json_schema": {"name": "count", "schema": schema, "strict": True}},
        "tools": [
            {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": schema}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "reasoning_effort": "low",
    }


@pytest.mark.parametrize(
    ("json_mode", "form", "expected"),
    [
        ("none", "TYPE_JSON_SCHEMA", None),
        ("json_object", "TYPE_JSON_SCHEMA", {"type": "json_object"}),
        ("json_schema", "TYPE_JSON_OBJECT", {"type": "json_object"}),
        ("json_schema", "TYPE_TEXT", None),
    ],
)
async def test_an_endpoint_is_told_no_more_of_the_form_than_it_can(
    json_mode: str, form: str, expected: Any, openai_chatd: Any
) -> None:
    wanted = chatd_pb2.ResponseFormat(type=form, schema_json=SCHEMA if "SCHEMA" in form else "")
    exchange = await _sent(openai_chatd, {"json_mode": json_mode}, response_format=wanted)

    assert exchange.json.get("response_format") == expected


async def test_the_key_is_sent_and_never_logged(openai_chatd: Any, tmp_path: Any) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-very-secret\n")
    behaviours = [fakes.error(401, "Incorrect API key provided: sk-very-secret. Ask your administrator.")]
    async with openai_chatd(behaviours, api_key_file=str(key_file)) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

        assert endpoint.exchanges[0].headers["authorization"] == "Bearer sk-very-secret"
        assert "Incorrect API key provided: ***" in str(chatd.last_line["upstream"])
        assert "sk-very-secret" not in str(chatd.log) + str(caught.value)


async def test_azure_has_the_model_in_the_path_and_a_header_of_its_own(openai_chatd: Any, tmp_path: Any) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("azure-key")
    async with openai_chatd([respond(200, completion())]) as (_, endpoint):
        table = {"api_style": "azure", "query": {"api-version": "2024-10-21"}, "api_key_file": str(key_file)}
        async with openai_chatd([], **table, base_url=endpoint.url) as (chatd, _):
            await chatd.ask(target=chatd_pb2.Target(model="gpt 4/o"))

    exchange = endpoint.exchanges[0]
    assert exchange.path == "/openai/deployments/gpt%204%2Fo/chat/completions?api-version=2024-10-21"
    assert exchange.headers["api-key"] == "azure-key"
    assert "authorization" not in exchange.headers


async def test_max_tokens_has_the_name_that_the_endpoint_knows(openai_chatd: Any) -> None:
    exchange = await _sent(openai_chatd, {"max_tokens_field": "max_completion_tokens"}, max_tokens=9)

    assert exchange.json["max_completion_tokens"] == 9
    assert "max_tokens" not in exchange.json


async def test_the_answer_has_text_usage_model_and_finish_reason(openai_chatd: Any) -> None:
    prices = {"fake-1": {"input": 10.0, "output": 30.0, "cached_input": 1.0}}
    behaviours = [respond(200, completion("Yes.", finish_reason="length", reasoning_content="Let me think."))]
    async with openai_chatd(behaviours, prices=prices) as (chatd, _):
        response = await chatd.ask()

        assert (response.text, response.reasoning) == ("Yes.", "Let me think.")
        assert (response.provider, response.model) == ("main", "fake-1")
        assert response.finish_reason == chatd_pb2.FINISH_REASON_LENGTH
        assert response.usage == chatd_pb2.Usage(
            input_tokens=12, output_tokens=7, cached_input_tokens=4, reasoning_tokens=3
        )
        assert response.cost.input_usd == pytest.approx((8 * 10 + 4 * 1) / 1e6)
        assert response.cost.total_usd == pytest.approx((8 * 10 + 4 * 1 + 7 * 30) / 1e6)
        assert response.upstream_requests == 1
        facts = {"provider": "main", "model": "fake-1", "input_tokens": 12, "finish_reason": "length", "retries": 0}
        assert facts.items() <= chatd.last_line.items()


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": None}, "", ""),
        ({"content": "A", "reasoning": "R", "reasoning_content": "R"}, "A", "R"),
        ({"content": None, "refusal": "I cannot."}, "I cannot.", ""),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "R"}]},
                    {"type": "text", "text": "A"},
                ]
            },
            "A",
            "R",
        ),
    ],
)
async def test_messages_as_endpoints_write_them(message: Any, text: str, reasoning: str, openai_chatd: Any) -> None:
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    async with openai_chatd([respond(200, body)]) as (chatd, _):
        response = await chatd.ask()

    assert (response.text, response.reasoning) == (text, reasoning)
    assert response.model == "fake-1"  # the one asked for, where the endpoint names none
    assert response.usage == chatd_pb2.Usage()


@pytest.mark.parametrize("count", [-1, "7", None, True, 1e400, float("nan"), 2**80])
async def test_a_strange_token_count_is_no_fault(count: Any, openai_chatd: Any) -> None:
    body = {**completion(), "usage": {"prompt_tokens": count, "completion_tokens": 2}}
    text = json.dumps(body).replace("NaN", "null").replace("Infinity", "1e300")
    async with openai_chatd([respond(200, text)]) as (chatd, _):
        response = await chatd.ask()

    assert response.usage.output_tokens == 2
    assert response.usage.input_tokens in {0, 2**31 - 1}


async def test_tool_calls_come_back_as_the_model_wrote_them(openai_chatd: Any) -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"n": 1'}},
        {"id": "call_2", "type": "function", "function": {"name": "count", "arguments": {"n": 2}}},
    ]
    behaviours = [respond(200, completion(None, finish_reason="tool_calls", tool_calls=calls))]
    async with openai_chatd(behaviours) as (chatd, _):
        response = await chatd.ask()

    assert response.finish_reason == chatd_pb2.FINISH_REASON_TOOL_CALLS
    assert [(call.id, call.name, call.arguments_json) for call in response.tool_calls] == [
        ("call_1", "look_up", '{"n": 1'),
        ("call_2", "count", '{"n":2}'),
    ]


async def test_a_stream_gives_pieces_and_then_the_whole(openai_chatd: Any) -> None:
    events = fakes.openai_events("Once ", "upon ", "a time.")
    events.insert(1, fakes.delta_event(reasoning_content="A story."))
    async with openai_chatd([fakes.stream(*events)]) as (chatd, endpoint):
        pieces, response = await chatd.stream()

    assert endpoint.exchanges[0].json["stream_options"] == {"include_usage": True}
    assert pieces[0] == ("reasoning_delta", "A story.")
    assert "".join(text for kind, text in pieces if kind == "text_delta") == response.text == "Once upon a time."
    assert response.reasoning == "A story."
    assert response.finish_reason == chatd_pb2.FINISH_REASON_STOP
    assert response.usage.input_tokens == 12
    assert response.model == "fake-1"


async def test_tool_calls_of_a_stream_are_put_together(openai_chatd: Any) -> None:
    def part(index: int, **call: Any) -> Any:
        return fakes.delta_event(tool_calls=[{"index": index, **call}])

    events = [
        part(0, id="call_1", type="function", function={"name": "look_up", "arguments": ""}),
        part(0, function={"arguments": '{"n":'}),
        part(1, id="call_2", type="function", function={"name": "count", "arguments": "{}"}),
        part(0, function={"arguments": " 1}"}),
        fakes.delta_event("tool_calls"),
        fakes.event("[DONE]"),
    ]
    async with openai_chatd([fakes.stream(*events)]) as (chatd, _):
        pieces, response = await chatd.stream()

    assert pieces == []
    assert [(call.id, call.name, call.arguments_json) for call in response.tool_calls] == [
        ("call_1", "look_up", '{"n": 1}'),
        ("call_2", "count", "{}"),
    ]


async def test_a_stream_without_done_is_whole_where_it_had_a_finish_reason(openai_chatd: Any) -> None:
    async with openai_chatd([fakes.stream(fakes.delta_event(content="All."), fakes.delta_event("stop"))]) as (chatd, _):
        _, response = await chatd.stream()

    assert response.text == "All."


async def test_the_first_token_is_the_first_text_and_not_the_end(openai_chatd: Any) -> None:
    import asyncio

    events = fakes.openai_events("Now ", "later.")
    released = asyncio.Event()

    async def behave(exchange: Any) -> None:
        await exchange.send(fakes.sse_head(), *(fakes.chunk(each) for each in events[:2]))
        await released.wait()
        await exchange.send(*(fakes.chunk(each) for each in events[2:]), fakes.LAST_CHUNK)

    async with openai_chatd([behave]) as (chatd, _):
        asyncio.get_running_loop().call_later(0.3, released.set)
        _, response = await chatd.stream()

    assert response.text == "Now later."
    assert response.time_to_first_token_ms < 250


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WHOLE = json.dumps(completion()).encode()


@pytest.mark.parametrize(
    "answer",
    [
        respond(200, WHOLE),
        fakes.raw(HEAD + b"Content-Length: %d\r\n\r\n" % len(WHOLE), WHOLE[:10], WHOLE[10:]),
        fakes.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + fakes.chunk(WHOLE[:10]), fakes.chunk(WHOLE[10:]),
                  fakes.LAST_CHUNK),
        respond(200, gzip.compress(WHOLE), Content_Encoding="gzip"),
    ],
    ids=["one piece", "pieces", "chunks", "compressed all the same"],
)  # fmt: skip
async def test_connections_are_kept_and_used_again(answer: Any, openai_chatd: Any) -> None:
    async with openai_chatd([answer]) as (chatd, endpoint):
        texts = [(await chatd.ask()).text for _ in range(5)]

    assert texts == ["Hello."] * 5
    assert endpoint.connections == 1


async def test_the_connection_of_a_stream_is_kept_too(openai_chatd: Any) -> None:
    events = b"".join(fakes.openai_events("Hello."))
    answer = fakes.raw(fakes.sse_head() + fakes.chunk(events) + fakes.LAST_CHUNK)
    async with openai_chatd([answer]) as (chatd, endpoint):
        for _ in range(3):
            _, response = await chatd.stream()

    assert response.text == "Hello."
    assert endpoint.connections == 1


async def test_an_answer_that_cannot_be_used_does_not_cost_the_connection(openai_chatd: Any) -> None:
    async with openai_chatd([respond(200, {"choices": []}), respond(200, completion())]) as (chatd, endpoint):
        with pytest.raises(Fault):
            await chatd.ask()
        await chatd.ask()

    assert endpoint.connections == 1
