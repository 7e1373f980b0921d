"""Goal: what a vendor writes is understood, for every vendor; another target answers wherever one may.

Method: the bodies of vendor_errors.py, read by the table alone and sent over sockets.
"""

from __future__ import annotations

import contextlib
import re
import string
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

import orjson
import pytest
from campaigns import campaign
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chatd.error_rules import ErrorRule, packaged_rules, plain
from chatd.masking import masked
from chatd.providers.upstream_errors import error_words, from_http
from chatd.upstream_fault import UpstreamFault
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault

fakes = sys.modules["chatd_tests_fake_endpoint"]
vendors = sys.modules["chatd_tests_vendor_errors"]
respond, completion = fakes.respond, fakes.completion
OWN_KEY = "sk-own-0123456789abcdefghij-0123456789"


def read(status: int, body: object, *, hidden: str = "", **how: Any) -> UpstreamFault:
    answer = body
    if isinstance(body, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            answer = orjson.loads(body)
    return from_http(status, error_words(answer), {}, hidden=hidden, **how)


@pytest.mark.parametrize("case", vendors.ALL, ids=lambda case: case.name)
def test_the_table_reads(case: Any) -> None:
    fault = read(case.status, case.body)

    assert (fault.reason, fault.unsupported) == (case.reason, case.unsupported)
    assert fault.repeatable == vendors.is_repeatable(case)
    assert fault.retry_after_ms == case.retry_after_ms
    if fault.unsupported:
        assert not fault.billed


@pytest.fixture(scope="module")
async def pair() -> AsyncIterator[Any]:
    """Yield a chatd with `refuser`, which a test scripts, and `good`; one for the whole module."""
    from chatd.__main__ import compose
    from chatd.config import ChatdConfig
    from lakehouse.clients import AsyncChatClient
    from lakehouse.server import bootstrap

    async with fakes.FakeEndpoint() as refuser, fakes.FakeEndpoint([respond(200, completion("Good."))]) as good:
        table = {
            "type": "openai",
            "default_model": "m",
            "breaker": {"failures": 0},
            "retry": {"base_ms": 1, "budget": 10_000, "retry_after_max_ms": 500},
        }
        config = ChatdConfig.model_validate(
            {
                "bind": "127.0.0.1:0",
                "providers": {
                    "refuser": {**table, "base_url": f"{refuser.url}/v1"},
                    "good": {**table, "base_url": f"{good.url}/v1"},
                },
                "routes": {"both": {"targets": [{"provider": "refuser"}, {"provider": "good"}]}},
                "default_provider": "refuser",
            }
        )
        async with (
            bootstrap.running("chatd", config, compose) as server,
            AsyncChatClient(server.address) as client,
        ):
            yield client, refuser


def refuse(case: Any) -> Any:
    content_type = "text/html" if isinstance(case.body, str) and case.body.startswith("<") else "application/json"
    return respond(case.status, case.body, content_type)


def request(provider: str, **fields: Any) -> chatd_pb2.CompleteRequest:
    return chatd_pb2.CompleteRequest(
        messages=[chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content="Hi.")],
        target=chatd_pb2.Target(provider=provider),
        **fields,
    )


@pytest.mark.parametrize("case", vendors.ALL, ids=lambda case: case.name)
async def test_a_route_goes_on_after(case: Any, pair: Any) -> None:
    client, refuser = pair
    refuser.behaviours = [refuse(case)]

    response = await client.complete(request("both"), timeout_s=5)

    assert (response.text, response.provider) == ("Good.", "good")


@pytest.mark.parametrize("case", vendors.ALL, ids=lambda case: case.name)
async def test_alone_the_caller_gets_the_reason_of(case: Any, pair: Any) -> None:
    client, refuser = pair
    refuser.behaviours = [refuse(case)]
    refuser.exchanges.clear()

    with pytest.raises(Fault) as caught:
        await client.complete(request("refuser"), timeout_s=5)

    assert (caught.value.reason, caught.value.where) == (case.reason, "chatd")
    far = case.retry_after_ms is not None and case.retry_after_ms > 500
    billed = case.reason == "PROVIDER_FAILED"
    if not vendors.is_repeatable(case) or far or billed:
        # What waiting does not mend is asked once, and what may heal is asked at most once for each parameter.
        assert len(refuser.exchanges) <= 1 + bool(case.unsupported)
    else:
        assert len(refuser.exchanges) == 3


