"""Full names in a message: every run of words that may be one, and which of those that are somebody's count."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import regex

from validated.datasets.names import name_key
from validated.datasets.worker import Worker
from validated.kinds.message_text import Word, cased, words

WORDS_MAX: Final = 6
LONG_WORDS_MAX: Final = 8
# In readings of a run of usual words: what 20,000 characters of prose, markup or names cost is less.
_COST_MAX: Final = 100_000
_READING_COST: Final = 5
_PLACES_MAX: Final = 4
_GAP_CHARS_MAX: Final = 16
_SUFFIXES: Final = frozenset(("jr", "sr", "ii", "iii", "iv", "v", "md", "phd", "esq", "dds", "rn", "cpa"))
_ABBREVIATED: Final = _SUFFIXES | {"mr", "mrs", "ms", "dr", "st", "wm", "jos", "geo", "chas", "thos", "fr", "lt", "sgt"}
_STOP: Final = regex.compile("[!?;\u2026\u3002\uff01\uff1f]")
_SENTENCE_END: Final = regex.compile(r"\.[^\w\s]*\s")
_COMMA: Final = regex.compile("[,\uff0c\u3001\u060c]")
_OPENS: Final = regex.compile("[(\\[\"'\u2018\u201c\u201e\u00ab{]$")
_CLOSES: Final = regex.compile("^[)\\]\"'\u2019\u201d\u00bb},.]")
_MONTHS: Final = frozenset(
    (  # noqa: SIM905  twenty-four lines otherwise
        "january february march april may june july august september october november december "
        "jan feb mar apr jun jul aug sep sept oct nov dec"
    ).split()
)
_BEFORE_A_MONTH: Final = frozenset(("in", "during", "since", "until", "this", "next", "last", "early", "late", "mid"))
_AFTER_A_MODAL: Final = frozenset(("i", "we", "you", "he", "she", "they", "it", "the", "your", "this", "there", "not"))
_DAY_OR_YEAR: Final = regex.compile(r"\d{1,2}(?:st|nd|rd|th)?|(?:19|20)\d\d", regex.IGNORECASE)
_PLACE_AFTER: Final = regex.compile(r",? [A-Z]{2}\b")


class _Run(NamedTuple):
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


class NameSearch:
    """The runs of one view."""

    def __init__(self, view: str, bounds: Bounds | None = None) -> None:
        """`bounds`, where not every run is wanted, but each reading of a text."""
        self._view = view
        self._words = words(view)
        self._gaps = [view[one.end : other.start] for one, other in zip(self._words, self._words[1:], strict=False)]
        self._runs = list(self._find(bounds))

    def name_keys(self) -> Iterator[str]:
        """Return the keys of all runs."""
        return (run.key for run in self._runs)

    def named(self, bearers: Mapping[str, Sequence[Worker]]) -> dict[str, str]:
        """Whom the view names, by the key: the words as they stand. `bearers` are people of the roster by their name's
        key. Words that name somebody as they stand are not half of another name: in "Ana Silva, Omar Khan" there is no
        "Silva, Omar".
        """
        runs = [
            run
            for run in self._runs
            if run.key in bearers and self._counts(run, [each.name for each in bearers[run.key]], any_case=False)
        ]
        plain = [run for run in runs if run.order == "plain"]
        taken = {at for run in plain if run.last > run.first for at in range(run.first, run.last + 1)}
        alone = {run.first for run in plain if run.last == run.first} | taken
        found: dict[str, str] = {}
        last = -1
        for run in sorted(runs, key=lambda run: (run.first, -run.last)):
            at = range(run.first, run.last + 1)
            if run.order != "plain" and (not taken.isdisjoint(at) or alone.issuperset(at)):
                continue
            # Of a name that has another within it the longer one is said.
            if run.key not in found and run.last > last:
                last = run.last
                found[run.key] = self._written(run)
        return found

    def strangers(self, bearers: Mapping[str, Sequence[Worker]], own: Collection[str]) -> dict[str, str]:
        """Whom the view names, by the key: the words as they stand, in lower case. `bearers` are people of the roster
        by their name's key; `own` are the names that may be said.
        """
        own_keys = {name_key(name): name for name in own}
        own_words = {word.key for name in own for word in words(name)}
        spans = [
            run for run in self._runs if run.key in own_keys and self._counts(run, (own_keys[run.key],), any_case=True)
        ]
        # What is a name as it stands is not somebody else's the other way round, and "Last, First" is no list.
        readings = {
            "plain": [run for run in spans if run.order == "plain"],
            "inverted": [run for run in spans if run.order != "comma"],
            "comma": spans,
        }
        found: dict[str, str] = {}
        last = -1
        for run in sorted(self._runs, key=lambda run: (run.first, -run.last)):
            # Of a name that has another within it the longer one is said.
            if run.key in own_keys or run.key not in bearers or run.key in found or run.last <= last:
                continue
            if not self._counts(run, [worker.name for worker in bearers[run.key]], any_case=False):
                continue
            if self._is_explained(run, readings[run.order], own_words):
                continue
            last = run.last
            found[run.key] = self._written(run).lower()
        return found

    def covered(self, own: Collection[str]) -> list[tuple[int, int]]:
        """Where in the view the names `own` stand."""
        keys = set(map(name_key, own))
        return [(self._words[run.first].start, self._words[run.last].end) for run in self._runs if run.key in keys]

    def _written(self, run: _Run) -> str:
        return " ".join(self._view[self._words[run.first].start : self._words[run.last].end].split())

    def _is_explained(self, run: _Run, spans: Sequence[_Run], own_words: set[str]) -> bool:
        """Whether names that may be said, which stand there, leave nothing of this one."""
        at = range(run.first, run.last + 1)
        overlaps = [own for own in spans if own.first <= run.last and run.first <= own.last]
        if all(any(own.first <= each <= own.last for own in overlaps) for each in at):
            return True
        if run.order != "plain":
            comma = run.order == "comma" and any(self._words[each].owner_key in own_words for each in at)
            return bool(overlaps) or comma
        # Who stands first is read first.
        return any(own.first < run.first for own in overlaps)

    def _counts(self, run: _Run, names: Sequence[str], *, any_case: bool) -> bool:
        written = self._words[run.first : run.last + 1]
        alone = len(written) == 1
        if not any_case and (alone or run.order != "plain") and self._is_else(run):
            return False
        if not any_case and not alone and self._is_date(run.last, before=False):
            return False
        for name in names:
            count = len(words(name))
            if count > 1 and not alone:
                return True
            if any_case or cased("".join(word.text for word in written)) == cased(name):
                return True
            # An address or a handle has no capitals.
            start, end = written[0].start, written[-1].end
            before, after = self._view[max(0, start - 1) : start], self._view[end : end + 1]
            if count > 1 and "@" in before + after:
                return True
            # One word is somebody's address where it is all that stands before the "@".
            if after == "@" and not (before.isalnum() or before in tuple("._+-@")):
                return True
        return False

    def _is_else(self, run: _Run) -> bool:
        """Whether one of the words is a month, a verb or a place by what stands beside it."""
        if any(self._is_date(at, before=True) for at in range(run.first, run.last + 1)):
            return True
        if run.first != run.last:
            return False
        word = self._words[run.first]
        after = self._words[run.first + 1].key if run.first + 1 < len(self._words) else ""
        if word.key in ("may", "will") and after in _AFTER_A_MODAL:
            return True
        return _PLACE_AFTER.match(self._view, word.end) is not None

    def _is_date(self, at: int, *, before: bool) -> bool:
        if self._words[at].key not in _MONTHS:
            return False
        if at + 1 < len(self._words) and _DAY_OR_YEAR.fullmatch(self._words[at + 1].text):
            return True
        if not before or at == 0:
            return False
        previous = self._words[at - 1]
        return previous.key in _BEFORE_A_MONTH or _DAY_OR_YEAR.fullmatch(previous.text) is not None

    def _find(self, bounds: Bounds | None) -> Iterator[_Run]:
        count = len(self._words)
        for first, word in enumerate(self._words):
            if bounds is not None and bounds.are_reached():
                bounds.cut += count - first
                return
            # Long names are looked for where their first word and their last have capitals: those are few.
            weight_max = LONG_WORDS_MAX if bounds is not None and word.text[0].isupper() else WORDS_MAX
            # No name begins with a number: long tables of them are no names.
            if word.key.isdecimal():
                continue
            weight, key = 0.0, ""
            commas: list[int] = []
            # Most runs can be read in one way alone: words with one space between them, not all of them capitals.
            is_usual, has_small = True, False
            for last in range(first, count):
                other = self._words[last]
                weight += other.weight
                if weight > weight_max or (last > first and not self._joins(last - 1, commas)) or len(commas) > 1:
                    break
                is_usual = is_usual and (last == first or self._gaps[last - 1] == " ")
                has_small = has_small or not other.is_capital
                key += other.key
                is_wanted = weight <= WORDS_MAX or other.is_capital
                if bounds is not None and is_wanted:
                    is_wanted = bounds.takes(self._view[word.start : other.end], is_usual=is_usual)
                if is_wanted and is_usual and other.owner_key == other.key and (has_small or last == first):
                    yield _Run(first, last, key, "plain")
                elif is_wanted:
                    yield from self._forms(first, last, commas)
                # From here on it stands within the run: an initial that the roster may not have.
                is_usual = is_usual and (last == first or len(other.key) > 1)

    def _joins(self, gap_at: int, commas: list[int]) -> bool:
        """Whether a name may go on across the gap after word `gap_at`. A comma in it is added to `commas`."""
        gap = self._gaps[gap_at]
        if gap == " ":
            return True
        before, after = self._words[gap_at], self._words[gap_at + 1]
        if len(gap) > _GAP_CHARS_MAX or _STOP.search(gap):
            return False
        if len(before.key) > 1 and before.key not in _ABBREVIATED and _SENTENCE_END.search(gap):
            return False
        if after.key not in _SUFFIXES and _COMMA.search(gap):
            commas.append(gap_at)
        return True

    def _forms(self, first: int, last: int, commas: Sequence[int]) -> Iterator[_Run]:
        run = self._words[first : last + 1]
        # "Hello Robert,\nJackson is ..." greets: only the other order can be a name then.
        greets = bool(commas) and "\n" in self._gaps[commas[0]]
        if not greets:
            for key in _spellings(run):
                yield _Run(first, last, key, "comma" if commas else "plain")
            inner = [word for at, word in enumerate(run) if not self._is_extra(first, at, len(run))]
            if 1 < len(inner) < len(run) and len(inner[0].key) > 1 < len(inner[-1].key):
                for key in _spellings(inner):
                    yield _Run(first, last, key, "comma" if commas else "plain")
        if len(run) == 1:
            return
        if commas:
            split = commas[0] - first + 1
        elif all(word.is_capital for word in run) and all(gap == " " for gap in self._gaps[first:last]):
            if run[1].key in _MONTHS:
                return
            split = 1
        else:
            return
        given, family = run[split:], run[:split]
        suffix = [given[-1]] if len(given) > 1 and given[-1].key in _SUFFIXES else []
        given = given[: len(given) - len(suffix)]
        whole = [word for word in given if len(word.key) > 1]
        for each in (given, whole) if len(whole) < len(given) else (given,):
            order = [*each, *family, *suffix]
            key, owner_key = "".join([word.key for word in order]), "".join([word.owner_key for word in order])
            yield _Run(first, last, key, "inverted")
            if owner_key != key:
                yield _Run(first, last, owner_key, "inverted")

    def _is_extra(self, first: int, at: int, count: int) -> bool:
        """Whether the word is an initial or a nickname inside the name, which the roster may not have."""
        if at in (0, count - 1):
            return False
        here = first + at
        if len(self._words[here].key) == 1 and self._words[here].weight < 0.5:
            return True
        before = self._gaps[here - 1]
        return before != " " and bool(_OPENS.search(before) and _CLOSES.search(self._gaps[here]))


def _spellings(run: Sequence[Word]) -> Iterator[str]:
    head = "".join([word.key for word in run[:-1]])
    yield head + run[-1].key
    if run[-1].owner_key != run[-1].key:
        yield head + run[-1].owner_key
