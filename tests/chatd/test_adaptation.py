"""What an endpoint cannot bear is not sent: by configuration, by the vendor's defaults, and by what it has refused."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatd.adaptation import REMEMBERED_MAX, REMEMBERED_S, AdaptationMemory, Healing, fold_system, open_adapter
from chatd.completion import CompletionRequest, Message
from chatd.config import AnthropicTable, OpenAiTable
from chatd.upstream_fault import UpstreamFault
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault, Reason

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond, completion, error = fakes.respond, fakes.completion, fakes.error
good = respond(200, completion("Hello."))
SYSTEM = chatd_pb2.Message(role=chatd_pb2.ROLE_SYSTEM, content="Be brief.")
USER = chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content="Hi.")
JSON_OBJECT = chatd_pb2.ResponseFormat(type=chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT)


def with_schema(schema: Any) -> Any:
    return chatd_pb2.ResponseFormat(type=chatd_pb2.ResponseFormat.TYPE_JSON_SCHEMA, schema_json=json.dumps(schema))


OPEN = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
LOOSE = {"type": "object", "properties": {"n": {"type": "integer"}}}

FORMAT = "response_format"
INVALID = "Invalid schema for response_format 'answer': In context=(),"
UNSUPPORTED = "Unsupported parameter: '{}' is not supported with this model."

# What an endpoint says, what the request has, and what the second request must be (as a check of its body).
HEALED: dict[str, tuple[Any, dict[str, Any], dict[str, Any], Any]] = {
    "temperature": (
        error(400, "Unsupported value: 'temperature' does not support 0.2 with this model.", param="temperature"),
        {},
        {"temperature": 0.2},
        lambda body: "temperature" not in body,
    ),
    "temperature, Anthropic's words": (
        error(400, "`temperature` is deprecated for this model."),
        {},
        {"temperature": 0.2},
        lambda body: "temperature" not in body,
    ),
    "top_p": (
        error(400, UNSUPPORTED.format("top_p"), param="top_p"),
        {},
        {"top_p": 0.5},
        lambda body: "top_p" not in body,
    ),
    "seed": (
        respond(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}),
        {},
        {"seed": 7},
        lambda body: "seed" not in body,
    ),
    "max_tokens": (
        error(400, f"{UNSUPPORTED.format('max_tokens')} Use 'max_completion_tokens' instead.", param="max_tokens"),
        {},
        {"max_tokens": 9},
        lambda body: "max_tokens" not in body and body["max_completion_tokens"] == 9,
    ),
    "max_completion_tokens": (
        error(400, "Unrecognized request argument supplied: max_completion_tokens", param="max_completion_tokens"),
        {"max_tokens_field": "max_completion_tokens"},
        {"max_tokens": 9},
        lambda body: "max_completion_tokens" not in body and body["max_tokens"] == 9,
    ),
    "system role": (
        error(400, "System role not supported"),
        {},
        {"messages": [SYSTEM, USER]},
        lambda body: body["messages"] == [{"role": "user", "content": "Be brief.\n\nHi."}],
    ),
    "response_format, LM Studio": (
        error(400, "'response_format.type' must be 'json_schema' or 'text'"),
        {},
        {"response_format": JSON_OBJECT},
        lambda body: "response_format" not in body,
    ),
    "an open schema, which is never closed": (
        error(400, f"{INVALID} 'additionalProperties' is required to be supplied and to be false.", param=FORMAT),
        {"json_mode": "json_schema"},
        {"response_format": with_schema(OPEN)},
        # What fits the caller's own schema would no longer fit.
        lambda body: body["response_format"] == {"type": "json_object"},
    ),
    "a schema with optional properties": (
        error(400, f"{INVALID} 'required' is required to be an array including every key. Missing 'n'.", param=FORMAT),
        {"json_mode": "json_schema"},
        {"response_format": with_schema(LOOSE)},
        lambda body: body["response_format"] == {"type": "json_object"},
    ),
    "stream only": (
        error(400, "This model only support stream mode, please enable the stream parameter"),
        {},
        {},
        lambda body: body.get("stream") is True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALED)
async def test_what_an_endpoint_cannot_bear_is_left_out_at_once_and_remembered(case: str, openai_chatd: Any) -> None:
    refusal, table, fields, is_mended = HEALED[case]

    async def behave(exchange: Any) -> None:
        answer = fakes.stream(*fakes.openai_events("Hello.")) if exchange.json.get("stream") else good
        await (answer if is_mended(exchange.json) else refusal)(exchange)

    async with openai_chatd([behave], **table, retry={"max_retries": 0, "budget": 0}) as (chatd, endpoint):
        response = await chatd.ask(**fields)
        line = chatd.last_line
        again = await chatd.ask(**fields)
        remembered = chatd.last_line

    assert response.text == again.text == "Hello."
    # Two for the first call, one for the second: it is remembered.
    assert [is_mended(each.json) for each in endpoint.exchanges] == [False, True, True]
    assert (response.upstream_requests, again.upstream_requests) == (2, 1)
    assert line["adapted"] == remembered["adapted"] != []
    assert line["retries"] == 0


async def test_stream_options_are_left_out_of_a_stream(openai_chatd: Any) -> None:
    refusal = error(400, "Unrecognized request argument supplied: stream_options", param="stream_options")
    async with openai_chatd([refusal, fakes.stream(*fakes.openai_events("Hello."))]) as (chatd, endpoint):
        _, response = await chatd.stream()

    assert response.text == "Hello."
    assert ["stream_options" in each.json for each in endpoint.exchanges] == [True, False]


async def test_four_things_are_healed_in_one_call_and_no_fifth(openai_chatd: Any) -> None:
    def refuse(name: str) -> Any:
        return error(400, UNSUPPORTED.format(name), param=name)

    names = ["temperature", "top_p", "seed", "max_tokens", "response_format"]
    fields = {"temperature": 0.2, "top_p": 0.5, "seed": 7, "max_tokens": 9, "response_format": JSON_OBJECT}
    async with openai_chatd([*map(refuse, names), good]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask(**fields)
        last = endpoint.exchanges[-1].json
        sent = len(endpoint.exchanges)
        # What has helped is remembered all the same: the next call begins where this one ended.
        endpoint.behaviours = [refuse("response_format"), good]
        endpoint.exchanges.clear()
        response = await chatd.ask(**fields)

    assert caught.value.reason == "BAD_REQUEST"
    assert sent == 5
    assert set(last) == {"model", "messages", "max_completion_tokens", "response_format"}
    assert endpoint.exchanges[0].json == last
    assert response.text == "Hello."


@pytest.mark.parametrize("name", ["messages", "tools", "stop"])
async def test_what_would_change_the_answer_is_never_left_out(name: str, openai_chatd: Any) -> None:
    refusal = error(400, UNSUPPORTED.format(name), param=name)
    tool = chatd_pb2.ToolDefinition(name="look_up", parameters_json="{}")
    async with openai_chatd([refusal]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask(stop=["END"], tools=[tool], tool_choice="required")

    assert caught.value.reason == "BAD_REQUEST"
    assert len(endpoint.exchanges) == 1


async def test_an_endpoint_that_names_the_same_thing_again_is_asked_no_third_time(openai_chatd: Any) -> None:
    refusal = error(400, UNSUPPORTED.format("temperature"), param="temperature")
    async with openai_chatd([refusal]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask(temperature=0.2)
        assert "adapted" in chatd.last_line

        # What did not help is not remembered.
        with pytest.raises(Fault):
            await chatd.ask(temperature=0.2)

    assert [violation.field for violation in caught.value.violations] == ["temperature"]
    assert ["temperature" in each.json for each in endpoint.exchanges] == [True, False, True, False]


async def test_nothing_is_asked_again_that_may_have_been_billed(openai_chatd: Any) -> None:
    words = {"message": UNSUPPORTED.format("temperature"), "code": 400}
    choice = {"message": {"content": "Hel"}, "error": words, "finish_reason": "error"}
    async with openai_chatd([respond(200, {"choices": [choice]}), good]) as (chatd, endpoint):
        with pytest.raises(Fault):
            await chatd.ask(temperature=0.2)

    assert len(endpoint.exchanges) == 1


def test_a_fault_that_may_have_been_billed_is_not_healed_whatever_it_names() -> None:
    adapter = open_adapter("main", OpenAiTable(type="openai", base_url="http://127.0.0.1/v1"), AdaptationMemory())
    assert adapter is not None
    request = CompletionRequest((Message("user", "Hi."),), temperature=0.2)
    for billed in (True, False):
        healing = Healing(adapter, request, "any", streamed=False)
        fault = UpstreamFault(Reason.BAD_REQUEST, billed=billed, unsupported="temperature")
        assert (healing.again(fault) is None) is billed


async def test_what_helped_is_given_up_once_it_is_what_is_refused(openai_chatd: Any) -> None:
    def refuse(name: str) -> Any:
        return error(400, f"Unsupported parameter: '{name}' is not supported.", param=name)

    behaviours = [refuse("max_tokens"), good, refuse("max_completion_tokens"), good, good]
    async with openai_chatd(behaviours) as (chatd, endpoint):
        for _ in range(3):
            await chatd.ask(max_tokens=9)

    sent = [next(key for key in each.json if key.startswith("max_")) for each in endpoint.exchanges]
    assert sent == ["max_tokens", "max_completion_tokens", "max_completion_tokens", "max_tokens", "max_tokens"]


async def test_one_refused_schema_says_nothing_about_the_next(openai_chatd: Any) -> None:
    async def behave(exchange: Any) -> None:
        schema = exchange.json["response_format"].get("json_schema", {}).get("schema", {})
        refusal = error(400, f"{INVALID} 'oneOf' is not permitted.", param=FORMAT)
        await (refusal if "oneOf" in schema else good)(exchange)

    async with openai_chatd([behave], json_mode="json_schema") as (chatd, endpoint):
        for schema in ({"oneOf": [OPEN]}, OPEN, {"oneOf": [OPEN]}):
            await chatd.ask(response_format=with_schema(schema))

    kinds = [each.json["response_format"]["type"] for each in endpoint.exchanges]
    assert kinds == ["json_schema", "json_object", "json_schema", "json_object"]


# By configuration ---------------------------------------------------------------------------------------------------


async def test_what_the_configuration_drops_is_never_sent(openai_chatd: Any) -> None:
    drop = ["temperature", "top_p", "seed", "stop", "max_tokens", "response_format", "tool_choice", "stream_options"]
    tool = chatd_pb2.ToolDefinition(name="look_up", parameters_json="{}")
    fields: dict[str, Any] = {"temperature": 0.2, "top_p": 0.5, "seed": 7, "max_tokens": 9, "stop": ["END"]}
    async with openai_chatd([fakes.stream(*fakes.openai_events("Hello."))], drop=drop) as (chatd, endpoint):
        _, response = await chatd.stream(**fields, response_format=JSON_OBJECT, tools=[tool], tool_choice="auto")

    assert response.text == "Hello."
    assert set(endpoint.exchanges[0].json) == {"model", "messages", "tools", "stream"}


async def test_a_models_own_table_stands_over_the_providers_key_by_key(openai_chatd: Any) -> None:
    table = {
        "drop": ["seed"],
        "extra_body": {"a": 1, "b": 1},
        "models": {
            "o9": {"drop": ["temperature"], "max_tokens_field": "max_completion_tokens", "extra_body": {"b": 2}}
        },
    }
    fields: dict[str, Any] = {"temperature": 0.2, "seed": 7, "max_tokens": 9}
    async with openai_chatd([good], **table) as (chatd, endpoint):
        await chatd.ask(**fields)
        await chatd.ask(**fields, target=chatd_pb2.Target(model="o9"))

    plain, own = (each.json for each in endpoint.exchanges)
    assert (plain["temperature"], plain["max_tokens"], plain["a"], plain["b"]) == (0.2, 9, 1, 1)
    assert "seed" not in plain
    assert (own["seed"], own["max_completion_tokens"], own["a"], own["b"]) == (7, 9, 1, 2)
    assert "temperature" not in own


async def test_without_a_system_role_its_text_goes_into_the_first_user_turn(openai_chatd: Any) -> None:
    async with openai_chatd([good], system_role=False) as (chatd, endpoint):
        await chatd.ask(messages=[SYSTEM, USER])

    assert endpoint.exchanges[0].json["messages"] == [{"role": "user", "content": "Be brief.\n\nHi."}]


def test_system_turns_are_folded_wherever_they_stand() -> None:
    user, told = Message("user", "Hi."), Message("assistant", "Yes?")

    assert fold_system((user, told)) == (user, told)
    assert fold_system((told, Message("system", "A"), user, Message("system", "B"))) == (
        told,
        Message("user", "A\n\nB\n\nHi."),
    )
    assert fold_system((Message("system", "A"), told)) == (Message("user", "A"), told)


async def test_a_model_that_only_streams_answers_complete_by_a_stream(openai_chatd: Any) -> None:
    events = fakes.openai_events("Once ", "more.")
    async with openai_chatd([fakes.stream(*events)], stream_only=True) as (chatd, endpoint):
        response = await chatd.ask()

    assert endpoint.exchanges[0].json["stream"] is True
    assert response.text == "Once more."
    assert response.usage.input_tokens == 12


@pytest.mark.parametrize(
    ("base_url", "field", "has_seed"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens", True),
        ("https://eu.api.openai.com/v1", "max_completion_tokens", True),
        ("https://API.Mistral.AI./v1", "max_tokens", False),
        ("https://api.openai.com.example.org/v1", "max_tokens", True),
        ("https://notapi.openai.com/v1", "max_tokens", True),
        ("http://127.0.0.1:8000/v1", "max_tokens", True),
    ],
)
def test_a_vendor_is_known_by_the_host_alone(base_url: str, field: str, has_seed: bool) -> None:
    adapter = open_adapter("main", OpenAiTable(type="openai", base_url=base_url), AdaptationMemory())
    assert adapter is not None
    request = adapter.adapt(CompletionRequest((Message("user", "Hi."),), seed=7, max_tokens=9), "any")

    assert request.form.max_tokens_field == field
    assert (request.seed == 7) is has_seed


def test_the_configuration_wins_over_the_vendors_default() -> None:
    table = OpenAiTable(type="openai", base_url="https://api.mistral.ai/v1", drop=())
    adapter = open_adapter("main", table, AdaptationMemory())
    assert adapter is not None
    request = adapter.adapt(CompletionRequest((Message("user", "Hi."),), seed=7), "any")

    assert request.seed == 7
    assert request.form.stream_usage


@pytest.mark.parametrize(("version", "kept"), [("2023-06-01", 0.2), ("2026-10-21", None)])
def test_anthropics_newer_version_gets_no_temperature(version: str, kept: float | None) -> None:
    adapter = open_adapter("main", AnthropicTable(type="anthropic", version=version), AdaptationMemory())
    assert adapter is not None

    assert adapter.adapt(CompletionRequest((Message("user", "Hi."),), temperature=0.2), "any").temperature == kept


@pytest.fixture
def claude(chatd: Any) -> Any:
    @contextlib.asynccontextmanager
    async def start(**table: Any) -> AsyncIterator[Any]:
        async with fakes.FakeEndpoint([respond(200, fakes.anthropic_message())]) as endpoint:
            provider = {"type": "anthropic", "base_url": endpoint.url, "default_model": "fake-claude-1", **table}
            async with chatd(providers={"claude": provider}) as running:
                yield running, endpoint

    return start


async def test_anthropic_takes_further_fields_of_the_body_too(claude: Any) -> None:
    extra = {
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low"},
        "cache_control": {"type": "ephemeral"},
    }
    async with claude(extra_body=extra, json_mode="json_schema") as (chatd, endpoint):
        await chatd.ask(response_format=with_schema(OPEN))

    sent = endpoint.exchanges[0].json
    assert (sent["thinking"], sent["cache_control"]) == (extra["thinking"], extra["cache_control"])
    assert sent["output_config"]["effort"] == "low"
    assert sent["output_config"]["format"]["type"] == "json_schema"


# What is remembered -------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_helped_is_forgotten_after_an_hour() -> None:
    clock = Clock()
    memory = AdaptationMemory(clock)
    memory.remember("p", "m", "seed")
    clock.now = REMEMBERED_S / 2
    memory.remember("p", "m", "top_p")

    assert memory.known("p", "m") == ("seed", "top_p")
    assert memory.known("p", "other") == memory.known("other", "m") == ()
    clock.now = REMEMBERED_S
    assert memory.known("p", "m") == ("top_p",)
    clock.now = REMEMBERED_S * 2
    assert memory.known("p", "m") == ()
    assert len(memory) == 0


def test_the_longest_unused_are_forgotten_first() -> None:
    memory = AdaptationMemory(Clock())
    for number in range(REMEMBERED_MAX):
        memory.remember("p", f"m{number}", "seed")
    memory.known("p", "m0")
    memory.remember("p", "new", "seed")

    assert len(memory) == REMEMBERED_MAX
    assert memory.known("p", "m0") == ("seed",)
    assert memory.known("p", "m1") == ()
