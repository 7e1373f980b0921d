"""Full names in a message: which of the runs of words that are somebody's count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import regex

from validated.datasets.names import full_name_key, name_key
from validated.datasets.worker import Worker
from validated.kinds.message_text import Words, cased, words
from validated.kinds.name_runs import MONTHS, Bounds, Run, RunSearch

_BEFORE_A_MONTH: Final = frozenset(("in", "during", "since", "until", "this", "next", "last", "early", "late", "mid"))
_AFTER_A_MODAL: Final = frozenset(("i", "we", "you", "he", "she", "they", "it", "the", "your", "this", "there", "not"))
_DAY_OR_YEAR: Final = regex.compile(r"\d{1,2}(?:st|nd|rd|th)?|(?:19|20)\d\d", regex.IGNORECASE)
_PLACE_AFTER: Final = regex.compile(r",? [A-Z]{2}\b")


def _in_a_row(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that are read where one is read after the other: in "Silva, Ana; Silva, Robert" the second one
    is Robert's.
    """
    read: list[Run] = []
    for run in sorted(runs, key=lambda run: (run.first, -run.last)):
        if not read or run.first > read[-1].last or (run.first, run.last) == (read[-1].first, read[-1].last):
            read.append(run)
    return read


class NameSearch:
    """The runs of one view that may be names."""

    def __init__(self, view: str) -> None:
        self._view = view
        self._text = Words(view)
        self._words = self._text.words
        self._runs: Sequence[Run] = ()

    def read(self, begins: Callable[[str], bool], bounds: Bounds | None = None) -> Iterator[str]:
        """Return the keys of the runs that RunSearch finds."""
        self._runs = list(RunSearch(self._text).find(begins, bounds))
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
        own_keys = {full_name_key(name): name for name in own}
        own_words = {word.key for name in own for word in words(name)}
        spans = [
            run for run in self._runs if run.key in own_keys and self._counts(run, (own_keys[run.key],), any_case=True)
        ]
        # What is a name as it stands is not somebody else's the other way round, and "Last, First" is no list.
        readings = {
            "plain": [run for run in spans if run.order == "plain"],
            "inverted": _in_a_row(run for run in spans if run.order != "comma"),
            "comma": _in_a_row(spans),
        }
        found: dict[str, str] = {}
        last = -1
        for run in sorted(self._runs, key=lambda run: (run.first, -run.last)):
            # Of a name that has another within it the longer one is said.
            if run.key in own_keys or run.key not in bearers or run.key in found or run.last <= last:
                continue
            if not self._counts(run, [worker.name for worker in bearers[run.key]], any_case=False):
                continue
            order = "plain" if self._is_as_spelt(run, bearers[run.key]) else run.order
            if self._is_explained(run._replace(order=order), readings[order], own_words):
                continue
            last = run.last
            found[run.key] = self._written(run).lower()
        return found

    def _is_as_spelt(self, run: Run, bearers: Sequence[Worker]) -> bool:
        """Whether the words stand as the roster has them, "Last, First" where it has that: it is no list then."""
        key = "".join(word.owner_key for word in self._words[run.first : run.last + 1])
        return any(name_key(worker.name) == key for worker in bearers)

    def _written(self, run: Run) -> str:
        return " ".join(self._text.written(run.first, run.last).split())

    def _is_explained(self, run: Run, spans: Sequence[Run], own_words: set[str]) -> bool:
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

    def _counts(self, run: Run, names: Sequence[str], *, any_case: bool) -> bool:
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
            start, end = self._text.start(run.first), self._text.end(run.last)
            before, after = self._view[max(0, start - 1) : start], self._view[end : end + 1]
            if count > 1 and "@" in before + after:
                return True
            # One word is somebody's address where it is all that stands before the "@".
            if after == "@" and not (before.isalnum() or before in tuple("._+-@")):
                return True
        return False

    def _is_else(self, run: Run) -> bool:
        """Whether one of the words is a month, a verb or a place by what stands beside it."""
        if any(self._is_date(at, before=True) for at in range(run.first, run.last + 1)):
            return True
        if run.first != run.last:
            return False
        word = self._words[run.first]
        after = self._words[run.first + 1].key if run.first + 1 < len(self._words) else ""
        if word.key in ("may", "will", "hope") and after in _AFTER_A_MODAL:
            return True
        return _PLACE_AFTER.match(self._view, self._text.end(run.first)) is not None

    def _is_date(self, at: int, *, before: bool) -> bool:
        if self._words[at].key not in MONTHS:
            return False
        if at + 1 < len(self._words) and _DAY_OR_YEAR.fullmatch(self._words[at + 1].text):
            return True
        if not before or at == 0:
            return False
        previous = self._words[at - 1]
        return previous.key in _BEFORE_A_MONTH or _DAY_OR_YEAR.fullmatch(previous.text) is not None
