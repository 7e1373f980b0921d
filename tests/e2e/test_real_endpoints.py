"""Goal: no session dies of what a real model endpoint does.

Method: whole sessions of kind fill through the three processes; chatd's endpoints are scripted to the byte.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

CHATD_TESTS = Path(__file__).resolve().parent.parent / "chatd"


def _load(name: str) -> ModuleType:
    # Tests are no packages: what the tests of chatd have is loaded by its path, once a run.
    key = f"chatd_tests_{name}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, CHATD_TESTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
    return sys.modules[key]


fakes = _load("fake_endpoint")
vendors = _load("vendor_errors")
respond, completion = fakes.respond, fakes.completion
Request = Callable[..., iterate_pb2.IterateRequest]
Behaviour = Callable[[Any], Awaitable[None]]


class Endpoints:
    """`odd` speaks as OpenAI does, `claude` as the Messages API; a test scripts them. `good` answers rightly."""

    def __init__(self, client: AsyncIterateClient, stack: Any, odd: Any, claude: Any, good: Any) -> None:
        self.client = client
        self.stack = stack
        self.odd = odd
        self.claude = claude
        self.good = good

    async def run(self, request: iterate_pb2.IterateRequest) -> tuple[iterate_pb2.IterateResponse, dict[str, Any]]:
        """Return the session's response and its row."""
        response = await self.client.iterate(request, timeout_s=30)
        rows = self.stack.rows(response.session_id)
        assert len(rows) == 1
        return response, rows[0]


@pytest.fixture(scope="module")
async def endpoints(start_stack: Any, people: Any) -> AsyncIterator[Endpoints]:
    right = respond(200, completion(people.answer(0, 1, 2)))
    async with (
        fakes.FakeEndpoint([right]) as odd,
        fakes.FakeEndpoint([right]) as claude,
        fakes.FakeEndpoint([right]) as good,
    ):
        environ: dict[str, str] = {"CHATD_DEFAULT_PROVIDER": "odd"}
        for name, type_, endpoint in (
            ("odd", "openai", odd),
            ("claude", "anthropic", claude),
            ("good", "openai", good),
        ):
            table = {
                "TYPE": type_,
                "BASE_URL": endpoint.url if type_ == "anthropic" else f"{endpoint.url}/v1",
                "DEFAULT_MODEL": "m",
                "RETRY__BASE_MS": "1",
                "RETRY__BUDGET": "10000",
                "RETRY__RETRY_AFTER_MAX_MS": "500",
                "BREAKER__FAILURES": "0",
            }
            environ |= {f"CHATD_PROVIDERS__{name.upper()}__{key}": value for key, value in table.items()}
        async with start_stack(**environ) as stack, AsyncIterateClient(stack.address) as client:
            yield Endpoints(client, stack, odd, claude, good)


def strict(*behaviours: Behaviour) -> list[Behaviour]:
    """Behaviours of an endpoint that refuses what many refuse: turns without words, and two of one role in a row."""
    seen = 0

    async def behave(exchange: Any) -> None:
        nonlocal seen
        turns = [turn for turn in exchange.json["messages"] if turn["role"] != "system"]
        roles = [turn["role"] for turn in turns]
        if any(not str(turn["content"]).strip() for turn in turns) or roles[0] != "user":
            await fakes.error(400, "messages: text content blocks must be non-empty")(exchange)
        elif any(before == after for before, after in itertools.pairwise(roles)):
            await fakes.error(400, "messages: roles must alternate")(exchange)
        else:
            seen += 1
            await behaviours[min(seen, len(behaviours)) - 1](exchange)

    return [behave]


TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
JSON_FAILED = {
    "error": {
        "message": "Failed to validate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
        "type": "invalid_request_error",
        "code": "json_validate_failed",
        "failed_generation": '{"workers": [',
    }
}


@pytest.mark.parametrize(
    ("first", "raw", "words"),
    [
        (respond(200, completion("")), "", "empty"),
        (respond(200, completion("  \n")), "  \n", "empty"),
        (respond(200, completion("", reasoning_content="Let me see.")), "", "reasoning"),
        (respond(200, completion(None, finish_reason="tool_calls", tool_calls=[TOOL_CALL])), "", "tool"),
        (respond(400, JSON_FAILED), '{"workers": [', "valid"),
    ],
    ids=["empty", "white space", "thinking", "tool call", "json_validate_failed"],
)
async def test_a_first_answer_that_is_none_is_an_attempt(
    first: Behaviour, raw: str, words: str, endpoints: Endpoints, make_request: Request, people: Any
) -> None:
    endpoints.odd.behaviours = strict(first, respond(200, completion(people.answer(0, 1, 2))))
    endpoints.odd.exchanges.clear()

    response, row = await endpoints.run(make_request(provider="odd"))

    assert response.WhichOneof("outcome") == "accepted"
    assert [attempt["verdict"] for attempt in row["attempts"]] == ["unparsable", "accepted"]
    assert row["attempts"][0]["raw"].strip() == raw.strip()
    assert words in response.attempts[0].parse_problem
    assert row["attempts"][0]["parse_problem"] == response.attempts[0].parse_problem
    assert "parse_problem" not in row["attempts"][1]
    assert len(endpoints.odd.exchanges) == 2
    assert words in endpoints.odd.exchanges[1].json["messages"][-1]["content"]


