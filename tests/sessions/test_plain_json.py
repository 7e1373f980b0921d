"""The short way to the canonical text gives what the strict way gives, or steps aside."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from campaigns import campaign
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.strict_json import parser
from lakehouse.strict_json.parser import (
    BYTES_MAX,
    DEPTH_MAX,
    JsonBreach,
    canonicalize,
    parse_json,
    print_canonical,
    read_canonical,
)
from lakehouse.strict_json.plain import read_plain

bounded = campaign(150)

# Few names and values, so that names are equal, and begin alike, often; with all that the two ways may differ in.
_TEXTS = st.text(st.sampled_from('ab:{[\\"/u0.e-\n\x1f\x7fé\u2028\ue000\uffff\ufffd😀\ud800'), max_size=3)
_NAMES = st.sampled_from(["a", "b", ":", "\\u003a", "a:", "\ue000", "\uffff", "😀", "é", ""]) | _TEXTS
_NUMBERS = st.integers() | st.integers(-(2**66), 2**66) | st.floats()
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_NAMES, inner), max_size=4).map(tuple),
    max_leaves=10,
)
_STYLES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])
_DAMAGE = st.text('{}[]",:0123456789.eE+-\\u nltrfas\n\x00\ufeff\xa0é\ud800', max_size=2)


def _printed(value: Any, style: tuple[str, str], *, ascii_: bool) -> str:
    """JSON text of `value`, in which an object is a tuple of its members: a name may stand in it twice."""
    if isinstance(value, tuple):
        members = (
            json.dumps(name, ensure_ascii=ascii_) + style[1] + _printed(item, style, ascii_=ascii_)
            for name, item in value
        )
        return "{" + style[0].join(members) + "}"
    if isinstance(value, list):
        return "[" + style[0].join(_printed(item, style, ascii_=ascii_) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_)


@st.composite
def _json_texts(draw: st.DrawFn) -> str:
    text = _printed(draw(_VALUES), draw(_STYLES), ascii_=draw(st.booleans()))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(_DAMAGE) + text[at + draw(st.integers(0, 2)) :]
    return text


def _strictly(text: str | bytes, **limits: int) -> tuple[Any, str]:
    with patch.object(parser, "read_plain", return_value=None):
        canonical = canonicalize(text, **limits)
        return parse_json(canonical, **limits), canonical


def _spelled(value: Any) -> str:
    """Equal only for values that are equal in types and in the order of members as well."""
    return repr(value)


def _hold_together(text: str | bytes, **limits: int) -> None:
    try:
        value, canonical = _strictly(text, **limits)
    except JsonBreach as strict:
        for read in (canonicalize, read_canonical):
            with pytest.raises(JsonBreach) as caught:
                read(text, **limits)
            assert (caught.value.kind, caught.value.problem) == (strict.kind, strict.problem)
        assert read_plain(text, limits.get("bytes_max", BYTES_MAX), limits.get("depth_max", DEPTH_MAX)) is None
        return
    assert canonicalize(text, **limits) == canonical
    read_value, read_text = read_canonical(text, **limits)
    assert read_text == canonical
    assert _spelled(read_value) == _spelled(value)
    plain = read_plain(text, limits.get("bytes_max", BYTES_MAX), limits.get("depth_max", DEPTH_MAX))
    if plain is not None:
        assert plain[1] == canonical
        assert print_canonical(plain[0]) == canonical


@bounded
@given(_json_texts())
@example('{"a":1,"a":2}')
@example('{"a":{"b:":1},"a":":"}')
@example('{"a":"x","a":"\\u003a"}')
@example('{"a":1,"\\u0061":":"}')
@example('{"a":1,"b":[{"":0,"":0}]}')
@example('{"\ue000":1,"😀":2}')
@example('{"😀":1,"\ue000":2}')
@example('{"b":-0,"a":"\\/"}')
@example("[18446744073709551615,-9223372036854775808]")
@example("18446744073709551616")
@example("-9223372036854775809")
@example("[1e16,1e21,1e-7,5e-324,-0.0,1.0]")
@example("[1e999]")
@example("9" * 400)
@example("9" * 1001)
@example('"1.5 of 2"')
@example('"\x7f\u2028"')
@example('["\ud800"]')
@example('\ufeff{"a":1}')
def test_it_gives_what_the_strict_way_gives_and_takes_nothing_that_it_refuses(text: str) -> None:
    _hold_together(text)
    _hold_together(text.encode(errors="surrogatepass"))


@bounded
@given(_json_texts(), st.integers(0, 40), st.integers(0, 4))
def test_it_keeps_to_the_same_bounds(text: str, bytes_max: int, depth_max: int) -> None:
    _hold_together(text, bytes_max=bytes_max, depth_max=depth_max)


@bounded
@given(st.binary(max_size=12), st.binary(max_size=6))
def test_bytes_that_are_no_utf_8_are_left_to_the_strict_parser(before: bytes, after: bytes) -> None:
    _hold_together(before)
    _hold_together(b'{"a":"' + before + b'","' + after + b'":[]}')


@pytest.mark.parametrize("depth", [99, 100, 101, 254, 255, 1024, 1025, 100_000])
def test_depth_is_the_strict_parsers_business(depth: int) -> None:
    _hold_together("[" * depth + "]" * depth)
    _hold_together('{"a":' * depth + "1" + "}" * depth)


def test_an_artifact_as_models_write_it_goes_the_short_way() -> None:
    workers = [{"worker_id": f"W-{number:06d}", "name": "Łukasz Żak", "role": "welder"} for number in range(15)]
    for style in ({}, {"indent": 2}, {"separators": (",", ":")}):
        text = json.dumps({"workers": workers, "note": "at 07:00, gate 4.\nBring ID."}, ensure_ascii=False, **style)
        plain = read_plain(text, BYTES_MAX, DEPTH_MAX)
        assert plain is not None
        value, canonical = plain
        assert value == json.loads(text)
        assert read_plain(canonical, BYTES_MAX, DEPTH_MAX) == (value, canonical)
