"""Ids in a message: words that are an id of the roster, to the letter, and words that are built like those of the fill.

What is only digits may be much else: a year, a time, a house number, a postal code, an amount. So digits count where
the roster has them as an id and nothing beside them says that they are something else, or where a word such as "ID" or
"worker" says that they are one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator
from itertools import accumulate, compress
from operator import not_
from typing import Final

import regex

from validated.kinds.message_text import split_words

_PARTS: Final = regex.compile(r"((?<!\w)[^\W_]+(?:[-_./#\u2010-\u2015\u2212][^\W_]+)*(?!\w)|[^\W_]+)")
_ASCII_PARTS: Final = re.compile(
    r"((?<![A-Za-z0-9_])[A-Za-z0-9]+(?:[-_./#][A-Za-z0-9]+)*(?![A-Za-z0-9_])|[A-Za-z0-9]+)"
)
_PART: Final = regex.compile(r"[^\W_]+")
_SEPARATOR: Final = regex.compile(r"[-_./#\u2010-\u2015\u2212]")
_PARTS_MAX: Final = 5
_CHARS_MAX: Final = 200
# Where a word stands of which nothing depends on that.
_ANYWHERE: Final = (0, 0)
_DASH: Final = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
_SHAPES_MAX: Final = 20
_SAID_TO_BE: Final = regex.compile(
    r"(?:\b(?:id|ids|worker|workers|employee|emp|associate|badge|staff|personnel|payroll)"
    r"(?:\s?(?:id|no|nr|number|num))?\s?[.:#=-]{0,2}\s{0,2}|\#\s?)[(\"']?$",
    regex.IGNORECASE,
)
_ELSE_BEFORE: Final = regex.compile(
    r"(?:[$\u20ac\u00a3\u00a5]\s?|\d[.,:/-]|\d{1,2}\.\s\d{1,2}\.\s|[-.]|\b[A-Z]{2},?\s|\b(?:in|of|since|until|by|year|summer|winter|spring|fall|fiscal|"
    r"at|from|to|before|after|around|about|box|suite|ste|apt|unit|room|rm|gate|dock|door|bay|lot|floor|line|building|bldg|"
    r"ext|extension|route|rt|highway|hwy|exit|mile|zip|code|pin|"
    r"jan\w*|feb\w*|mar\w*|apr\w*|may|june?|july?|aug\w*|sep\w*|oct\w*|nov\w*|dec\w*)\.?\s{1,2}(?:\#\s?)?"
    r"|(?:\d{1,2}(?:st|nd|rd|th)?),?\s)$",
    # From the end, where it has to match: thirty times as fast.
    regex.IGNORECASE | regex.REVERSE,
)
_ELSE_AFTER: Final = regex.compile(
    r"\s?(?:[-\u2010-\u2015/:.,]\s?\d|-[A-Z]\d|%|(?:hours?|hrs?|h|am|pm|miles?|km|lbs?|kg|ft|dollars|usd|eur|people|units|pallets|"
    r"boxes|pieces|minutes?|min|o'clock)\b"
    r"|(?:[NSEW]\.?\s|North\s|South\s|East\s|West\s)?(?:[\p{Lu}0-9][\w.'\u2019-]*\s){1,3}"
    r"(?:st|street|ave|avenue|rd|road|blvd|boulevard|dr|drive|ln|lane|way|ct|court|pkwy|parkway|hwy|highway|pl|place|sq|"
    r"square|cir|circle|ter|terrace|pike|trail|loop|plaza)\b)",
    regex.IGNORECASE,
)

# What may stand between the parts of an id that a line end, or a hurried hand, takes apart.
_APART: Final = frozenset((*map(chr, range(128)), "-\n", "\u2010\n", "\u2011\n"))
_JOINED: Final = regex.compile(r"(\p{L}{1,6})(\d{2,12})")


class IdSearch:
    """The candidates of one view."""

    def __init__(self, view: str, own_ids: Collection[str]) -> None:
        self._view = view
        self._shapes = frozenset(map(_shape, own_ids))
        self._found: dict[str, tuple[int, int]] = {}
        self._respelt: dict[str, None] = {}
        """Ids of the roster that may be meant: what is none is no more than two words."""
        self._find()
        for shape in itertools.islice({_shape(each) for each in own_ids if not each.isalnum()}, _SHAPES_MAX):
            for found in regex.finditer(_pattern(shape), view, overlapped=True):
                self._note(found[0], found.start(), found.end())

    @property
    def candidates(self) -> Collection[str]:
        """What may be an id, distinct."""
        return self._found.keys() | self._respelt.keys() if self._respelt else self._found.keys()

    def _find(self) -> None:
        # What stands before, between and behind the words has the even places.
        parts = split_words(self._view, _ASCII_PARTS, _PARTS)
        ends = list(accumulate(map(len, parts)))
        texts, gaps = parts[1::2], parts[2:-1:2]
        # Most are letters alone: they are read in one way, whatever stands beside them.
        odd = [*compress(range(len(texts)), map(not_, map(str.isalpha, texts)))]
        first = 0
        for at in odd:
            self._found.update(dict.fromkeys(texts[first:at], _ANYWHERE))
            self._note_parts(texts[at], ends[2 * at])
            first = at + 1
        self._found.update(dict.fromkeys(texts[first:], _ANYWHERE))
        for text in [text for text in self._found if not 2 <= len(text) <= _CHARS_MAX]:
            del self._found[text]
        # An id may have a space in it, and a digit.
        pairs = {at for word in odd for at in (word - 1, word) if 0 <= at < len(gaps) and gaps[at] in _APART}
        for at in sorted(pairs.union(compress(range(len(gaps)), map(str.isdigit, gaps)))):
            text = "".join(parts[2 * at + 1 : 2 * at + 4])
            if gaps[at] != "\n" and texts[at].isalpha() and texts[at + 1].isdecimal():
                self._respelt[f"{texts[at]}-{texts[at + 1]}"] = None
            if len(gaps[at]) == 1 and any(map(str.isdigit, text)) and not text.replace(" ", "").isdecimal():
                self._note(text, ends[2 * at], ends[2 * at + 3])

    def _note_parts(self, text: str, offset: int) -> None:
        parts = list(_PART.finditer(text))
        for first, part in enumerate(parts):
            for last in parts[first : first + _PARTS_MAX]:
                for form in _forms(text[part.start() : last.end()]):
                    self._note(form, offset + part.start(), offset + last.end())
            if (joined := _JOINED.fullmatch(part[0])) is not None:
                self._respelt[f"{joined[1]}-{joined[2]}"] = None

    def _note(self, text: str, start: int, end: int) -> None:
        if not 2 <= len(text) <= _CHARS_MAX:
            return
        if text.isdecimal():
            before, after = self._view[max(0, start - 40) : start], self._view[end : end + 60]
            said = _SAID_TO_BE.search(before) is not None
            if not said and (_ELSE_BEFORE.search(before) or _ELSE_AFTER.match(after)):
                return
        self._found.setdefault(text, (start, end))

    def is_said(self, text: str) -> bool:
        """Whether a word such as "ID" or "worker" before the candidate `text` says that it is one."""
        return _SAID_TO_BE.search(self._view[max(0, self._found[text][0] - 40) : self._found[text][0]]) is not None

    def phantoms(self, known: Collection[str], own_ids: Collection[str]) -> Iterator[str]:
        """Words that are written as the ids of the fill are, and are no id of the roster."""
        for text in self._found:
            if text in known or text in own_ids or _shape(text) not in self._shapes:
                continue
            if text.translate(_DASH) in own_ids:
                continue
            if sum(map(str.isdigit, text)) < 3:
                continue
            if text.isdecimal() and not self.is_said(text):
                continue
            yield text


def _forms(text: str) -> Collection[str]:
    """How the ids that `text` may be read as are spelt: W_000002 is W-000002 to everybody."""
    if text.isalnum():
        return (text,)
    forms = {text, text.translate(_DASH)}
    if any(map(str.isalpha, text)):
        forms.add(_SEPARATOR.sub("-", text))
    return forms


def _shape(text: str) -> str:
    """Return the text with each letter as A and each digit as 9: what the ids of one roster have in common."""
    return "".join("9" if each.isdigit() else "A" if each.isalpha() else each for each in text)


def _pattern(shape: str) -> str:
    kinds = {"9": r"\d", "A": r"\p{L}"}
    return r"(?<!\w)" + "".join(kinds.get(each) or regex.escape(each) for each in shape) + r"(?!\w)"
