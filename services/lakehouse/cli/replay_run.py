"""Recorded sessions run again on a stack of their own: chatd answers what was recorded, or a model is asked anew;
validated judges as it does today."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final

from lakehouse.cli.replay_comparison import Outcome, Replayed, compare, compare_outcomes, judged_attempts, replayed
from lakehouse.cli.stack import OnWaiting, free_port_binds, running_stack
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.sessions.record import SessionRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.row_reading import decode_row
from lakehouse.sessions.store.names import LOG_NAME
from lakehouse.spec_member import SpecError, set_spec

CONCURRENCY_MAX: Final = 32
_SESSION_S: Final = 120.0
_PROVIDER: Final = "session-replay"
_ATTEMPTS_MAX: Final = 100
_GROUNDINGS: Final = {
    None: iterate_pb2.GROUNDING_NONE,
    "form": iterate_pb2.GROUNDING_FORM,
    "candidates": iterate_pb2.GROUNDING_CANDIDATES,
}


@dataclass(frozen=True, slots=True)
class Today:
    """What the sessions are run against: the configuration of the stack, and a roster in place of its own."""

    config: Path | None = None
    roster: Path | None = None
    asks: tuple[str, str] | None = None
    """Provider and model that answer in place of what was recorded; either may be empty, as in a request."""


async def replay_rows(
    lines: Iterator[bytes],
    today: Today,
    *,
    concurrency: int,
    on_replayed: Callable[[Replayed], None],
    on_waiting: OnWaiting,
) -> None:
    """Run each row's session again, ``concurrency`` at a time; a row is read when its turn comes.

    ``on_replayed`` gets each result, in the order in which they come. ``lines`` is taken in threads, one at a time.
    Raises StackError, and what ``lines`` raises.
    """
    # A stack is started for somebody alone.
    first = await asyncio.to_thread(next, lines, None)
    if first is None:
        return
    rows = chain((first,), lines)
    one_at_a_time = asyncio.Lock()

    async def next_line() -> bytes | None:
        async with one_at_a_time:
            return await asyncio.to_thread(next, rows, None)

    with tempfile.TemporaryDirectory(prefix="lakehouse-replay-") as folder:
        # Each has a log of its own for one row at a time: looking a row up costs what that row does.
        recorded = [Path(folder) / str(number) / LOG_NAME for number in range(concurrency)]
        for path in recorded:
            path.parent.mkdir()
            path.touch()
        async with (
            running_stack(
                on_log=lambda *_: None,
                environ=_environ(recorded, today),
                config=today.config,
                on_waiting=on_waiting,
            ) as stack,
            AsyncIterateClient(stack.addresses["iterate"]) as client,
        ):

            async def work(number: int) -> None:
                place = 0
                while (line := await next_line()) is not None:
                    place += 1
                    record = decode_row(line)
                    if today.asks is not None:
                        on_replayed(await _ask(client, record, today.asks))
                    else:
                        target = (f"{_PROVIDER}-{number}", f"replay-{number}-{place}")
                        on_replayed(await _replay(client, record, target, recorded[number]))

            workers = [asyncio.create_task(work(number)) for number in range(concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()


async def _replay(
    client: AsyncIterateClient, record: SessionRecord, target: tuple[str, str], recorded: Path
) -> Replayed:
    """Run one session. ``target``: the provider, and the model, which stands for an id that several rows may have."""
    if reason := _not_replayable(record):
        return replayed(record, "skipped", reason=reason)
    await asyncio.to_thread(recorded.write_bytes, encode_row(replace(record, session_id=target[1])))
    iterations = len(judged_attempts(record))
    return await _run(client, record, target, iterations, iterate_pb2.GROUNDING_NONE, compare)


async def _ask(client: AsyncIterateClient, record: SessionRecord, target: tuple[str, str]) -> Replayed:
    """Run one session with new answers, briefed as it was: what it comes to is compared, not each attempt."""
    if record.final_verdict == "infra_error":
        return replayed(record, "skipped", reason="it ended by a fault of the system: there is no outcome to compare")
    grounding = _GROUNDINGS[record.brief.grounding if record.brief is not None else None]
    return await _run(client, record, target, record.max_iterations, grounding, compare_outcomes)


async def _run(
    client: AsyncIterateClient,
    record: SessionRecord,
    target: tuple[str, str],
    iterations: int,
    grounding: iterate_pb2.Grounding,
    compared: Callable[[SessionRecord, iterate_pb2.IterateResponse], Replayed],
) -> Replayed:
    request = iterate_pb2.IterateRequest(
        kind=record.kind,
        prompt=record.prompt,
        provider=target[0],
        model=target[1],
        max_iterations=iterations,
        grounding=grounding,
    )
    if record.spec is not None:
        try:
            set_spec(request, record.kind, record.spec)
        except SpecError as error:
            return replayed(record, "refused", reason=f"the row's spec is not one of today's {record.kind}: {error}")
    began = time.monotonic()
    try:
        response = await client.iterate(request, timeout_s=_SESSION_S)
    except Fault as fault:
        outcome: Outcome = "refused" if fault.code == "INVALID_ARGUMENT" else "failed"
        return replayed(record, outcome, reason=str(fault), duration_s=time.monotonic() - began)
    return replace(compared(record, response), duration_s=time.monotonic() - began)


def _not_replayable(record: SessionRecord) -> str:
    """Return why there is nothing to judge again; nothing where there is."""
    judged = judged_attempts(record)
    if not record.attempts:
        return "no model was asked: there is no recorded answer"
    if not judged:
        return "no answer of it was judged: it ended by a fault of the system"
    if len(judged) > _ATTEMPTS_MAX:
        return f"it has {len(judged)} attempts: at most {_ATTEMPTS_MAX} are run again"
    if any(attempt.raw_truncated for attempt in judged):
        return "the row holds an answer cut short"
    return ""


def _environ(recorded: list[Path], today: Today) -> dict[str, str]:
    environ = {
        **free_port_binds(),
        "ITERATE_SESSION_LOG_PATH": "",
        "ITERATE_MAX_ITERATIONS_CAP": str(_ATTEMPTS_MAX),
    }
    if today.roster is not None:
        environ["VALIDATED_ROSTER__PATH"] = str(today.roster)
    if today.asks is not None:
        return environ
    # The recorded answers are judged as they are, all of them.
    environ |= {
        "CHATD_DEFAULT_PROVIDER": f"{_PROVIDER}-0",
        "ITERATE_ON_INFEASIBLE": "ask",
        "ITERATE_ON_NO_PROGRESS": "continue",
    }
    for number, path in enumerate(recorded):
        prefix = f"CHATD_PROVIDERS__{_PROVIDER.upper()}-{number}"
        environ |= {f"{prefix}__TYPE": "replay", f"{prefix}__SESSION_LOG": str(path)}
    return environ