# The same said in other words; by what it means and the thing that is not borne.
SENTENCES = {
    ("BAD_REQUEST", "seed"): (
        "seed is not a supported parameter",
        "Parameter 'seed' not recognized",
        "Unexpected parameter: seed",
        "You may not set seed for this model",
        "Model foo: the field `seed` that you sent is currently not supported",
        "Unexpected field 'seed' in request body",
        "Additional properties are not allowed ('seed' was unexpected)",
        "must NOT have additional properties: seed",
        "The following parameters are not supported: seed, top_p",
        "{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted'}",
    ),
    ("BAD_REQUEST", "response_format"): ("This model does not support structured output",),
    ("BAD_REQUEST", "stream_only"): ("Non-stream mode is not supported",),
    ("BAD_REQUEST", "temperature"): (
        "This model only supports temperature=1",
        "reasoning models do not accept the temperature parameter",
        "Invalid value: temperature. Only the default value is supported.",
        "Unsupported option: temperature",
        "temperature parameter cannot be used here",
    ),
    ("BAD_REQUEST", "top_p"): ("`top_p` must be at least 0.95 or unset when thinking is enabled.",),
    ("BAD_REQUEST", "max_tokens"): ("this model is not supported MaxTokens, please use MaxCompletionTokens",),
    ("BAD_REQUEST", "stream_options"): (
        "stream_options should be set along with stream = true",
        "The 'stream_options' parameter is only allowed when 'stream' is enabled",
    ),
    ("BAD_REQUEST", "response_schema"): (
        "response_format: unknown variant `json_schema`, expected `text` or `json_object` at line 1 column 300",
        "response_format: Input should be 'text' or 'json_object'",
        "Unknown name \"responseSchema\" at 'generation_config': Cannot find field.",
    ),
    ("BAD_REQUEST", "system_role"): (
        "System messages are not allowed for this model",
        "Unexpected role 'system'",
        "Invalid role: system",
        "Unsupported message role: system",
        "system_instruction is not supported for this model",
        "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
    ),
    ("BAD_REQUEST", ""): (
        "Invalid value for 'temperature': 2.5 must be between 0 and 2",
        "temperature must be 1 or less",
        "top_p: must be 1 or less",
        "Invalid schema for function 'f': None is not of type 'object'",
        "Invalid key in messages[0]",
        "Invalid role: tool. Use system, user or assistant.",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
    ),
    ("CONTEXT_TOO_LONG", ""): (
        "too many tokens: size limit exceeded by 11326 tokens. Try using shorter or fewer inputs",
        "Total tokens of image and text exceed max message tokens",
        "total message token length exceed model limit",
        "Prompt length exceeds the model's limit",
        "Please reduce the length of the input messages.",
        "the input token count is 1048577 but model only supports up to 1048576",
        "Your input is 9000 tokens but the limit is 8192",
        "The conversation history is too long",
        "Sequence length 9000 exceeds maximum sequence length 8192",
    ),
    ("PROVIDER_QUOTA", ""): (
        "Your account is suspended, please check your plan and billing details",
        "Your prepaid balance is exhausted. Top up to continue.",
        "Your account balance is insufficient",
        "Monthly quota exceeded",
        "Insufficient account balance",
        "You've hit your usage limit",
    ),
    ("CONTENT_FILTERED", ""): (
        "input sensitive content detected",
        "The request failed because the input text may contain sensitive information.",
        "Your request was blocked by moderation",
        "Your input was flagged for violence. No credits were charged.",
    ),
    ("PROVIDER_AUTH", ""): (
        "Missing or invalid Authorization header.",
        "Malformed API key",
        "The API key provided is invalid",
        "Your API key is not valid",
        "API key is missing",
        "Authentication parameter not received in Header",
    ),
}


@pytest.mark.parametrize(
    ("meaning", "sentence"), [(meaning, each) for meaning, sentences in SENTENCES.items() for each in sentences]
)
def test_a_sentence_is_read_whoever_writes_it(meaning: tuple[str, str], sentence: str) -> None:
    fault = read(400, {"error": {"message": sentence, "type": "invalid_request_error", "param": None, "code": None}})

    assert (fault.reason, fault.unsupported, fault.billed) == (*meaning, False)


