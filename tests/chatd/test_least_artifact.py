"""The scripted provider's `from_schema`: the first and least JSON that fits the schema that was sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.providers.least_artifact import NoArtifactError, least_artifact
from chatd.providers.script import load_script
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.settings import ConfigError

FORMAT = chatd_pb2.ResponseFormat
SENT = chatd_pb2.SentFormat


def pair(number: int) -> dict[str, Any]:
    constants = {"worker_id": {"const": f"W-{number}"}, "name": {"const": f"Name {number}"}}
    return {"type": "object", "properties": constants, "required": ["worker_id", "name"], "additionalProperties": False}


def crew(**workers: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"workers": {"type": "array", **workers}}, "required": ["workers"]}


PAIRS = crew(items={"anyOf": [pair(n) for n in range(5)]}, minItems=3, maxItems=3)
SLOTS = crew(prefixItems=[{"anyOf": [pair(0), pair(2)]}, {"anyOf": [pair(1), pair(3)]}], items=False, minItems=2)
ANSWERED = '{"workers":[{"worker_id":"W-0","name":"Name 0"},{"worker_id":"W-1","name":"Name 1"}%s]}'


@pytest.mark.parametrize(
    ("schema", "artifact"),
    [
        (PAIRS, ANSWERED % ',{"worker_id":"W-2","name":"Name 2"}'),
        (SLOTS, ANSWERED % ""),
        ({"enum": ["b", "a"]}, '"b"'),
        ({"const": None}, "null"),
        ({"type": ["integer", "null"], "minimum": 3}, "3"),
        ({"type": "number", "exclusiveMaximum": 0}, "-1"),
        ({"type": "object", "properties": {"a": {}, "b": {"type": "boolean"}}, "required": ["b"]}, '{"b":false}'),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "minLength": 2}}}, '"xx"'),
        ({"allOf": [{"type": "object"}, {"properties": {"a": {"const": 1}}, "required": ["a"]}]}, '{"a":1}'),
        ({"anyOf": [False, {"const": 2}]}, "2"),
    ],
)
def test_it_is_the_first_that_fits(schema: dict[str, Any], artifact: str) -> None:
    assert least_artifact(json.dumps(schema)) == artifact


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^a$"},
        {"$ref": "https://example.org/schema"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "array", "items": False, "minItems": 1},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "nonsense"},
        {"enum": []},
        {"type": "array", "uniqueItems": True, "items": {"enum": [1]}, "minItems": 2},
    ],
)
def test_what_it_cannot_make_it_does_not_make_up(schema: dict[str, Any]) -> None:
    with pytest.raises(NoArtifactError):
        least_artifact(json.dumps(schema))


LEAVES = st.sampled_from(
    [{"const": 1}, {"enum": ["a", "b"]}, {"type": "string", "minLength": 1}, {"type": "integer"}, {}]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda each: {"anyOf": each}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda items, count: {"type": "array", "items": items, "minItems": count}, inner, st.integers(0, 3)),
        st.builds(
            lambda slots: {"type": "array", "prefixItems": slots, "minItems": len(slots)},
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(
            lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)},
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        ),
    ),
    max_leaves=8,
)


@given(SCHEMAS)
def test_what_is_made_fits_always(schema: dict[str, Any]) -> None:
    assert jsonschema_rs.is_valid(schema, json.loads(least_artifact(json.dumps(schema))))


# In a script ---------------------------------------------------------------------------------------------------------

SCRIPT = """
[[replies]]
from_schema = true
delta_ms = 1

[[replies]]
text = "no schema came"
"""


@pytest.fixture
def scripted(chatd: Any, tmp_path: Path) -> Any:
    (tmp_path / "script.toml").write_text(SCRIPT)
    table = {"type": "scripted", "script": str(tmp_path / "script.toml")}
    return lambda **more: chatd(providers={"stand-in": {**table, **more}})


def wanted(schema: Any, restricted: Any = None) -> chatd_pb2.ResponseFormat:
    return FORMAT(
        type=FORMAT.TYPE_JSON_SCHEMA,
        schema_json=json.dumps(schema),
        restricted_schema_json="" if restricted is None else json.dumps(restricted),
    )


async def test_a_script_answers_by_the_schema_that_was_sent(scripted: Any) -> None:
    async with scripted() as chatd:
        plain = await chatd.ask(response_format=wanted(crew()))
        restricted = await chatd.ask(response_format=wanted(crew(), SLOTS))
        none = await chatd.ask()
        unmade = await chatd.ask(response_format=wanted({"type": "string", "pattern": "^a$"}))
        _, streamed = await chatd.stream(response_format=wanted(crew(), SLOTS))

    assert plain.text == '{"workers":[]}'
    assert plain.sent == SENT(type=FORMAT.TYPE_JSON_SCHEMA, schema=SENT.SCHEMA_PLAIN, dialect="plain")
    assert restricted.text == streamed.text
    assert json.loads(restricted.text) == json.loads(ANSWERED % "")
    assert restricted.sent == SENT(type=FORMAT.TYPE_JSON_SCHEMA, schema=SENT.SCHEMA_RESTRICTED, dialect="plain")
    assert none.text == unmade.text == "no schema came"
    assert not none.HasField("sent")


async def test_one_that_may_not_see_answers_by_the_plain_schema(scripted: Any) -> None:
    async with scripted(may_see_candidates=False) as chatd:
        response = await chatd.ask(response_format=wanted(crew(), SLOTS))

    assert response.text == '{"workers":[]}'
    assert response.sent.schema == SENT.SCHEMA_PLAIN
    assert response.sent.degraded == "MAY_NOT_SEE"


@pytest.mark.parametrize("other", ["text = 'a'", "hang = true", "error = 'PROVIDER_FAILED'"])
def test_a_reply_is_made_from_the_schema_or_is_something_else(other: str, tmp_path: Path) -> None:
    (tmp_path / "script.toml").write_text(f"[[replies]]\nfrom_schema = true\n{other}\n")

    with pytest.raises(ConfigError, match=r"replies\.0"):
        load_script(tmp_path / "script.toml")
