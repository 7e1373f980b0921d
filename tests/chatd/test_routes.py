"""Who answers, and who after it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from chatd.completion import Completion, CompletionRequest, Delta, Message, OnDelta
from chatd.config import ScriptedTable
from chatd.endpoint import Endpoint, Tally
from chatd.routes import Router
from chatd.routes import Target as RouteTarget
from chatd.upstream_fault import UpstreamFault
from lakehouse.chatd.v1.chatd_pb2 import FINISH_REASON_MALFORMED, Target
from lakehouse.errors import Fault, Reason

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond, completion, error = fakes.respond, fakes.completion, fakes.error
good = respond(200, completion("Hello."))


@pytest.fixture
def three(chatd: Any) -> Any:
    """Return a chatd with the providers a, b and c, and the route `chain` over b and c."""

    @contextlib.asynccontextmanager
    async def start(**behaviours: Any) -> AsyncIterator[Any]:
        async with contextlib.AsyncExitStack() as stack:
            providers = {}
            endpoints = {}
            for name in ("a", "b", "c"):
                endpoint = await stack.enter_async_context(fakes.FakeEndpoint([behaviours.get(name, good)]))
                endpoints[name] = endpoint
                providers[name] = {
                    "type": "openai",
                    "base_url": endpoint.url,
                    "default_model": f"{name}-1",
                    "retry": {"max_retries": 0},
                }
            routes = {"chain": {"targets": [{"provider": "b", "model": "b-2"}, {"provider": "c"}]}}
            running = await stack.enter_async_context(chatd(providers=providers, routes=routes, default_provider="a"))
            yield running, endpoints

    return start


def _asked(endpoints: Any) -> dict[str, list[str]]:
    return {name: [each.json["model"] for each in endpoint.exchanges] for name, endpoint in endpoints.items()}


@pytest.mark.parametrize(
    ("target", "provider", "model"),
    [
        (Target(), "a", "a-1"),
        (Target(model="a-9"), "a", "a-9"),
        (Target(provider="c"), "c", "c-1"),
        (Target(provider="chain"), "b", "b-2"),
    ],
)
async def test_the_target_names_a_provider_or_a_route(target: Any, provider: str, model: str, three: Any) -> None:
    async with three() as (chatd, endpoints):
        response = await chatd.ask(target=target)

    assert response.provider == provider
    assert _asked(endpoints) == {**{name: [] for name in "abc"}, provider: [model]}


@pytest.mark.parametrize(
    "failing",
    [
        error(401), error(402), error(404), error(413), error(429), error(500), error(503), fakes.close(),
        error(400, code="content_filter"), respond(200, {"choices": []}),
    ],
    ids=["401", "402", "404", "413", "429", "500", "503", "closes", "filter", "no choices"],
)  # fmt: skip
async def test_a_fault_that_another_may_not_have_goes_to_the_fallback(failing: Any, three: Any) -> None:
    async with three(a=failing) as (chatd, endpoints):
        response = await chatd.ask(fallbacks=[Target(provider="chain")])

        assert (response.provider, response.model) == ("b", "fake-1")
        assert response.upstream_requests == 2
        assert _asked(endpoints) == {"a": ["a-1"], "b": ["b-2"], "c": []}
        assert chatd.last_line["fallbacks"] == 1


async def test_a_request_that_one_endpoint_finds_invalid_another_may_take(three: Any) -> None:
    async with three(a=error(400), b=error(422)) as (chatd, endpoints):
        response = await chatd.ask(fallbacks=[Target(provider="b"), Target(provider="c")])

    assert response.provider == "c"
    assert [len(asked) for asked in _asked(endpoints).values()] == [1, 1, 1]


async def test_chatds_own_argument_checks_are_final(three: Any) -> None:
    async with three() as (chatd, endpoints):
        with pytest.raises(Fault) as caught:
            await chatd.ask(temperature=7, fallbacks=[Target(provider="b")])

    assert caught.value.reason == "BAD_REQUEST"
    assert not any(_asked(endpoints).values())


async def test_the_callers_deadline_is_final(three: Any) -> None:
    async with three(a=fakes.hang()) as (chatd, endpoints):
        with pytest.raises(Fault) as caught:
            await chatd.ask(timeout_s=0.3, fallbacks=[Target(provider="b")])

        assert chatd.last_line["fallbacks"] == 0

    assert caught.value.reason == "DEADLINE"
    assert _asked(endpoints)["b"] == []


json_failed = respond(
    400,
    {
        "error": {
            "message": "Failed to generate JSON. Please adjust your prompt.",
            "code": "json_validate_failed",
            "failed_generation": '{"workers": [',
        }
    },
)


async def test_output_that_the_endpoint_calls_invalid_goes_to_the_fallback(three: Any) -> None:
    async with three(a=json_failed) as (chatd, _):
        response = await chatd.ask(fallbacks=[Target(provider="b")])

    assert (response.text, response.provider, response.upstream_requests) == ("Hello.", "b", 2)


@pytest.mark.parametrize(
    ("a", "b"),
    [(error(503), json_failed), (json_failed, error(503)), (json_failed, error(500)), (error(500), json_failed)],
    ids=["503, malformed", "malformed, 503", "malformed, 500", "500, malformed"],
)
async def test_where_no_target_answers_invalid_output_is_the_answer(a: Any, b: Any, three: Any) -> None:
    async with three(a=a, b=b) as (chatd, _):
        response = await chatd.ask(fallbacks=[Target(provider="b")])
        line = chatd.last_line

    assert response.finish_reason == FINISH_REASON_MALFORMED
    assert response.text == '{"workers": ['
    assert response.provider == line["provider"] == ("a" if a is json_failed else "b")


async def test_the_last_of_several_invalid_outputs_is_the_answer_and_a_stream_has_it_in_one_piece(three: Any) -> None:
    async with three(a=json_failed, b=json_failed, c=error(503)) as (chatd, _):
        pieces, response = await chatd.stream(fallbacks=[Target(provider="b"), Target(provider="c")])

    assert pieces == [("text_delta", '{"workers": [')]
    assert (response.provider, response.finish_reason) == ("b", FINISH_REASON_MALFORMED)


async def test_a_model_that_makes_invalid_output_opens_no_circuit(openai_chatd: Any) -> None:
    async with openai_chatd([json_failed], breaker={"failures": 2}) as (chatd, endpoint):
        for _ in range(4):
            assert (await chatd.ask()).finish_reason == FINISH_REASON_MALFORMED

    assert len(endpoint.exchanges) == 4


@pytest.mark.parametrize(
    ("a", "priced"), [(error(429), True), (error(401), True), (error(500), False), (json_failed, False)]
)
async def test_a_cost_is_stated_only_where_nobody_else_may_have_billed(a: Any, priced: bool, chatd: Any) -> None:
    async with fakes.FakeEndpoint([a]) as first, fakes.FakeEndpoint([good]) as second:
        table = {"type": "openai", "default_model": "m", "retry": {"max_retries": 0}}
        prices = {"fake-1": {"input": 1, "output": 2}}
        providers = {
            "a": {**table, "base_url": first.url, "prices": prices},
            "b": {**table, "base_url": second.url, "prices": prices},
        }
        async with chatd(providers=providers, default_provider="a") as running:
            response = await running.ask(fallbacks=[Target(provider="b")])

    assert response.provider == "b"
    assert response.HasField("cost") is priced


async def test_the_whole_chain_is_tried_in_order(three: Any) -> None:
    async with three(a=error(503), b=error(401)) as (chatd, endpoints):
        response = await chatd.ask(fallbacks=[Target(provider="chain"), Target(provider="a")])

    assert response.provider == "c"
    assert _asked(endpoints) == {"a": ["a-1"], "b": ["b-2"], "c": ["c-1"]}


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (error(429), error(401), "PROVIDER_RATE_LIMITED"),
        (error(429), error(500), "PROVIDER_FAILED"),
        (error(500), error(429), "PROVIDER_FAILED"),
    ],
)
async def test_where_all_fail_the_first_is_told_unless_another_may_have_been_billed(
    first: Any, second: Any, reason: str, three: Any
) -> None:
    async with three(a=first, b=second) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask(fallbacks=[Target(provider="b")])

    assert caught.value.reason == reason


async def test_no_fallback_once_a_piece_has_gone_out(three: Any) -> None:
    async with three(a=fakes.stream(fakes.delta_event(content="Once"))) as (chatd, endpoints):
        pieces, fault = await chatd.stream(fallbacks=[Target(provider="b")])

    assert pieces == [("text_delta", "Once")]
    assert fault.reason == "PROVIDER_FAILED"
    assert _asked(endpoints)["b"] == []


async def test_a_stream_falls_back_before_its_first_piece(three: Any) -> None:
    async with three(a=error(503), b=fakes.stream(*fakes.openai_events("Hello."))) as (chatd, _):
        pieces, response = await chatd.stream(fallbacks=[Target(provider="b")])

    assert pieces == [("text_delta", "Hello.")]
    assert response.provider == "b"


async def test_unknown_names_are_refused_with_those_that_exist(three: Any) -> None:
    async with three() as (chatd, endpoints):
        with pytest.raises(Fault) as caught:
            await chatd.ask(
                target=Target(provider="x\n"), fallbacks=[Target(provider="y"), Target(provider="chain", model="m")]
            )

    fault = caught.value
    assert (fault.code, fault.reason) == ("INVALID_ARGUMENT", "UNKNOWN_PROVIDER")
    assert [each.field for each in fault.violations] == [
        "target.provider",
        "fallbacks[0].provider",
        "fallbacks[1].model",
    ]
    assert "a, b, c, chain" in fault.violations[0].description
    assert not any(_asked(endpoints).values())


class BreaksOff:
    """A provider that gives a piece of an answer, then raises."""

    calls_upstream: ClassVar[bool] = False

    def __init__(self, fault: UpstreamFault) -> None:
        self.fault = fault
        self.calls = 0

    async def complete(
        self, request: CompletionRequest, model: str, deadline: float, on_delta: OnDelta | None
    ) -> Completion:
        self.calls += 1
        if on_delta is not None:
            await on_delta(Delta(text="Once"))
        raise self.fault

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (Reason.PROVIDER_RATE_LIMITED, Reason.PROVIDER_FAILED),
        (Reason.PROVIDER_UNREACHABLE, Reason.PROVIDER_FAILED),
        (Reason.CONTENT_FILTERED, Reason.PROVIDER_FAILED),
        (Reason.BAD_REQUEST, Reason.PROVIDER_FAILED),
        (Reason.PROVIDER_BAD_ANSWER, Reason.PROVIDER_BAD_ANSWER),
        (Reason.PROVIDER_TIMEOUT, Reason.PROVIDER_TIMEOUT),
        (Reason.DEADLINE, Reason.DEADLINE),
    ],
)
async def test_whatever_a_provider_raises_after_a_piece_went_out_says_that_the_answer_broke_off(
    raised: Reason, told: Reason
) -> None:
    provider = BreaksOff(UpstreamFault(raised, billed=False, repeatable=True, retry_after_ms=1, unsupported="seed"))
    endpoint = Endpoint("e", provider, ScriptedTable(type="scripted"))
    heard: list[str] = []

    async def listen(delta: Delta) -> None:
        heard.append(delta.text)

    router = Router({"e": endpoint, "f": endpoint}, {}, "e")
    with pytest.raises(Fault) as caught:
        await router.complete(
            CompletionRequest((Message("user", "Hi."),), seed=1),
            router.choose(RouteTarget("e"), [RouteTarget("f")]),
            deadline_s=asyncio.get_running_loop().time() + 5,
            on_delta=listen,
            tally=Tally(),
        )

    assert caught.value.reason is told
    assert (heard, provider.calls) == (["Once"], 1)
    if raised is not told:
        assert caught.value.retry_delay_ms is None
