"""The strict parser and the canonical printer, held against an independent reading of the same rules."""

from __future__ import annotations

import codecs
import json
import math
import re
import struct
import time
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

import pytest
from campaigns import campaign
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.strict_json.parser import (
    BYTES_MAX,
    JsonBreach,
    canonicalize,
    parse_json,
    print_canonical,
)
from lakehouse.strict_json.printer import double_text
from lakehouse.strict_json.rules import check_depth

bounded = campaign(120)


# The reference: RFC 8259 and RFC 8785 read again, one character at a time ---------------------------------------


class RefusedError(Exception):
    pass


NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Reference:
    """``Reference(text).canonical()``: the canonical text, or RefusedError."""

    def __init__(self, text: str) -> None:
        # As a stream of UTF-16 code units a surrogate is lone or not by its neighbour alone, so raw ones go first.
        self.text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        self.at = 0

    def canonical(self) -> str:
        if len(self.text.encode()) > BYTES_MAX:
            raise RefusedError
        printed = self.value(0)
        self.space()
        if self.at != len(self.text):
            raise RefusedError
        return printed

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> None:
        if self.text[self.at : self.at + len(wanted)] != wanted:
            raise RefusedError
        self.at += len(wanted)

    def space(self) -> None:
        while self.peek() and self.peek() in " \t\n\r":
            self.at += 1

    def value(self, depth: int) -> str:
        self.space()
        match self.peek():
            case "{" | "[" if depth == 100:
                raise RefusedError
            case "{":
                return self.object(depth + 1)
            case "[":
                return self.array(depth + 1)
            case '"':
                return written(self.string())
        for word in ("null", "true", "false"):
            if self.peek() == word[0]:
                self.take(word)
                return word
        found = NUMBER.match(self.text, self.at)
        if found is None:
            raise RefusedError
        self.at = found.end()
        return number(found[0])

    def array(self, depth: int) -> str:
        self.take("[")
        items: list[str] = []
        self.space()
        while self.peek() != "]":
            if items:
                self.take(",")
            items.append(self.value(depth))
            self.space()
        self.take("]")
        return f"[{','.join(items)}]"

    def object(self, depth: int) -> str:
        self.take("{")
        members: dict[str, str] = {}
        self.space()
        while self.peek() != "}":
            if members:
                self.take(",")
                self.space()
            name = self.string()
            if name in members:
                raise RefusedError
            self.space()
            self.take(":")
            members[name] = self.value(depth)
            self.space()
        self.take("}")
        order = sorted(members, key=units)
        return "{" + ",".join(f"{written(name)}:{members[name]}" for name in order) + "}"

    def string(self) -> str:
        self.take('"')
        out: list[int] = []
        while self.peek() != '"':
            character = self.peek()
            if not character or character < " ":
                raise RefusedError
            self.at += 1
            if character != "\\":
                out += units(character)
                continue
            escape = self.peek()
            self.at += 1
            if escape == "u":
                digits = self.text[self.at : self.at + 4]
                if re.fullmatch("[0-9a-fA-F]{4}", digits) is None:
                    raise RefusedError
                out.append(int(digits, 16))
                self.at += 4
            elif escape in SHORT and escape:
                out += units(SHORT[escape])
            else:
                raise RefusedError
        self.at += 1
        return struct.pack(f"<{len(out)}H", *out).decode("utf-16-le", "replace_lone_surrogate")


