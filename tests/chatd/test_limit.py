from __future__ import annotations

import asyncio
import random
import time

import pytest

from chatd.limit import ConcurrencyLimit, QueueFullError


async def _take(limit: ConcurrencyLimit) -> None:
    if not limit.take_free():
        await limit.wait_turn(time.monotonic() + 5)


async def test_turns_go_in_the_order_of_arrival() -> None:
    limit = ConcurrencyLimit(1, queue_max=10, queue_s=5)
    await _take(limit)
    order: list[int] = []

    async def call(number: int) -> None:
        await _take(limit)
        order.append(number)
        limit.release()

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(call(number))
            await asyncio.sleep(0)
        assert limit.waiting == 5
        limit.release()

    assert order == list(range(5))
    assert (limit.running, limit.waiting) == (0, 0)


async def test_a_turn_given_to_one_who_leaves_goes_to_the_next() -> None:
    limit = ConcurrencyLimit(1, queue_max=10, queue_s=5)
    await _take(limit)
    leaving = asyncio.ensure_future(_take(limit))
    staying = asyncio.ensure_future(_take(limit))
    await asyncio.sleep(0)
    limit.release()  # the turn is `leaving`'s now, which has not run yet
    leaving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.wait_for(staying, 5)

    assert (limit.running, limit.waiting) == (1, 0)


async def test_whatever_happens_no_turn_is_lost_and_none_is_given_twice() -> None:
    chance = random.Random(7)
    limit = ConcurrencyLimit(3, queue_max=8, queue_s=0.003)
    running = most = refused = 0

    async def call() -> None:
        nonlocal running, most, refused
        try:
            await _take(limit)
        except QueueFullError:
            refused += 1
            return
        try:
            running += 1
            most = max(most, running)
            await asyncio.sleep(chance.random() * 0.004)
        finally:
            running -= 1
            limit.release()

    tasks = []
    for _ in range(400):
        tasks.append(asyncio.ensure_future(call()))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.3:
            await asyncio.sleep(0.001)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert most == 3
    assert refused > 0
    assert (limit.running, limit.waiting) == (0, 0)
