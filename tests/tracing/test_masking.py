"""Secrets are taken out before a text is cut, in time linear in the text."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.tracing import DEFAULT_MASK_KEYS, DEFAULT_MASK_PATTERNS
from lakehouse.tracing.mask_pattern import compile_mask_pattern
from lakehouse.tracing.masking import MASK, Capture, Masker

MASKER = Masker(DEFAULT_MASK_KEYS, DEFAULT_MASK_PATTERNS)
SECRET = "hunter2-Wq3"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key sk-abcdefghijklmnop rest", f"key {MASK} rest"),
        ("Authorization: Bearer abc.def-ghi=", f"Authorization: {MASK}"),
        ("authorization: bearer  abcdefgh", f"authorization: {MASK}"),
        ("Basic dXNlcjpwYXNz next", f"{MASK} next"),
        ("AKIAIOSFODNN7EXAMPLE.", f"{MASK}."),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_-x", MASK),
        ("ghp_" + "a1" * 18, MASK),
        ("AIza" + "x" * 35, MASK),
        ("a risk-free task-list for the sk-short desk", "a risk-free task-list for the sk-short desk"),
        ("the bearer of this", "the bearer of this"),
    ],
)
def test_what_looks_like_a_secret_is_masked_anywhere(text: str, masked: str) -> None:
    assert MASKER.mask(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f'{{"api_key":"{SECRET}","a":1}}', '{"api_key":"[masked]","a":1}'),
        (f'{{"API-Key" : "{SECRET}"}}', '{"API-Key" : "[masked]"}'),
        ('{"password":12345,"a":1}', '{"password":"[masked]","a":1}'),
        ('{"password":null,"a":"x"}', '{"password":null,"a":"x"}'),
        (f'{{"secret":{{"a":["{SECRET}",{{"b":"}}"}}]}},"c":2}}', '{"secret":"[masked]","c":2}'),
        (f'{{"secret":["{SECRET}"],"c":2}}', '{"secret":"[masked]","c":2}'),
        (f'{{"password":"{SECRET}\\"still","a":1}}', '{"password":"[masked]","a":1}'),
        (f'{{"password":"{SECRET}\\\\","a":1}}', '{"password":"[masked]","a":1}'),
        (f'cut off: {{"password":"{SECRET}', 'cut off: {"password":"[masked]"'),
        (f'cut off: {{"password":["{SECRET}", "', 'cut off: {"password":"[masked]"'),
        (f'é {{"Password":"{SECRET}"}}', 'é {"Password":"[masked]"}'),
        ('{"passwords":"kept","my_password_hint":"kept"}', '{"passwords":"kept","my_password_hint":"kept"}'),
        ('the "password" is: kept', 'the "password" is: kept'),
        ('{"password":', '{"password":'),
        # The inner JSON was cut; the string that holds it ends all the same, and what follows is kept.
        (
            f'{{"content":"{{\\"password\\":\\"{SECRET}","other":"kept"}}',
            '{"content":"{\\"password\\":\\"[masked]\\"","other":"kept"}',
        ),
        (
            f'{{"content":"{{\\"secret\\":[\\"{SECRET}\\",1","other":"kept"}}',
            '{"content":"{\\"secret\\":\\"[masked]\\"","other":"kept"}',
        ),
        # Lowered, the first letter is two characters long.
        (f'İİİİ{{"PASSWORD":"{SECRET}"}}', 'İİİİ{"PASSWORD":"[masked]"}'),
    ],
)
def test_a_masked_member_loses_its_whole_value(text: str, masked: str) -> None:
    assert MASKER.mask(text) == masked


# What JSON's escaping turns on, and no letters that could spell a mask key.
texts = st.text(alphabet='qz0u"\\/{}[]:,. \n\téé🙂', max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def planted(value: Any) -> Any:
    """Put the secret into every string of a JSON value, or make it the value."""
    if isinstance(value, list):
        return [planted(item) for item in value] or [SECRET]
    if isinstance(value, dict):
        return {key: planted(item) for key, item in value.items()} or {"x": SECRET}
    return f"{value}{SECRET}" if isinstance(value, str) else SECRET


@campaign(120)
@given(
    value=json_values.map(planted),
    before=json_values,
    after=json_values,
    key=st.sampled_from(DEFAULT_MASK_KEYS).flatmap(lambda k: st.sampled_from([k, k.upper(), k.title()])),
    nesting=st.integers(0, 3),
    ascii_only=st.booleans(),
    spaced=st.booleans(),
)
def test_a_masked_member_is_found_however_deep_its_json_is_nested_in_strings(
    value: Any, before: Any, after: Any, key: str, nesting: int, ascii_only: bool, spaced: bool
) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    document: Any = {"before": before, key: value, "after": after}
    expected: Any = {"before": before, key: MASK, "after": after}
    for _ in range(nesting):
        document = {"role": "user", "content": json.dumps(document, ensure_ascii=ascii_only, separators=separators)}
        expected = {"role": "user", "content": json.dumps(expected, ensure_ascii=ascii_only, separators=separators)}
    masked = Masker(DEFAULT_MASK_KEYS, ()).mask(json.dumps(document, ensure_ascii=ascii_only, separators=separators))
    assert SECRET not in masked
    assert json.loads(masked) == json.loads(json.dumps(expected))


def test_a_secret_that_a_cut_halves_does_not_survive() -> None:
    capture = Capture(MASKER, 1_000)
    for start in range(900, 1_010):
        for secret in ("sk-" + "Z" * 60, "Bearer " + "Z" * 60, '"password":"' + "Z" * 60 + '"'):
            text = "x" * start + secret + "x" * 5_000
            assert "Z" not in capture.finish_whole(text)


def test_a_secret_at_the_end_of_what_was_kept_in_memory_does_not_slide_into_view() -> None:
    """Masking shortens a text; its cut-off tail, where half a secret may stand unmatched, must not move up."""
    capture = Capture(MASKER, 1_000)
    kept_chars = capture.chars_kept
    for missing in range(1, 20):
        head = ("sk-" + "Z" * 400 + " ") * 7
        text = head.ljust(kept_chars - missing) + "sk-" + "Q" * 26 + "x" * 5_000
        shown = capture.finish_whole(text)
        assert "Q" not in shown
        assert "Z" not in shown


@pytest.mark.parametrize("character", ["x", "é", "€", "🙂"])
def test_a_cut_leaves_whole_characters_and_says_so(character: str) -> None:
    capture = Capture(Masker((), ()), 1_000)
    for extra in range(4):
        text = "x" * extra + character * 5_000
        shown = capture.finish_whole(text)
        body, mark = shown.rsplit("… ", 1)
        assert mark == f"[cut: {5_000 + extra} characters in all]"
        assert text.startswith(body)
        assert 1_000 - 4 < len(body.encode()) <= 1_000


@pytest.mark.parametrize("text", ["", "x" * 1_000, "é" * 500, "🙂" * 250])
def test_a_text_that_fits_is_shown_as_it_is(text: str) -> None:
    assert Capture(MASKER, 1_000).finish_whole(text) == text


@campaign(100)
@given(st.text(alphabet=st.characters(), max_size=400), st.integers(256, 600))
def test_whatever_is_captured_has_utf8_and_is_bounded(text: str, bytes_max: int) -> None:
    shown = Capture(MASKER, bytes_max).finish_whole(text * 3)
    assert len(shown.encode()) <= bytes_max + 60


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    capture = Capture(MASKER, 256)
    assert capture.finish_whole("a\ud800b") == "a\ufffdb"
    assert len(capture.finish_whole("\ud800" * 85).encode()) == 255


# A secret's parts, so that some hold together and most do not; letters that only Python takes for an `i`, a `k` or an
# `s`; and what beyond ASCII is a space or a digit.
_PIECES = [
    *("sk-", "Bearer ", "bearer\u2003", "Basic", "AKIA", "AIza", "ghp_", "gho_", "eyJ", "x" * 16, "A1" * 18, "z" * 36),
    *(
        '"',
        '\\"',
        '\\\\\\"',
        ":",
        ": ",
        " ",
        "\x1c",
        "\xa0",
        "{",
        "}",
        "[",
        "]",
        ",",
        "null",
        "\\",
        "é",
        "🙂",
        "\ud800",
    ),
    *(
        "api_key",
        "API-Key",
        "ap\u0130key",
        "ap\u0131_\u212aey",
        "password",
        "pa\u017fsword",
        "id_token",
        "SECRET",
        "sec",
    ),
    *("tok-", "ab12", "\u0663\u0664", "§"),
]
_pieced = st.lists(st.sampled_from(_PIECES), max_size=14).map("".join)
# The third finds what a mask leaves: it must not be asked for before there is one.
_ODD_PATTERNS = (*DEFAULT_MASK_PATTERNS, r"tok-\w{2,20}\d", r"ab[^\s,]{2}§?", r"masked\]", r"§é\.")


@campaign(400)
@given(_pieced, st.sampled_from([DEFAULT_MASK_PATTERNS, _ODD_PATTERNS]), st.sampled_from([DEFAULT_MASK_KEYS, ()]))
def test_the_search_for_signs_overlooks_nothing(text: str, patterns: tuple[str, ...], keys: tuple[str, ...]) -> None:
    """`Capture` masks what shows a sign of a secret; here it is held against masking everything."""
    masker = Masker(keys, patterns)
    masked = masker.mask(text).replace("\ud800", "\ufffd")
    assert Capture(masker, 65_536).finish_whole(text) == masked


def test_the_search_takes_every_letter_that_python_takes() -> None:
    """Python ignores case in a way of its own."""
    name = "abcdefghijklmnopqrstuvwxyz-_. 0123456789"
    masker = Masker((name,), ())
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    for letter in name:
        for alike in re.findall(re.escape(letter), characters, re.IGNORECASE):
            assert masker.may_show_secret(f'"{name.replace(letter, alike)}":1'), (letter, alike)


def test_ordinary_texts_show_no_sign_of_a_secret() -> None:
    """Else every text would be searched twice: the signs must be more than the patterns' first letters."""
    for text in (
        "a risk-free task-list",
        "eight through the night",
        "the password: x",
        '{"name":"Basic"}',
        "Bearer of it",
    ):
        assert not MASKER.may_show_secret(text)


