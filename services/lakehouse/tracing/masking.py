"""Takes secrets out of captured text before it leaves the process.

Two rules. A JSON member whose name is a mask key loses its value, at any depth, also where the JSON stands as
a string inside other JSON. A mask pattern takes out what looks like a secret wherever it stands. Both take
time linear in the text.

Nearly every text has no secret, and that is found out first, by one search for the signs of all of them at once.
Python's `re` has no such search; that of Rust, which pydantic brings, looks at many bytes with each instruction and
takes a tenth of the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

from lakehouse.tracing.mask_pattern import compile_mask_pattern, sign_of_text

MASK: Final = "[masked]"

# More than any secret that is still too short to match its pattern: what a cut leaves of one at the end of a
# text is cut off as well (see `Capture`).
UNMATCHED_CHARS_MAX: Final = 2_048

_MASK_KEY = re.compile(r"[A-Za-z0-9._ -]{2,64}")
_BRACKET_OR_QUOTE = re.compile(r'["\[\]{}]')
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SCALAR = re.compile(r'[^\s,}\]"\\]*+')


class Masker:
    """Replaces secrets in a text by `[masked]`; stateless after construction and safe from any thread.

    Attributes:
        may_show_secret: False for a text that `mask` would leave as it is, as far as it has UTF-8; it takes a tenth
            of the time. A lone surrogate, which has none, keeps it from looking.
    """

    def __init__(self, keys: Sequence[str], patterns: Sequence[str]) -> None:
        """Take names of JSON members, in any case, and mask patterns.

        Raises:
            ValueError: A key is not a plain name, or a pattern is refused by `compile_mask_pattern`.
        """
        for key in keys:
            if not _MASK_KEY.fullmatch(key):
                raise ValueError(
                    f"mask key {key!r} must be 2 to 64 letters, digits, spaces, '.', '_' or '-': write the "
                    "JSON member's name, without quotes"
                )
        self._keys = frozenset(key.lower() for key in keys)
        compiled = tuple(compile_mask_pattern(pattern) for pattern in patterns)
        self._patterns = tuple(pattern.regex for pattern in compiled)
        signs = [pattern.sign for pattern in compiled]
        self._member: re.Pattern[str] | None = None
        self._member_any_case: re.Pattern[str] | None = None
        if self._keys:
            names = "|".join(re.escape(key) for key in sorted(self._keys, key=len, reverse=True))
            firsts = re.escape("".join(sorted({c for key in self._keys for c in (key[0], key[0].upper())})))
            # Both start at a quote, which the search skips to quickly; the escapes before the closing quote
            # tell how deep the JSON is nested in strings. Ignoring case costs the search twice its time, so
            # ASCII is lowered first; other text may change its length when lowered.
            rest = rf'(?:{names})(\\{{0,7}})"\s{{0,16}}+:\s{{0,16}}+'
            self._member = re.compile(f'"{rest}')
            self._member_any_case = re.compile(f'"(?=[{firsts}]){rest}', re.IGNORECASE)
            signs.append(_sign_of_members(self._keys))
        self.may_show_secret = _search("|".join(signs))

    def masks_key(self, name: str) -> bool:
        """Return True when the value of a member called `name` must not be shown."""
        return name.lower() in self._keys

    def mask(self, text: str) -> str:
        """Return `text` without its secrets."""
        if self._member is not None and self._member_any_case is not None:
            if text.isascii():
                text = _mask_members(text, text.lower(), self._member)
            else:
                text = _mask_members(text, text, self._member_any_case)
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text


def _sign_of_members(keys: frozenset[str]) -> str:
    """Return what stands wherever a member with one of these names in any case does, for Rust's regular expressions.

    Python alone takes U+0130 and U+0131 for an `i`: a text with one of them is looked at in full.
    """
    names = "|".join(map(sign_of_text, sorted(keys)))
    return rf'"(?i:{names})[\\"]|[\x{{130}}\x{{131}}]'


def _search(signs: str) -> Callable[[str], bool]:
    """Return a search for a regular expression of Rust's kind, "" being one that finds nothing."""
    if not signs:
        return lambda _: False
    try:
        return SchemaValidator(core_schema.str_schema(pattern=signs, regex_engine="rust-regex")).isinstance_python
    except SchemaError as error:
        raise ValueError(f"the mask keys and patterns are too many or no text: {error}") from None