async def test_answers_that_are_none_to_the_end_exhaust_the_attempts(
    endpoints: Endpoints, make_request: Request
) -> None:
    endpoints.odd.behaviours = strict(respond(200, completion("")), respond(400, JSON_FAILED))

    response, row = await endpoints.run(make_request(provider="odd", max_iterations=4))

    assert response.WhichOneof("outcome") == "max_iter_exhausted"
    assert row["final_verdict"] == "max_iter_exhausted"
    assert [attempt["verdict"] for attempt in row["attempts"]] == ["unparsable"] * 4


REFUSAL = respond(200, fakes.anthropic_message({"type": "text", "text": "I started, and then"}, stop_reason="refusal"))


async def test_a_refusal_after_some_text_is_an_attempt_and_no_turn(
    endpoints: Endpoints, make_request: Request, people: Any
) -> None:
    right = fakes.anthropic_message({"type": "text", "text": people.answer(0, 1, 2)})
    endpoints.claude.behaviours = strict(REFUSAL, respond(200, right))
    endpoints.claude.exchanges.clear()

    response, row = await endpoints.run(make_request(provider="claude"))

    assert response.WhichOneof("outcome") == "accepted"
    assert row["attempts"][0]["verdict"] == "unparsable"
    assert row["attempts"][0]["raw"] == "I started, and then"
    assert row["attempts"][0]["output_tokens"] > 0
    assert "refused" in response.attempts[0].parse_problem
    second = endpoints.claude.exchanges[1].json["messages"]
    assert [turn["role"] for turn in second] == ["user"]
    assert "refused" in second[0]["content"]
    assert "I started" not in json.dumps(second)


async def test_a_refusal_goes_to_the_escalation_within_the_attempt(endpoints: Endpoints, make_request: Request) -> None:
    endpoints.claude.behaviours = [REFUSAL]

    response, row = await endpoints.run(
        make_request(provider="claude", escalation=[chatd_pb2.Target(provider="good")], max_iterations=2)
    )

    assert response.WhichOneof("outcome") == "accepted"
    assert [(attempt["verdict"], attempt["provider"]) for attempt in row["attempts"]] == [("accepted", "good")]


async def test_an_unfinished_thought_in_the_text_is_no_answer(
    endpoints: Endpoints, make_request: Request, people: Any
) -> None:
    draft = '<think>Draft: {"workers": [{"worker_id": "W-1", "name": "A"}]} … no, wait'
    endpoints.odd.behaviours = strict(respond(200, completion(draft)), respond(200, completion(people.answer(0, 1, 2))))

    response, _ = await endpoints.run(make_request(provider="odd"))

    assert [attempt.verdict for attempt in response.attempts] == [
        iterate_pb2.VERDICT_UNPARSABLE,
        iterate_pb2.VERDICT_ACCEPTED,
    ]
    assert "reasoning did not end" in response.attempts[0].parse_problem


@pytest.mark.parametrize("case", vendors.ALL, ids=lambda case: case.name)
async def test_an_escalation_answers_where_the_first_target_cannot(
    case: Any, endpoints: Endpoints, make_request: Request
) -> None:
    content_type = "text/html" if isinstance(case.body, str) and case.body.startswith("<") else "application/json"
    endpoints.odd.behaviours = [respond(case.status, case.body, content_type)]

    response, row = await endpoints.run(
        make_request(provider="odd", escalation=[chatd_pb2.Target(provider="good")], max_iterations=2)
    )

    assert response.WhichOneof("outcome") == "accepted"
    assert [attempt["provider"] for attempt in row["attempts"]] == ["good"]


@pytest.mark.parametrize("case", vendors.CASES, ids=lambda case: case.name)
async def test_alone_it_ends_the_session_with_its_reason(
    case: Any, endpoints: Endpoints, make_request: Request
) -> None:
    endpoints.odd.behaviours = [respond(case.status, case.body)]

    with pytest.raises(Fault) as caught:
        await endpoints.run(make_request(provider="odd"))

    assert caught.value.reason == case.reason
    rows = endpoints.stack.rows(caught.value.metadata["session_id"])
    assert [row["final_verdict"] for row in rows] == ["infra_error"]


async def test_an_escalation_takes_eight_targets_and_no_more(endpoints: Endpoints, make_request: Request) -> None:
    endpoints.odd.behaviours = [fakes.error(401)]
    eight = [chatd_pb2.Target(provider="odd", model=f"m-{number}") for number in range(7)]
    eight.append(chatd_pb2.Target(provider="good"))

    response, _ = await endpoints.run(make_request(provider="odd", escalation=eight))
    with pytest.raises(Fault) as caught:
        await endpoints.run(make_request(provider="odd", escalation=[*eight, chatd_pb2.Target(provider="good")]))

    assert response.attempts[0].provider == "good"
    assert [each.field for each in caught.value.violations] == ["escalation"]