@pytest.mark.parametrize(
    "hostile",
    [
        '"password":"' + "\\" * 1_000_000,
        '"password":"' + '\\"' * 500_000,
        '"password":' * 100_000,
        '"password":[' * 80_000,
        '"password":{"a":"' * 60_000,
        "\\" * 7 + '"password' + "\\" * 7 + '":' + "\\" * 1_000_000,
        '"password"' + " " * 1_000_000,
        "sk-" * 330_000,
        "sk-aaaaaaaaaaaaaaa." * 50_000,
        "Bearer " + " " * 1_000_000,
        "Bearer    " * 100_000,
        "eyJ" * 330_000,
        '"' * 1_000_000,
        '"api' * 250_000,
        "é" + '"api_key" ' * 100_000,
    ],
)
def test_hostile_texts_of_a_megabyte_take_linear_time(hostile: str) -> None:
    capture = Capture(MASKER, 1_048_576)
    started_s = time.thread_time()
    MASKER.mask(hostile)
    capture.finish_whole(hostile)
    # Quadratic time would be minutes; a megabyte takes some 50 ms.
    assert time.thread_time() - started_s < 2.0


def test_a_configured_pattern_does_not_backtrack() -> None:
    masker = Masker((), ("ab" + "[a-z]{0,250}" * 4 + "!", "ac" + "[a-z]{0,16}" * 50 + "!"))
    started_s = time.thread_time()
    masker.mask(("ab" + "a" * 1_000 + " ") * 20)
    masker.may_show_secret(("ac" + "a" * 1_000 + " ") * 20)
    assert time.thread_time() - started_s < 1.0  # with backtracking, minutes


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("", "two plain characters"),
        ("a", "two plain characters"),
        ("[ab]cd", "two plain characters"),
        ("a+bc", "before its last element"),
        ("ab(c|d)", "not understood from character 3"),
        ("ab.*", "not understood from character 3"),
        ("^ab", "not understood from character 1"),
        ("ab|cd", "not understood from character 3"),
        (r"ab\Zc", "not understood from character 3"),
        (r"(?i)ab", "not understood from character 1"),
        ("ab[c", "not understood from character 3"),
        ("abc*d", "before its last element"),
        ("ab[cd]{2,}e", "before its last element"),
        ("abc{1,300}", "too often"),
        ("abc{300,}", "too often"),
        ("ab" + "[cd]{250}" * 5, "too often"),
        ("abc{5,2}", "not a regular expression"),
        ("ab[z-a]", "not a regular expression"),
    ],
)
def test_a_pattern_that_could_take_long_is_refused_with_a_reason(pattern: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        compile_mask_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "secret"),
    [
        (r"tok_[a-z]{4}\d{2,3}", "tok_abcd123"),
        (r"X-Key: \w+", "X-Key: abc_1"),
        (r"\$\{[A-Z]+", "${SECRET"),
        (r"ab?c*", "accc"),
        ("é-é[^ ]{3,}", "é-éxyz"),
    ],
)
def test_a_configured_pattern_masks(pattern: str, secret: str) -> None:
    if pattern == r"ab?c*":
        with pytest.raises(ValueError, match="two plain characters"):
            compile_mask_pattern(pattern)
        return
    assert Masker((), (pattern,)).mask(f"<{secret} >") == f"<{MASK} >"


@pytest.mark.parametrize("key", ["", "a", 'a"b', "x" * 65, "a\\b"])
def test_a_mask_key_that_is_no_plain_name_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="write the JSON member's name"):
        Masker((key,), ())
