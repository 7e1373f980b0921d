"""What a reader sees of a message: its text without what hides, and the words of it."""

from __future__ import annotations

import html
import quopri
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, compress, filterfalse
from operator import not_
from typing import Final, NamedTuple
from urllib.parse import unquote

import regex

from validated.datasets.names import INVISIBLE, name_key

_INVISIBLE: Final = re.compile(f"[{INVISIBLE}]+")
_LINE_END: Final = regex.compile("\r\n|[\r\n\u0085\u2028\u2029]")
_ODD_LINE_ENDS: Final = ("\r", "\u0085", "\u2028", "\u2029")
_UNSHOWN: Final = regex.compile(r"<(script|style|template)\b[^<>]{0,500}>.*?</\1\s*>", regex.IGNORECASE | regex.DOTALL)
# What is shown from right to left, whatever its letters are.
_TURNED: Final = regex.compile("\u202e([^\u202c\u2069\n]*)")
_BLOCK_TAG: Final = regex.compile(
    r"<!--.*?-->|</?(?:br|p|div|li|ul|ol|tr|table|h[1-6]|hr)\b[^<>]{0,500}>", regex.IGNORECASE | regex.DOTALL
)
_CELL_TAG: Final = regex.compile(r"</?t[dh]\b[^<>]{0,500}>", regex.IGNORECASE)
_TAG: Final = regex.compile(r"</?[A-Za-z][^<>]{0,500}>")
_LINK_TARGET: Final = regex.compile(r"\]\([^()\n]{0,500}\)|\]\[[^\[\]\n]{0,100}\]")
_MARKS: Final = "*_~`\\"
_EMPHASIS: Final = regex.compile(r"[*_~`\\]+|(?<=\p{L})-\n(?=\p{L})")
# Letters of scripts that put no space between words: each is a word, and more of them make a name.
_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Bopomofo}\p{Tibetan}"
# What `_plain` makes of ASCII: spaces of all sorts are one sort, what prints nothing is gone.
_ASCII_SHOWN: Final = {code: " " if chr(code).isspace() else None for code in (*range(32), 127) if code != ord("\n")}
# The same of ASCII, of which no letter is a mark.
_ASCII_WORD: Final = re.compile("([A-Za-z0-9]+(?:['`][A-Za-z0-9]+)*)")
# UAX 29's words, except that they end at a dot and an underscore, too: addresses are made of names.
_WORD: Final = regex.compile(
    rf"(?V1)([{_UNSPACED}]\p{{M}}*"
    rf"|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+(?:['\u2019\u2018\u02bc\u02bb\u2032\u00b4`\uff07]"
    rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+)*)"
)
_UNSPACED_WORD: Final = regex.compile(rf"[{_UNSPACED}]")
# "Robert Brown's", and "Robert Brown'll" or Turkish "Brown'\u0131n" as well: a name goes on with a capital.
_POSSESSIVE: Final = regex.compile("['\u2019\u2018\u02bc\u2032\u00b4`\uff07](?:[sS]|\\p{Ll}{1,4}|LL|VE|RE|D)$")
# The sign of a footnote.
_NOTE: Final = regex.compile(r"(?<=\p{L}{2})\d{1,2}$")
# Korean writes "Mr" and what a name is to its sentence without a space behind it.
_PARTICLE: Final = (
    "(?:\uaed8\uc11c|\uc5d0\uac8c|\ud55c\ud14c|"
    "[\uacfc\uc640\uc774\uac00\uc740\ub294\uc744\ub97c\uc758\ub3c4\ub9cc\uaed8])"
)
_KOREAN_ENDS: Final = (
    regex.compile(rf"(?<=^\p{{Hangul}}{{2,}})(?:\ub2d8|\uc528){_PARTICLE}?$"),
    regex.compile(rf"(?<=^\p{{Hangul}}{{2,}}){_PARTICLE}$"),
)
# Escapes of programs, which show where a text was put into another one; and quoted-printable, of RFC 2045.
_ESCAPE: Final = regex.compile(r"\\[nrt](?=\p{L})")
_QUOTED: Final = regex.compile(r"(?:=(?:20|09|0A|0D|3D|[89A-F][0-9A-F]))+|=\n")
# An address of two names, perhaps with a number: the family's may stand first.
_ADDRESS: Final = regex.compile(r"(?<![\w.-])(\p{L}{2,40})([._-])(\p{L}{2,40})(\d{0,4})@")
# What forms and addresses of pages call the parts of a name.
_LABEL: Final = regex.compile(
    r"\b(?:(?:first|given|last|family|sur)[ _-]?name|first|last|given|family)[ \t]{0,3}[:=][ \t]{0,3}", regex.IGNORECASE
)
# A vCard has the family's name first (RFC 6350).
_CARD_NAME: Final = regex.compile(r"^N(?:;[^:\n]{0,100})?:([^;\n]{1,100});([^;\n]{1,100})", regex.MULTILINE)
# Each with a character that it has, and what a reader makes of it.
_WRITTEN_OTHERWISE: Final[Sequence[tuple[str, regex.Pattern[str], str | Callable[[regex.Match[str]], str]]]] = (
    ("", _LABEL, ""),
    ("\\", _ESCAPE, " "),
    ("=", _QUOTED, lambda match: quopri.decodestring(match[0].encode()).decode(errors="replace")),
    ("@", _ADDRESS, r"\1\2\3 \4; \3\2\1 @"),
    ("N", _CARD_NAME, r"\2 \1"),
)
_KEPT_CHARS_MAX: Final = 32
_NO_CASED_PART: Final = regex.compile(r"[^\p{L}\p{N}]|[\u02bb\u02bc]")


