"""The one strict parser of JSON from outside, and the printer of its canonical text.

Canonical text is RFC 8785 with one difference: a number token without ``.``, ``e`` or ``E`` is an integer and
keeps all its digits. For every text that ``canonicalize`` accepts, its result is accepted again and maps to
itself.

Both directions run on compiled code (the standard library's scanner, orjson's printer) wherever that gives
the same bytes; the conditions stand beside each fast path, and the tests hold them against an independent
parser and printer.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring
from math import isfinite
from typing import NamedTuple, NoReturn, cast

import orjson

from lakehouse.strict_json.plain import read_plain
from lakehouse.strict_json.printer import double_text, order_differs, print_canonical, tokens
from lakehouse.strict_json.rules import (
    BYTES_MAX,
    DEPTH_MAX,
    INTEGER_DIGITS_MAX,
    QUOTE_CHARS_MAX,
    BreachKind,
    JsonBreach,
    JsonValue,
    check_depth,
    json_quoted,
    replace_surrogates,
    too_large,
)

__all__ = [
    "BYTES_MAX",
    "DEPTH_MAX",
    "INTEGER_DIGITS_MAX",
    "BreachKind",
    "JsonBreach",
    "JsonValue",
    "canonicalize",
    "parse_json",
    "print_canonical",
    "read_canonical",
    "replace_surrogates",
]

# Every escape, from left to right, so that the second half of `\\` never starts one. A high surrogate pairs
# with a low one right behind it, as in the scanner.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
_POINTER_CHARS_MAX = 80

_SYNTAX_ADVICE = {
    "Expecting value": "a JSON value is expected",
    "Extra data": "nothing may follow the JSON value (send it alone, without prose or code fences)",
    "Expecting property name enclosed in double quotes": "a name in double quotes is expected",
    "Expecting ':' delimiter": "':' is expected",
    "Expecting ',' delimiter": "',' or a closing bracket is expected",
    "Illegal trailing comma before end of object": "a comma before '}' is not allowed",
    "Illegal trailing comma before end of array": "a comma before ']' is not allowed",
    "Invalid control character at": "a control character in a string must be escaped (\\n, \\t, \\u00XX)",
    "Invalid \\escape": "an escape that JSON does not have (a backslash itself is written \\\\)",
    "Invalid \\uXXXX escape": "\\u takes four hex digits",
    "Unterminated string starting at": "a string without its closing quote",
}


class _DuplicateNameError(Exception):
    """An object holds a name twice; where is looked up only then."""


def parse_json(text: str | bytes, *, bytes_max: int = BYTES_MAX, depth_max: int = DEPTH_MAX) -> JsonValue:
    """Return the value of a JSON text from outside.

    An integer token gives an ``int`` with all its digits (``-0`` gives 0), any other number token a
    ``float``. A lone surrogate, raw or escaped, is U+FFFD. ``bytes_max`` counts UTF-8 bytes, ``depth_max``
    (at most 200) nested arrays and objects; both are checked before anything recurses, in time linear in the
    text.

    Raises:
        JsonBreach: the text breaks a rule; nothing else is raised for any ``str`` or ``bytes``.
    """
    return _decoded(_TO_VALUE, _checked_text(text, bytes_max, depth_max))


def canonicalize(text: str | bytes, *, bytes_max: int = BYTES_MAX, depth_max: int = DEPTH_MAX) -> str:
    """Return the canonical text of a JSON text from outside, at most ``bytes_max`` UTF-8 bytes as well.

    Raises:
        JsonBreach: the text breaks a rule of ``parse_json``, or its canonical text is longer than
            ``bytes_max`` (``1e20`` has 21 digits), so that a second reader would refuse it.
    """
    plain = read_plain(text, bytes_max, depth_max)
    if plain is not None:
        return plain[1]
    text = _checked_text(text, bytes_max, depth_max)
    canonical = orjson.dumps(_decoded(_TO_TEXT, text), option=orjson.OPT_SORT_KEYS).decode()
    if order_differs(canonical):
        canonical = "".join(tokens(_decoded(_TO_VALUE, text), depth_max))
    if len(canonical) > bytes_max or (not canonical.isascii() and len(canonical.encode()) > bytes_max):
        raise too_large(bytes_max)
    return canonical


def read_canonical(
    text: str | bytes, *, bytes_max: int = BYTES_MAX, depth_max: int = DEPTH_MAX
) -> tuple[JsonValue, str]:
    """Return the canonical text of a JSON text from outside, and the value that ``parse_json`` reads in it: ``1.0`` is
    ``1`` in both, and the members of objects stand in the canonical order.

    Raises:
        JsonBreach: as ``canonicalize`` does.
    """
    plain = read_plain(text, bytes_max, depth_max)
    if plain is not None:
        value, canonical = plain
    else:
        value = parse_json(text, bytes_max=bytes_max, depth_max=depth_max)
        canonical = print_canonical(value)
    return (value if canonical == text else parse_json(canonical, bytes_max=bytes_max, depth_max=depth_max)), canonical


# Parsing ------------------------------------------------------------------------------------------


def _checked_text(text: str | bytes, bytes_max: int, depth_max: int) -> str:
    """Return the text as a parser may have it: bounded, no surrogates, no byte order mark."""
    if len(text) > bytes_max:
        raise too_large(bytes_max)
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise JsonBreach("not_utf8", f"not UTF-8 at byte {error.start}: send the JSON text as UTF-8") from None
    elif not text.isascii():
        text = replace_surrogates(text)
        if len(text.encode()) > bytes_max:
            raise too_large(bytes_max)
    if text.startswith("\ufeff"):
        raise JsonBreach("syntax", "starts with a byte order mark: send the JSON text without it")
    check_depth(text, depth_max)
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPE.sub(_paired_or_replaced, text)
    return text


def _decoded(decoder: json.JSONDecoder, text: str) -> JsonValue:
    try:
        return cast(JsonValue, decoder.decode(text))
    except json.JSONDecodeError as error:
        raise _syntax_breach(text, error) from None
    except (_DuplicateNameError, JsonBreach) as error:
        # A text that is no JSON at all is refused as that first, wherever the reading stopped: in this order the
        # readers of parity/ agree on the kind of every breach.
        try:
            _TO_SHAPE.decode(text)
        except json.JSONDecodeError as syntax:
            raise _syntax_breach(text, syntax) from None
        raise (error if isinstance(error, JsonBreach) else _duplicate_breach(text)) from None


def _object(members: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value = dict(members)
    if len(value) != len(members):
        raise _DuplicateNameError
    return value


def _integer(token: str) -> int:
    # Checked by length first: int() of a long text costs its square.
    if len(token) > INTEGER_DIGITS_MAX and (digits := len(token.lstrip("-"))) > INTEGER_DIGITS_MAX:
        raise JsonBreach(
            "integer_too_long",
            f"an integer of {digits} digits ({json_quoted(token)}): at most {INTEGER_DIGITS_MAX} are kept",
        )
    return int(token)


def _double(token: str) -> float:
    value = float(token)
    if not isfinite(value):
        raise JsonBreach(
            "double_overflow", f"the number {json_quoted(token)} is beyond the range of a double (1.8e308)"
        )
    return value


def _constant(token: str) -> NoReturn:
    raise JsonBreach("syntax", f"{token} is not JSON: use null or a finite number")


def _integer_leaf(token: str) -> int | orjson.Fragment:
    value = _integer(token)
    # orjson prints 64 bits; every longer token without a leading zero is its own canonical text.
    return value if -(2**63) <= value < 2**64 else orjson.Fragment(token)


def _double_leaf(token: str) -> orjson.Fragment:
    return orjson.Fragment(double_text(_double(token)))


_TO_VALUE = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_double, parse_constant=_constant, strict=True
)
# The same reading, with each number already as its canonical text where orjson would print another.
_TO_TEXT = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer_leaf,
    parse_float=_double_leaf,
    parse_constant=_constant,
    strict=True,
)
# The reading that holds every text of the grammar to be right.
_TO_SHAPE = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_constant, strict=True)


def _paired_or_replaced(match: re.Match[str]) -> str:
    escape = match[0]
    return "\\ufffd" if len(escape) == len("\\ud800") else escape


def _syntax_breach(text: str, error: json.JSONDecodeError) -> JsonBreach:
    advice = _SYNTAX_ADVICE.get(error.msg.removesuffix(": "), "this is not JSON")
    if error.pos >= len(text):
        found = "the text ends here" if text.strip() else "the text is empty"
    else:
        found = f"found {json_quoted(text[error.pos : error.pos + QUOTE_CHARS_MAX])}"
    return JsonBreach("syntax", f"not JSON at line {error.lineno}, column {error.colno}: {advice}; {found}")


def _duplicate_breach(text: str) -> JsonBreach:
    """Find the first object, outermost first, that holds a name twice. Reads anew: the rare path."""

    class Members(list[tuple[str, object]]):
        """An object's members as they stand."""

    decoder = json.JSONDecoder(object_pairs_hook=Members, parse_int=str, parse_float=str, strict=True)
    pending = [_Place(decoder.decode(text), None, "")]
    for place in pending:
        if isinstance(place.value, Members):
            names: set[str] = set()
            for name, member in place.value:
                if name in names:
                    return JsonBreach(
                        "duplicate_name",
                        f"duplicate name {json_quoted(name)} at {place.pointer()}: give each name once",
                    )
                names.add(name)
                pending.append(_Place(member, place, name))
        elif isinstance(place.value, list):
            pending += (_Place(item, place, str(index)) for index, item in enumerate(place.value))
    raise AssertionError("a duplicate name was seen by the first reading and not by the second")


class _Place(NamedTuple):
    """A value and the way to it, linked: a pointer for each value would cost the square of the text."""

    value: object
    parent: _Place | None
    step: str

    def pointer(self) -> str:
        """Return the JSON Pointer (RFC 6901), its end if it is long."""
        steps: list[str] = []
        place = self
        while place.parent is not None:
            steps.append(place.step.replace("~", "~0").replace("/", "~1"))
            place = place.parent
        if not steps:
            return "the top"
        pointer = "/" + "/".join(reversed(steps))
        kept = pointer if len(pointer) <= _POINTER_CHARS_MAX else "…" + pointer[-_POINTER_CHARS_MAX + 1 :]
        return encode_basestring(kept)[1:-1]
