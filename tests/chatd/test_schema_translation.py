"""What becomes of a schema in a dialect: what fitted fits, and where nothing was lost nothing else does."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import jsonschema_rs
import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st
from schema_subsets import SUBSETS

from chatd.providers.least_artifact import NoArtifactError, least_artifact
from chatd.schemas import translation
from chatd.schemas.dialects import DIALECT_NAMES, DIALECTS
from chatd.schemas.translation import NotBorneError, TooLargeError, Translated, translate


def said(schema: Any, dialect: Any, *, restricted: bool = False) -> Any:
    return json.loads(translate(json.dumps(schema), dialect, restricted=restricted).schema_json)


def _translated(schema: Any, dialect: Any, *, restricted: bool = False) -> Translated | None:
    try:
        return translate(json.dumps(schema), dialect, restricted=restricted)
    except (NotBorneError, TooLargeError):
        return None


def _comparable(translated: Translated | None) -> Any:
    return translated and (json.loads(translated.schema_json), translated.enforceable, translated.exact)


# Properties ----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", 'c"'])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 2.5, "", "x", "yy", 'q"', "b\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
KINDS = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
FRAGMENTS: list[dict[str, Any]] = [
    {"minLength": 2},
    {"maxLength": 1},
    {"minimum": 1},
    {"exclusiveMaximum": 1},
    {"multipleOf": 2},
    {"pattern": "^y+$"},
    {"pattern": "x|y"},
    {"format": "date"},
    {"uniqueItems": True},
    {"minItems": 1},
    {"minItems": 2, "maxItems": 2},
    {"maxItems": 1},
    {"minProperties": 1},
    {"required": ["a"]},
    {"required": ["a", "b"]},
    {"additionalProperties": False},
    {"additionalProperties": True},
    {"title": "T", "description": "D"},
    {"default": 1, "$comment": "c"},
    {"dependentRequired": {"a": ["b"]}},
    {"unevaluatedProperties": False},
    {"$ref": "#/$defs/d"},
    {"$ref": "#"},
    {"$ref": "#/properties/a"},
    {"$id": "http://example.org/inner"},
    {"const": 1},
    {"const": 'q"'},
    {"enum": ["x", 1, None]},
    {"enum": ["b\\", "x"]},
    {"enum": [{"a": 1}, [1]]},
]


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, min_size=1, max_size=2)
    tables = st.dictionaries(NAMES, inner, min_size=1, max_size=2)
    parts = st.one_of(
        st.sampled_from(FRAGMENTS),
        st.builds(lambda each: {"type": each}, KINDS),
        st.builds(lambda each: {"type": each}, st.lists(KINDS, min_size=1, max_size=2, unique=True)),
        *(st.builds(lambda each, key=key: {key: each}, lists) for key in ("anyOf", "oneOf", "allOf", "prefixItems")),
        *(st.builds(lambda each, key=key: {key: each}, inner) for key in ("items", "not", "contains", "if", "then")),
        *(st.builds(lambda each, key=key: {key: each}, inner) for key in ("additionalProperties", "propertyNames")),
        st.builds(lambda each: {"properties": each}, tables),
        st.builds(lambda each: {"properties": each, "required": [*each], "additionalProperties": False}, tables),
        st.builds(lambda each: {"patternProperties": {"^a": each}, "additionalProperties": False}, inner),
        st.builds(lambda each: {"prefixItems": each, "items": False}, lists),
        st.builds(lambda each: {"prefixItems": each, "minItems": len(each), "maxItems": len(each)}, lists),
        st.builds(lambda each: {"prefixItems": each, "minItems": len(each), "items": False}, lists),
    )

    def joined(found: list[dict[str, Any]]) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        for each in found:
            schema |= each
        return schema

    return st.builds(joined, st.lists(parts, min_size=1, max_size=4))


LEAVES = st.sampled_from(
    [True, False, {}, {"type": "string"}, {"type": "integer"}, {"const": "x"}, {"enum": ["x", "yy"]}]
)
SCHEMAS = _schemas(st.recursive(LEAVES, _schemas, max_leaves=6))


def _checked(schema: Any) -> Any:
    return jsonschema_rs.validator_for(schema, retriever=lambda _: {})


def _candidates(schema: Any, values: list[Any]) -> list[Any]:
    """Values of which some may fit."""
    with contextlib.suppress(NoArtifactError):
        return [*values, json.loads(least_artifact(json.dumps(schema)))]
    return values


@campaign(120)
@given(SCHEMAS, st.lists(VALUES, max_size=8), st.sampled_from(["enum", "string", "object"]))
def test_a_callers_own_schema_is_never_narrowed_and_an_exact_translation_says_the_same(
    schema: dict[str, Any], values: list[Any], definition: str
) -> None:
    schema = {
        **schema,
        "$defs": {"d": {"enum": {"enum": ["x", 1]}, "string": {"type": "string"}, "object": schema}[definition]},
    }
    try:
        original = _checked(schema)
        fits = {json.dumps(value): original.is_valid(value) for value in _candidates(schema, values)}
    except (ValueError, RecursionError):
        return  # a schema that leads nowhere
    for dialect in DIALECT_NAMES:
        translated = _translated(schema, dialect)
        if translated is None:
            continue
        made = _checked(json.loads(translated.schema_json))
        for text, fitted in fits.items():
            fits_now = made.is_valid(json.loads(text))
            assert fits_now or not fitted, (dialect, text, translated)
            if translated.exact:
                assert fits_now is fitted, (dialect, text, translated)


# The schemas of a brief ----------------------------------------------------------------------------------------------


def pair(number: int, name: str = "") -> dict[str, Any]:
    constants = {"worker_id": {"const": f"W-{number:06}"}, "name": {"const": name or f"Name {number}"}}
    return {"type": "object", "properties": constants, "required": ["worker_id", "name"], "additionalProperties": False}


def crew(**workers: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"workers": {"type": "array", **workers}},
        "required": ["workers"],
        "additionalProperties": False,
    }


def slots(*counts: int) -> dict[str, Any]:
    number = iter(range(10_000))
    made = [{"anyOf": [pair(next(number)) for _ in range(count)]} for count in counts]
    return crew(prefixItems=made, items=False, minItems=len(counts), maxItems=len(counts))


def pairs(count: int, needed: int = 2) -> dict[str, Any]:
    return crew(items={"anyOf": [pair(number) for number in range(count)]}, minItems=needed, maxItems=needed)


SEEING = [name for name in DIALECT_NAMES if DIALECTS[name].restricted]
BRIEFS = st.one_of(
    st.builds(lambda counts: slots(*counts), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.builds(pairs, st.integers(1, 6), st.integers(1, 3)),
)


@given(BRIEFS, st.data())
def test_whatever_fits_a_translated_brief_fits_the_brief_but_for_who_stands_twice(brief: Any, data: Any) -> None:
    original = _checked(brief)
    workers = brief["properties"]["workers"]
    known = [each for slot in workers.get("prefixItems", [workers.get("items")]) for each in slot["anyOf"]]
    people = [{key: value["const"] for key, value in each["properties"].items()} for each in known]
    chosen = data.draw(
        st.lists(st.sampled_from(people), min_size=workers["minItems"], max_size=workers["minItems"] + 1)
    )
    for dialect in SEEING:
        translated = translate(json.dumps(brief), dialect, restricted=True)
        made = _checked(json.loads(translated.schema_json))
        assert made.is_valid({"workers": chosen}) or not original.is_valid({"workers": chosen})
        if translated.exact:
            assert made.is_valid({"workers": chosen}) is original.is_valid({"workers": chosen})
        # Slots may be lost, pairs and their number never.
        swapped = [{**each, "name": "Nobody"} for each in chosen]
        assert not made.is_valid({"workers": swapped})
        assert not made.is_valid({"workers": chosen[1:]}) or len(chosen) > workers["minItems"]


@pytest.mark.parametrize("dialect", ["vllm", "llama_cpp", "llama_cpp_python", "ollama"])
def test_slots_stay_slots_where_tuples_are_borne(dialect: Any) -> None:
    translated = translate(json.dumps(slots(2, 2)), dialect, restricted=True)
    workers = json.loads(translated.schema_json)["properties"]["workers"]

    assert translated.exact
    assert workers["prefixItems"] == slots(2, 2)["properties"]["workers"]["prefixItems"]
    assert (workers["minItems"], workers["maxItems"]) == (2, 2)
    assert ("items" in workers) is (dialect == "vllm")


def test_slots_become_alternatives_where_tuples_are_not_borne() -> None:
    workers = said(slots(2, 2), "openai", restricted=True)["properties"]["workers"]

    names = [each["properties"]["name"]["const"] for each in workers["items"]["anyOf"]]
    assert names == ["Name 0", "Name 1", "Name 2", "Name 3"]
    assert (workers["minItems"], workers["maxItems"]) == (2, 2)
    assert "prefixItems" not in workers


@pytest.mark.parametrize("name", ['Ed "Spud" Murphy', "Back\\slash", "Line\nend", "Smile 😀"])
def test_who_cannot_be_spelt_is_left_out_of_a_brief_and_no_caller_loses_a_value(name: str) -> None:
    brief = crew(items={"anyOf": [pair(1), pair(2, name)]}, minItems=1, maxItems=1)

    assert said(brief, "llama_cpp_python", restricted=True)["properties"]["workers"]["items"] == pair(1)
    own = said(brief, "llama_cpp_python")["properties"]["workers"]["items"]["anyOf"][1]
    assert own["properties"] == {"worker_id": {"const": "W-000002"}, "name": {"type": "string"}}
    assert said(brief, "llama_cpp", restricted=True) == brief
    with pytest.raises(NotBorneError):
        translate(json.dumps(crew(items=pair(1, name))), "llama_cpp_python", restricted=True)


# Limits --------------------------------------------------------------------------------------------------------------


def test_a_thousand_values_are_borne_and_one_more_is_not() -> None:
    assert said(pairs(500), "openai", restricted=True)
    with pytest.raises(TooLargeError):
        translate(json.dumps(pairs(501)), "openai", restricted=True)
    assert said(pairs(501), "vllm", restricted=True)


def _enum(count: int, length: int) -> dict[str, Any]:
    return crew(items={"enum": [f"{number:0{length}}" for number in range(count)]})


@pytest.mark.parametrize(("count", "length", "is_borne"), [(250, 100, True), (251, 59, True), (251, 60, False)])
def test_long_enums_are_borne_up_to_their_characters(count: int, length: int, is_borne: bool) -> None:
    assert (_translated(_enum(count, length), "openai") is not None) is is_borne


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    return schema


def test_ten_levels_are_borne_and_an_eleventh_is_not() -> None:
    assert _translated(_nested(10), "openai") is not None
    assert _translated(_nested(11), "openai") is None


# Openai's strictness --------------------------------------------------------------------------------------------------

CLOSED = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "is_enforced"),
    [
        (CLOSED, True),
        ({**CLOSED, "required": []}, False),
        ({key: value for key, value in CLOSED.items() if key != "additionalProperties"}, False),
        ({"anyOf": [CLOSED, CLOSED]}, False),
        ({"type": "array", "items": CLOSED}, False),
        ({"$ref": "#/$defs/a", "$defs": {"a": CLOSED}}, True),
        ({**CLOSED, "properties": {"n": {}}}, False),
        ({**CLOSED, "properties": {"n": {"type": "string", "minLength": 3}}}, True),
        ({**CLOSED, "properties": {"n": {"type": "array"}}}, False),
        ({**CLOSED, "properties": {"n": {"enum": ["a", 1]}}}, True),
    ],
)
def test_a_callers_schema_is_enforced_where_that_takes_nothing_from_it_else_sent_as_it_is(
    schema: Any, is_enforced: bool
) -> None:
    translated = translate(json.dumps(schema), "openai", restricted=False)

    assert translated.enforceable is is_enforced
    if not is_enforced:
        assert json.loads(translated.schema_json) == schema


def test_a_restricted_schema_is_closed_for_an_endpoint_that_wants_that() -> None:
    open_brief = {"type": "object", "properties": {"n": {"const": 1}, "m": {"const": 2}}, "required": ["n"]}

    assert said(open_brief, "openai", restricted=True) == {
        "type": "object",
        "properties": {"n": {"const": 1, "type": "integer"}, "m": {"const": 2, "type": "integer"}},
        "required": ["n", "m"],
        "additionalProperties": False,
    }
    # And never by requiring what it does not list.
    with pytest.raises(NotBorneError):
        translate(json.dumps({**open_brief, "required": ["else"]}), "openai", restricted=True)


def test_recursion_is_not_borne_by_anthropic() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": [], "additionalProperties": False}

    assert _translated(node, "anthropic") is None
    assert _translated(node, "vllm") is not None


def test_plain_is_the_text_itself() -> None:
    text = '{"$schema":"x","oneOf":[{"$ref":"http://example.org/y"}]}'

    assert translate(text, "plain", restricted=False).schema_json is text


def test_what_comes_again_is_translated_once() -> None:
    text = json.dumps(pairs(7))

    assert translate(text, "vllm", restricted=True) is translate(text, "vllm", restricted=True)


@campaign(80)
@given(SCHEMAS | BRIEFS, st.booleans())
def test_the_short_way_and_the_long_way_say_the_same(schema: dict[str, Any], restricted: bool) -> None:
    schema = {**schema, "$defs": {"d": {"type": "string"}}}
    translate.cache_clear()
    short = {dialect: _translated(schema, dialect, restricted=restricted) for dialect in DIALECT_NAMES}
    translate.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation._Translator, "_short_way", lambda *_: None)
        for dialect in DIALECT_NAMES:
            long = _translated(schema, dialect, restricted=restricted)
            assert _comparable(long) == _comparable(short[dialect])
    translate.cache_clear()


@campaign(100)
@given(SCHEMAS, st.booleans())
def test_nothing_is_sent_that_the_vendor_refuses(schema: dict[str, Any], restricted: bool) -> None:
    schema = {**schema, "$defs": {"d": {"type": "string"}}}
    for dialect in DIALECT_NAMES:
        translated = _translated(schema, dialect, restricted=restricted)
        # Anthropic has no word for "unenforced": there the refusal tells, and is remembered.
        if translated is None or (dialect == "anthropic" and not translated.enforceable):
            continue
        made = json.loads(translated.schema_json)
        if dialect == "anthropic":
            body: dict[str, Any] = {"output_config": {"format": {"type": "json_schema", "schema": made}}}
        elif DIALECTS[dialect].beside_json_object:
            body = {"response_format": {"type": "json_object", "schema": made}}
        else:
            named = {"name": "answer", "schema": made, "strict": translated.enforceable}
            body = {"response_format": {"type": "json_schema", "json_schema": named}}
        assert SUBSETS[dialect](body) is None, (dialect, made)