def views(text: str) -> list[str]:
    """Return the text as it stands, and as it is shown where its markup is; distinct. Compatible forms of letters and
    digits are the plain ones, nothing is invisible, and lines end with a line feed.
    """
    text = unescaped(text)
    made = dict.fromkeys((_plain(text),))
    if "\u202e" in text:
        made[_plain(_TURNED.sub(lambda match: match[1][::-1], text))] = None
    shown = text
    for _ in range(2):
        shown = unquote(shown) if "%" in shown else shown
    if "<" in shown:
        shown = _BLOCK_TAG.sub("\n", _UNSHOWN.sub("", shown))
        shown = _TAG.sub("", _CELL_TAG.sub(" | ", shown))
    if "]" in shown:
        shown = _LINK_TARGET.sub("]", shown)
    made[_plain(shown)] = None
    if "-" in shown or any(mark in shown for mark in _MARKS):
        shown = _EMPHASIS.sub("", _lines(shown))
        made[_plain(shown)] = None
    lines = _lines(text)
    for mark, pattern, written in _WRITTEN_OTHERWISE:
        if mark in lines and (read := pattern.sub(written, lines)) != lines:
            made[_plain(read)] = None
    return list(made)


def unescaped(text: str) -> str:
    """Return the text without HTML's entities, also where they were made twice."""
    for _ in range(3):
        before, text = text, html.unescape(text)
        if text == before:
            break
    return text


def _plain(text: str) -> str:
    text = _lines(text)
    if not text.isascii():
        text = _visible(text)
        if not unicodedata.is_normalized("NFKC", text):
            text = _visible(unicodedata.normalize("NFKC", text))
    if text.isprintable():
        return text
    if text.isascii():
        return text.translate(_ASCII_SHOWN)
    odd = [each for each in set(text) if not each.isprintable() and each != "\n"]
    return text.translate({ord(each): " " if each.isspace() else None for each in odd}) if odd else text


def _lines(text: str) -> str:
    return _LINE_END.sub("\n", text) if any(each in text for each in _ODD_LINE_ENDS) else text


def _visible(text: str) -> str:
    # A text has few distinct characters beyond ASCII: they are looked at in place of all of it.
    return _INVISIBLE.sub("", text) if _INVISIBLE.search("".join(filterfalse(str.isascii, set(text)))) else text


class Word(NamedTuple):
    """One word, wherever it stands."""

    text: str
    key: str
    owner_key: str
    """The key without a possessive "'s"; `key` where there is none."""
    weight: float
    """Six words make the longest name that is looked for; of a script without spaces it may have more letters."""
    is_capital: bool
    """Whether it begins with a capital, or is of a script that has none."""


