"""What of a form and of restricted content reaches which endpoint: by target, by dialect, and after a refusal.

The endpoints take what their vendors document and refuse the rest (tests/support/schema_subsets.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import jsonschema_rs
import pytest
from schema_subsets import SUBSETS, schema_of

from chatd.config import AnthropicTable, OpenAiTable, ScriptedTable
from chatd.schemas.dialects import DIALECT_NAMES, DIALECTS
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault
from lakehouse.trace_context import trace_metadata
from lakehouse.tracing.receiver import TraceReceiver

fakes = sys.modules["chatd_tests_fake_endpoint"]
FORMAT, SENT = chatd_pb2.ResponseFormat, chatd_pb2.SentFormat
OBJECT, SCHEMA, TEXT = FORMAT.TYPE_JSON_OBJECT, FORMAT.TYPE_JSON_SCHEMA, FORMAT.TYPE_TEXT
SYSTEM, USER = chatd_pb2.ROLE_SYSTEM, chatd_pb2.ROLE_USER
SECRET = "Zebulon"


def pair(number: int) -> dict[str, Any]:
    constants = {"worker_id": {"const": f"{SECRET}-{number}"}, "name": {"const": f"{SECRET} {number}"}}
    return {"type": "object", "properties": constants, "required": ["worker_id", "name"], "additionalProperties": False}


def crew(**workers: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"workers": {"type": "array", **workers}},
        "required": ["workers"],
        "additionalProperties": False,
    }


PERSON = {
    "type": "object",
    "properties": {"worker_id": {"type": "string"}, "name": {"type": "string"}},
    "required": ["worker_id", "name"],
    "additionalProperties": False,
}
FORM = crew(items=PERSON, minItems=2, maxItems=2)
SLOTS = crew(
    prefixItems=[{"anyOf": [pair(1), pair(2)]}, {"anyOf": [pair(3), pair(4)]}], items=False, minItems=2, maxItems=2
)
PAIRS = crew(items={"anyOf": [pair(n) for n in range(4)]}, minItems=2, maxItems=2)
TWO = {"workers": [{"worker_id": f"{SECRET}-{n}", "name": f"{SECRET} {n}"} for n in (1, 3)]}


def wanted(schema: Any = FORM, restricted: Any = SLOTS) -> chatd_pb2.ResponseFormat:
    return FORMAT(
        type=SCHEMA,
        schema_json=json.dumps(schema),
        restricted_schema_json="" if restricted is None else json.dumps(restricted),
    )


def turns() -> list[chatd_pb2.Message]:
    return [
        chatd_pb2.Message(role=SYSTEM, content="Be brief.", restricted_content=f"Choose of {SECRET}."),
        chatd_pb2.Message(role=USER, restricted_content=f"Only for you: {SECRET}."),
        chatd_pb2.Message(role=USER, content="Two, please.", restricted_content=f"Two of {SECRET}, please."),
    ]


def vendor(dialect: str) -> Callable[[Any], Awaitable[None]]:
    """Return an endpoint of that vendor."""
    anthropic = dialect == "anthropic"
    body = fakes.anthropic_message() if anthropic else fakes.completion("Hello.")

    async def behave(exchange: Any) -> None:
        refusal = SUBSETS[dialect](exchange.json)
        if refusal is None:
            answer = fakes.respond(200, body)
        elif anthropic:
            answer = fakes.respond(400, {"error": {"type": "invalid_request_error", "message": refusal}})
        else:
            answer = fakes.error(400, refusal)
        await answer(exchange)

    return behave


@pytest.fixture
def served(chatd: Any) -> Any:
    """`async with served(behaviour, **provider) as (chatd, endpoint):` a chatd with one endpoint."""

    @contextlib.asynccontextmanager
    async def start(behaviour: Any, **table: Any) -> AsyncIterator[Any]:
        behaviours = behaviour if isinstance(behaviour, list) else [behaviour]
        async with fakes.FakeEndpoint(behaviours) as endpoint:
            provider = {"type": "openai", "base_url": f"{endpoint.url}/v1", "default_model": "fake-1", **table}
            provider["retry"] = {"max_retries": 0, "budget": 0}
            async with chatd(providers={"main": provider}) as running:
                yield running, endpoint

    return start


def provider_of(dialect: str) -> dict[str, Any]:
    return {"schema_dialect": dialect, "type": "anthropic" if dialect == "anthropic" else "openai"}


# Every dialect -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restricted", [SLOTS, PAIRS], ids=["slots", "pairs"])
@pytest.mark.parametrize("dialect", DIALECT_NAMES)
async def test_every_endpoint_is_sent_the_most_that_it_bears_and_refuses_nothing(
    dialect: Any, restricted: Any, served: Any
) -> None:
    async with served(vendor(dialect), **provider_of(dialect)) as (chatd, endpoint):
        response = await chatd.ask(response_format=wanted(FORM, restricted), messages=turns())

    assert len(endpoint.exchanges) == 1
    sent = endpoint.exchanges[0].json
    bears = DIALECTS[dialect].restricted
    assert response.sent == SENT(
        type=SCHEMA,
        schema=SENT.SCHEMA_RESTRICTED if bears else SENT.SCHEMA_PLAIN,
        dialect=dialect,
        restricted_content=True,
        degraded="" if bears else "NOT_BORNE",
    )
    schema = schema_of(sent)
    assert (SECRET in json.dumps(schema)) is bears
    assert jsonschema_rs.is_valid(schema, TWO)
    assert SECRET in json.dumps(sent["messages"])


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
async def test_every_endpoint_takes_the_form_alone(dialect: Any, served: Any) -> None:
    async with served(vendor(dialect), **provider_of(dialect)) as (chatd, endpoint):
        response = await chatd.ask(response_format=wanted(FORM, None))

    assert len(endpoint.exchanges) == 1
    assert response.sent == SENT(type=SCHEMA, schema=SENT.SCHEMA_PLAIN, dialect=dialect)


@pytest.mark.parametrize(
    ("dialect", "form"),
    [
        ("openai", {"name": "answer", "strict": True}),
        ("vllm", {"name": "answer", "strict": True}),
        ("llama_cpp", {"name": "answer", "strict": True}),
    ],
)
async def test_a_schema_stands_where_the_endpoint_looks_for_it(dialect: str, form: Any, served: Any) -> None:
    async with served(vendor(dialect), **provider_of(dialect)) as (chatd, endpoint):
        await chatd.ask(response_format=wanted(FORM, None))

    sent = endpoint.exchanges[0].json["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {**form, "schema": FORM}}


async def test_llama_cpp_python_gets_a_schema_beside_the_type_json_object(served: Any) -> None:
    async with served(vendor("llama_cpp_python"), schema_dialect="llama_cpp_python") as (chatd, endpoint):
        await chatd.ask(response_format=wanted(FORM, None))

    assert endpoint.exchanges[0].json["response_format"] == {"type": "json_object", "schema": FORM}


async def test_a_models_own_dialect_stands_over_the_providers(served: Any) -> None:
    models = {"local": {"schema_dialect": "llama_cpp_python"}}
    async with served(vendor("plain"), schema_dialect="vllm", models=models) as (chatd, _):
        own = await chatd.ask(response_format=wanted(), target=chatd_pb2.Target(model="local"))
        other = await chatd.ask(response_format=wanted())

    assert (own.sent.dialect, other.sent.dialect) == ("llama_cpp_python", "vllm")


@pytest.mark.parametrize(
    ("base_url", "dialect"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com", "openai"),
        ("http://127.0.0.1:11434/v1", "ollama"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini"),
        ("http://127.0.0.1:8000/v1", "plain"),
        ("https://api.openai.com.example.org/v1", "plain"),
    ],
)
def test_a_dialect_is_known_by_host_and_port(base_url: str, dialect: str) -> None:
    from chatd.adaptation import AdaptationMemory, open_adapter
    from chatd.completion import CompletionRequest, Message, ResponseFormat

    adapter = open_adapter("main", OpenAiTable(type="openai", base_url=base_url), AdaptationMemory())
    assert adapter is not None
    request = CompletionRequest(
        (Message("user", "Hi."),), response_format=ResponseFormat("json_schema", json.dumps(FORM))
    )
    adapted = adapter.adapt(request, "any")

    assert adapted.response_format is not None
    assert adapted.response_format.dialect == ("" if dialect == "plain" else dialect)
    # Who is not known to bear schemas is asked for an object, as ever.
    assert adapted.response_format.form == ("json_object" if dialect == "plain" else "json_schema")


# Degradation ---------------------------------------------------------------------------------------------------------

REFUSALS = [
    "json_schema response format is not supported",
    "response_format is not currently supported",
    "This model does not support response format json_schema",
    "response_format: unknown variant `json_schema`, expected `text` or `json_object`",
    "Structured outputs are not available for this model",
    "JSON schema is not enabled for this model",
    "Invalid value for response_format: json_schema",
    "guided decoding is not supported by this backend",
    "Failed to compile json_schema grammar",
    "Invalid schema for response_format 'answer': too complex",
    "The response_format parameter is not supported yet",
    "json_schema mode is unavailable",
    "response format json_schema isn't supported here",
    "Only text response format is allowed",
    "The provider does not offer JSON schema",
    "Model does not implement response_format",
    "Your schema has too many properties",
    "Schema exceeds the maximum nesting depth",
]


def refuses(message: str, is_refused: Callable[[Any], bool]) -> Callable[[Any], Awaitable[None]]:
    async def behave(exchange: Any) -> None:
        refused = is_refused(exchange.json)
        await (fakes.error(400, message) if refused else fakes.respond(200, fakes.completion()))(exchange)

    return behave


@pytest.mark.parametrize("message", REFUSALS)
async def test_a_refused_form_goes_down_one_step_at_a_time_and_is_remembered(message: str, served: Any) -> None:
    behave = refuses(message, lambda body: "response_format" in body)
    async with served(behave, schema_dialect="vllm") as (chatd, endpoint):
        first = await chatd.ask(response_format=wanted())
        asked = [each.json.get("response_format") for each in endpoint.exchanges]
        # Another restricted schema, another session.
        again = await chatd.ask(response_format=wanted(FORM, PAIRS))
        endpoint.exchanges.clear()
        without = await chatd.ask()

    assert [each and each["type"] for each in asked] == ["json_schema", "json_schema", "json_object", None]
    assert [SECRET in json.dumps(each) for each in asked] == [True, False, False, False]
    assert first.sent == again.sent == SENT(type=TEXT, schema=SENT.SCHEMA_NONE, degraded="REFUSED")
    assert (first.upstream_requests, again.upstream_requests) == (4, 1)
    assert not without.HasField("sent")


@pytest.mark.parametrize(
    ("is_refused", "type_", "schema", "requests"),
    [
        (lambda body: SECRET in json.dumps(body), SCHEMA, SENT.SCHEMA_PLAIN, 2),
        (lambda body: schema_of(body) is not None, OBJECT, SENT.SCHEMA_NONE, 3),
    ],
)
async def test_it_stops_at_the_first_that_is_taken(
    is_refused: Any, type_: Any, schema: Any, requests: int, served: Any
) -> None:
    behave = refuses("Invalid schema for response_format 'answer': no", is_refused)
    async with served(behave, schema_dialect="llama_cpp") as (chatd, _):
        first = await chatd.ask(response_format=wanted())
        again = await chatd.ask(response_format=wanted(FORM, PAIRS))
        line = chatd.last_line

    assert (first.upstream_requests, again.upstream_requests) == (requests, 1)
    for response in (first, again):
        assert (response.sent.type, response.sent.schema, response.sent.degraded) == (type_, schema, "REFUSED")
    assert line["degraded"] == "REFUSED"


async def test_a_refusal_that_may_have_been_billed_is_not_repeated(served: Any) -> None:
    words = {"message": REFUSALS[0], "code": 400}
    choice = {"message": {"content": "Hel"}, "error": words, "finish_reason": "error"}
    async with served(fakes.respond(200, {"choices": [choice]}), schema_dialect="vllm") as (chatd, endpoint):
        with pytest.raises(Fault):
            await chatd.ask(response_format=wanted())

    assert len(endpoint.exchanges) == 1


async def test_a_retried_request_keeps_what_it_was_shown(served: Any) -> None:
    behaviours = [fakes.error(400, "Unsupported parameter: 'seed'", param="seed"), vendor("vllm")]
    async with served(behaviours, schema_dialect="vllm") as (chatd, endpoint):
        response = await chatd.ask(response_format=wanted(), messages=turns(), seed=7)

    first, second = (each.json for each in endpoint.exchanges)
    assert first.pop("seed") == 7
    assert first == second
    assert response.sent.schema == SENT.SCHEMA_RESTRICTED


async def test_what_is_too_large_for_an_endpoint_is_not_sent_to_it(served: Any) -> None:
    many = crew(items={"anyOf": [pair(n) for n in range(501)]}, minItems=2, maxItems=2)
    async with served(vendor("openai"), schema_dialect="openai") as (chatd, endpoint):
        form = await chatd.ask(response_format=wanted(FORM, many))
        none = await chatd.ask(response_format=wanted(many, None))

    assert len(endpoint.exchanges) == 2
    assert form.sent == SENT(type=SCHEMA, schema=SENT.SCHEMA_PLAIN, dialect="openai", degraded="TOO_LARGE")
    assert none.sent == SENT(type=OBJECT, schema=SENT.SCHEMA_NONE, degraded="TOO_LARGE")


@pytest.mark.parametrize(("json_mode", "type_"), [("json_object", OBJECT), ("none", TEXT)])
async def test_what_the_configuration_says_is_not_borne(json_mode: str, type_: Any, served: Any) -> None:
    async with served(vendor("plain"), json_mode=json_mode) as (chatd, endpoint):
        response = await chatd.ask(response_format=wanted())
        plain = await chatd.ask(response_format=FORMAT(type=OBJECT))

    assert response.sent == SENT(type=type_, schema=SENT.SCHEMA_NONE, degraded="NOT_BORNE")
    assert plain.sent == SENT(type=type_, degraded="" if type_ == OBJECT else "NOT_BORNE")
    assert SECRET not in endpoint.exchanges[0].body.decode()


async def test_a_callers_open_schema_goes_to_openai_as_it_is_and_unenforced(served: Any) -> None:
    loose = {"type": "object", "properties": {"n": {"type": "integer"}}}
    async with served(vendor("openai"), schema_dialect="openai") as (chatd, endpoint):
        response = await chatd.ask(response_format=wanted(loose, None))

    sent = endpoint.exchanges[0].json["response_format"]["json_schema"]
    assert sent == {"name": "answer", "schema": loose, "strict": False}
    assert response.sent.degraded == ""


# Who may see ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "proxy", "sees"),
    [
        ("http://127.0.0.1:8000/v1", "", True),
        ("http://127.9.9.9/v1", "", True),
        ("http://[::1]:8000/v1", "", True),
        ("http://localhost:8000/v1", "", True),
        ("http://LOCALHOST./v1", "", True),
        ("http://localhost:8000/v1", "http://proxy.example:3128", False),
        ("http://127.0.0.1/v1", "environment", False),
        ("https://api.openai.com/v1", "", False),
        ("http://localhost.example.org/v1", "", False),
        ("http://127.0.0.1.example.org/v1", "", False),
        ("http://10.0.0.1/v1", "", False),
        ("http://0.0.0.0/v1", "", False),
        ("http://[::ffff:10.0.0.1]/v1", "", False),
        ("http://128.0.0.1/v1", "", False),
    ],
)
def test_by_default_this_machine_sees_and_no_other(base_url: str, proxy: str, sees: bool) -> None:
    assert OpenAiTable(type="openai", base_url=base_url, proxy=proxy).sees_candidates is sees
    assert AnthropicTable(type="anthropic", base_url=base_url, proxy=proxy).sees_candidates is sees
    for said in (True, False):
        assert OpenAiTable(type="openai", base_url=base_url, may_see_candidates=said).sees_candidates is said
    assert ScriptedTable(type="scripted").sees_candidates


def test_anthropics_own_address_does_not_see() -> None:
    assert not AnthropicTable(type="anthropic").sees_candidates


@pytest.mark.parametrize("streamed", [False, True], ids=["Complete", "StreamComplete"])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("refusal", [None, "System role not supported", REFUSALS[1], "roles must alternate"])
async def test_not_a_byte_of_what_is_restricted_reaches_a_target_that_may_not_see_it(
    refusal: str | None, kind: str, streamed: bool, served: Any
) -> None:
    body = fakes.anthropic_message() if kind == "anthropic" else fakes.completion()
    good = fakes.respond(200, body)
    behaviours = [good] if refusal is None else [fakes.error(400, refusal), good]
    table = {"type": kind, "schema_dialect": "plain", "may_see_candidates": False}
    async with served(behaviours, **table) as (chatd, endpoint):
        fields: dict[str, Any] = {"response_format": wanted(), "messages": turns()}
        outcome: Any
        if streamed:
            _, outcome = await chatd.stream(**fields)
        else:
            try:
                outcome = await chatd.ask(**fields)
            except Fault as fault:
                outcome = fault

    assert endpoint.exchanges
    for exchange in endpoint.exchanges:
        assert SECRET.encode() not in exchange.body + json.dumps(exchange.headers).encode() + exchange.path.encode()
        # A turn that had nothing else in it is left out; the others stand.
        assert "Two, please." in exchange.body.decode()
        assert '""' not in exchange.body.decode()
    assert SECRET not in f"{outcome} {chatd.log}"
    if not isinstance(outcome, Fault):
        assert not outcome.sent.restricted_content
        assert outcome.sent.degraded != ""


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
@pytest.mark.parametrize("shown", ["messages", "schema"])
async def test_what_a_seeing_endpoint_quotes_is_neither_in_the_log_nor_in_the_error(
    shown: str, status: int, served: Any
) -> None:
    echo = fakes.error(status, f"Do not know {SECRET} 1, who is {SECRET}-1", code=f"no_{SECRET}")
    fields: dict[str, Any] = {"messages": turns()} if shown == "messages" else {"response_format": wanted()}
    async with served(echo, schema_dialect="plain") as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask(**fields)
        log = str(chatd.log)
        with pytest.raises(Fault):
            await chatd.ask()
        words = str(chatd.last_line["upstream"])

    assert SECRET in endpoint.exchanges[0].body.decode()
    assert SECRET not in f"{caught.value} {caught.value.violations} {log}"
    assert "HTTP" in log
    # Of a request that showed nothing the words are quoted, as ever.
    assert SECRET in words


async def test_each_target_of_a_route_and_each_fallback_sees_what_it_may(chatd: Any) -> None:
    refusing = fakes.error(500, "broken")
    async with contextlib.AsyncExitStack() as stack:
        ends = {"seeing": refusing, "blind": refusing, "last": vendor("vllm")}
        fake = {name: await stack.enter_async_context(fakes.FakeEndpoint([end])) for name, end in ends.items()}
        providers = {
            name: {
                "type": "openai",
                "base_url": f"{each.url}/v1",
                "default_model": "m",
                "schema_dialect": "vllm",
                "may_see_candidates": name != "blind",
                "retry": {"max_retries": 0},
            }
            for name, each in fake.items()
        }
        route = {"targets": [{"provider": "seeing"}, {"provider": "blind"}]}
        running = await stack.enter_async_context(
            chatd(providers=providers, routes={"careful": route}, default_provider="careful")
        )
        response = await running.ask(
            response_format=wanted(), messages=turns(), fallbacks=[chatd_pb2.Target(provider="last")]
        )

    bodies = {name: each.exchanges[0].body.decode() for name, each in fake.items()}
    assert {name: SECRET in body for name, body in bodies.items()} == {"seeing": True, "blind": False, "last": True}
    assert response.sent.schema == SENT.SCHEMA_RESTRICTED


async def test_the_system_role_is_folded_from_what_the_target_was_shown(served: Any) -> None:
    for sees, words in ((True, [f"Choose of {SECRET}.\n\nOnly for you: {SECRET}.", f"Two of {SECRET}, please."]),
                        (False, ["Be brief.\n\nTwo, please."])):  # fmt: skip
        async with served(vendor("plain"), system_role=False, may_see_candidates=sees) as (chatd, endpoint):
            await chatd.ask(messages=turns())
        assert [each["content"] for each in endpoint.exchanges[0].json["messages"]] == words


# The generation ------------------------------------------------------------------------------------------------------


@pytest.fixture
def generation_of(chatd: Any) -> Any:
    """Return the attributes of the generation of one call to `targets`: (may it see, its endpoint's behaviour)."""

    async def ask(*targets: tuple[bool, Any]) -> tuple[Mapping[str, Any], Any]:
        trace_id = uuid.uuid4().hex
        async with contextlib.AsyncExitStack() as stack:
            receiver = stack.enter_context(TraceReceiver())
            tracing = {
                "host": receiver.url,
                "public_key": f"pk-{trace_id}",
                "secret_key": "sk",
                "flush_interval_ms": 20,
            }
            providers = {}
            for number, (sees, behaviour) in enumerate(targets):
                endpoint = await stack.enter_async_context(fakes.FakeEndpoint([behaviour]))
                providers[f"p{number}"] = {
                    "type": "openai",
                    "base_url": f"{endpoint.url}/v1",
                    "default_model": "m",
                    "schema_dialect": "vllm",
                    "may_see_candidates": sees,
                    "retry": {"max_retries": 0},
                }
            running = await stack.enter_async_context(
                chatd(providers=providers, default_provider="p0", tracing=tracing)
            )
            outcome: Any
            try:
                outcome = await running.ask(
                    response_format=wanted(),
                    messages=turns(),
                    fallbacks=[chatd_pb2.Target(provider=name) for name in [*providers][1:]],
                    metadata=trace_metadata(trace_id, "00000000000000aa", "session-1"),
                )
            except Fault as fault:
                outcome = fault
            tree = await asyncio.to_thread(receiver.wait_for, lambda it: it.tree(trace_id), 5)
        (span,) = tree.spans
        return span.attributes, outcome

    return ask


BROKEN = fakes.error(500, "broken")


async def test_a_generation_records_what_was_sent(generation_of: Any) -> None:
    given, response = await generation_of((True, vendor("vllm")))

    said = json.loads(given["langfuse.observation.input"])
    assert [each["content"] for each in said] == [each.restricted_content for each in turns()]
    prefix = "langfuse.observation.metadata."
    facts = {key.removeprefix(prefix): json.loads(given[key]) for key in given if key.startswith(prefix)}
    assert (facts["sent_form"], facts["sent_schema"], facts["sent_dialect"]) == ("json_schema", "restricted", "vllm")
    assert facts["sent_restricted_content"] is True
    assert "degraded" not in facts
    assert response.sent.restricted_content


@pytest.mark.parametrize(
    "targets",
    [
        [(False, vendor("vllm"))],
        [(True, BROKEN), (False, vendor("vllm"))],
        [(False, BROKEN)],
        [(True, BROKEN), (False, BROKEN)],
    ],
    ids=["blind", "a seeing one fails first", "it fails", "both fail"],
)
async def test_the_generation_of_a_target_that_may_not_see_has_nothing_that_it_may_not_see(
    targets: Any, generation_of: Any
) -> None:
    given, _ = await generation_of(*targets)

    assert [each["content"] for each in json.loads(given["langfuse.observation.input"])] == [
        "Be brief.",
        "Two, please.",
    ]
    assert SECRET not in str(given)
    assert "MAY_NOT_SEE" in str(given)


# The request's own checks ---------------------------------------------------------------------------------------------

Message = chatd_pb2.Message
ASSISTANT, TOOL = chatd_pb2.ROLE_ASSISTANT, chatd_pb2.ROLE_TOOL
TOO_LONG = json.dumps({"a": "x" * 262_144})
HI = Message(role=USER, content="Hi.")


@pytest.mark.parametrize(
    ("fields", "violations"),
    [
        ({"messages": [HI, Message(role=TOOL, content="a", tool_call_id="1", restricted_content="b")]},
         ["messages[1].restricted_content", "messages[1].restricted_content"]),
        ({"messages": [Message(role=USER, restricted_content="b")]}, ["messages"]),
        ({"messages": [Message(role=SYSTEM, content="a"), Message(role=USER, restricted_content="b")]}, ["messages"]),
        ({"response_format": FORMAT(type=OBJECT, restricted_schema_json="{}")}, ["response_format.type"]),
        ({"response_format": FORMAT(type=SCHEMA, schema_json="{}", restricted_schema_json="[")},
         ["response_format.restricted_schema_json"]),
        ({"response_format": FORMAT(type=SCHEMA, restricted_schema_json="{}")}, ["response_format.schema_json"]),
        ({"response_format": FORMAT(type=SCHEMA, schema_json="{}", restricted_schema_json=TOO_LONG)},
         ["response_format.restricted_schema_json"]),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_said_of_every_field(fields: Any, violations: list[str], served: Any) -> None:
    async with served(vendor("plain")) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask(**fields)

    assert [each.field for each in caught.value.violations] == violations


def test_restricted_content_counts_towards_the_size_of_a_conversation() -> None:
    from chatd.wire import CONTENT_BYTES_MAX, read_request

    half = "x" * (CONTENT_BYTES_MAX // 2 + 1)
    request = chatd_pb2.CompleteRequest(messages=[Message(role=USER, content=half, restricted_content=half)])
    with pytest.raises(Fault) as caught:
        read_request(request)

    assert [each.field for each in caught.value.violations] == ["messages"]
