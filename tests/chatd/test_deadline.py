from __future__ import annotations

import asyncio

import pytest

from chatd.deadline import CallDeadline


def in_s(seconds: float) -> CallDeadline:
    return CallDeadline(asyncio.get_running_loop().time() + seconds)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_block_that_still_runs_at_the_deadline_ends_with_a_timeout() -> None:
    with pytest.raises(TimeoutError), in_s(0.01):
        await forever()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0.001)  # nothing of the cancellation is left


async def test_a_deadline_that_has_passed_ends_the_block_at_its_first_wait() -> None:
    begun = False
    with pytest.raises(TimeoutError), in_s(-1):
        begun = True
        await forever()

    assert begun


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    with in_s(0.01):
        await asyncio.sleep(0)
    await asyncio.sleep(0.03)  # past the deadline

    with pytest.raises(ValueError, match="mine"), in_s(5):
        raise ValueError("mine")


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def call() -> None:
        with in_s(5):
            await forever()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_meets_the_deadline_stays_one() -> None:
    async def call() -> None:
        with in_s(0) as _:
            # Asked for before the block waits; the deadline passes in the turn in which the task would hear of it.
            task.cancel()
            await forever()

    task = asyncio.create_task(call())
    with pytest.raises(asyncio.CancelledError):
        await task
