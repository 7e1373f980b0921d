"""A time limit that costs nothing where nothing waits, and is one where something does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from validated.time_limit import within


def _not_asked() -> float | None:
    raise AssertionError("nothing waits: no timer is needed")


async def test_what_never_waits_ends_without_a_timer() -> None:
    async def work() -> int:
        return 1

    async def broken() -> int:
        raise ValueError("mine")

    assert await within(_not_asked, work()) == 1
    with pytest.raises(ValueError, match="mine"):
        await within(_not_asked, broken())


@pytest.mark.parametrize("seconds", [None, 30.0])
async def test_what_waits_and_ends_in_time_gives_its_result_or_its_error(seconds: float | None) -> None:
    async def work(error: Exception | None = None) -> str:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return await asyncio.to_thread(lambda: "done")

    assert await within(lambda: seconds, work()) == "done"
    with pytest.raises(ValueError, match="mine"):
        await within(lambda: seconds, work(ValueError("mine")))


async def test_what_waits_too_long_is_cancelled_cleans_up_and_is_a_timeout() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("yes")

    with pytest.raises(TimeoutError):
        await within(lambda: 0.0, work())
    assert cleaned == ["yes"]
    task: Any = asyncio.current_task()
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_reaches_the_work_and_goes_on() -> None:
    seen: list[str] = []
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.create_task(within(lambda: 30.0, work()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_work_may_answer_a_cancellation_with_a_result() -> None:
    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return ""

    # So it is with asyncio.timeout.
    assert await within(lambda: 0.0, work()) == "late"
