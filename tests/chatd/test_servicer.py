"""The two RPCs: arguments, deadlines, cancellation, shutdown, tracing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import uuid
from typing import Any

import grpc
import pytest

from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.clients import AsyncChatClient
from lakehouse.errors import Fault
from lakehouse.trace_context import trace_metadata
from lakehouse.tracing.receiver import TraceReceiver

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond, completion = fakes.respond, fakes.completion
Message, Target, ResponseFormat = chatd_pb2.Message, chatd_pb2.Target, chatd_pb2.ResponseFormat
USER, SYSTEM, ASSISTANT, TOOL = (
    chatd_pb2.ROLE_USER,
    chatd_pb2.ROLE_SYSTEM,
    chatd_pb2.ROLE_ASSISTANT,
    chatd_pb2.ROLE_TOOL,
)
hi = Message(role=USER, content="Hi.")
SCHEMA = ResponseFormat.TYPE_JSON_SCHEMA
tool = chatd_pb2.ToolDefinition(name="f", parameters_json="{}")


@pytest.mark.parametrize(
    ("fields", "violations"),
    [
        ({"messages": []}, ["messages"]),
        ({"messages": [hi] * 1001}, ["messages"]),
        ({"messages": [Message(content="Hi.")]}, ["messages[0].role"]),
        ({"messages": [Message(role=9, content="Hi.")]}, ["messages[0].role"]),  # type: ignore[arg-type]
        ({"messages": [Message(role=USER)]}, ["messages[0].content"]),
        ({"messages": [hi, Message(role=TOOL, content="3")]}, ["messages[1].tool_call_id"]),
        ({"messages": [Message(role=USER, content="Hi.", tool_call_id="x")]}, ["messages[0].tool_call_id"]),
        ({"messages": [Message(role=SYSTEM, content="Hi.", tool_calls=[chatd_pb2.ToolCall(id="1", name="f")])]},
         ["messages[0].tool_calls"]),
        ({"messages": [Message(role=ASSISTANT, tool_calls=[chatd_pb2.ToolCall(name="f")])]},
         ["messages[0].tool_calls"]),
        ({"temperature": 2.1, "top_p": -0.1, "max_tokens": 0}, ["temperature", "top_p", "max_tokens"]),
        ({"temperature": float("nan"), "max_tokens": 1_000_001}, ["temperature", "max_tokens"]),
        ({"stop": ["x"] * 17}, ["stop"]),
        ({"stop": [""]}, ["stop"]),
        ({"stop": ["é" * 200]}, ["stop"]),
        ({"tools": [tool] * 129}, ["tools"]),
        ({"tools": [tool, tool]}, ["tools[1].name"]),
        ({"tools": [chatd_pb2.ToolDefinition(name="a b", parameters_json="[]")]},
         ["tools[0].name", "tools[0].parameters_json"]),
        ({"tool_choice": "g", "tools": [tool]}, ["tool_choice"]),
        ({"response_format": ResponseFormat(type=SCHEMA)}, ["response_format.schema_json"]),
        ({"response_format": ResponseFormat(type=SCHEMA, schema_json="{", schema_name="a b")},
         ["response_format.schema_name", "response_format.schema_json"]),
        ({"response_format": ResponseFormat(type=SCHEMA, schema_json="[" * 100_000)}, ["response_format.schema_json"]),
        ({"response_format": ResponseFormat(schema_json="{}")}, ["response_format.type"]),
        ({"response_format": ResponseFormat(type=7)}, ["response_format.type"]),  # type: ignore[arg-type]
        ({"target": Target(model="x" * 257), "fallbacks": [Target(model="a\nb")]},
         ["target.model", "fallbacks[0].model"]),
        ({"fallbacks": [Target()] * 9}, ["fallbacks"]),
        ({"attempt": -1}, ["attempt"]),
    ],
)  # fmt: skip
async def test_arguments_that_cannot_be_used_are_all_named(fields: Any, violations: list[str], chatd: Any) -> None:
    async with chatd() as running:
        with pytest.raises(Fault) as caught:
            await running.ask(**fields)

    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "BAD_REQUEST")
    assert sorted(each.field for each in caught.value.violations) == sorted(violations)


async def test_a_stream_request_without_a_request_is_refused(chatd: Any) -> None:
    async with chatd() as running:
        stub = running.client._stub
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StreamComplete(chatd_pb2.StreamCompleteRequest(), timeout=5).read()

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_conversation_beyond_four_mebibytes_is_refused(chatd: Any) -> None:
    big = Message(role=USER, content="x" * (3 * 1024 * 1024))
    async with chatd(message_bytes_max=16 * 1024 * 1024) as running:
        with pytest.raises(Fault) as caught:
            await running.ask(messages=[big, big])
        accepted = await running.ask(messages=[big])

    assert [each.field for each in caught.value.violations] == ["messages"]
    assert accepted.text


@pytest.mark.parametrize("streamed", [False, True], ids=["Complete", "StreamComplete"])
@pytest.mark.parametrize("sent", ["nothing", "half"])
async def test_cancelling_the_rpc_closes_the_http_request(streamed: bool, sent: str, openai_chatd: Any) -> None:
    arrived = asyncio.Event()

    async def behave(exchange: Any) -> None:
        if sent == "half":
            await exchange.send(fakes.sse_head() + fakes.chunk(fakes.delta_event(content="Once")))
        arrived.set()
        await exchange.closed_by_peer()

    async with openai_chatd([behave]) as (chatd, endpoint):
        call = asyncio.ensure_future(chatd.stream() if streamed else chatd.ask())
        async with asyncio.timeout(5):
            await arrived.wait()
            assert not endpoint.peer_closed.is_set()
            call.cancel()
            await endpoint.peer_closed.wait()
            with pytest.raises(asyncio.CancelledError):
                await call
            while "rpc" not in [line["event"] for line in chatd.log]:
                await asyncio.sleep(0.005)

        assert chatd.last_line["code"] == "CANCELLED"


async def test_the_deadline_closes_the_http_request_too(openai_chatd: Any) -> None:
    async with openai_chatd([fakes.hang()]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask(timeout_s=0.3)
        async with asyncio.timeout(5):
            await endpoint.peer_closed.wait()

    assert (caught.value.reason, caught.value.where) == ("DEADLINE", "chatd")


async def test_no_model_is_called_when_no_time_is_left_for_it(openai_chatd: Any) -> None:
    async with openai_chatd([respond(200, completion())]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask(timeout_s=0.04)

    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert endpoint.exchanges == []


async def test_a_call_without_a_deadline_has_chatds_own(chatd: Any) -> None:
    async with fakes.FakeEndpoint([fakes.hang()]) as endpoint:
        providers = {"main": {"type": "openai", "base_url": endpoint.url, "default_model": "m"}}
        async with chatd(providers=providers, call_timeout_ms=200) as running:
            # The endpoint never answers, and the caller never gives up.
            with pytest.raises(Fault) as caught:
                async with asyncio.timeout(60):
                    await running.ask(timeout_s=None)

    assert caught.value.reason == "DEADLINE"


async def test_a_shutdown_ends_a_hanging_call_with_a_status(chatd: Any) -> None:
    async with contextlib.AsyncExitStack() as stack, fakes.FakeEndpoint([fakes.hang()]) as endpoint:
        providers = {"main": {"type": "openai", "base_url": endpoint.url, "default_model": "m"}}
        async with chatd(providers=providers, drain_ms=50) as running:
            client = await stack.enter_async_context(AsyncChatClient(running.address))
            call = asyncio.ensure_future(client.complete(chatd_pb2.CompleteRequest(messages=[hi]), timeout_s=30))
            async with asyncio.timeout(5):
                while not endpoint.exchanges:
                    await asyncio.sleep(0.005)
        with pytest.raises(Fault) as caught:
            await call

    assert caught.value.reason == "SHUTTING_DOWN"


async def test_one_callers_stall_does_not_hold_another(openai_chatd: Any) -> None:
    async with (
        openai_chatd([fakes.hang(), respond(200, completion())]) as (chatd, endpoint),
        asyncio.TaskGroup() as group,
    ):
        stalled = group.create_task(chatd.ask(timeout_s=30))
        async with asyncio.timeout(5):
            while not endpoint.exchanges:
                await asyncio.sleep(0.005)
            response = await chatd.ask()
        stalled.cancel()

    assert response.text == "Hello."


async def _trace(openai_chatd: Any, behaviours: Any, *, streamed: bool = False, **fields: Any) -> Any:
    trace_id = uuid.uuid4().hex
    with TraceReceiver() as receiver:
        tracing = {"host": receiver.url, "public_key": f"pk-{trace_id}", "secret_key": "sk", "flush_interval_ms": 20}
        prices = {"fake-1": {"input": 10.0, "output": 30.0}}
        async with openai_chatd(behaviours, chatd_table={"tracing": tracing}, prices=prices) as (chatd, _):
            metadata = trace_metadata(trace_id, "00000000000000aa", "session-1")
            stub = chatd.client._stub
            request = chatd_pb2.CompleteRequest(messages=[hi], **fields)
            try:
                if streamed:
                    wanted = chatd_pb2.StreamCompleteRequest(request=request)
                    async for _ in stub.StreamComplete(wanted, timeout=5, metadata=metadata):
                        pass
                else:
                    await stub.Complete(request, timeout=5, metadata=metadata)
            except grpc.aio.AioRpcError:
                pass
            tree = await asyncio.to_thread(receiver.wait_for, lambda it: it.tree(trace_id), 5)
    (span,) = tree.spans
    return span


@pytest.mark.parametrize("streamed", [False, True], ids=["Complete", "StreamComplete"])
async def test_the_generation_has_input_output_usage_cost_and_first_token(streamed: bool, openai_chatd: Any) -> None:
    behaviour = fakes.stream(*fakes.openai_events("Hello.")) if streamed else respond(200, completion())
    span = await _trace(openai_chatd, [behaviour], streamed=streamed, temperature=0.5, seed=7)

    given = span.attributes
    assert span.name == "chat"
    assert span.parent_span_id == "00000000000000aa"
    assert given["session.id"] == "session-1"
    assert given["langfuse.observation.type"] == "generation"
    assert json.loads(given["langfuse.observation.input"]) == [{"role": "user", "content": "Hi."}]
    assert given["langfuse.observation.output"] == "Hello."
    assert given["langfuse.observation.model.name"] == "fake-1"
    assert json.loads(given["langfuse.observation.model.parameters"]) == {"temperature": 0.5, "seed": 7}
    assert json.loads(given["langfuse.observation.usage_details"]) == {
        "input": 8, "input_cached_tokens": 4, "output": 4, "output_reasoning_tokens": 3, "total": 19,
    }  # fmt: skip
    cost = json.loads(given["langfuse.observation.cost_details"])
    assert cost["total"] == pytest.approx((12 * 10 + 7 * 30) / 1e6)
    assert "langfuse.observation.completion_start_time" in given


async def test_a_failed_generation_has_the_reasons_sentence_and_no_upstream_text(openai_chatd: Any) -> None:
    span = await _trace(openai_chatd, [fakes.error(401, "Incorrect API key: sk-1234")])

    given = span.attributes
    assert given["langfuse.observation.level"] == "ERROR"
    assert "PROVIDER_AUTH" in given["langfuse.observation.status_message"]
    assert "sk-1234" not in str(given)


def test_the_service_has_the_methods_of_its_proto() -> None:
    from chatd.servicer import ChatServicer

    assert issubclass(ChatServicer, chatd_pb2_grpc.ChatServiceServicer)
    methods = chatd_pb2.DESCRIPTOR.services_by_name["ChatService"].methods
    assert all(method.name in vars(ChatServicer) for method in methods)
