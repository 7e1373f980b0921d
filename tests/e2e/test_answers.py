"""Goal: a whole session survives how endpoints write their answers, and says what it cost.

Method: the real stack; the endpoint is the byte-exact one of tests/chatd.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lakehouse.clients import AsyncIterateClient
from lakehouse.iterate.v1 import iterate_pb2

Request = Callable[..., iterate_pb2.IterateRequest]
ACCEPTED = iterate_pb2.VERDICT_ACCEPTED
PRICES = '{"fake-1": {"input": 0.15, "output": 0.6}}'


def _fakes() -> ModuleType:
    key = "chatd_tests_fake_endpoint"
    if key not in sys.modules:
        path = Path(__file__).parents[1] / "chatd" / "fake_endpoint.py"
        spec = importlib.util.spec_from_file_location(key, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[key] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[key])
    return sys.modules[key]


fakes = _fakes()
respond, completion = fakes.respond, fakes.completion


@dataclass
class Endpointed:
    """A stack over a byte-exact endpoint."""

    stack: Any
    endpoint: Any
    client: AsyncIterateClient

    async def run(self, request: iterate_pb2.IterateRequest, *behaviours: Any) -> iterate_pb2.IterateResponse:
        """One session; request n of it gets behaviour n."""
        self.endpoint.exchanges.clear()
        self.endpoint.behaviours = behaviours
        return await self.client.iterate(request, timeout_s=30)

    async def facts(self, response: iterate_pb2.IterateResponse, key: str) -> dict[str, str]:
        """Return what the session's spans say of `key`, by their names."""

        def whole(receiver: Any) -> Any:
            tree = receiver.tree(response.trace_id)
            if tree is None or tree.session_root is None or tree.orphans:
                return None
            # Three processes send, each at its own time.
            return tree if [span.name for span in tree.spans].count("chat") == len(response.attempts) else None

        tree = await asyncio.to_thread(self.stack.receiver.wait_for, whole, 15)
        attribute = f"langfuse.observation.metadata.{key}"
        return {span.name: str(span.attributes[attribute]) for span in tree.spans if attribute in span.attributes}


@pytest.fixture(scope="module")
async def endpointed(start_stack: Any) -> AsyncIterator[Endpointed]:
    async with fakes.FakeEndpoint([]) as endpoint:
        environ = {
            "CHATD_PROVIDERS__FAKE__BASE_URL": f"{endpoint.url}/v1",
            "CHATD_PROVIDERS__FAKE__DEFAULT_MODEL": "fake-1",
            "CHATD_PROVIDERS__FAKE__PRICES": PRICES,
        }
        async with start_stack(**environ) as stack, AsyncIterateClient(stack.address) as client:
            yield Endpointed(stack, endpoint, client)


@pytest.mark.parametrize("in_text", [True, False])
async def test_a_draft_in_thinking_never_counts_as_the_answer(
    in_text: bool, endpointed: Endpointed, make_request: Request, people: Any
) -> None:
    right, draft = people.answer(0, 1, 2), f"Draft: {people.answer(0, 1, 2, phantom=True)} no, wait"
    message = {} if in_text else {"reasoning_content": draft}
    answer = completion(f"<think>{draft}</think>{right}" if in_text else right, **message)
    response = await endpointed.run(make_request(), respond(200, answer))

    assert [(attempt.verdict, attempt.raw) for attempt in response.attempts] == [(ACCEPTED, right)]
    assert len(endpointed.endpoint.exchanges) == 1


async def test_thinking_that_never_ends_is_an_unparsable_attempt_that_says_so(
    endpointed: Endpointed, make_request: Request, people: Any
) -> None:
    right = people.answer(0, 1, 2)
    first = respond(200, completion(f"<think>Perhaps {right}"))
    response = await endpointed.run(make_request(), first, respond(200, completion(right)))

    assert [attempt.verdict for attempt in response.attempts] == [iterate_pb2.VERDICT_UNPARSABLE, ACCEPTED]
    assert "reasoning did not end in an answer" in response.attempts[0].parse_problem
    assert "reasoning did not end in an answer" in endpointed.endpoint.exchanges[1].json["messages"][-1]["content"]


async def test_an_answer_that_came_as_reasoning_alone_is_accepted_and_marked_on_the_attempts_span(
    endpointed: Endpointed, make_request: Request, people: Any
) -> None:
    answer = completion(None, reasoning_content=people.answer(0, 1, 2))
    response = await endpointed.run(make_request(), respond(200, answer))

    assert [attempt.verdict for attempt in response.attempts] == [ACCEPTED]
    assert set(await endpointed.facts(response, "text_from_reasoning")) == {"attempt-1", "chat"}


async def test_a_session_costs_what_its_attempts_cost(
    endpointed: Endpointed, make_request: Request, people: Any
) -> None:
    answers = [respond(200, completion(people.answer(0, 1, 2, phantom=phantom))) for phantom in (True, False)]
    response = await endpointed.run(make_request(), *answers)

    each = 12 * 150 + 7 * 600
    assert [attempt.cost_nano_usd for attempt in response.attempts] == [each, each]
    assert response.cost_nano_usd == 2 * each
    assert await endpointed.facts(response, "cost_nano_usd") == {
        "iterate.fill": str(2 * each),
        "attempt-1": str(each),
        "attempt-2": str(each),
        "chat": str(each),
    }


async def test_a_session_with_an_attempt_of_unknown_cost_states_no_total(
    endpointed: Endpointed, make_request: Request, people: Any
) -> None:
    uncounted = {**completion(people.answer(0, 1, 2, phantom=True)), "usage": None}
    answers = [respond(200, uncounted), respond(200, completion(people.answer(0, 1, 2)))]
    response = await endpointed.run(make_request(), *answers)

    assert [attempt.HasField("cost_nano_usd") for attempt in response.attempts] == [False, True]
    assert not response.HasField("cost_nano_usd")
    assert set(await endpointed.facts(response, "cost_nano_usd")) == {"attempt-2", "chat"}
