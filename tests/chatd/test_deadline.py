from __future__ import annotations

import asyncio

import pytest

from chatd.deadline import CallDeadline


def now() -> float:
    return asyncio.get_running_loop().time()


async def forever(deadline: float) -> None:
    with CallDeadline(deadline):
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("in_s", [0.01, -1], ids=["to come", "passed"])
async def test_a_block_that_still_waits_at_the_deadline_ends_with_a_timeout(in_s: float) -> None:
    with pytest.raises(TimeoutError):
        await forever(now() + in_s)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0.001)  # nothing of the cancellation is left


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    with CallDeadline(now() + 0.01):
        await asyncio.sleep(0)
    await asyncio.sleep(0.03)  # past the deadline

    with pytest.raises(ValueError, match="mine"), CallDeadline(now() + 5):
        raise ValueError("mine")


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    task = asyncio.create_task(forever(now() + 5))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_together_with_the_deadline_stays_one() -> None:
    deadline = now() + 0.01
    task = asyncio.create_task(forever(deadline))
    await asyncio.sleep(0)
    # Due in the same turn of the loop as the deadline: the task hears of both at once.
    asyncio.get_running_loop().call_at(deadline, task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await task
