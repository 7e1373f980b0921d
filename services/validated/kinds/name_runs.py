"""Runs of words that may be somebody's full name: every one, or those that begin like a name of the roster."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import compress
from typing import Final, Literal, NamedTuple

import regex

from validated.datasets.names import SUFFIXES
from validated.kinds.message_text import Word, Words

WORDS_MAX: Final = 6
LONG_WORDS_MAX: Final = 8
# In readings of a run of usual words: what 20,000 characters of prose, markup or names cost is less.
_COST_MAX: Final = 100_000
_READING_COST: Final = 5
_PLACES_MAX: Final = 4
_GAP_CHARS_MAX: Final = 16
_ABBREVIATED: Final = SUFFIXES | {"mr", "mrs", "ms", "dr", "st", "wm", "jos", "geo", "chas", "thos", "fr", "lt", "sgt"}
_STOP: Final = regex.compile("[!?\u2026\u3002\uff01\uff1f]|;\\s|\\s;")
_SENTENCE_END: Final = regex.compile(r"\.[^\w\s]*\s")
_HYPHENS: Final = ("-", "\u2010", "\u2011")
# What parts the family's name from the given ones, in lists, tables and CSV too.
_COMMA: Final = regex.compile('[,\uff0c\u3001\u060c|\t]|(?<!<)/(?!>)|^"?;"?$|\\s[-\u2013\u2014]\\s')
_OPENS: Final = regex.compile("[(\\[\"'\u2018\u201c\u201e\u00ab{]$")
_CLOSES: Final = regex.compile("^[)\\]\"'\u2019\u201d\u00bb},.]")
MONTHS: Final = frozenset(
    (  # noqa: SIM905  twenty-four lines otherwise
        "january february march april may june july august september october november december "
        "jan feb mar apr jun jul aug sep sept oct nov dec"
    ).split()
)


class Run(NamedTuple):
    """Words `first` to `last` of a view, which may be a name."""

    first: int
    last: int
    key: str
    order: Literal["plain", "comma", "inverted"]
    """Whether the words stand as in the name, with a comma between them, or otherwise. The last two are more likely to
    be two things than one name where another reading is at hand.
    """


class Bounds:
    """What the search of one prompt may cost. Runs that read alike are read alike: each is taken a few times only, for
    what stands beside it may decide whether it is a name. One for all views of a text: what one of them has is not
    looked at again in the next.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        """`stop` ends the search early: nobody waits for it any more."""
        self._stop = stop
        self._left = _COST_MAX
        self._taken: dict[str, int] = {}
        self.cut = 0
        """How many words may begin names that were not looked for."""

    def are_reached(self) -> bool:
        """Whether nothing further is to be looked at."""
        return self._left <= 0 or (self._stop is not None and self._stop.is_set())

    def takes(self, text: str, *, is_usual: bool) -> bool:
        """Whether the run `text` is to be read; `is_usual`: that is cheap."""
        self._left -= 1
        count = self._taken.get(text, 0)
        if count >= _PLACES_MAX:
            return False
        self._taken[text] = count + 1
        if not is_usual:
            self._left -= _READING_COST
        return True

    def end_view(self) -> None:
        """End this view: the next one begins."""
        self._taken = dict.fromkeys(self._taken, _PLACES_MAX)


