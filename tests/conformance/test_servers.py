"""chatd against servers that we did not write: LiteLLM's proxy and llama-cpp-python's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault

Target = chatd_pb2.Target
MOCK = "Hello from a mock: naïve 😀."


@pytest.fixture
def litellm(litellm_url: str, chatd: Any, tmp_path: Path) -> Any:
    (tmp_path / "key").write_text("sk-conformance-1")
    (tmp_path / "wrong").write_text("sk-wrong")

    def table(kind: str, path: str, key: str) -> dict[str, Any]:
        return {
            "type": kind,
            "base_url": litellm_url + path,
            "api_key_file": str(tmp_path / key),
            "default_model": "mock-good",
            "retry": {"base_ms": 5},
            "prices": {"mock-good": {"input": 1.0, "output": 2.0}},
        }

    providers = {
        "proxy": table("openai", "/v1", "key"),
        "messages": table("anthropic", "", "key"),
        "locked-out": table("openai", "/v1", "wrong"),
    }
    return lambda: chatd(providers=providers, default_provider="proxy")


async def test_litellm_answers(litellm: Any) -> None:
    async with litellm() as running:
        response = await running.ask("Hello?", temperature=0.5, max_tokens=50, stop=["END"], seed=1, timeout_s=30)

    assert response.text == MOCK
    assert (response.provider, response.model) == ("proxy", "mock-good")
    assert response.finish_reason == chatd_pb2.FINISH_REASON_STOP
    assert response.usage.input_tokens > 0
    assert response.usage.output_tokens > 0
    assert response.cost.total_usd > 0
    assert response.upstream_requests == 1


async def test_litellm_streams(litellm: Any) -> None:
    async with litellm() as running:
        pieces, response = await running.stream("Hello?", timeout_s=30)

    assert "".join(text for _, text in pieces) == response.text == MOCK
    assert len(pieces) >= 1
    assert response.usage.output_tokens > 0
    assert response.finish_reason == chatd_pb2.FINISH_REASON_STOP


@pytest.mark.parametrize("streamed", [False, True], ids=["Complete", "StreamComplete"])
async def test_litellms_messages_api_answers_the_anthropic_provider(streamed: bool, litellm: Any) -> None:
    async with litellm() as running:
        target = Target(provider="messages")
        if streamed:
            _, response = await running.stream("Hello?", target=target, timeout_s=30)
        else:
            response = await running.ask("Hello?", target=target, timeout_s=30)

    assert response.text == MOCK
    assert response.provider == "messages"
    assert response.usage.input_tokens > 0
    assert response.finish_reason == chatd_pb2.FINISH_REASON_STOP


@pytest.mark.parametrize(
    ("target", "code", "reason", "requests"),
    [
        (Target(model="mock-limited"), "RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", 3),
        (Target(model="mock-long"), "FAILED_PRECONDITION", "CONTEXT_TOO_LONG", 1),
        (Target(model="mock-broken"), "ABORTED", "PROVIDER_FAILED", 1),
        (Target(model="nowhere"), "ABORTED", "PROVIDER_FAILED", 1),
        (Target(model="absent"), "FAILED_PRECONDITION", "MODEL_NOT_FOUND", 1),
        (Target(provider="locked-out"), "FAILED_PRECONDITION", "PROVIDER_AUTH", 1),
    ],
)
async def test_litellms_refusals_have_their_reasons(
    target: Any, code: str, reason: str, requests: int, litellm: Any
) -> None:
    async with litellm() as running:
        with pytest.raises(Fault) as caught:
            await running.ask("Hello?", target=target, timeout_s=30)

        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert running.last_line["upstream_requests"] == requests


async def test_litellm_refuses_and_the_fallback_answers(litellm: Any) -> None:
    async with litellm() as running:
        response = await running.ask(
            "Hello?", target=Target(provider="locked-out"), fallbacks=[Target(provider="messages")], timeout_s=30
        )

    assert (response.text, response.provider) == (MOCK, "messages")
    assert response.upstream_requests == 2


@pytest.fixture
def llama(llama_url: str, chatd: Any) -> Any:
    table = {"type": "openai", "base_url": f"{llama_url}/v1", "default_model": "tiny-random"}
    return lambda: chatd(providers={"llama": table})


async def test_llama_cpp_makes_real_json_where_json_was_asked_for(llama: Any) -> None:
    wanted = chatd_pb2.ResponseFormat(type=chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT)
    finished = 0
    async with llama() as running:
        # The weights are random: where the grammar allows an end, a seed finds it or runs into max_tokens.
        for seed in range(12):
            response = await running.ask("{", response_format=wanted, seed=seed, max_tokens=80, timeout_s=30)
            if response.finish_reason == chatd_pb2.FINISH_REASON_STOP:
                assert isinstance(json.loads(response.text), dict)
                finished += 1
        noise = await running.ask("{", seed=1, max_tokens=80, timeout_s=30)

    assert finished > 0
    with pytest.raises(ValueError, match=r"Expecting|Extra"):
        json.loads(noise.text)


async def test_llama_cpp_streams_and_repeats_itself_with_a_seed(llama: Any) -> None:
    async with llama() as running:
        pieces, response = await running.stream("Once", seed=3, temperature=0.0, max_tokens=40, timeout_s=30)
        whole = await running.ask("Once", seed=3, temperature=0.0, max_tokens=40, timeout_s=30)

    assert "".join(text for _, text in pieces) == response.text
    # Its stream leaves out characters that take several tokens of this byte vocabulary; the whole answer has them.
    assert _ascii(response.text) == _ascii(whole.text) != ""
    assert response.finish_reason == whole.finish_reason


async def test_llama_cpp_says_that_the_conversation_is_too_long(llama: Any) -> None:
    async with llama() as running:
        with pytest.raises(Fault) as caught:
            await running.ask("word " * 400, timeout_s=30)

    assert caught.value.reason == "CONTEXT_TOO_LONG"


def _pair(number: int, name: str) -> dict[str, Any]:
    constants = {"worker_id": {"const": f"W-{number:06}"}, "name": {"const": name}}
    return {"type": "object", "properties": constants, "required": ["worker_id", "name"], "additionalProperties": False}


def _crew(**workers: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"workers": {"type": "array", **workers}}, "required": ["workers"]}
    return {**schema, "additionalProperties": False}


PEOPLE = [_pair(number, name) for number, name in enumerate(["Ann", "Seán O'Neil", "Ayşe", "Li 李"])]
UNSPELT = _pair(9, 'Ed "Spud" Murphy')
BRIEFS = {
    "slots": _crew(
        prefixItems=[{"anyOf": PEOPLE[:2]}, {"anyOf": PEOPLE[2:]}], items=False, minItems=2, maxItems=2
    ),
    "pairs": _crew(items={"anyOf": [*PEOPLE, UNSPELT]}, minItems=2, maxItems=2),
    "a form": _crew(
        items={"type": ["object", "null"], "properties": {"n": {"enum": ["a", "b"]}}, "required": ["n"],
               "additionalProperties": False},
        minItems=1, maxItems=2,
    ),
    "a reference": {**_crew(items={"$ref": "#/$defs/who"}, minItems=1, maxItems=1), "$defs": {"who": PEOPLE[1]}},
}  # fmt: skip


@pytest.mark.parametrize("name", BRIEFS)
async def test_llama_cpp_python_holds_noise_to_a_schema_in_its_dialect(name: str, llama_url: str, chatd: Any) -> None:
    table = {
        "type": "openai",
        "base_url": f"{llama_url}/v1",
        "default_model": "t",
        "schema_dialect": "llama_cpp_python",
    }
    schema = json.dumps(BRIEFS[name])
    wanted = chatd_pb2.ResponseFormat(
        type=chatd_pb2.ResponseFormat.TYPE_JSON_SCHEMA, schema_json='{"type":"object"}', restricted_schema_json=schema
    )
    finished = 0
    async with chatd(providers={"llama": table}) as running:
        for seed in range(4):
            response = await running.ask("Two.", response_format=wanted, seed=seed, max_tokens=300, timeout_s=60)
            assert response.sent.schema == chatd_pb2.SentFormat.SCHEMA_RESTRICTED
            if response.finish_reason == chatd_pb2.FINISH_REASON_STOP:
                # The weights are random: that it fits is the grammar's doing, and so the schema's.
                assert jsonschema_rs.is_valid(BRIEFS[name], json.loads(response.text)), response.text
                assert UNSPELT["properties"]["name"]["const"] not in response.text
                finished += 1

    assert finished > 0


def _ascii(text: str) -> str:
    return text.encode("ascii", "ignore").decode()
