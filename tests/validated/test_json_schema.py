"""Kind json_schema: what a schema accepts, what a hostile one can do (nothing)."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from rosters import judge

from lakehouse.errors import Fault, Reason
from validated.config import LimitsTable
from validated.datasets.worker import Draw, Found, Question, RosterUnavailable
from validated.kinds.json_schema import JsonSchemaValidator
from validated.kinds.validator import Tools

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"n": {"type": "integer", "maximum": 10**30}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["n"],
    "additionalProperties": False,
}


class NoRoster:
    """The kind has no roster check: asking is a failure."""

    async def look_up(self, question: Question) -> Any:
        raise RosterUnavailable("must not be asked")

    async def draw(self, draw: Draw, qualifies: Callable[[Found], bool]) -> Any:
        raise RosterUnavailable("must not be asked")


@pytest.fixture(scope="module")
async def gate() -> AsyncIterator[JsonSchemaValidator]:
    validator = JsonSchemaValidator(Tools(NoRoster(), LimitsTable(schema_ms=1000, schema_processes=1)))
    yield validator
    await validator.aclose()


async def _found(gate: JsonSchemaValidator, schema: Any, artifact: Any) -> list[tuple[str, str, str]]:
    findings, ground = await judge(gate, json.dumps(artifact), kind="json_schema", schema_json=json.dumps(schema))
    assert ground is None
    return [(finding.code, finding.path, finding.message) for finding in findings.kept]


async def _refused(gate: JsonSchemaValidator, schema: Any, artifact: Any = 1) -> str:
    with pytest.raises(Fault) as caught:
        await _found(gate, schema, artifact)
    assert caught.value.reason is Reason.BAD_REQUEST
    (violation,) = caught.value.violations
    assert violation.field == "json_schema.schema_json"
    assert len(violation.description) < 500
    return violation.description


async def test_what_the_schema_accepts_passes(gate: JsonSchemaValidator) -> None:
    assert await _found(gate, SCHEMA, {"n": 10**30, "tags": ["a"]}) == []
    assert await _found(gate, True, {"any": None}) == []


async def test_each_breach_is_a_finding_with_its_pointer(gate: JsonSchemaValidator) -> None:
    found = await _found(gate, SCHEMA, {"n": 10**30 + 1, "tags": ["a", 5], "x/y": 1})
    assert {(code, path) for code, path, _ in found} == {("SCHEMA", "/n"), ("SCHEMA", "/tags/1"), ("SCHEMA", "")}
    assert any("x/y" in message for _, _, message in found)
    assert any("it is 5" in message for _, _, message in found)
    assert all(message.isprintable() and len(message) < 500 for _, _, message in found)


async def test_findings_are_bounded_and_the_rest_is_counted(gate: JsonSchemaValidator) -> None:
    findings, _ = await judge(
        gate, ["x"] * 5000, kind="json_schema", schema_json='{"items": {"type": "integer"}}', findings_max=10
    )
    assert len(findings.kept) == 10
    assert findings.left_out == 4990


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "nope"}, "not a JSON Schema"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "2020-12"),
        ({"$schema": 7}, "2020-12"),
        ({"pattern": "(?=a)b"}, "look-ahead"),
        ({"properties": {"a": {"patternProperties": {"^(?!x)": {}}}}}, "look-ahead"),
        ({"pattern": "(?<=a)b"}, "look-behind"),
        ({"pattern": r"(a)\1"}, "a back-reference"),
        ({"pattern": "[a"}, "not a regular expression"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "nope"}, "not a JSON Schema"),
        ({"pattern": "((((a{1000}){1000}){1000}){1000})"}, "not a JSON Schema"),
        (
            {"properties": {"a": {"type": "int"}}},
            '/properties/a/type: "int" is no type, or types; the types are string,',
        ),
        ({"$ref": "#/nowhere"}, "not a JSON Schema"),
        ({"type": "object", "requird": ["a"]}, '"requird" is no keyword of JSON Schema, which would leave it out; did'),
        ({"properties": {"a": {"maxlength": 3}}}, 'did you mean "maxLength"?'),
        ({"$defs": {"a": {"anyOf": [{"one_of": []}]}}}, 'did you mean "oneOf"?'),
        ({"items": [{"enums": [1]}], "$schema": "http://json-schema.org/draft-07/schema#"}, 'did you mean "enum"?'),
        ({"properties": {"a": {"additionalPropertis": False}}}, 'did you mean "additionalProperties"?'),
        ({"allOf": [{"ref": "#/$defs/a"}]}, 'did you mean "$ref"?'),
        ({"$ref": "file:///etc/passwd"}, "leads outside"),
    ],
)
async def test_a_schema_that_cannot_be_used_is_refused_with_a_reason(
    gate: JsonSchemaValidator, schema: Any, says: str
) -> None:
    assert says in await _refused(gate, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"requird": {"type": "string"}, "enums": {}}},
        {"enum": [{"requird": 1}], "default": {"maxlength": 1}, "const": {"requird": 1}, "examples": [{"types": 1}]},
        {"type": "string", "example": "a", "nullable": True, "discriminator": {"propertyName": "a"}, "x-enums": []},
        {"type": "string", "note": "of the desk", "markdownDescription": "a", "enumNames": ["a"], "order": 1, "$x": 1},
        {"dependencies": {"a": ["b"]}, "definitions": {"types": {}}, "patternProperties": {"^ref$": {}}},
    ],
)
async def test_names_that_are_no_keywords_are_left_alone(gate: JsonSchemaValidator, schema: Any) -> None:
    await _found(gate, schema, "a")


_PETS = {
    "cat": {
        "properties": {
            "kind": {"const": "cat"},
            "meows": {"type": "integer"},
            "name": {"type": "string"},
            "age": {"type": "integer"},
        },
        "required": ["kind", "meows"],
    },
    "dog": {"properties": {"kind": {"enum": ["dog"]}, "barks": {"type": "integer"}}, "required": ["kind", "barks"]},
}
_PET = {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}]}
_DEFS = {"$defs": _PETS}
_CITIES = [f"city {number}" for number in range(40)]


def _variant(name: str, **properties: Any) -> dict[str, Any]:
    return {"properties": {"type": {"const": name}, **properties}, "required": ["type"]}


_OPTIONAL = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "artifact", "found"),
    [
        ({"properties": {"age": _OPTIONAL}}, {"age": "old"}, [("/age", "integer, null")]),
        ({"properties": {"pet": _PET}, **_DEFS}, {"pet": {"kind": "cat", "meows": "x"}}, [("/pet/meows", '"x"')]),
        ({"properties": {"pet": _PET}, **_DEFS}, {"pet": {"kind": "dog", "barks": []}}, [("/pet/barks", "integer")]),
        (
            {"properties": {"pet": {"oneOf": [{"$ref": "#/$defs/dog"}, {"$ref": "#/$defs/cat"}]}}, **_DEFS},
            {"pet": {"kind": "cat", "meows": "x", "name": 1, "age": "x"}},
            [("/pet/age", "integer"), ("/pet/meows", '"x"'), ("/pet/name", "string")],
        ),
        (
            {"properties": {"pet": {"anyOf": [_PET, {"type": "null"}]}}, "$defs": _PETS},
            {"pet": {"kind": "dog", "barks": "x"}},
            [("/pet/barks", '"x"')],
        ),
        ({"items": {"anyOf": [_OPTIONAL, {"required": ["a"], "type": "object"}]}}, [{}], [("/0", '"a"')]),
        ({"properties": {"a": {"properties": {"": {"properties": {"b": {"type": "null"}}}}}}}, {"a": {"": {"b": 1}}},
         [("/a//b", "null")]),
        ({"properties": {"": {"type": "null"}}}, {"": 1}, [("/", "null")]),
        ({"properties": {"": {"type": "null"}, "a": {"type": "null"}}}, {"a": 1}, [("/a", "null")]),
        ({"enum": _CITIES}, "City 7", [("", '40 values that are allowed; the nearest are "city 7"')]),
        ({"enum": ["a", "b"]}, "c", [("", '"a" or "b"')]),
        ({"enum": list("abcdefgh")}, "x", [("", '"a", "b", "c", "d", "e", "f", "g" or "h"; it is "x"')]),
        ({"anyOf": [{"const": each} for each in _CITIES]}, "City 7", [("", 'nearest are "city 7"')]),
        ({"anyOf": [{"const": "red"}, {"enum": ["green", "blue"]}]}, "grean", [("", '"red", "green" or "blue"')]),
        ({"oneOf": [_variant("a", u={"enum": ["x", "y"]}, w={"enum": ["x", "z"]}), _variant("b")]},
         {"type": "a", "u": "q", "w": "q"}, [("/u", '"x" or "y"'), ("/w", '"x" or "z"')]),
        ({"oneOf": [_variant("a", mode={"enum": ["x", "y"]}, n={"type": "integer"}),
                    _variant("b", n={"type": "string"})]},
         {"type": "a", "mode": "zz", "n": "1"}, [("/mode", '"x" or "y"'), ("/n", "integer")]),
        ({"anyOf": [{"properties": {"h": {"properties": {"t": {"const": each}}}, "v": {"enum": [each, each + each]}}}
                    for each in "ab"]}, {"h": {"t": "b"}, "v": "q"}, [("/v", '"b" or "bb"')]),
        ({"anyOf": [{"properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name"]},
                    {"properties": {"title": {"type": "string"}}, "required": ["title"]}]},
         {"name": 1, "age": "5"}, [("/age", "integer"), ("/name", "string")]),
        ({"enum": []}, "x", [("", "the schema allows no value here")]),
        ({"contains": {"const": 1}, "minContains": 2}, [1, 2], [("", "too few or too many items")]),
        ({"properties": {"pet": _PET}, **_DEFS}, {"pet": {"kind": "cow", "meows": 1}},
         [("/pet/kind", 'is not "cat" or "dog"; it is "cow"')]),
    ],
)  # fmt: skip
async def test_a_finding_says_what_is_wrong_where_it_is_wrong(
    gate: JsonSchemaValidator, schema: Any, artifact: Any, found: list[tuple[str, str]]
) -> None:
    got = await _found(gate, schema, artifact)
    assert [path for _, path, _ in got] == [path for path, _ in found]
    for (_, _, message), (_, says) in zip(got, found, strict=True):
        assert says in message


_TUPLE = {"items": [{"type": "integer"}]}
_ABOVE = {"minimum": 5, "exclusiveMinimum": True}


@pytest.mark.parametrize(
    ("dialect", "schema", "artifact", "passes"),
    [
        ("http://json-schema.org/draft-07/schema#", _TUPLE, ["a"], False),
        ("http://json-schema.org/draft-07/schema#", _TUPLE, [1, "a"], True),
        ("http://json-schema.org/draft-06/schema", {"contains": {"const": 1}}, [2], False),
        ("http://json-schema.org/draft-04/schema#", _ABOVE, 5, False),
        ("http://json-schema.org/draft-04/schema#", _ABOVE, 6, True),
        ("https://json-schema.org/draft/2019-09/schema", {"dependentRequired": {"a": ["b"]}}, {"a": 1}, False),
        ("https://json-schema.org/draft/2020-12/schema", {"prefixItems": [{"type": "integer"}]}, ["a"], False),
        ("http://json-schema.org/draft-07/schema#", {"prefixItems": [{"type": "integer"}]}, ["a"], True),
        ("http://json-schema.org/draft-07/schema#", {"format": "email"}, "nobody", True),
    ],
)
async def test_a_schema_is_read_by_the_draft_that_it_names(
    gate: JsonSchemaValidator, dialect: str, schema: Any, artifact: Any, *, passes: bool
) -> None:
    assert (await _found(gate, {"$schema": dialect, **schema}, artifact) == []) is passes


async def test_no_reference_is_fetched(gate: JsonSchemaValidator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema"
        for schema in ({"$ref": url}, {"$dynamicRef": url}, {"$id": url, "$ref": "other"}):
            await _refused(gate, schema)
        with pytest.raises(BlockingIOError):
            server.accept()


def _bomb(doublings: int) -> dict[str, Any]:
    """Return a schema of a few kilobytes whose check against a string takes 2^doublings steps."""
    defs: dict[str, Any] = {"a0": {"type": "integer"}}
    for number in range(1, doublings):
        below = {"$ref": f"#/$defs/a{number - 1}"}
        defs[f"a{number}"] = {"anyOf": [{"allOf": [below, below]}, {"allOf": [below, below, False]}]}
    return {"$defs": defs, "$ref": f"#/$defs/a{doublings - 1}"}


async def test_a_schema_that_takes_forever_is_stopped_and_the_next_one_is_checked(gate: JsonSchemaValidator) -> None:
    # It would take days.
    assert "took more than 1000 ms" in await _refused(gate, _bomb(40), "x")
    assert await _found(gate, SCHEMA, {"n": 1}) == []


async def test_the_event_loop_goes_on_while_a_schema_takes_forever(gate: JsonSchemaValidator) -> None:
    task = asyncio.create_task(_refused(gate, _bomb(41), "x"))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.005)
        turns += 1
    await task
    assert turns > 20


async def test_a_cancelled_check_is_stopped_at_once_and_its_answer_reaches_nobody() -> None:
    patient = JsonSchemaValidator(Tools(NoRoster(), LimitsTable(schema_ms=60_000, schema_processes=1)))
    await _found(patient, SCHEMA, {"n": 1})
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await _found(patient, _bomb(42), "x")
    assert time.monotonic() - started < 50  # below schema_ms
    assert await _found(patient, {"type": "string"}, 5) != []
    assert await _found(patient, {"type": "integer"}, 5) == []
    await patient.aclose()


async def test_backtracking_patterns_cost_nothing(gate: JsonSchemaValidator) -> None:
    # A finding about the text, not a refusal of a schema that took too long.
    ((code, path, _),) = await _found(gate, {"pattern": "^(a+)+$"}, "a" * 50_000 + "!")
    assert (code, path) == ("SCHEMA", "")


async def test_an_idle_process_ends_with_the_validator() -> None:
    validator = JsonSchemaValidator(Tools(NoRoster(), LimitsTable()))
    await _found(validator, SCHEMA, {"n": 1})
    (idle,) = validator._idle
    await validator.aclose()
    assert idle._process is not None
    assert idle._process.returncode is not None