class RunSearch:
    """The search of one view."""

    def __init__(self, text: Words) -> None:
        self._text = text
        self._words = text.words
        self._gaps = text.gaps
        self._commas: list[int] = []
        """The gaps with a comma behind which given names may stand."""

    def find(self, begins: Callable[[str], bool], bounds: Bounds | None = None) -> Iterator[Run]:
        """Give all runs but for those that begin like no name: `begins` says whether one whose bearers are wanted
        begins so. `bounds`, where not every run is wanted, but each reading of a text.
        """
        words, gaps, texts = self._words, self._gaps, self._text.texts
        heads = {text for text, word in self._text.distinct.items() if begins(word.owner_key)}
        turned = self._turned(heads)
        everywhere = turned.union(compress(range(len(texts)), map(heads.__contains__, texts)))
        # No name begins with a number: long tables of them are no names.
        firsts = sorted(at for at in everywhere if not words[at].key.isdecimal())
        for number, first in enumerate(firsts):
            if bounds is not None and bounds.are_reached():
                bounds.cut += len(firsts) - number
                return
            word = words[first]
            # Of most words that begin a name the next one says that none stands here.
            is_alone = (
                first not in turned
                and word.owner_key == word.key
                and (
                    first == len(gaps)
                    or (
                        gaps[first] == " "
                        and not begins(word.key + words[first + 1].owner_key)
                        and not self._is_extra(first + 1)
                    )
                )
            )
            if not is_alone:
                yield from self._find_from(first, begins, bounds)
            elif bounds is None or bounds.takes(word.text, is_usual=True):
                yield Run(first, first, word.key, "plain")

    def _turned(self, heads: Collection[str]) -> set[int]:
        """Return where a run may begin that is a name the other way round: one of `heads`, with which names begin, or
        an initial, which may be left out, stands after a comma, or second of two words with capitals.
        """
        words, gaps, texts = self._words, self._gaps, self._text.texts
        turned: set[int] = set()
        given = {text for text, word in self._text.distinct.items() if text in heads or len(word.key) == 1}
        for at in compress(range(len(gaps)), map(given.__contains__, texts[1:])):
            gap = gaps[at]
            if gap == " ":
                if words[at].is_capital and words[at + 1].is_capital:
                    turned.add(at)
            elif _COMMA.search(gap):
                self._commas.append(at)
                first = at
                while first >= 0 and self._has_room(first, at):
                    turned.add(first)
                    first -= 1
        return turned

    def _has_room(self, first: int, last: int) -> bool:
        """Whether words `first` to `last` are not too many for a name."""
        return self._text.weights[last + 1] - self._text.weights[first] < LONG_WORDS_MAX + 0.1

    def _find_from(self, first: int, begins: Callable[[str], bool], bounds: Bounds | None) -> Iterator[Run]:
        words, gaps = self._words, self._gaps
        # Long names are looked for where their first word and their last have capitals: those are few.
        weight_max = LONG_WORDS_MAX if words[first].text[0].isupper() else WORDS_MAX
        weight = 0.0
        commas: list[int] = []
        # Most runs can be read in one way alone: words with one space between them, not all of them capitals.
        is_usual, is_spaced, may_turn_here, has_small = True, True, True, False
        # The keys so far, with and without initials and nicknames, and whether a name begins so.
        key, bare = "", ""
        is_key, is_bare, is_shorter = True, True, False
        for last in range(first, len(words)):
            other = words[last]
            weight += other.weight
            if weight > weight_max or (last > first and not self._joins(last - 1, commas)) or len(commas) > 1:
                return
            is_spaced = is_spaced and (last == first or gaps[last - 1] == " ")
            may_turn_here = may_turn_here and (last == first or self._is_turned_gap(first, last - 1))
            is_usual = is_usual and is_spaced
            has_small = has_small or not other.is_capital
            is_key = is_key and begins(key + other.owner_key)
            is_name = is_key or (is_shorter and is_bare and begins(bare + other.owner_key))
            split = commas[0] + 1 if commas else first + 1 if may_turn_here and not has_small else len(words)
            is_inverted = split <= last and self._are_given(split, last, begins)
            is_wanted = (is_name or is_inverted) and (weight <= WORDS_MAX or other.is_capital)
            if bounds is not None and is_wanted:
                is_wanted = bounds.takes(self._text.written(first, last), is_usual=is_usual)
            if is_wanted and is_usual and other.owner_key == other.key and (has_small or last == first):
                yield Run(first, last, key + other.key, "plain")
            elif is_wanted:
                yield from self._forms(first, last, commas)
            key += other.key
            if last > first and self._is_extra(last):
                is_shorter = True
            else:
                bare += other.key
                is_bare = is_name
            may_turn = is_inverted or (last == first and not has_small) or (not commas and self._has_comma(first, last))
            if not (is_key or is_bare or may_turn):
                return
            # From here on it stands within the run: an initial that the roster may not have.
            is_usual = is_usual and (last == first or len(other.key) > 1)

    def _are_given(self, first: int, last: int, begins: Callable[[str], bool]) -> bool:
        """Whether words `first` to `last` may be given names, which stand behind the family's, or the first of them."""
        given = self._words[first : last + 1]
        if len(given) > 1 and given[-1].key in SUFFIXES:
            del given[-1]
        if any(word.owner_key != word.key for word in given):
            return True
        keys = [word.key for word in given]
        return begins("".join(keys)) or begins("".join([key for key in keys if len(key) > 1]))

    def _has_comma(self, first: int, last: int) -> bool:
        """Whether given names may stand behind a comma that a longer run from `first` has."""
        at = bisect_left(self._commas, last)
        return at < len(self._commas) and self._has_room(first, self._commas[at])

    def _joins(self, gap_at: int, commas: list[int]) -> bool:
        """Whether a name may go on across the gap after word `gap_at`. A comma in it is added to `commas`."""
        gap = self._gaps[gap_at]
        if gap == " ":
            return True
        before, after = self._words[gap_at], self._words[gap_at + 1]
        # Columns are parted by many spaces.
        if len(gap) > _GAP_CHARS_MAX and len("".join(gap.split())) > _GAP_CHARS_MAX:
            return False
        if _STOP.search(gap):
            return False
        if len(before.key) > 1 and before.key not in _ABBREVIATED and _SENTENCE_END.search(gap):
            return False
        if after.key not in SUFFIXES and _COMMA.search(gap):
            commas.append(gap_at)
        return True

    def _forms(self, first: int, last: int, commas: Sequence[int]) -> Iterator[Run]:
        run = self._words[first : last + 1]
        # "Hello Robert,\nJackson is ..." greets: only the other order can be a name then.
        greets = bool(commas) and "\n" in self._gaps[commas[0]] and "," in self._gaps[commas[0]]
        if not greets:
            for key in _spellings(run):
                yield Run(first, last, key, "comma" if commas else "plain")
            ends = (first, last)
            inner = [word for at, word in enumerate(run, first) if at in ends or not self._is_extra(at)]
            if 1 < len(inner) < len(run) and len(inner[0].key) > 1 < len(inner[-1].key):
                for key in _spellings(inner):
                    yield Run(first, last, key, "comma" if commas else "plain")
        if len(run) == 1:
            return
        if commas:
            split = commas[0] - first + 1
        elif all(word.is_capital for word in run) and all(self._is_turned_gap(first, at) for at in range(first, last)):
            if run[1].key in MONTHS:
                return
            split = 1
        else:
            return
        given, family = run[split:], run[:split]
        suffix = [given[-1]] if len(given) > 1 and given[-1].key in SUFFIXES else []
        given = given[: len(given) - len(suffix)]
        whole = [word for word in given if len(word.key) > 1]
        for each in (given, whole) if len(whole) < len(given) else (given,):
            order = [*each, *family, *suffix]
            key, owner_key = "".join([word.key for word in order]), "".join([word.owner_key for word in order])
            yield Run(first, last, key, "inverted")
            if owner_key != key:
                yield Run(first, last, owner_key, "inverted")

    def _is_turned_gap(self, first: int, at: int) -> bool:
        """Whether gap `at` may stand in a name the other way round that begins with word `first`: a space, or behind
        the family's name a hyphen.
        """
        return self._gaps[at] == " " or (at > first and self._gaps[at] in _HYPHENS)

    def _is_extra(self, at: int) -> bool:
        """Whether the word, inside a name, is an initial or a nickname, which the roster may not have."""
        if not 0 < at < len(self._gaps):
            return False
        if len(self._words[at].key) == 1 and self._words[at].weight < 0.5:
            return True
        before = self._gaps[at - 1]
        return before != " " and bool(_OPENS.search(before) and _CLOSES.search(self._gaps[at]))


def _spellings(run: Sequence[Word]) -> Iterator[str]:
    head = "".join([word.key for word in run[:-1]])
    yield head + run[-1].key
    if run[-1].owner_key != run[-1].key:
        yield head + run[-1].owner_key
