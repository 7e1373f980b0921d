"""The printer of canonical JSON text: orjson where it gives the canonical bytes, else one token at a time."""

from __future__ import annotations

import re
from json.encoder import encode_basestring
from math import isfinite

import orjson

from lakehouse.strict_json.rules import (
    DEPTH_MAX,
    INTEGER_DIGITS_MAX,
    JsonBreach,
    JsonValue,
    check_depth,
    replace_surrogates,
)

# What orjson prints differently is looked for in its own output. A double always holds a digit, `.` or `e`, and a
# digit or a sign (so does many a string: those take the slow way for nothing, which costs time and no byte).
# Translating first makes this a plain search, five times as fast as a pattern.
_DIGITS_AND_POINTS = bytes(
    ord("0") if code in b"0123456789+-" else ord(".") if code in b".eE" else 0 for code in range(256)
)
_DOUBLE = b"0.0"
_PRINT_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_HIGH_BMP = re.compile("[\ue000-\uffff]")


def print_canonical(value: JsonValue) -> str:
    """Return the canonical text of ``value``; a ``float`` is a double token, an ``int`` an integer token.

    Raises:
        JsonBreach: ``value`` has no canonical text that ``parse_json`` accepts: NaN or an infinity, deeper
            than ``DEPTH_MAX``, an integer of more than ``INTEGER_DIGITS_MAX`` digits, or names that are equal
            once lone surrogates became U+FFFD.
        TypeError: ``value`` holds something that is no ``JsonValue``.
    """
    text = _print_fast(value)
    # orjson prints NaN and the infinities as null; only the slow printer can tell them from None.
    if text is None or "null" in text:
        text = "".join(tokens(value, DEPTH_MAX))
    else:
        check_depth(text, DEPTH_MAX)
    return text


def _print_fast(value: JsonValue) -> str | None:
    """Return the canonical text by orjson, or None where its bytes could differ. A NaN prints as null."""
    try:
        data = orjson.dumps(value, option=_PRINT_OPTIONS)
    except TypeError:
        # Beyond 64 bits, a lone surrogate, too deep, or no JsonValue: the slow printer tells which.
        return None
    if may_hold_double(data):
        return None
    text = data.decode()
    return None if order_differs(text) else text


def may_hold_double(printed: bytes) -> bool:
    """Whether a double may stand in ``printed``, which is orjson's: False is certain."""
    return _DOUBLE in printed.translate(_DIGITS_AND_POINTS)


def order_differs(text: str) -> bool:
    """Whether names in ``text`` may sort otherwise by UTF-16 code units than by code points, orjson's order.

    They can only if a character beyond U+FFFF, whose units are surrogates, meets one of U+E000-U+FFFF.
    """
    if text.isascii():
        return False
    holds_astral = len(text.encode("utf-16-le")) != 2 * len(text)
    return holds_astral and _HIGH_BMP.search(text) is not None


def tokens(value: JsonValue, depth_left: int) -> list[str]:
    out: list[str] = []
    _write(value, out, depth_left)
    return out


def _write(value: JsonValue, out: list[str], depth_left: int) -> None:
    """Append the tokens of ``value`` to ``out``; recurse at most ``depth_left`` deep."""
    if isinstance(value, str):
        out.append(encode_basestring(replace_surrogates(value)))
    elif value is None:
        out.append("null")
    elif value is True:
        out.append("true")
    elif value is False:
        out.append("false")
    elif isinstance(value, int):
        out.append(_integer_text(value))
    elif isinstance(value, float):
        out.append(double_text(value))
    elif isinstance(value, dict | list):
        if depth_left == 0:
            raise JsonBreach("too_deep", f"nested deeper than {DEPTH_MAX}: flatten the value")
        if isinstance(value, dict):
            _write_object(value, out, depth_left)
        else:
            separator = "["
            for item in value:
                out.append(separator)
                _write(item, out, depth_left - 1)
                separator = ","
            out.append("]" if value else "[]")
    else:
        raise TypeError(f"{type(value).__name__} is not a JSON value")


def _write_object(value: dict[str, JsonValue], out: list[str], depth_left: int) -> None:
    members = {replace_surrogates(name): member for name, member in value.items()}
    if len(members) != len(value):
        raise JsonBreach("duplicate_name", "names that differ only in lone surrogates: give each name once")
    separator = "{"
    for name in sorted(members, key=_utf16_units):
        out.append(f"{separator}{encode_basestring(name)}:")
        _write(members[name], out, depth_left - 1)
        separator = ","
    out.append("}" if members else "{}")


def _utf16_units(name: str) -> bytes:
    return name.encode("utf-16-be")


def _integer_text(value: int) -> str:
    # Four bits hold at least one digit: a cheap bound before the text, which costs the square of the digits.
    too_long = value.bit_length() > INTEGER_DIGITS_MAX * 4
    text = "" if too_long else int.__repr__(abs(value))
    if too_long or len(text) > INTEGER_DIGITS_MAX:
        raise JsonBreach("integer_too_long", f"an integer of more than {INTEGER_DIGITS_MAX} digits")
    return f"-{text}" if value < 0 else text


def double_text(value: float) -> str:
    """ECMAScript's Number::toString of a finite double.

    Raises:
        JsonBreach: ``value`` is NaN or infinite.
    """
    if not isfinite(value):
        raise JsonBreach("syntax", f"{value} is not JSON: use null or a finite number")
    if value == 0:
        return "0"
    # repr() gives the shortest digits that read back as the same double, the closest where several do.
    mantissa, _, exponent = float.__repr__(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    # The value is 0.digits times ten to the `point`.
    point = len(digits) - len(fraction) + int(exponent or 0)
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    head = digits[0] if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{sign}{head}e{point - 1:+d}"