async def test_an_error_beside_choices_that_are_none_is_read(openai_chatd: Any) -> None:
    body = {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}
    async with openai_chatd([respond(200, body)]) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == "PROVIDER_QUOTA"


def test_every_rule_stands_where_it_can_be_reached() -> None:
    """Each phrase of the table, alone in an error, means what its own rule says: none above it takes it away."""
    for rule in packaged_rules():
        status = rule.status[0] if rule.status else 400
        for phrase in rule.words:
            if rule.code or "{parameter}" in phrase:
                continue
            message = phrase.replace("{number}", "7").replace("{word}", "x").replace("*", " ") + " x"
            fault = read(status, {"error": {"message": message}})
            assert fault.reason == rule.reason, phrase


def test_a_401_is_about_the_key_whatever_it_says() -> None:
    for case in vendors.ALL:
        assert read(401, case.body).reason == "PROVIDER_AUTH", case.name


def test_the_order_of_the_table_is_its_precedence() -> None:
    quota_and_rate = {"error": {"message": "Rate limit: your credit balance is too low", "code": "rate_limit_exceeded"}}
    length_and_rate = {"error": {"message": "prompt is too long, rate limit", "code": "rate_limit_exceeded"}}
    filter_and_field = {"error": {"message": "flagged", "code": "content_filter", "param": "temperature"}}

    assert read(429, quota_and_rate).reason == "PROVIDER_QUOTA"
    assert read(429, length_and_rate).reason == "CONTEXT_TOO_LONG"
    assert read(400, filter_and_field).reason == "CONTENT_FILTERED"


