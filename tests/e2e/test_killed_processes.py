"""Goal: whatever step of a call its caller or chatd is killed at, the call that is repeated with the same id gives the
one outcome there is, and the model is asked again only where there is none. (tests/iterate/test_recall_kill.py has the
same of iterate.)

Method: callers, iterate and chatd in processes of their own; a gate and a model endpoint that hold the session where a
test wants it, and count.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any, NamedTuple

import pytest
from cut_relay import Direction, cut_relay
from held_stack import HeldStack, held_stack
from killable import HANG_S, STEPS, Template, template
from session_rows import no_row_gets_into

from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2


@pytest.fixture(scope="module")
async def forks() -> AsyncIterator[Template]:
    async with template("iterate", "chatd", "caller") as made:
        yield made


@pytest.fixture(scope="module")
async def stack(forks: Template, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HeldStack]:
    async with held_stack(forks, tmp_path_factory.mktemp("kills")) as running:
        yield running


# Beyond what HTTP/2 lets through unasked.
LONG = 80_000


def long_request(stack: HeldStack) -> iterate_pb2.IterateRequest:
    return stack.new_request(spec_json=f'{{"lines": 4, "note": "{"x" * LONG}"}}')


class Step(NamedTuple):
    held: str
    """Where the session cannot go on until its caller is dead, and iterate knows."""
    billed: set[int]
    """How often the model was asked by then."""
    has_outcome: bool | None
    """None: it may have come to one, or not."""


OWN_STEPS = {
    "connected": Step("", {0}, has_outcome=False),
    "ids": Step("asked", {0, 1}, has_outcome=False),
    "brief": Step("asked", {0, 1}, has_outcome=False),
    "attempt_started": Step("asked", {0, 1}, has_outcome=False),
    "model_answered": Step("judging", {1}, has_outcome=False),
    "attempt_finished": Step("", {1}, has_outcome=None),
    "response": Step("", {1}, has_outcome=True),
    "answered": Step("", {1}, has_outcome=True),
}


@pytest.mark.parametrize("step", list(OWN_STEPS))
async def test_a_caller_that_dies_after_a_step_is_answered_once_when_it_asks_again(stack: HeldStack, step: str) -> None:
    held, billed, has_outcome = OWN_STEPS[step]
    asked = stack.new_request()
    stack.hold.at(held)
    caller = await stack.template.call(stack.address, asked, step, stream=step not in ("connected", "answered"))
    await caller.was_killed()
    await stack.over(asked)
    stack.hold.at("")

    assert stack.billed(asked) in billed
    answer = await stack.check_answered_once(asked)
    if has_outcome is not None:
        assert answer.recalled is has_outcome
    ended_otherwise = [row["error"]["reason"] for row in stack.rows(asked) if row["final_verdict"] == "infra_error"]
    assert ended_otherwise == ([] if answer.recalled or step == "connected" else ["CALLER_GONE"])


@pytest.mark.parametrize("held", ["briefing", "asked", "answering", "judging"])
async def test_a_caller_that_is_killed_while_iterate_waits_for_another_is_billed_again_alone(
    stack: HeldStack, held: str
) -> None:
    asked = stack.new_request()
    stack.hold.at(held)
    caller = await stack.template.call(stack.address, asked)
    await stack.hold.reached()
    await caller.kill()
    await stack.over(asked)
    stack.hold.at("")

    assert stack.billed(asked) == (0 if held == "briefing" else 1)
    assert [row["error"]["reason"] for row in stack.rows(asked)] == ["CALLER_GONE"]
    assert not (await stack.check_answered_once(asked)).recalled


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_caller_that_dies_with_a_part_of_its_request_or_answer_on_the_way_is_answered_once(
    stack: HeldStack, direction: Direction
) -> None:
    passed = await bytes_of_a_call(stack, direction)
    cuts = [*range(1, min(passed, 400), 80), *range(400, passed, 20_000), passed - 1]
    recalled = {cut: await answered_again_after_a_cut(stack, direction, cut) for cut in cuts}

    if direction == "up":
        assert not any(recalled[cut] for cut in cuts if cut < LONG), "half a request is no session"
    else:
        assert recalled[passed - 1], "but for its last byte, the answer had left"


async def bytes_of_a_call(stack: HeldStack, direction: Direction) -> int:
    async with cut_relay(stack.address) as relay:
        caller = await stack.template.call(relay.address, long_request(stack), "waits")
        await caller.said()
        relay.cut_after()
        caller.send(signal.SIGUSR1)
        await caller.said()
        return relay.passed[direction]


async def answered_again_after_a_cut(stack: HeldStack, direction: Direction, cut: int) -> bool:
    """Kill a caller when so many bytes came through and iterate did what it can about them; return whether the call
    that follows is a recall."""
    asked = long_request(stack)
    async with cut_relay(stack.address) as relay:
        caller = await stack.template.call(relay.address, asked, "waits")
        await caller.said()
        relay.cut_after(**{direction: cut})
        caller.send(signal.SIGUSR1)
        await first_of(relay.was_cut.wait(), caller.said())  # what HTTP/2 adds is not the same each time
        if direction == "down" and relay.passed["up"] > LONG:
            await row_of(stack, asked)
        await caller.kill()
    await stack.over(asked)
    return (await stack.check_answered_once(asked)).recalled


async def test_a_caller_that_is_killed_while_its_row_is_queued_gets_the_outcome(stack: HeldStack) -> None:
    asked = stack.new_request()
    with no_row_gets_into(stack.log_path):
        caller = await stack.template.call(stack.address, asked)
        await end_in_journal(stack, asked)
        await caller.kill()
        # From memory: it is not written yet.
        early = await stack.client.iterate(asked, timeout_s=HANG_S)
        assert stack.rows(asked) == []
    await stack.over(asked)
    await row_of(stack, asked)

    assert early.recalled
    assert await stack.check_answered_once(asked) == early
    assert stack.billed(asked) == 1


async def test_a_caller_that_is_killed_with_its_answer_on_the_way_gets_it_again(stack: HeldStack) -> None:
    asked = stack.new_request()
    stack.hold.at("asked")
    caller = await stack.template.call(stack.address, asked)
    await stack.hold.reached()
    caller.send(signal.SIGSTOP)
    stack.hold.at("")
    await row_of(stack, asked)
    await stack.over(asked)
    await caller.kill()

    assert (await stack.check_answered_once(asked)).recalled
    assert stack.billed(asked) == 1


async def test_a_caller_that_is_killed_leaves_its_session_to_another_that_waits(stack: HeldStack) -> None:
    asked = stack.new_request()
    stack.hold.at("asked")
    first = await stack.template.call(stack.address, asked)
    await stack.hold.reached()
    second = await stack.template.call(stack.address, asked, stream=True)
    assert await second.said() == "ids"
    await first.kill()
    stack.hold.at("")
    answer = iterate_pb2.IterateResponse.FromString(bytes.fromhex(await second.said()))

    assert answer.recalled
    assert await stack.check_answered_once(asked) == answer
    assert stack.billed(asked) == 1


@pytest.mark.parametrize("step", list(STEPS["chatd"]))
async def test_a_call_is_billed_again_alone_after_chatd_died_behind_a_step(stack: HeldStack, step: str) -> None:
    await stack.chatd.kill()
    await stack.start_chatd(step)
    asked = stack.new_request()
    calling = asyncio.create_task(ask(stack, asked))
    await stack.chatd.was_killed()
    billed = stack.billed(asked)
    await stack.start_chatd()
    answer = await calling

    assert billed == (0 if step == "asked" else 1)
    assert not answer.recalled
    assert stack.billed(asked) == billed + 1
    assert {reason for _, reason in ends(stack, asked)[:-1]} == {"CHATD_UNREACHABLE"}
    assert (await stack.check_answered_once(asked)).recalled


@pytest.mark.parametrize("held", ["asked", "answering"])
async def test_a_call_is_billed_again_alone_after_chatd_was_killed_while_the_model_answered(
    stack: HeldStack, held: str
) -> None:
    asked = stack.new_request()
    stack.hold.at(held)
    calling = asyncio.create_task(ask(stack, asked))
    await stack.hold.reached()
    await stack.chatd.kill()
    stack.hold.at("")
    await stack.start_chatd()
    answer = await calling

    assert not answer.recalled
    assert stack.billed(asked) == 2
    assert {reason for _, reason in ends(stack, asked)[:-1]} == {"CHATD_UNREACHABLE"}
    assert (await stack.check_answered_once(asked)).recalled


async def test_a_chatd_that_is_killed_once_iterate_has_its_answer_costs_nothing(stack: HeldStack) -> None:
    asked = stack.new_request()
    stack.hold.at("judging")
    calling = asyncio.create_task(ask(stack, asked))
    await stack.hold.reached()
    await stack.chatd.kill()
    stack.hold.at("")
    answer = await calling
    # With nobody to ask a model.
    again = await stack.client.iterate(asked, timeout_s=HANG_S)
    await stack.start_chatd()

    assert not answer.recalled
    assert again.recalled
    assert (await stack.check_answered_once(asked)).recalled
    assert stack.billed(asked) == 1
    assert ends(stack, asked) == [("accepted", None)]


async def ask(stack: HeldStack, asked: iterate_pb2.IterateRequest) -> iterate_pb2.IterateResponse:
    """Ask until there is an answer, as ``iterate_safely`` does, but for its waits."""
    async with asyncio.timeout(HANG_S):
        while True:
            try:
                return await stack.client.iterate(asked, timeout_s=HANG_S)
            except Fault as fault:
                assert fault.reason is Reason.CHATD_UNREACHABLE
                await asyncio.sleep(0.02)


def ends(stack: HeldStack, asked: iterate_pb2.IterateRequest) -> list[tuple[str, str | None]]:
    return [(row["final_verdict"], row.get("error", {}).get("reason")) for row in stack.rows(asked)]


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(each) for each in waits]
    await asyncio.wait(tasks, timeout=HANG_S, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def row_of(stack: HeldStack, asked: iterate_pb2.IterateRequest) -> None:
    """Wait until the session has its row."""
    async with asyncio.timeout(HANG_S):
        while not stack.rows(asked):
            await asyncio.sleep(0.01)


async def end_in_journal(stack: HeldStack, asked: iterate_pb2.IterateRequest) -> None:
    """Wait until iterate's journal holds the session's outcome."""
    async with asyncio.timeout(HANG_S):
        while not any(
            asked.session_id.encode() in line and b'"final_verdict":"accepted"' in line
            for journal in stack.log_path.parent.glob(".*.inflight")
            for line in journal.read_bytes().splitlines()
        ):
            await asyncio.sleep(0.01)
