"""Goal: who writes a request by hand is shown all that is wrong with it, by the protos' names, and what was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.message_fields import FieldsError, set_fields
from lakehouse.near_names import did_you_mean, nearest


def problems(values: dict[str, Any]) -> list[str]:
    with pytest.raises(FieldsError) as caught:
        set_fields(iterate_pb2.IterateRequest(), values)
    return caught.value.problems


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"promt": "x"}, 'promt: no such field; did you mean "prompt"?'),
        ({"max_iteration": 2}, 'max_iteration: no such field; did you mean "max_iterations"?'),
        ({"max-iterations": 2}, 'max-iterations: no such field; did you mean "max_iterations"?'),
        ({"fill": {"rol": "x"}}, 'fill.rol: no such field; did you mean "role"?'),
        ({"fill": {"zzz": "x"}}, "fill.zzz: no such field; the fields are role, count, city, state, shift_start"),
        ({"fill": {"site": {"lat": 1}}}, 'fill.site.lat: no such field; did you mean "latitude"?'),
        (
            {"fill": {"allowed_locations": [{"cty": "x"}]}},
            'fill.allowed_locations[0].cty: no such field; did you mean "city"?',
        ),
        ({"fill": {"count": "three"}}, 'fill.count: must be a whole number, is "three"'),
        ({"fill": {"count": 2.5}}, "fill.count: must be a whole number, is 2.5"),
        ({"fill": {"count": True}}, "fill.count: must be a whole number, is true"),
        ({"fill": {"count": 2**31}}, "fill.count: must be from -2147483648 to 2147483647, is 2147483648"),
        ({"fill": {"role": 5}}, "fill.role: must be a text, is 5"),
        ({"fill": [1]}, "fill: must be an object, is a list"),
        ({"fill": "x"}, 'fill: must be an object, is "x"'),
        ({"fill": {"required_certifications": "OSHA"}}, 'fill.required_certifications: must be a list, is "OSHA"'),
        ({"fill": {"requiredCertifications": [5]}}, "fill.required_certifications[0]: must be a text, is 5"),
        ({"fill": {"site": {"latitude": "north"}}}, 'fill.site.latitude: must be a number, is "north"'),
        ({"temperature": float("nan")}, "temperature: must be a number, is NaN"),
        ({"grounding": "GROUNDING_NON"}, '"GROUNDING_NON" is none of GROUNDING_UNSPECIFIED'),
        ({"grounding": []}, "grounding: must be one of GROUNDING_UNSPECIFIED"),
        ({"fill": {}, "email": {}}, "fill and email: set one of them alone: there is one spec"),
        ({"fill": {"role": {"a": 1}}}, "fill.role: must be a text, is an object"),
    ],
)
def test_a_mistake_is_said_with_its_path(values: dict[str, Any], says: str) -> None:
    assert any(says in problem for problem in problems(values)), problems(values)


def test_all_problems_are_said_and_not_more_than_twenty() -> None:
    assert len(problems({"promt": "x", "fill": {"rol": "x", "count": "three"}})) == 3
    assert problems({f"zzz{number}": 1 for number in range(25)})[-1] == "and 5 more"


def test_a_long_or_unprintable_value_is_not_repeated_whole() -> None:
    (said,) = problems({"fill": {"count": "\x1b[2J" + "9" * 500}})
    assert "\x1b" not in said
    assert len(said) < 150


def test_a_request_that_is_right_is_set_in_both_spellings() -> None:
    request = iterate_pb2.IterateRequest()
    set_fields(request, {"kind": "fill", "maxIterations": "3", "fill": {"count": 2.0, "client_id": None}})
    assert (request.max_iterations, request.fill.count, request.fill.client_id) == (3, 2, "")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "count", "city", "site", "latitude", "content", "provider", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
TOP = st.sampled_from([field.name for field in iterate_pb2.IterateRequest.DESCRIPTOR.fields])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(TOP, VALUES, max_size=4))
def test_what_the_library_takes_is_taken_and_what_it_refuses_is_refused_in_words(values: dict[str, Any]) -> None:
    theirs, ours = iterate_pb2.IterateRequest(), iterate_pb2.IterateRequest()
    try:
        json_format.ParseDict(values, theirs)
    except Exception:  # noqa: BLE001  whatever it says
        with pytest.raises(FieldsError) as caught:
            set_fields(ours, values)
        assert not any("ParseError" in problem or "Message type" in problem for problem in caught.value.problems)
        return
    try:
        set_fields(ours, values)
    except FieldsError as error:
        # Stricter in three things: "NaN" and "Infinity", two members of a oneof of which the library takes one, and
        # an empty list or text in the place of an object.
        stricter = ("must be a number", "set one of them alone", "must be an object, is a list", 'is ""')
        assert all(any(words in problem for words in stricter) for problem in error.problems)
    else:
        assert ours == theirs


def test_the_fields_of_any_message_can_be_set() -> None:
    request = chatd_pb2.CompleteRequest()
    with pytest.raises(FieldsError, match=r"messages\[0\].rol: no such field; did you mean \"role\""):
        set_fields(request, {"messages": [{"rol": "ROLE_USER"}]})
    set_fields(request, json.loads('{"messages": [{"role": "ROLE_USER", "content": "x"}], "max_tokens": 5}'))
    assert request.messages[0].content == "x"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("fil", "fill"),
        ("Fill", "fill"),
        ("json-schema", "json_schema"),
        ("jsonschema", "json_schema"),
        ("xyz", None),
        ("f" * 65, None),
    ],
)
def test_the_nearest_name_forgives_case_dashes_and_a_letter(name: str, near: str | None) -> None:
    assert nearest(name, ("fill", "email", "json_schema")) == near


def test_nothing_is_suggested_where_nothing_is_like_it() -> None:
    assert did_you_mean("zzz", ("fill",)) == ""
