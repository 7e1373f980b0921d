"""New rows as they are appended, for the pages that watch: one follower for all, each page with its own filter."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

from lakehouse.sessions.query.listing import SessionSummary, moment_of, summary_of
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.query.viewer.source import NewRows, SessionSource
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.row_reading import RowBreach

WATCHERS_MAX: Final = 16
WAITING_MAX: Final = 100
"""Rows that wait for one page; of more the oldest are dropped, and it loads the list again."""
POLL_S: Final = 0.5
HEARTBEAT_S: Final = 15.0


class TooManyWatchersError(Exception):
    """As many pages watch as may."""


@dataclass(slots=True)
class _Watcher:
    wanted: SessionFilter
    waiting: deque[SessionSummary] = field(default_factory=lambda: deque(maxlen=WAITING_MAX))
    dropped: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class LiveTail:
    """Follows the source while somebody watches. Used on one event loop."""

    def __init__(self, source: SessionSource) -> None:
        self._source = source
        self._watchers: list[_Watcher] = []
        self._following: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End all that watch, so that the server can."""
        self._ended.set()
        for watcher in self._watchers:
            watcher.woken.set()

    async def close(self) -> None:
        """Stop following. A look at the log that is under way is waited for."""
        self.end()
        if self._following is not None:
            await asyncio.gather(self._following, return_exceptions=True)

    async def watch(self, wanted: SessionFilter) -> AsyncGenerator[list[SessionSummary] | None, None]:
        """Yield what fits of the new rows, oldest first; nothing, first and now and then, so that a page that went
        away is noticed; None where rows were dropped. Raises TooManyWatchersError."""
        if len(self._watchers) >= WATCHERS_MAX:
            raise TooManyWatchersError
        watcher = _Watcher(wanted)
        self._watchers.append(watcher)
        try:
            if self._following is None or self._following.done():
                follower = await asyncio.to_thread(self._source.follow)
                if follower is None:
                    return
                if self._following is None or self._following.done():
                    self._following = asyncio.create_task(self._follow(follower))
                else:
                    follower.close()
            yield []
            while not self._ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watcher.woken.wait(), HEARTBEAT_S)
                watcher.woken.clear()
                if watcher.dropped:
                    watcher.dropped = 0
                    watcher.waiting.clear()
                    yield None
                    continue
                rows = list(watcher.waiting)
                watcher.waiting.clear()
                yield rows
        finally:
            self._watchers.remove(watcher)

    async def _follow(self, follower: NewRows) -> None:
        try:
            while self._watchers and not self._ended.is_set():
                found = await asyncio.to_thread(_poll, follower, [each.wanted for each in self._watchers])
                for watcher in self._watchers:
                    rows, dropped = found.get(watcher.wanted, ((), 0))
                    watcher.dropped += dropped + max(0, len(watcher.waiting) + len(rows) - WAITING_MAX)
                    watcher.waiting.extend(rows)
                    if rows:
                        watcher.woken.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), POLL_S)
        finally:
            follower.close()


_Found = dict[SessionFilter, tuple[deque[SessionSummary], int]]


def _poll(follower: NewRows, filters: list[SessionFilter]) -> _Found:
    """Return the newest of the new rows that fit each filter, and how many more fitted."""
    found: dict[SessionFilter, deque[SessionSummary]] = {each: deque(maxlen=WAITING_MAX) for each in filters}
    counts = dict.fromkeys(found, 0)
    # Taken to its end: what is left in it would be lost.
    with contextlib.suppress(OSError):
        for line in follower.poll():
            wanted = [each for each in found if each.may_fit(line)]
            if not wanted:
                continue
            try:
                row = json.loads(read_row_line(line).text)
            except RowBreach:
                continue
            moment = moment_of(row["timestamp"])
            for each in wanted:
                if each.fits(row, moment):
                    found[each].append(summary_of(row))
                    counts[each] += 1
    return {each: (rows, counts[each] - len(rows)) for each, rows in found.items()}
