"""Whom a prompt names, by id or by full name, as it says so itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import filterfalse
from typing import Final, NamedTuple

import structlog

from validated.datasets.names import beginnings, full_name_key
from validated.datasets.worker import Found
from validated.kinds.message_ids import IdSearch
from validated.kinds.message_names import NameSearch
from validated.kinds.message_text import views
from validated.kinds.name_runs import Bounds
from validated.kinds.validator import PROMPT_CHARS_MAX

_log = structlog.get_logger()
# Above it a search takes several milliseconds: it runs in a thread, so that other calls are served meanwhile.
_INLINE_CHARS_MAX: Final = 5000
# Compatible forms may be longer than what they are of.
_VIEW_CHARS_MAX: Final = PROMPT_CHARS_MAX
# Marks at the end of a word that may be the last of an id.
_END_MARKS_MAX: Final = 4
# Bare digits are most often a count, a time or a street: fewer than these are an id where the prompt says so.
_BARE_DIGITS_MIN: Final = 5
_MARKS: Final = ".,;:!?()[]{}<>\"'`\u2018\u2019\u201c\u201d"


class Mention(NamedTuple):
    """One way in which a prompt names somebody."""

    words: str
    """The prompt's own."""
    workers: tuple[Found, ...]
    """Who has this id, or bears this name: at least one."""


class Mentions:
    """The search of one prompt. What it costs is bounded, however the prompt is made; names past that are not found."""

    def __init__(self, prompt: str, stop: threading.Event | None = None) -> None:
        """`stop` ends the search early: what is found by then is of no use to anybody."""
        shown = list(dict.fromkeys(view[:_VIEW_CHARS_MAX] for view in views(prompt[:PROMPT_CHARS_MAX])))
        self.chars = sum(map(len, shown))
        self._stop = stop
        self._ids: dict[str, None] = {}
        seen: set[str] = set()
        for view in shown:
            if self._is_stopped():
                break
            search = IdSearch(view, ())
            self._ids.update(
                dict.fromkeys(
                    [
                        text
                        for text in search.candidates
                        if not text.isdecimal() or len(text) >= _BARE_DIGITS_MIN or search.is_said(text)
                    ]
                )
            )
            # An id may hold marks that end a word elsewhere.
            fresh = dict.fromkeys(filterfalse(seen.__contains__, view.split()))
            seen.update(fresh)
            for word in filterfalse(str.isalnum if view.isascii() else _is_plain, fresh):
                for text in _bare(word):
                    if 2 <= len(text) <= 200 and not text.isdecimal():
                        self._ids.setdefault(text)
        self._names = list(map(NameSearch, () if self._is_stopped() else shown))
        self._is_read = False

    @property
    def worker_ids(self) -> Sequence[str]:
        """Every word that may be an id, distinct."""
        return tuple(self._ids)

    def keys(self, begins: Callable[[str], bool]) -> Sequence[str]:
        """See Names."""
        bounds = Bounds(self._stop)
        keys: dict[str, None] = {}
        for search in self._names:
            keys.update(dict.fromkeys(search.read(begins, bounds)))
            bounds.end_view()
        if bounds.cut and not self._is_stopped():
            _log.warning("prompt searched in part for names", words_left_out=bounds.cut)
        self._is_read = True
        return tuple(keys)

    def among(self, known: Sequence[Found]) -> list[Mention]:
        """Who of `known` is named: by ids first, then by names, in the order of the prompt."""
        if not self._is_read:
            self.keys(beginnings(found.worker.name for found in known).__contains__)
        by_id = {found.worker.worker_id: found for found in known}
        mentions = [Mention(text, (by_id[text],)) for text in self._ids if text in by_id]
        bearers: dict[str, list[Found]] = {}
        for found in known:
            bearers.setdefault(full_name_key(found.worker.name), []).append(found)
        workers = {key: [found.worker for found in each] for key, each in bearers.items()}
        named: dict[str, str] = {}
        for search in self._names:
            for key, words in search.named(workers).items():
                named.setdefault(key, words)
        mentions += [Mention(words, tuple(bearers[key])) for key, words in named.items()]
        return mentions

    def _is_stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()


@contextlib.asynccontextmanager
async def search(prompt: str) -> AsyncIterator[Mentions]:
    """Search `prompt`, off the loop where it is long; with the block the search ends, wherever it is."""
    stop = threading.Event()
    try:
        yield Mentions(prompt) if len(prompt) <= _INLINE_CHARS_MAX else await asyncio.to_thread(Mentions, prompt, stop)
    finally:
        stop.set()


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalnum()


def _bare(word: str) -> Iterator[str]:
    """`word` without the marks around it, and with those that may be part of an id."""
    start = word.lstrip(_MARKS)
    end = len(start.rstrip(_MARKS))
    if not end:
        return
    for length in range(end, min(len(start), end + _END_MARKS_MAX) + 1):
        yield start[:length]
    yield word


def those_who(mentions: Sequence[Mention], qualifies: Callable[[Found], bool]) -> tuple[dict[str, Found], list[str]]:
    """Of those who are named: who qualifies, by id, and the words that name nobody who does."""
    good: dict[str, Found] = {}
    bad: dict[str, None] = {}
    for mention in mentions:
        fit = [found for found in mention.workers if qualifies(found)]
        good.update((found.worker.worker_id, found) for found in fit)
        if not fit:
            bad.setdefault(mention.words)
    return good, list(bad)