class Words:
    """The words of a view, in order."""

    def __init__(self, view: str) -> None:
        self._view = view
        # What stands before, between and behind the words has the even places.
        self._parts: list[str]
        self._parts = split_words(view, _ASCII_WORD, _WORD)
        distinct = set(self._parts[1::2])
        # The words of a language come again and again; what is as long as a book is not kept.
        word = _kept_word if max(map(len, distinct), default=0) <= _KEPT_CHARS_MAX else _known
        self.distinct = dict(zip(distinct, map(word, distinct), strict=True))
        if not view.isascii():
            self._leave_out([text for text, word in self.distinct.items() if not word.key])
        self.texts = self._parts[1::2]
        """Of each word."""
        self.words = [*map(self.distinct.__getitem__, self.texts)]
        self.gaps = self._parts[2:-1:2]
        """What stands behind each word but the last."""

    def start(self, at: int) -> int:
        """Return where in the view word `at` begins."""
        return self._ends[2 * at]

    def end(self, at: int) -> int:
        """Return where it ends."""
        return self._ends[2 * at + 1]

    def written(self, first: int, last: int) -> str:
        """Return what stands from word `first` to word `last`."""
        return self._view[self.start(first) : self.end(last)]

    @cached_property
    def weights(self) -> list[float]:
        """The weight of all words before each one, and of all."""
        return list(accumulate([word.weight for word in self.words], initial=0.0))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self._parts)))

    def _leave_out(self, marks: Collection[str]) -> None:
        """Put `marks`, which are no words, into the gaps."""
        if marks:
            parts = [self._parts[0]]
            for text, gap in zip(self._parts[1::2], self._parts[2::2], strict=True):
                if text in marks:
                    parts[-1] += text + gap
                else:
                    parts += (text, gap)
            self._parts = parts
            for text in marks:
                del self.distinct[text]


def split_words(view: str, ascii_words: re.Pattern[str], words: regex.Pattern[str]) -> list[str]:
    """Return what ``words.split`` gives: at the even places what stands before, between and behind the words. The one
    group of either pattern is all of it; no word has a space, and a space beside a word is as an end. `ascii_words`,
    which is faster, finds the same in ASCII, of which most of a text is.
    """
    if view.isascii():
        return ascii_words.split(view)
    tokens = view.split(" ")
    others = [*compress(range(len(tokens)), map(not_, map(str.isascii, tokens)))]
    if len(others) > len(tokens) // 4:
        return words.split(view)
    parts, first = [""], 0
    for at in others:
        before, *between = ascii_words.split(" ".join((*tokens[first:at], "")))
        parts[-1] += before
        parts += between
        before, *between = words.split(tokens[at])
        parts[-1] += before
        parts += between
        if at + 1 < len(tokens):
            parts[-1] += " "
        first = at + 1
    before, *between = ascii_words.split(" ".join(tokens[first:]))
    parts[-1] += before
    return parts + between


def words(text: str) -> list[Word]:
    """Return the words of a text."""
    return Words(text).words


def _word(text: str) -> Word:
    if text.isascii() and text.isalnum():
        key = owner = text.lower()
        # "Robert Browns shift": many leave the apostrophe out.
        if len(key) > 3 and key[-1] == "s" != key[-2] and text[0].isupper():
            owner = key[:-1]
        elif key[-1].isdigit():
            owner = _NOTE.sub("", key)
    else:
        key = name_key(text)
        owner = name_key(_owner(text)) if len(text) > 2 else key
        if owner == key and len(key) > 3 and key[-1] == "s" != key[-2] and text[0].isupper() and text[-1] in "sS":
            owner = key[:-1]
    weight = 1.0
    if len(key) == 1:
        # Letters that stand apart may be a name that is spaced out.
        weight = 0.4
    if not text.isascii() and _UNSPACED_WORD.match(text):
        weight = 0.25 if "\u0e00" <= text < "\u1800" else 0.75
    return Word(text, key, owner, weight, not text[0].islower())


def _owner(text: str) -> str:
    """`text` without what says whose, or to whom, something is."""
    for ends in (_POSSESSIVE, *(() if text.isascii() else _KOREAN_ENDS)):
        bare: str = ends.sub("", text)
        if bare != text:
            return bare
    return text


def _known(text: str) -> Word:
    return _kept_word(text) if len(text) <= _KEPT_CHARS_MAX else _word(text)


_kept_word = lru_cache(maxsize=8192)(_word)


def cased(text: str) -> str:
    """`text` as ``name_key`` compares it, but with its case."""
    bare = unicodedata.normalize("NFKD", _owner(text))
    return _NO_CASED_PART.sub("", bare)
