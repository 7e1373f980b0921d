"""Goal: the sync client sends what it should and turns every error into a Fault.

Method: grpc_testing's channel, where the test plays the server.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import ChatClient, IterateClient, ValidateClient
from lakehouse.errors import STATUS_DETAILS_KEY, Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.trace_context import trace_metadata
from lakehouse.validated.v1 import validated_pb2

ITERATE = iterate_pb2.DESCRIPTOR.services_by_name["IterateService"]
CHAT = chatd_pb2.DESCRIPTOR.services_by_name["ChatService"]
VALIDATE = validated_pb2.DESCRIPTOR.services_by_name["ValidateService"]


@pytest.fixture
def channel() -> Any:
    return grpc_testing.channel([ITERATE, CHAT, VALIDATE], grpc_testing.strict_real_time())


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def test_request_deadline_and_trace_reach_the_wire(channel: Any, pool: ThreadPoolExecutor) -> None:
    client = IterateClient("", channel=channel)
    sent = iterate_pb2.IterateRequest(kind="fill", prompt="p")
    answer = iterate_pb2.IterateResponse(session_id="s")

    waiting: Future[Any] = pool.submit(client.iterate, sent, timeout_s=5, metadata=trace_metadata("order-4711"))
    metadata, request, call = channel.take_unary_unary(ITERATE.methods_by_name["Iterate"])
    call.send_initial_metadata(())
    call.terminate(answer, (), grpc.StatusCode.OK, "")

    assert request == sent
    assert dict(metadata)["x-lakehouse-trace-id"] == "order-4711"
    assert waiting.result(timeout=5) == answer


def test_a_status_of_ours_comes_back_as_its_fault(channel: Any, pool: ThreadPoolExecutor) -> None:
    client = ChatClient("", channel=channel)
    status = Fault(Reason.PROVIDER_RATE_LIMITED, where="chatd", retry_delay_ms=7000).to_status()

    waiting: Future[Any] = pool.submit(client.complete, chatd_pb2.CompleteRequest(), timeout_s=5)
    _, _, call = channel.take_unary_unary(CHAT.methods_by_name["Complete"])
    call.send_initial_metadata(())
    trailing = ((STATUS_DETAILS_KEY, status.SerializeToString()),)
    call.terminate(None, trailing, grpc.StatusCode.RESOURCE_EXHAUSTED, status.message)

    with pytest.raises(Fault) as caught:
        waiting.result(timeout=5)
    assert caught.value.reason is Reason.PROVIDER_RATE_LIMITED
    assert caught.value.retry_delay_ms == 7000


def test_an_unreachable_service_is_named(channel: Any, pool: ThreadPoolExecutor) -> None:
    client = ValidateClient("", channel=channel)

    waiting: Future[Any] = pool.submit(client.validate, validated_pb2.ValidateRequest(), timeout_s=5)
    _, _, call = channel.take_unary_unary(VALIDATE.methods_by_name["Validate"])
    call.send_initial_metadata(())
    call.terminate(None, (), grpc.StatusCode.UNAVAILABLE, "connection refused")

    with pytest.raises(Fault) as caught:
        waiting.result(timeout=5)
    assert caught.value.reason is Reason.VALIDATED_UNREACHABLE


def test_events_of_a_stream_arrive_in_order_and_its_status_is_a_fault(channel: Any, pool: ThreadPoolExecutor) -> None:
    client = IterateClient("", channel=channel)
    heard: list[iterate_pb2.StreamIterateResponse] = []

    def listen() -> None:
        heard.extend(client.stream_iterate(iterate_pb2.IterateRequest(), timeout_s=5))

    waiting: Future[Any] = pool.submit(listen)
    _, _, call = channel.take_unary_stream(ITERATE.methods_by_name["StreamIterate"])
    call.send_initial_metadata(())
    event = iterate_pb2.StreamIterateResponse(attempt_started=iterate_pb2.AttemptStarted(iteration=1))
    call.send_response(event)
    call.terminate((), grpc.StatusCode.UNAVAILABLE, "")

    with pytest.raises(Fault) as caught:
        waiting.result(timeout=5)
    assert caught.value.code == "UNAVAILABLE"