def _mask_members(text: str, names: str, member: re.Pattern[str]) -> str:
    """Return `text` without the values of the members that `member` finds in `names`, which is as long."""
    match = member.search(names)
    if match is None:
        return text
    parts: list[str] = []
    copied = 0
    while match is not None:
        escapes = match[1]
        start = match.end()
        end = _value_end(text, start, len(escapes))
        if end > start and text[start:end] != "null":
            parts.append(text[copied:start])
            parts.append(f'{escapes}"{MASK}{escapes}"')
            copied = end
        match = member.search(names, max(end, start))
    parts.append(text[copied:])
    return "".join(parts)


def _value_end(text: str, start: int, escapes: int) -> int:
    """Return where the JSON value at `start` ends; the text's end if it is cut off before."""
    if text.startswith("\\" * escapes + '"', start):
        return _string_end(text, start + escapes + 1, escapes)[0]
    if text[start : start + 1] not in ("{", "["):
        scalar = _SCALAR.match(text, start)
        return start if scalar is None else scalar.end()
    depth = 0
    position = start
    while (match := _BRACKET_OR_QUOTE.search(text, position)) is not None:
        position = match.end()
        if match[0] == '"':
            if escapes and _escapes_before(text, match.start()) < escapes:
                return match.start()  # the string that holds all of this JSON has ended
            position, closed = _string_end(text, position, escapes)
            if not closed:
                return position
        else:
            depth += 1 if match[0] in "{[" else -1
            if depth == 0:
                return position
    return len(text)


def _string_end(text: str, start: int, escapes: int) -> tuple[int, bool]:
    """Return where the JSON string whose content begins at `start` ends, and whether its own quote ended it.

    A string nested in n strings has 2**n - 1 backslashes (`escapes`) before its own quotes, modulo 2**(n+1).
    A quote with more stands inside the string, one with fewer ends a string further out.
    """
    modulus = 2 * (escapes + 1)
    position = start
    while (quote := text.find('"', position)) != -1:
        before = _escapes_before(text, quote)
        remainder = before % modulus
        if remainder == escapes:
            return quote + 1, True
        if remainder < escapes:
            return quote - before, False
        position = quote + 1
    return len(text), False


def _escapes_before(text: str, quote: int) -> int:
    """Count the backslashes right before `quote`; they all follow the quote before, so a scan stays linear."""
    position = quote
    while position > 0 and text[position - 1] == "\\":
        position -= 1
    return quote - position


class Capture:
    """Makes a text fit to be exported: masked first, then cut, so that half a secret cannot survive a cut.

    Attributes:
        chars_kept: A prefix of a text this long is enough for `finish`: what waits in memory need not be longer.
    """

    def __init__(self, masker: Masker, bytes_max: int) -> None:
        self._may_show_secret = masker.may_show_secret
        self._mask = masker.mask
        self._bytes_max = bytes_max
        self.chars_kept = bytes_max + UNMATCHED_CHARS_MAX

    def finish_whole(self, text: str) -> str:
        """Return what to export of a text."""
        return self.finish(text[: self.chars_kept], len(text))

    def finish(self, text: str, chars: int) -> str:
        """Return what to export of a text of `chars` characters, given its first `chars_kept`.

        Masked, at most `bytes_max` bytes of UTF-8 and a mark that says how long the whole text was, cut on a
        character's boundary. A lone surrogate, which has no UTF-8, becomes U+FFFD.
        """
        shortened = len(text) < chars
        clean = not self._may_show_secret(text)
        try:
            encoded = text.encode()  # a copy, since the search has left the UTF-8 at the text
        except UnicodeEncodeError:
            clean = False
        if clean and not shortened and len(encoded) <= self._bytes_max:
            return text
        if not clean:
            text = self._mask(text)
        if shortened:
            text = text[:-UNMATCHED_CHARS_MAX]
        text = _LONE_SURROGATE.sub("\ufffd", text)
        encoded = text.encode()
        if len(encoded) <= self._bytes_max and not shortened:
            return text
        # What is left of the character at the cut is dropped.
        return f"{encoded[: self._bytes_max].decode(errors='ignore')}… [cut: {chars} characters in all]"