def replace_lone(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 2


codecs.register_error("replace_lone_surrogate", replace_lone)


def units(text: str) -> list[int]:
    data = text.encode("utf-16-le")
    return list(struct.unpack(f"<{len(data) // 2}H", data))


def written(text: str) -> str:
    out = ""
    for character in text:
        if character in '"\\':
            out += "\\" + character
        elif character < " ":
            short = {"\b": "b", "\t": "t", "\n": "n", "\f": "f", "\r": "r"}.get(character)
            out += f"\\{short}" if short else f"\\u{ord(character):04x}"
        else:
            out += character
    return f'"{out}"'


def number(token: str) -> str:
    if not set(token) & set(".eE"):
        if len(token.removeprefix("-")) > 1000:
            raise RefusedError
        return "0" if token == "-0" else token
    mantissa, _, exponent = token.lower().partition("e")
    if abs(int(exponent or "0")) > BYTES_MAX + 1000:
        # More than the digits of any text could make good; as a fraction it would take minutes.
        if exponent.startswith("-") or not set(mantissa) & set("123456789"):
            return "0"
        raise RefusedError
    try:
        return shortest(float(Fraction(token)))
    except OverflowError:
        raise RefusedError from None


def shortest(value: float) -> str:
    """Number::toString by its definition: the fewest digits that read back, of these the closest, of these the even."""
    if value == 0:
        return "0"
    sign, exact = ("-" if value < 0 else ""), Decimal(abs(value))
    for precision in range(1, 18):
        candidates = {
            Context(prec=precision, rounding=rounding, Emin=-9999, Emax=9999).plus(exact)
            for rounding in (ROUND_FLOOR, ROUND_CEILING)
        }
        fitting = [candidate for candidate in candidates if float(candidate) == abs(value)]
        if fitting:
            break
    wide = Context(prec=2000)
    best = min(fitting, key=lambda some: (abs(wide.subtract(some, exact)), some.as_tuple().digits[-1] % 2))
    _, digit_tuple, exponent = best.as_tuple()
    assert isinstance(exponent, int)
    n = len(digit_tuple) + exponent
    digits = "".join(map(str, digit_tuple)).rstrip("0")
    k = len(digits)
    if k <= n <= 21:
        return sign + digits + "0" * (n - k)
    if 0 < n <= 21:
        return sign + digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return sign + "0." + "0" * -n + digits
    power = f"e{'+' if n > 0 else '-'}{abs(n - 1)}"
    return sign + digits + power if k == 1 else sign + digits[0] + "." + digits[1:] + power


# Texts ------------------------------------------------------------------------------------------------------------

space = st.sampled_from(["", "", " ", "\n", "\t\r "])
escape = st.sampled_from(
    [*(f"\\{c}" for c in '"\\/bfnrt'), "\\u0041", "\\u00e9", "\\u0000", "\\uD83D\\uDE00", "\\ud800", "\\uDFFF"]
)
pieces = st.text(max_size=4).map(lambda text: written("".join(c for c in text if not "\ud800" <= c <= "\udfff"))[1:-1])
strings = st.lists(st.one_of(pieces, escape, st.sampled_from("aé\ue000\uffff😀\ud800")), max_size=4).map(
    lambda parts: f'"{"".join(parts)}"'
)
doubles = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(
    st.integers().map(str),
    st.integers(-(2**70), 2**70).map(str),
    doubles.map(repr),
    st.tuples(doubles, st.sampled_from([".17e", ".3E", "f", ".1f"])).map(lambda pair: format(*pair)),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


def arrays(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(space, st.lists(items, max_size=4)).map(lambda t: "[" + t[0] + f"{t[0]},".join(t[1]) + t[0] + "]")


def objects(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(strings, space, items).map(lambda t: f"{t[0]}{t[1]}:{t[1]}{t[2]}")
    return st.tuples(space, st.lists(member, max_size=4)).map(lambda t: "{" + t[0] + f"{t[0]},".join(t[1]) + "}" + t[0])


texts = st.recursive(
    st.one_of(numbers, strings, st.sampled_from(["null", "true", "false", "[]", "{}"])),
    lambda items: st.one_of(arrays(items), objects(items)),
    max_leaves=12,
)
damage = st.text('{}[]",:0123456789.eE+-\\u nltrfas\n\x00\ufeff\u00a0é\ud800', max_size=3)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = draw(texts)
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(damage) + text[at + draw(st.integers(0, 2)) :]


def outcome(text: str) -> str | None:
    try:
        return canonicalize(text)
    except JsonBreach:
        return None


def breach_of(text: str | bytes) -> JsonBreach | None:
    try:
        parse_json(text)
    except JsonBreach as breach:
        return breach
    return None


def expected(text: str) -> str | None:
    try:
        return Reference(text).canonical()
    except RefusedError:
        return None


# Properties -------------------------------------------------------------------------------------------------------


@bounded
@given(st.one_of(texts, texts, damaged()))
@example('{"\\ud83d\\ude00":1,"\uffff":2,"\\ud7ff":3}')
@example('["\\ud83d\ud83d\\ude00","\\\\ud800"]')
@example('{"\ud800":1,"\\udc00":2}')
@example("[9007199254740993.0,2.9802322387695312e-8,1e23,0.1e-400,1e309]")
def test_the_canonical_text_is_the_reference_s(text: str) -> None:
    assert outcome(text) == expected(text)


@bounded
@given(texts)
def test_canonical_text_maps_to_itself_and_is_what_the_printer_gives(text: str) -> None:
    canonical = outcome(text)
    if canonical is not None:
        assert canonicalize(canonical) == canonical
        assert canonicalize(canonical.encode()) == canonical
        assert print_canonical(parse_json(text)) == canonical
        assert print_canonical(parse_json(canonical)) == canonical


@bounded
@given(st.text(max_size=30))
def test_any_text_is_canonical_or_a_breach_that_is_short_and_printable(text: str) -> None:
    breach = breach_of(text)
    if breach is not None:
        assert breach.problem == str(breach)
        assert len(breach.problem) < 400
        assert all(character >= " " for character in breach.problem)
        breach.problem.encode()


@bounded
@given(st.binary(max_size=30))
def test_any_bytes_are_canonical_or_a_breach(data: bytes) -> None:
    breach = breach_of(data)
    assert breach is None or breach.kind in {"not_utf8", "syntax", "double_overflow"}


@bounded
@given(st.text())
def test_any_string_survives_but_for_lone_surrogates(text: str) -> None:
    kept = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    assert parse_json(print_canonical([text])) == [kept]
    assert parse_json(json.dumps(kept)) == kept


@bounded
@given(doubles)
def test_a_double_is_printed_by_the_definition_and_reads_back(value: float) -> None:
    printed = double_text(value)
    assert printed == shortest(value)
    assert float(printed) == value


def test_every_power_of_two_and_its_neighbours_are_printed_by_the_definition() -> None:
    for power in range(-1074, 1024):
        for value in (2.0**power, math.nextafter(2.0**power, 0), math.nextafter(2.0**power, math.inf)):
            assert double_text(value) == shortest(value)


def test_every_character_is_escaped_as_the_contract_says_by_both_printers() -> None:
    for start in range(0, 0x110000, 0x800):
        if 0xD800 <= start <= 0xDFFF:
            continue
        text = "".join(map(chr, range(start, start + 0x800)))
        assert print_canonical(text) == written(text)
        # A double beside it takes the slow printer.
        assert print_canonical([text, 0.5]) == f"[{written(text)},0.5]"


# Rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "printed"),
    [
        ("-0", "0"),
        ("-0.0", "0"),
        ("1.0", "1"),
        ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("1e-6", "0.000001"),
        ("1e-7", "1e-7"),
        ("1E-400", "0"),
        ("424953923781206.25", "424953923781206.25"),
        ("1424953923781206.25", "1424953923781206.2"),  # a tie: RFC 8785, appendix B, to the even digit
        ("18446744073709551617", "18446744073709551617"),
        ("-9223372036854775809", "-9223372036854775809"),
    ],
)
def test_number_tokens(token: str, printed: str) -> None:
    assert canonicalize(token) == printed
    assert canonicalize(f'{{"n":[{token}]}}') == f'{{"n":[{printed}]}}'


def test_an_integer_token_is_an_int_and_any_other_a_float() -> None:
    values: Any = parse_json("[-0, 1, 12345678901234567890123, 1.0, 1e2]")
    assert values == [0, 1, 12345678901234567890123, 1.0, 100.0]
    assert [type(value) for value in values] == [int, int, int, float, float]


def test_names_sort_by_utf_16_code_units() -> None:
    assert canonicalize('{"\uffff":1,"😀":2,"\ud7ff":3}') == '{"\ud7ff":3,"😀":2,"\uffff":1}'
    assert print_canonical({"\uffff": 1, "😀": 2, "\ud7ff": 3}) == '{"\ud7ff":3,"😀":2,"\uffff":1}'


@pytest.mark.parametrize(
    ("text", "kind", "problem"),
    [
        ('{"workers":[{"id":1,"id":2}]}', "duplicate_name", 'duplicate name "id" at /workers/0: give each name once'),
        ('{"a":1,"a":1}', "duplicate_name", 'duplicate name "a" at the top: give each name once'),
        ('{"a/b~":{"c":1,"c":2}}', "duplicate_name", 'duplicate name "c" at /a~1b~0: give each name once'),
        ('{"\ud800":1,"\\udfff":1}', "duplicate_name", 'duplicate name "\ufffd" at the top: give each name once'),
        ("[" * 101 + "]" * 101, "too_deep", "nested deeper than 100: flatten the value"),
        ("NaN", "syntax", "NaN is not JSON: use null or a finite number"),
        ("[-Infinity]", "syntax", "-Infinity is not JSON: use null or a finite number"),
        ("1e999", "double_overflow", 'the number "1e999" is beyond the range of a double (1.8e308)'),
        ("", "syntax", "not JSON at line 1, column 1: a JSON value is expected; the text is empty"),
        ("[1,", "syntax", "not JSON at line 1, column 4: a JSON value is expected; the text ends here"),
        ("\ufeff1", "syntax", "starts with a byte order mark: send the JSON text without it"),
        (b"\xff", "not_utf8", "not UTF-8 at byte 0: send the JSON text as UTF-8"),
        (" " * (BYTES_MAX + 1), "too_large", "longer than 262144 bytes: send a smaller value"),
        ("é" * (BYTES_MAX // 2 + 1), "too_large", "longer than 262144 bytes: send a smaller value"),
        ('[{"a":1,"a":2},', "syntax", "not JSON at line 1, column 16: a JSON value is expected; the text ends here"),
    ],
)  # fmt: skip
def test_a_breach_names_its_kind_and_says_what_to_do(text: str | bytes, kind: str, problem: str) -> None:
    for read in (parse_json, canonicalize):
        with pytest.raises(JsonBreach) as caught:
            read(text)
        assert (caught.value.kind, caught.value.problem) == (kind, problem)


def test_a_thousand_digits_are_kept_and_one_more_is_refused() -> None:
    token = "-" + "9" * 1000
    assert canonicalize(token) == token
    assert print_canonical(parse_json(token)) == token
    with pytest.raises(JsonBreach, match="an integer of 1001 digits"):
        parse_json("9" * 1001)
    with pytest.raises(JsonBreach, match="more than 1000 digits"):
        print_canonical(10**1000)
    with pytest.raises(JsonBreach, match="more than 1000 digits"):
        print_canonical([-(1 << 200_000)])


def test_depth_a_hundred_passes_in_every_direction() -> None:
    deep = '{"a":' * 50 + "[" * 50 + "0.5" + "]" * 50 + "}" * 50
    assert canonicalize(deep) == deep
    assert print_canonical(parse_json(deep)) == deep
    brackets = '["' + "[{" * 500 + '",' + ",".join(["[]"] * 200) + "]"
    assert canonicalize(brackets) == brackets


def test_canonical_text_longer_than_the_limit_is_refused_so_that_every_second_reader_accepts_the_first_s() -> None:
    growing = "[" + ",".join(["1e20"] * 13_000) + "]"
    assert len(growing) < BYTES_MAX
    parse_json(growing)
    with pytest.raises(JsonBreach) as caught:
        canonicalize(growing)
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "[]" * 130_000,
        "[" + "[]," * 80_000 + "1]",
        '"' + "\\" * 250_000,
        '"' * 250_000,
        '"' + "\\ud800" * 40_000 + '"',
        "1" * 250_000,
        "1" * 250_000 + ".0",
        "[" + ",".join(["9" * 1000] * 250) + "]",
        "[" + '{"a":1,"a":2},' * 15_000 + "1]",
        '{"' + "x" * 100_000 + '":[' + "0," * 60_000 + '{"a":1,"a":1}]}',
    ],
    ids=lambda text: f"{text[:12]}…{len(text)}",
)
def test_hostile_texts_cost_no_more_than_their_length(text: str) -> None:
    started = time.process_time()
    outcome(text)
    # Measured: 0.3 to 40 ms. A square of the length would take minutes.
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [None, math.nan]])
def test_the_printer_refuses_what_no_reader_would_accept(value: Any) -> None:
    with pytest.raises(JsonBreach, match="is not JSON: use null or a finite number"):
        print_canonical(value)


def test_the_printer_refuses_depth_and_names_that_become_equal_and_foreign_types() -> None:
    nested: Any = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(JsonBreach, match="nested deeper than 100"):
        print_canonical(nested)
    with pytest.raises(JsonBreach, match="nested deeper than 100"):
        print_canonical([0.5, nested])
    with pytest.raises(JsonBreach, match="differ only in lone surrogates"):
        print_canonical(dict.fromkeys(["\ud800", "\udfff"]))
    with pytest.raises(TypeError, match="bytes is not a JSON value"):
        print_canonical(b"x")  # type: ignore[arg-type] # the point of the test
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(JsonBreach, match="nested deeper than 100"):
        print_canonical(itself)


def walked_depth(brackets: str) -> int:
    """How deep brackets nest, one after the other."""
    depth = deepest = 0
    for bracket in brackets:
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


@campaign(200)
@given(st.text("[]{}", max_size=60) | st.integers(1, 40).map(lambda n: "[{" * n + "}]" * n), st.integers(0, 30))
def test_depth_is_what_a_walk_over_the_brackets_finds(brackets: str, depth_max: int) -> None:
    if brackets.count("[") + brackets.count("{") <= depth_max:
        check_depth(brackets, depth_max)
    elif walked_depth(brackets) > depth_max:
        with pytest.raises(JsonBreach):
            check_depth(brackets, depth_max)
    else:
        check_depth(brackets, depth_max)