def test_an_operators_rules_come_first() -> None:
    rules = (
        ErrorRule(reason="PROVIDER_QUOTA", status=(401,), words=("wallet * empty",)),
        ErrorRule(reason="BAD_REQUEST", code=("E17",), unsupported="seed"),
        ErrorRule(reason="PROVIDER_RATE_LIMITED", status=(418,), repeat=False),
    )

    assert read(401, {"error": "The wallet is Empty"}, rules=rules).reason == "PROVIDER_QUOTA"
    assert read(401, {"error": "no"}, rules=rules).reason == "PROVIDER_AUTH"
    assert read(400, {"code": "e17"}, rules=rules).unsupported == "seed"
    teapot = read(418, "", rules=rules)
    assert (teapot.reason, teapot.repeatable) == ("PROVIDER_RATE_LIMITED", False)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"reason": "PROVIDER_QUOTA"}, "say when it fits"),
        ({"reason": "NOPE", "status": [400]}, "reason"),
        ({"reason": "DEADLINE", "status": [400]}, "reason"),
        ({"reason": "PROVIDER_QUOTA", "status": [40]}, "status"),
        ({"reason": "PROVIDER_QUOTA", "words": ["*"]}, "must hold some words"),
        ({"reason": "PROVIDER_QUOTA", "words": ["{parameter}"]}, "must hold some words"),
        ({"reason": "PROVIDER_QUOTA", "status": [400], "unsupported": "seed"}, "unsupported is for BAD_REQUEST"),
        ({"reason": "BAD_REQUEST", "status": [400], "unsupported": "sead"}, "unsupported"),
        ({"reason": "PROVIDER_QUOTA", "status": [400], "wrods": ["x"]}, "wrods"),
    ],
)
def test_a_rule_that_says_nothing_or_nonsense_is_refused_at_the_start(rule: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ErrorRule.model_validate(rule)


async def test_an_operators_rule_in_the_configuration_is_used(openai_chatd: Any) -> None:
    rule = {"reason": "PROVIDER_QUOTA", "status": [400], "words": ["wallet is empty"]}
    async with openai_chatd([fakes.error(400, "Your 'Wallet' is empty.")], errors=[rule]) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == "PROVIDER_QUOTA"


def test_the_table_is_data_with_known_keys_alone() -> None:
    text = resources.files("chatd.providers").joinpath("upstream_errors.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)

    assert set(table) == {"parameters", "errors"}
    for rule in table["errors"]:
        ErrorRule.model_validate(rule)
        for code in rule.get("code", ()):
            assert code == code.lower()
    for aliases in table["parameters"].values():
        for alias in aliases:
            assert alias == plain(alias)


@campaign(100)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=40)
        | st.sampled_from(['{"error":', "[[[", '{"a":1}']),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(
                st.sampled_from(
                    ["error", "code", "message", "detail", "param", "loc", "metadata", "raw", "type", "status"]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=30,
    ),
    st.sampled_from([200, 400, 401, 403, 404, 418, 429, 500, 503]),
)
def test_any_body_is_read_as_something(body: object, status: int) -> None:
    fault = read(status, body)

    assert len(fault.detail) < 1000
    assert fault.detail.isprintable()


@pytest.mark.parametrize(
    "message",
    [
        "model " * 60_000,
        "request too large " * 20_000,
        "unsupported parameter " * 20_000 + "temperature",
        "{" * 100_000,
        '{"error":' * 20_000,
        "sk-" * 50_000,
        "a1" * 60_000,
        "please try again in 1h" * 10_000,
        "key: " * 30_000,
        "temperature." * 20_000,
    ],
    ids=["model", "large", "parameter", "braces", "nested", "keys", "run", "wait", "names", "dots"],
)
def test_no_body_makes_a_search_backtrack(message: str) -> None:
    read(400, {"error": {"message": "warm"}})
    started_s = time.thread_time()

    read(400, {"error": {"message": message, "code": message[:500]}}, hidden=OWN_KEY)

    # This thread's CPU, not the clock's time: a search that backtracks takes minutes here.
    assert time.thread_time() - started_s < 5


def test_a_deep_or_wide_body_is_bounded() -> None:
    deep: Any = "context_length_exceeded"
    for _ in range(300):
        deep = {"error": deep}
    wide = {"errors": [{"detail": [{"msg": "x" * 5000}] * 500}] * 500}

    assert read(400, deep).reason == "BAD_REQUEST"
    assert read(400, wide).reason == "BAD_REQUEST"


# Secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        OWN_KEY,
        OWN_KEY[:20],
        OWN_KEY[-12:],
        "sk-proj-Abc123Def456Ghi789Jkl012",
        "sk-ant-api03-aaaaBBBB1111_2222-cccc",
        "gsk_abcdefghijklmnop1234567890",
        "xai-Zyxwv9876543210abcdefgh",
        "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEF",
        "pplx-0123456789abcdef0123456789abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123456",
        "0123456789abcdef0123456789abcdef",
        "sk-ab***********************wxyz",
        "123e4567-e89b-12d3-a456-426614174000",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ],
)
@pytest.mark.parametrize(
    "sentence", ["Incorrect API key provided: {}. Find yours at x.", "key {} is unknown", "Bearer {}", '"{}"', "{}"]
)
def test_no_key_like_word_reaches_the_log(secret: str, sentence: str) -> None:
    detail = read(400, {"error": {"message": sentence.format(secret)}}, hidden=OWN_KEY).detail

    assert secret not in detail
    kept = [piece for piece in re.findall(r"[A-Za-z0-9]{9,}", secret) if piece in detail]
    assert not kept
    assert "***" in detail


@pytest.mark.parametrize(
    "sentence",
    [
        *("Invalid token {}", "token '{}' not found", "password '{}' is wrong", "x-api-key header '{}' is invalid"),
        *("api key [{}]", "API key <{}>", "apikey%3D{}", "https://user:{}@host/v1", "?key={}&alt=sse", "key of `{}`"),
    ],
)
def test_a_short_secret_is_known_by_what_stands_before_it(sentence: str) -> None:
    assert "q7f9w2k1" not in masked(sentence.format("q7f9w2k1"))


@pytest.mark.parametrize("words", ["token 'expected' at 3", "tokens 131072", "key messages", "token limit (131072)"])
def test_a_word_behind_the_name_of_a_secret_is_left(words: str) -> None:
    assert masked(words, OWN_KEY) == words


@pytest.mark.parametrize(
    "key",
    ["SK-ABCDEFGHIJ", "Sk-proj-abcdef", "sk-abcdefgh-ijkl", "pk_live-only-letters", "gsk-letters-alone", "GSK_LETTERS"],
)
def test_what_begins_as_a_key_is_masked_whatever_its_letters(key: str) -> None:
    assert key not in masked(f"Incorrect key {key} given")


