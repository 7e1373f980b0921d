"""What holds for JSON that is read and for JSON that is printed: limits, breaches, surrogates, depth."""

from __future__ import annotations

import re
from json.encoder import encode_basestring
from typing import Any, Final, Literal, TypeAlias

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"

BYTES_MAX: Final = 256 * 1024
DEPTH_MAX: Final = 100
INTEGER_DIGITS_MAX: Final = 1000

BreachKind = Literal[
    "too_large",
    "not_utf8",
    "too_deep",
    "syntax",
    "integer_too_long",
    "double_overflow",
    "duplicate_name",
]

QUOTE_CHARS_MAX: Final = 40

_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
# One pass takes off two levels at most. What is wide and flat is empty after a few; the rest is walked through.
_PEELED_MAX: Final = 8


class JsonBreach(ValueError):  # noqa: N818 - the contract's word for it: "a breach is an unparsable attempt"
    """A text that breaks a rule of JSON from outside.

    ``problem`` is a short sentence for a person or a model and says what to do; it quotes at most 40
    characters of the input. ``kind`` is the rule that was broken, the same in every language of parity/.
    """

    def __init__(self, kind: BreachKind, problem: str) -> None:
        super().__init__(problem)
        self.kind: Final = kind
        self.problem: Final = problem


def replace_surrogates(text: str) -> str:
    """``text`` with each lone surrogate as U+FFFD, so that it has a UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def replace_surrogates_within(value: Any) -> Any:
    """``value``, as a JSON parser gives it or a printer takes it, with ``replace_surrogates`` done to every string."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, list):
        return [replace_surrogates_within(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(name): replace_surrogates_within(item) for name, item in value.items()}
    return value


def check_depth(text: str, depth_max: int) -> None:
    """Raise JsonBreach where brackets outside strings nest deeper than ``depth_max``.

    Up to the first syntax error this sees the strings that a parser sees, so no parser recurses deeper
    than it allows.
    """
    if text.count("[") + text.count("{") <= depth_max:
        return
    # Without an escape every other quotation mark ends a string.
    outside = _STRING.sub(b"", text.encode()) if "\\" in text else "".join(text.split('"')[::2]).encode()
    brackets = rest = outside.translate(None, _NOT_BRACKETS)
    for _ in range(min(depth_max // 2, _PEELED_MAX)):
        rest = rest.replace(b"[]", b"").replace(b"{}", b"")
        if not rest:
            return
    depth = 0
    for bracket in brackets:
        if bracket in b"[{":
            depth += 1
            if depth > depth_max:
                raise JsonBreach("too_deep", f"nested deeper than {depth_max}: flatten the value")
        else:
            depth -= 1


def too_large(bytes_max: int) -> JsonBreach:
    return JsonBreach("too_large", f"longer than {bytes_max} bytes: send a smaller value")


def json_quoted(text: str) -> str:
    """At most 40 characters of ``text`` as a JSON string, so that no control character reaches a reader."""
    kept = text if len(text) <= QUOTE_CHARS_MAX else text[: QUOTE_CHARS_MAX - 1] + "…"
    return encode_basestring(kept)
