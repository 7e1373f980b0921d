"""Runs the tasks through every arm, one session at a time, and says how each ended."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.acceptance.arms import Arm, order
from bench.acceptance.servers import Bench
from bench.acceptance.tasks import Task
from bench.stack.proc import cpu_s as cpu_s_of

from lakehouse.clients import AsyncIterateClient, AsyncValidateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.trace_context import trace_metadata
from lakehouse.validated.v1 import validated_pb2

# Above the longest answer of ids and names: what runs on is cut.
_TOKENS_BASE, _TOKENS_EACH = 30, 40
_BRIEF_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Offered:
    """What the models of a task were offered."""

    candidates: tuple[Mapping[str, Any], ...]
    """The facts of each."""
    slots: int
    """How many slots they are dealt to; 1 where every choice is among all."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The tasks that went through every arm, and what the rows do not say of them."""

    tasks: tuple[Task, ...]
    thin: int
    """The arms without a schema had every so many-th task."""
    offered: Mapping[int, Offered]
    """By the task's number."""
    cpu_s: Mapping[tuple[int, str], float]
    """CPU of validated, chatd and iterate during the session, by the task's number and the arm's name."""
    seconds: float

    def has_slots(self, task: Task) -> bool:
        """Whether the candidates of `task` were dealt to one slot for each who is needed."""
        return self.offered[task.number].slots == task.spec.count


def together(parts: Sequence[Ran]) -> Ran:
    """Put runs of different tasks beside each other, as one."""
    return Ran(
        tuple(sorted((task for part in parts for task in part.tasks), key=lambda task: task.number)),
        parts[0].thin,
        {number: offered for part in parts for number, offered in part.offered.items()},
        {key: cpu for part in parts for key, cpu in part.cpu_s.items()},
        max(part.seconds for part in parts),
    )


def session_id(task: Task, seed: int) -> str:
    """Return the same for all arms: it draws the candidates."""
    return f"acceptance-{seed}-{task.number:04d}"


async def run(
    bench: Bench,
    waiting: deque[Task],
    *,
    seed: int,
    candidates: int,
    thin: int,
    timeout_s: float,
    until_s: float,
    say: Callable[[str], None],
) -> Ran:
    """Return the next of the tasks that wait, until none does or `until_s` (time.monotonic) is over. A session takes at
    most `timeout_s`; `thin`: see ``order``.

    The model is greedy: a session in which no answer came again is the same under either setting of `on_no_progress`,
    and the arm's twin does not ask again.
    """
    started = time.monotonic()
    done: list[Task] = []
    offered: dict[int, Offered] = {}
    cpu_s: dict[tuple[int, str], float] = {}
    async with contextlib.AsyncExitStack() as exits:
        gate = await exits.enter_async_context(AsyncValidateClient(bench.validated))
        clients = {
            name: await exits.enter_async_context(AsyncIterateClient(address))
            for name, address in bench.iterates.items()
        }
        while waiting and time.monotonic() < until_s:
            task = waiting.popleft()
            done.append(task)
            begun = time.monotonic()
            lines = [f"task {task.number + 1}: {task.prompt}"]
            without_repeat: set[Arm] = set()
            for arm in order(task.number, thin):
                if arm.twin in without_repeat:
                    continue
                before = _cpu_s(bench, arm)
                response = await _session(bench, clients[arm.name], arm, task, seed, timeout_s)
                cpu_s[task.number, arm.name] = _cpu_s(bench, arm) - before
                lines.append(f"    {arm.name}: {_in_words(response)}")
                if not _may_have_come_again(response):
                    without_repeat.add(arm)
            offered[task.number] = await _offered(gate, task, seed, candidates)
            say("\n".join([*lines, f"    {time.monotonic() - begun:.0f} s"]))
    # The last log lines of the services come together, within 50 ms.
    await asyncio.sleep(0.2)
    return Ran(tuple(done), thin, offered, cpu_s, time.monotonic() - started)


async def _session(
    bench: Bench, client: AsyncIterateClient, arm: Arm, task: Task, seed: int, timeout_s: float
) -> iterate_pb2.IterateResponse | Fault:
    """One session, or with which status it ended."""
    identity = session_id(task, seed)
    trace_id = hashlib.sha256(f"{identity}/{arm.name}".encode()).hexdigest()[:32]
    bench.arm_of_trace[trace_id] = arm.name
    request = iterate_pb2.IterateRequest(
        kind="fill",
        fill=task.spec,
        prompt=task.prompt,
        provider=arm.provider,
        session_id=identity,
        temperature=0.0,
        max_tokens=_TOKENS_BASE + _TOKENS_EACH * task.spec.count,
        max_iterations=arm.attempts,
        grounding=arm.grounding,
    )
    try:
        return await client.iterate(request, timeout_s=timeout_s, metadata=trace_metadata(trace_id))
    except Fault as fault:
        return fault


def _may_have_come_again(response: iterate_pb2.IterateResponse | Fault) -> bool:
    """Whether two answers could be one artifact: the same characters, in whatever order, but for white space."""
    if isinstance(response, Fault):
        return True
    answers = ["".join(sorted("".join(each.raw.split()))) for each in response.attempts]
    return len(set(answers)) < len(answers)


def _in_words(response: iterate_pb2.IterateResponse | Fault) -> str:
    if isinstance(response, Fault):
        return str(response)
    ends = []
    for attempt in response.attempts:
        codes = "+".join(sorted({finding.code for finding in attempt.findings}))
        ends.append(f"{codes or attempt.parse_problem or 'accepted'} in {attempt.chat_ms / 1000:.1f} s")
    said = response.accepted.artifact_json or (response.attempts[-1].raw[:200] if response.attempts else "")
    return f"{'; '.join(ends) or 'no attempt'}: {' '.join(said.split())}"


async def _offered(gate: AsyncValidateClient, task: Task, seed: int, candidates: int) -> Offered:
    """Return what iterate was given: the same seed and roster give the same list."""
    request = validated_pb2.BriefRequest(
        kind="fill", fill=task.spec, prompt=task.prompt, candidates_max=candidates, seed=session_id(task, seed)
    )
    brief = await gate.brief(request, timeout_s=_BRIEF_S)
    schema = json.loads(brief.candidates_schema_json)
    slots = schema["properties"]["workers"].get("prefixItems", [None])
    return Offered(tuple(json.loads(brief.candidates_json)), len(slots))


def _cpu_s(bench: Bench, arm: Arm) -> float:
    return sum(map(cpu_s_of, bench.pids[arm.name].values()))
