"""A task that runs beside the calls has ended when it was ended, whatever it does with a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from lakehouse.server.ended_task import end_task


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def watch() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end_task(task)
    assert (task.cancelled(), lost) == (True, 2)


async def test_what_a_task_ended_by_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("gone")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="gone"):
        await end_task(task)
