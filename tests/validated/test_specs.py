"""What the rules of each kind take of a spec, and refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import Fault, Reason
from lakehouse.strict_json.parser import parse_json, print_canonical
from lakehouse.validated.v1.validated_pb2 import BriefRequest, ValidateRequest
from validated.findings import quoted
from validated.kinds import KINDS
from validated.kinds.fill_terms import read_instant
from validated.kinds.spec import Spec, read_spec

FILL: dict[str, Any] = {"role": "welder", "count": 3}
SITE = {"latitude": 41.5, "longitude": -83.5}


class Outside:
    """A kind from outside: it has no spec of its own."""


def _read(request: ValidateRequest | BriefRequest, *outside: str) -> Spec:
    return read_spec(request, KINDS | dict.fromkeys(outside, Outside))


def _violations(kind: str, **spec: Any) -> set[str]:
    fields: dict[str, Any] = {"kind": kind, kind: spec}
    try:
        _read(ValidateRequest(**fields))
    except Fault as fault:
        assert fault.reason is Reason.BAD_REQUEST
        for violation in fault.violations:
            assert violation.description
            assert violation.description.isprintable()
            assert len(violation.description) < 300
        return {violation.field for violation in fault.violations}
    return set()


def test_the_text_has_proto_names_and_no_unset_fields() -> None:
    spec = _read(
        BriefRequest(
            kind="fill",
            fill={
                **FILL,
                "shift_start": "2026-12-05T07:00:00-05:00",
                "shift_end": "2026-12-05T15:00:00-05:00",
                "allowed_locations": [{"city": "Perrysburg", "state": "OH"}],
                "site": SITE,
                "max_distance_km": 50.0,
            },
        )
    )
    assert spec.text == (
        '{"allowed_locations":[{"city":"Perrysburg","state":"OH"}],"count":3,"max_distance_km":50,"role":"welder",'
        '"shift_end":"2026-12-05T15:00:00-05:00","shift_start":"2026-12-05T07:00:00-05:00",'
        '"site":{"latitude":41.5,"longitude":-83.5}}'
    )
    assert print_canonical(parse_json(spec.text)) == spec.text


def test_a_schema_is_embedded_without_its_suffix_and_keeps_its_digits() -> None:
    schema = '{"maximum": 123456789012345678901234567890, "type" : "integer"}'
    spec = _read(ValidateRequest(kind="json_schema", json_schema={"schema_json": schema}))
    assert spec.text == '{"schema":{"maximum":123456789012345678901234567890,"type":"integer"}}'


def test_a_kind_from_outside_takes_spec_json_or_nothing() -> None:
    assert _read(ValidateRequest(kind="haiku", spec_json='{"b":1.0,"a":2}'), "haiku").text == '{"a":2,"b":1}'
    assert _read(ValidateRequest(kind="haiku"), "haiku").text is None
    assert _read(ValidateRequest(kind="haiku"), "haiku").message is None
    assert _read(ValidateRequest(kind="spec_json"), "spec_json").text is None


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (ValidateRequest(), Reason.UNKNOWN_KIND, "kind"),
        (ValidateRequest(kind="Fill", fill=FILL), Reason.UNKNOWN_KIND, "kind"),
        (ValidateRequest(kind="haiku"), Reason.UNKNOWN_KIND, "kind"),
        (ValidateRequest(kind="fill"), Reason.KIND_SPEC_MISMATCH, "fill"),
        (ValidateRequest(kind="fill", email={}), Reason.KIND_SPEC_MISMATCH, "fill"),
        (ValidateRequest(kind="email", spec_json="{}"), Reason.KIND_SPEC_MISMATCH, "email"),
        (ValidateRequest(kind="song", fill=FILL), Reason.KIND_SPEC_MISMATCH, "fill"),
        (ValidateRequest(kind="song", spec_json="[]"), Reason.BAD_REQUEST, "spec_json"),
        (ValidateRequest(kind="song", spec_json='{"a":1,"a":2}'), Reason.BAD_REQUEST, "spec_json"),
        (ValidateRequest(kind="json_schema", json_schema={}), Reason.BAD_REQUEST, "json_schema.schema_json"),
        (
            ValidateRequest(kind="json_schema", json_schema={"schema_json": "[]"}),
            Reason.BAD_REQUEST,
            "json_schema.schema_json",
        ),
        (
            ValidateRequest(kind="json_schema", json_schema={"schema_json": "[" * 100 + "]" * 100}),
            Reason.BAD_REQUEST,
            "json_schema.schema_json",
        ),
    ],
)
def test_what_does_not_fit_the_kind_is_refused(request_: Any, reason: Reason, field: str) -> None:
    with pytest.raises(Fault) as caught:
        _read(request_, "song")
    assert caught.value.reason is reason
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (
            {"name": "a", "strict": True, "schema": {"type": "object"}},
            "OpenAI response_format, not a JSON Schema",
        ),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}, "an OpenAI response_format"),
        ({"type": "function", "function": {"name": "a", "parameters": {}}}, "the definition of a tool"),
        ({"name": "a", "description": "b", "parameters": {"type": "object"}}, "the definition of a function"),
        ({"name": "a", "input_schema": {"type": "object"}}, "the definition of a tool"),
        ({"name": "string", "age": "integer"}, "would accept anything"),
        ({"$Schema": "x"}, "would accept anything"),
    ],
)
def test_what_is_no_schema_is_refused_by_what_it_is(schema: Any, says: str) -> None:
    with pytest.raises(Fault) as caught:
        _read(ValidateRequest(kind="json_schema", json_schema={"schema_json": json.dumps(schema)}))
    (violation,) = caught.value.violations
    assert says in violation.description


@pytest.mark.parametrize("schema", [{}, True, {"title": "x"}, {"$ref": "#"}, {"properties": {"schema": {}}, "name": 1}])
def test_what_is_a_schema_is_taken(schema: Any) -> None:
    _read(ValidateRequest(kind="json_schema", json_schema={"schema_json": json.dumps(schema)}))


def test_an_unknown_kind_is_told_which_ones_there_are() -> None:
    with pytest.raises(Fault) as caught:
        _read(ValidateRequest(kind="fil\u202el" * 100), "song")
    text = caught.value.violations[0].description
    assert "fill, email, json_schema, song" in text
    assert "U+202E" in text
    assert len(text) < 200


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({}, set()),
        ({"count": 0}, {"fill.count"}),
        ({"count": -1}, {"fill.count"}),
        ({"count": 1001}, {"fill.count"}),
        ({"role": ""}, {"fill.role"}),
        ({"role": "  "}, {"fill.role"}),
        ({"role": "x" * 201}, {"fill.role"}),
        ({"city": "To\x00ledo"}, {"fill.city"}),
        ({"state": "Ohio"}, {"fill.state"}),
        ({"state": "ÖH"}, {"fill.state"}),
        ({"shift_start": "2026-12-05T07:00:00Z"}, {"fill.shift_end"}),
        ({"shift_end": "2026-12-05T07:00:00Z"}, {"fill.shift_start"}),
        ({"shift_start": "2026-12-05T07:00:00", "shift_end": "2026-12-05T08:00:00Z"}, {"fill.shift_start"}),
        ({"shift_start": "tomorrow", "shift_end": "2026-12-05T08:00:00Z"}, {"fill.shift_start"}),
        ({"shift_start": "2026-12-05T08:00:00Z", "shift_end": "2026-12-05T08:00:00Z"}, {"fill.shift_end"}),
        ({"shift_start": "2026-12-05T08:00:00Z", "shift_end": "2026-12-12T08:00:00Z"}, set()),
        ({"shift_start": "2026-12-05T08:00:00Z", "shift_end": "2026-12-12T08:00:01Z"}, {"fill.shift_end"}),
        ({"required_certifications": ["x"] * 51}, {"fill.required_certifications"}),
        ({"required_certifications": ["x", ""]}, {"fill.required_certifications[1]"}),
        ({"allowed_locations": [{"city": "x"}]}, {"fill.allowed_locations[0].state"}),
        ({"allowed_locations": [{"state": "OH"}] * 201}, {"fill.allowed_locations"}),
        ({"max_distance_km": 5.0}, {"fill.site"}),
        ({"max_distance_km": 0.0, "site": SITE}, {"fill.max_distance_km"}),
        ({"max_distance_km": float("nan"), "site": SITE}, {"fill.max_distance_km"}),
        ({"max_distance_km": float("inf"), "site": SITE}, {"fill.max_distance_km"}),
        ({"site": {"latitude": float("nan"), "longitude": -181}}, {"fill.site.latitude", "fill.site.longitude"}),
        ({"count": 0, "state": "1", "role": ""}, {"fill.count", "fill.state", "fill.role"}),
    ],
)
def test_every_field_of_a_fill_is_checked_and_all_problems_are_told_at_once(change: Any, fields: set[str]) -> None:
    assert _violations("fill", **{**FILL, **change}) == fields


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"worker_ids": ["A"], "to_worker_id": "A"}, set()),
        ({}, {"email.worker_ids"}),
        ({"worker_ids": ["A"] * 1001}, {"email.worker_ids"}),
        ({"worker_ids": ["A", ""]}, {"email.worker_ids[1]"}),
        ({"worker_ids": ["A"], "to_worker_id": "B"}, {"email.to_worker_id"}),
        ({"worker_ids": ["A"], "body_chars_max": -1}, {"email.body_chars_max"}),
        ({"worker_ids": ["A"], "subject_chars_max": 20_001}, {"email.subject_chars_max"}),
        ({"worker_ids": ["A"], "allowed_numbers": ["+1 419 555 0100"], "allowed_names": ["Pat Officer"]}, set()),
        ({"worker_ids": ["A"], "allowed_numbers": ["12"]}, {"email.allowed_numbers[0]"}),
        ({"worker_ids": ["A"], "allowed_numbers": ["1" * 21]}, {"email.allowed_numbers[0]"}),
        ({"worker_ids": ["A"], "allowed_names": ["Pat", " "]}, {"email.allowed_names[1]"}),
        ({"worker_ids": ["A"], "allowed_names": ["x" * 201]}, {"email.allowed_names[0]"}),
        ({"worker_ids": ["A"], "allowed_names": ["x"] * 51}, {"email.allowed_names"}),
    ],
)
def test_every_field_of_an_email_is_checked(spec: Any, fields: set[str]) -> None:
    assert _violations("email", **spec) == fields


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("2026-12-05T07:00:00Z", True),
        ("2026-12-05t07:00:00.123456z", True),
        ("2026-12-05T07:00:00+05:30", True),
        ("2026-12-05T07:00:00", False),
        ("2026-12-05 07:00:00Z", False),
        ("2026-12-05", False),
        ("2026-W49-6T07:00:00Z", False),
        ("2026-13-05T07:00:00Z", False),
        ("2026-12-05T07:00Z", False),
        ("", False),
        ("x" * 1000, False),
    ],
)
def test_an_instant_is_rfc_3339_with_an_offset(text: str, *, is_one: bool) -> None:
    assert (read_instant(text) is not None) is is_one


@settings(max_examples=200, derandomize=True)
@given(st.text())
def test_a_quote_prints_and_is_short_whatever_it_quotes(text: str) -> None:
    quote = quoted(text)
    assert quote.isprintable()
    assert len(quote) <= 81
    if text.isprintable() and len(text) <= 80:
        assert quote == text


_REQUESTS = st.builds(
    lambda kind, role, count, number, ids, text: ValidateRequest(
        kind=kind, **_member(kind, role, count, number, ids, text)
    ),
    st.sampled_from(list(KINDS)),
    st.text(max_size=5),
    st.integers(-5, 2000),
    st.floats(),
    st.lists(st.text(max_size=3), max_size=4),
    st.text(max_size=20),
)


def _member(kind: str, role: str, count: int, number: float, ids: list[str], text: str) -> dict[str, Any]:
    if kind == "fill":
        return {
            "fill": {
                "role": role,
                "count": count,
                "max_distance_km": number,
                "site": {"latitude": number},
                "shift_start": text,
            }
        }
    if kind == "email":
        return {"email": {"worker_ids": ids, "body_chars_max": count}}
    return {"json_schema": {"schema_json": json.dumps({"const": text, "maximum": count})}}


@settings(max_examples=300, derandomize=True)
@given(_REQUESTS)
def test_any_request_is_taken_with_canonical_text_or_refused_by_a_fault(request: ValidateRequest) -> None:
    try:
        spec = _read(request)
    except Fault as fault:
        assert fault.reason is Reason.BAD_REQUEST
        assert fault.violations
        return
    assert spec.text is not None
    assert print_canonical(parse_json(spec.text)) == spec.text
