"""``within``: ``asyncio.timeout`` for work that most often never waits."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

_T = TypeVar("_T")


async def within(seconds_left: Callable[[], float | None], work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`. Raises TimeoutError where it waits for something longer than `seconds_left` (None: no
    limit).

    Setting and clearing a timer costs as much as reading a small artifact. Until `work` waits, none could end it: so it
    is begun without one.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    async with asyncio.timeout(seconds_left()):
        return await _rest(work, waits_for)


@types.coroutine
def _rest(work: Coroutine[Any, Any, _T], waits_for: Any) -> Generator[Any, Any, _T]:
    """What `await` does with `work` from its second step on."""
    step: Callable[[Any], Any]
    while True:
        try:
            given = yield waits_for
            step = work.send
        except BaseException as error:  # noqa: BLE001  a cancellation, most often; whatever it is, it is the work's
            given = error
            step = work.throw
        try:
            waits_for = step(given)
        except StopIteration as done:
            result: _T = done.value
            return result