def test_hyphenated_words_behind_the_name_of_a_secret_are_masked() -> None:
    assert "prod-team-alpha" not in masked("Invalid token 'prod-team-alpha-secret' in the header")
    for words in ("token limit exceeded", "tokens per minute: rate-limit reached", "the key word is missing"):
        assert masked(words) == words


def test_our_key_in_capitals_is_masked() -> None:
    assert masked(f"wrong: {OWN_KEY.upper()}.", OWN_KEY) == "wrong: ***."


def test_a_key_at_the_cut_is_masked_before_the_cut() -> None:
    for length in range(200, 320):
        detail = read(400, {"error": {"message": "x " * (length // 2) + OWN_KEY}}, hidden=OWN_KEY).detail

        assert "sk-own" not in detail


@pytest.mark.parametrize(
    "words",
    [
        "claude-sonnet-4-5-20250929",
        "accounts/fireworks/models/llama-v3p1-405b-instruct",
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "context_length_exceeded",
        "This model's maximum context length is 131072 tokens",
        "invalid token: unexpected end of input",
        "tokens per minute (TPM): Limit 6000, Requested 7512",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
    ],
)
def test_what_helps_the_operator_is_left(words: str) -> None:
    assert masked(words, OWN_KEY) == words


@settings(derandomize=True, max_examples=300)
@given(
    st.text(alphabet=string.ascii_letters + string.digits + "-_", min_size=8, max_size=80),
    st.text(max_size=60),
    st.text(max_size=60),
    st.data(),
)
def test_eight_characters_of_our_key_in_a_row_never_pass(
    key: str, before: str, after: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(key) - 8))
    piece = key[start : start + data.draw(st.integers(8, len(key)))]

    made = masked(before + piece + after, key)

    assert not any(key[at : at + 8] in made for at in range(len(key) - 7))


async def test_the_log_masks_keys_that_are_not_ours_and_pieces_of_ours(openai_chatd: Any) -> None:
    theirs = fakes.error(401, "Incorrect API key provided: sk-theirs-9876543210zyxw. Find yours at x.")
    ours = fakes.error(400, f"The key {OWN_KEY[:20]}… is of another region")
    async with openai_chatd([theirs, ours], api_key=OWN_KEY) as (chatd, _):
        for _ in range(2):
            with pytest.raises(Fault):
                await chatd.ask()
        log = str(chatd.log)

    assert "another region" in log
    assert "9876543210" not in log
    assert OWN_KEY[:12] not in log
    assert "***" in log


# What may be wrong with the configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "body", "hint"),
    [
        ("", respond(404, "<html><title>404 Not Found</title></html>", "text/html"), "base_url may lack /v1"),
        ("", respond(404, {"detail": "Not Found"}), "base_url may lack /v1"),
        ("/api", respond(404, "404 page not found", "text/plain"), "base_url may lack /v1"),
        ("", respond(405, {"detail": "Method Not Allowed"}), "base_url may lack /v1"),
        ("/v1", respond(404, "404 page not found", "text/plain"), "is base_url right?"),
        ("/v1", fakes.error(404, "The model `x` does not exist.", code="model_not_found"), ""),
    ],
    ids=["page", "FastAPI", "text", "405", "with /v1", "the model"],
)
async def test_a_404_says_what_may_be_wrong_with_the_base_url(
    base: str, body: Any, hint: str, openai_chatd: Any
) -> None:
    async with fakes.FakeEndpoint([body]) as endpoint, openai_chatd([], base_url=endpoint.url + base) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask()
        line = str(chatd.last_line["upstream"])

    assert caught.value.reason == "MODEL_NOT_FOUND"
    assert hint in line
    assert hint or "base_url" not in line


async def test_a_v1_too_many_of_the_messages_api_is_named(chatd: Any) -> None:
    async with fakes.FakeEndpoint([respond(404, {"type": "error", "error": {"message": "Not found"}})]) as endpoint:
        table = {"type": "anthropic", "base_url": f"{endpoint.url}/v1", "default_model": "m"}
        async with chatd(providers={"main": table}) as running:
            with pytest.raises(Fault):
                await running.ask()
            line = str(running.last_line["upstream"])

    assert "one /v1 too many" in line
