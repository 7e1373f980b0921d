"""What a reader sees of a message: its text without what hides, and the words of it."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote

import regex

from validated.datasets.names import INVISIBLE, name_key

_INVISIBLE: Final = regex.compile(f"[{INVISIBLE}]+")
_LINE_END: Final = regex.compile("\r\n|[\r\n\u0085\u2028\u2029]")
_BLOCK_TAG: Final = regex.compile(
    r"<!--.*?-->|</?(?:br|p|div|li|ul|ol|td|th|tr|table|h[1-6]|hr)\b[^<>]{0,500}>", regex.IGNORECASE | regex.DOTALL
)
_TAG: Final = regex.compile(r"</?[A-Za-z][^<>]{0,500}>")
_LINK_TARGET: Final = regex.compile(r"\]\([^()\n]{0,500}\)|\]\[[^\[\]\n]{0,100}\]")
_EMPHASIS: Final = regex.compile(r"[*_~`\\]+|(?<=\p{L})-\n(?=\p{L})")
# Letters of scripts that put no space between words: each is a word, and more of them make a name.
_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Bopomofo}\p{Tibetan}"
# What `_plain` makes of ASCII: spaces of all sorts are one sort, what prints nothing is gone.
_ASCII_SHOWN: Final = {code: " " if chr(code).isspace() else None for code in (*range(32), 127) if code != ord("\n")}
# UAX 29's words, except that they end at a dot and an underscore, too: addresses are made of names.
_WORD: Final = regex.compile(
    rf"(?V1)[{_UNSPACED}]\p{{M}}*"
    rf"|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+(?:['\u2019\u2018\u02bc\u02bb\u2032\u00b4`\uff07]"
    rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+)*"
)
_UNSPACED_WORD: Final = regex.compile(rf"[{_UNSPACED}]")
_POSSESSIVE: Final = regex.compile("['\u2019\u2018\u02bc\u2032\u00b4`\uff07]s$", regex.IGNORECASE)
_NO_CASED_PART: Final = regex.compile(r"[^\p{L}\p{N}]|[\u02bb\u02bc]")


def views(text: str) -> list[str]:
    """Return the text as it stands, and as it is shown where its markup is; distinct. Compatible forms of letters and
    digits are the plain ones, nothing is invisible, and lines end with a line feed.
    """
    text = unescaped(text)
    made = dict.fromkeys((_plain(text),))
    shown = unquote(text) if "%" in text else text
    shown = _LINK_TARGET.sub("]", _TAG.sub("", _BLOCK_TAG.sub("\n", shown)))
    made[_plain(shown)] = None
    made[_plain(_EMPHASIS.sub("", _LINE_END.sub("\n", shown)))] = None
    return list(made)


def unescaped(text: str) -> str:
    """Return the text without HTML's entities, also where they were made twice."""
    for _ in range(3):
        before, text = text, html.unescape(text)
        if text == before:
            break
    return text


def _plain(text: str) -> str:
    text = _LINE_END.sub("\n", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
        text = _INVISIBLE.sub("", text)
    if text.isprintable():
        return text
    if text.isascii():
        return text.translate(_ASCII_SHOWN)
    kept = (" " if each.isspace() and each != "\n" else each for each in text if each.isprintable() or each.isspace())
    return "".join(kept)


class Word(NamedTuple):
    """One word of a view."""

    text: str
    start: int
    end: int
    key: str
    owner_key: str
    """The key without a possessive "'s"; `key` where there is none."""
    weight: float
    """Six words make the longest name that is looked for; of a script without spaces it may have more letters."""

    @property
    def is_capital(self) -> bool:
        """Whether it begins with a capital, or is of a script that has none."""
        return not self.text[0].islower()


def words(view: str) -> list[Word]:
    """Return the words of a view."""
    return list(_words(view))


def _words(view: str) -> Iterator[Word]:
    for match in _WORD.finditer(view):
        text = match[0]
        key = name_key(text)
        if not key:
            continue
        owner = name_key(_POSSESSIVE.sub("", text)) if len(text) > 2 and not text.isalnum() else key
        weight = 1.0
        if len(key) == 1:
            # Letters that stand apart may be a name that is spaced out.
            weight = 0.4
        if not text.isascii() and _UNSPACED_WORD.match(text):
            weight = 0.25 if "\u0e00" <= text < "\u1800" else 0.75
        yield Word(text, match.start(), match.end(), key, owner, weight)


def cased(text: str) -> str:
    """`text` as ``name_key`` compares it, but with its case."""
    bare = unicodedata.normalize("NFKD", _POSSESSIVE.sub("", text))
    return _NO_CASED_PART.sub("", bare)
