"""Concurrency limit, queue and circuit breaker of a provider, as callers see them."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest

from lakehouse.chatd.v1.chatd_pb2 import Target
from lakehouse.errors import Fault

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond, completion = fakes.respond, fakes.completion


class Gate:
    """Holds every request until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.running = 0
        self.most = 0
        self.arrived = asyncio.Condition()

    async def __call__(self, exchange: Any) -> None:
        async with self.arrived:
            self.running += 1
            self.most = max(self.most, self.running)
            self.arrived.notify_all()
        await self.open.wait()
        self.running -= 1
        await respond(200, completion())(exchange)

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(lambda: self.running >= count)


async def test_no_more_than_max_concurrency_reach_the_endpoint_and_the_rest_wait(openai_chatd: Any) -> None:
    gate = Gate()
    async with openai_chatd([gate], max_concurrency=2) as (chatd, _), asyncio.TaskGroup() as group:
        calls = [group.create_task(chatd.ask()) for _ in range(6)]
        await gate.wait_for(2)
        gate.open.set()
        texts = [(await call).text for call in calls]

    assert texts == ["Hello."] * 6
    assert gate.most == 2


async def test_a_full_queue_refuses_at_once(openai_chatd: Any) -> None:
    gate = Gate()
    # Whoever queued would stand there for ten minutes.
    queue = {"max_concurrency": 1, "queue_max": 0, "queue_ms": 600_000}
    async with openai_chatd([gate], **queue) as (chatd, endpoint), asyncio.TaskGroup() as group:
        first = group.create_task(chatd.ask(timeout_s=60))
        await gate.wait_for(1)
        with pytest.raises(Fault) as caught:
            await chatd.ask(timeout_s=30)
        gate.open.set()
        await first

    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert caught.value.retry_delay_ms is not None
    assert len(endpoint.exchanges) == 1


@pytest.mark.parametrize(
    ("queue_ms", "timeout_s", "reason"), [(50, 5.0, "OVERLOADED"), (5000, 0.3, "DEADLINE")], ids=["queue", "deadline"]
)
async def test_the_wait_in_the_queue_is_bounded(
    queue_ms: int, timeout_s: float, reason: str, openai_chatd: Any
) -> None:
    gate = Gate()
    async with openai_chatd([gate], max_concurrency=1, queue_ms=queue_ms) as (chatd, _), asyncio.TaskGroup() as group:
        first = group.create_task(chatd.ask())
        await gate.wait_for(1)
        with pytest.raises(Fault) as caught:
            await chatd.ask(timeout_s=timeout_s)
        gate.open.set()
        await first

    assert caught.value.reason == reason
    assert caught.value.where == "chatd"


async def test_a_failing_endpoint_is_left_alone_and_probed(openai_chatd: Any) -> None:
    breaker = {"failures": 3, "open_ms": 150}
    async with openai_chatd([fakes.error(500)], breaker=breaker) as (chatd, endpoint):
        reasons = [await _reason(chatd) for _ in range(5)]
        seen = len(endpoint.exchanges)
        endpoint.behaviours = [respond(200, completion())]
        async with asyncio.timeout(5):
            while (reason := await _reason(chatd)) == "CIRCUIT_OPEN":
                await asyncio.sleep(0.01)

    assert reasons == ["PROVIDER_FAILED"] * 3 + ["CIRCUIT_OPEN"] * 2
    assert seen == 3
    assert reason is None


async def test_ten_failures_of_a_model_leave_another_model_of_the_provider_alone(openai_chatd: Any) -> None:
    async def fail_a(exchange: Any) -> None:
        await (fakes.error(500) if exchange.json["model"] == "a" else respond(200, completion()))(exchange)

    async with openai_chatd([fail_a]) as (chatd, _):
        reasons = [await _reason(chatd, model="a") for _ in range(11)]
        answer = await chatd.ask(target=Target(model="b"))

    assert reasons == ["PROVIDER_FAILED"] * 10 + ["CIRCUIT_OPEN"]
    assert answer.text == "Hello."


async def test_a_host_that_nobody_reaches_is_left_alone_for_all_models(openai_chatd: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with openai_chatd([], base_url=url, breaker={"failures": 2}, retry={"max_retries": 0}) as (chatd, _):
            reasons = [await _reason(chatd, model=model) for model in "abc"]

    assert reasons == ["PROVIDER_UNREACHABLE"] * 2 + ["CIRCUIT_OPEN"]


async def test_refusals_do_not_open_the_circuit(openai_chatd: Any) -> None:
    async with openai_chatd([fakes.error(401)], breaker={"failures": 2}) as (chatd, _):
        reasons = [await _reason(chatd) for _ in range(5)]

    assert reasons == ["PROVIDER_AUTH"] * 5


async def test_an_outage_spends_the_retry_budget_and_no_more(openai_chatd: Any) -> None:
    retry = {"budget": 3, "max_retries": 2}
    async with openai_chatd([fakes.error(503)], retry=retry, breaker={"failures": 0}) as (chatd, endpoint):
        for _ in range(10):
            await _reason(chatd)

    assert len(endpoint.exchanges) == 10 + 3


async def _reason(chatd: Any, model: str = "") -> str | None:
    try:
        await chatd.ask(target=Target(model=model))
    except Fault as fault:
        return fault.reason
    return None
