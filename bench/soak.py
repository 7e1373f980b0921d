"""Whether memory stays flat: sessions by the ten thousand against the real three processes, cancelled ones among them.

    python -m bench.soak [--sessions 200000] [--concurrency 16] [--cancelled 0.05] [--floor]

One process a service, log on, tracing on to a sink. A share of the callers goes away in the middle of a session (the
model takes 50 ms there). Every --step sessions, after a pause that lets exporters and drains end, each service is asked
for what its allocators hold: the C library's, in bytes (gRPC's core and every larger Python object are in it), and the
interpreter's own, in blocks (small objects). A line is fitted through the second half, and its slope is what counts.
Resident memory stands beside it and decides nothing: freed pages stay, and it scatters by more than a leak of a hundred
bytes a session adds.

With --floor the same callers go to the same hops on bare gRPC as well (``bench.stack.floor``), step by step in turn, so
that what gRPC itself keeps of a cancelled call stands beside what we keep; ``bench.cancelled_calls`` takes that apart.

Exit status 1 where a service of ours grows by more than --slope-max bytes or --blocks-max blocks a session, or where a
session ended otherwise than it should. The limits are those of a full run: in a short one the scatter is larger.
"""

from __future__ import annotations

from lakehouse.server.grpc_switches import set_grpc_switches

if __name__ == "__main__":
    set_grpc_switches()  # before the imports below bring grpc

import argparse
import asyncio
import contextlib
import math
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop
from bench.stack.job import ROOT
from bench.stack.load import TIMEOUT_S, request
from bench.stack.proc import Machine, rss_mib
from bench.stack.variants import Field, free_port, open_field

from lakehouse.iterate.v1 import iterate_pb2_grpc

ROLES = ("validated", "chatd", "iterate")
_PAUSE_S = 2.0
# glibc hands out nothing smaller than 32 bytes, so that whatever a session keeps costs at least as much; the readings
# scatter by some 0.4 MiB while tracing is on, which is 2 bytes a session of the half of 200,000. For what only a caller
# who leaves makes us keep, one in twenty, 16 bytes a session are 320 for each: a leak of gRPC's batches is 1,400.
_SLOPE_MAX = 16.0
# Likewise: one object for each caller who leaves is 0.05, the scatter (some 2,000 blocks) is 0.01.
_BLOCKS_MAX = 0.04
_random = random.Random(7)


class Callers:
    """Runs sessions, and counts how they end."""

    def __init__(self, address: str) -> None:
        channel = grpc.aio.insecure_channel(address, (("grpc.enable_retries", 0),))
        self._stub: Any = iterate_pb2_grpc.IterateServiceStub(channel)
        self._fast, self._slow = request(0), request(50)
        self.ended = {"accepted": 0, "cancelled": 0}
        """By outcome or, where it is none that should be, by status."""

    async def one(self, leaving: float) -> None:
        """One session, or, by that chance, one that its caller leaves."""
        if _random.random() >= leaving:
            try:
                response = await self._stub.Iterate(self._fast, timeout=TIMEOUT_S)
                self._count(str(response.WhichOneof("outcome")))
            except grpc.aio.AioRpcError as error:
                self._count(error.code().name)
            return
        call = self._stub.Iterate(self._slow, timeout=TIMEOUT_S)
        await asyncio.sleep(_random.uniform(0.005, 0.09))
        call.cancel()
        try:
            await call
            self._count("accepted")
        except asyncio.CancelledError:
            self._count("cancelled")
        except grpc.aio.AioRpcError as error:
            self._count(error.code().name)

    def _count(self, how: str) -> None:
        self.ended[how] = self.ended.get(how, 0) + 1

    async def many(self, sessions: int, concurrency: int, leaving: float) -> None:
        """So many sessions."""
        left = sessions

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.one(leaving)

        await asyncio.gather(*(worker() for _ in range(concurrency)))


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds."""

    allocated: float
    """Bytes, of the C library's allocator."""
    blocks: float
    """Of the interpreter's own."""
    rss_mib: float

    def __str__(self) -> str:
        return f"{self.allocated / 2**20:.2f} / {self.blocks / 1000:.1f} / {self.rss_mib:.1f}"


@dataclass
class Stack:
    """Three processes, their callers, and what was read of them after each step."""

    name: str
    callers: Callers
    pids: dict[str, int]
    ports: dict[str, int]
    sessions: list[int] = field(default_factory=list)
    """How many it had served by then."""
    held: dict[str, list[Held]] = field(default_factory=lambda: {role: [] for role in ROLES})

    async def step(self, sessions: int, concurrency: int, leaving: float) -> None:
        """Run so many sessions, then read."""
        await self.callers.many(sessions, concurrency, leaving)
        await asyncio.sleep(_PAUSE_S)
        for role in ROLES:
            values = await asyncio.to_thread(_scrape, self.ports[role])
            self.held[role].append(
                Held(values["lakehouse_allocated_bytes"], values["lakehouse_python_blocks"], rss_mib(self.pids[role]))
            )
        self.sessions.append(sum(self.callers.ended.values()))

    def growth(self, role: str, figure: Callable[[Held], float]) -> Growth:
        """Of `figure`, over the second half."""
        half = len(self.sessions) // 2
        return _growth(self.sessions[half:], [figure(each) for each in self.held[role][half:]])


@dataclass(frozen=True, slots=True)
class Growth:
    """A fitted line's slope a session, and twice its standard error."""

    slope: float
    scatter: float


def _growth(sessions: list[int], figures: list[float]) -> Growth:
    line = statistics.linear_regression(sessions, figures)
    off = [figure - line.slope * at - line.intercept for at, figure in zip(sessions, figures, strict=True)]
    middle = statistics.fmean(sessions)
    spread = sum((at - middle) ** 2 for at in sessions)
    variance = sum(each * each for each in off) / max(len(off) - 2, 1)
    return Growth(line.slope, 2 * math.sqrt(variance / spread))


async def run(arguments: argparse.Namespace) -> bool:
    """Print a table; whether every service of ours is flat."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as folder:
        async with open_field(Path(folder)) as bench:
            await bench.start(())
            stacks = [await _ours(bench)]
            if arguments.floor:
                stacks.append(await _floor(bench))
            print("allocated MiB / interpreter's blocks, thousands / resident MiB\n")
            columns = [f"{each.name} {role}" for each in stacks for role in ROLES]
            print("| sessions | left | " + " | ".join(columns) + " |")
            print("|---|---|" + "---|" * len(columns))
            for step in range(1, arguments.sessions // arguments.step + 1):
                for stack in stacks:
                    await stack.step(arguments.step, arguments.concurrency, arguments.cancelled)
                cells = " | ".join(str(stack.held[role][-1]) for stack in stacks for role in ROLES)
                print(f"| {step * arguments.step} | {stacks[0].callers.ended['cancelled']} | {cells} |", flush=True)
    flat = [_told(stack, arguments) for stack in stacks]
    minutes = (time.monotonic() - started) / 60
    for stack in stacks:
        ended = ", ".join(f"{count} {how}" for how, count in stack.callers.ended.items())
        print(f"{stack.name}: {stack.sessions[-1]} sessions: {ended}")
    print(f"{minutes:.1f} minutes; {Machine.here()}")
    return flat[0] and stacks[0].callers.ended.keys() == {"accepted", "cancelled"}


def _told(stack: Stack, arguments: argparse.Namespace) -> bool:
    """Print what the second half says; whether it is flat."""
    flat = True
    print(f"\n| {stack.name} | bytes a session | of each caller who left | blocks a session |\n|---|---|---|---|")
    share = stack.callers.ended["cancelled"] / stack.sessions[-1]
    for role in ROLES:
        held = stack.growth(role, lambda held: held.allocated)
        blocks = stack.growth(role, lambda held: held.blocks)
        flat = flat and held.slope <= arguments.slope_max and blocks.slope <= arguments.blocks_max
        of_left = f"{held.slope / share:.0f}" if share and held.slope > held.scatter else "nothing to be seen"
        print(
            f"| {role} | {held.slope:+.1f} ± {held.scatter:.1f} | {of_left} "
            f"| {blocks.slope:+.3f} ± {blocks.scatter:.3f} |"
        )
    return flat


async def _ours(bench: Field) -> Stack:
    ports = {role: free_port() for role in ROLES}
    environ = {f"{role.upper()}_METRICS_PORT": str(port) for role, port in ports.items()}
    variant = await bench.ours(log=True, traced=True, name="soak", environ=environ)
    return Stack("ours", Callers(variant.command["target"]), variant.pids, ports)


async def _floor(bench: Field) -> Stack:
    ports = {role: free_port() for role in ROLES}
    pids: dict[str, int] = {}
    addresses: dict[str, str] = {}
    for role in ROLES:
        peers = {
            "validated": [],
            "chatd": [f"http://{bench.model}"],
            "iterate": [addresses.get("chatd", ""), addresses.get("validated", "")],
        }[role]
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "bench.soak_floor", str(ports[role]), role, *peers],
            stdin=DEVNULL,
            stdout=PIPE,
            cwd=ROOT,
        )
        bench.stack.push_async_callback(_end, process)
        assert process.stdout is not None
        pids[role], addresses[role] = process.pid, (await process.stdout.readline()).decode().strip()
    return Stack("floor", Callers(addresses["iterate"]), pids, ports)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


def _scrape(port: int) -> dict[str, float]:
    """Return the metrics without labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.split(" ") for line in lines if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}


def main() -> None:
    """Exit with 1 where memory grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200_000)
    parser.add_argument("--step", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--cancelled", type=float, default=0.05, help="share of sessions that their caller leaves")
    parser.add_argument("--floor", action="store_true", help="the same load on bare gRPC, too")
    parser.add_argument("--slope-max", type=float, default=_SLOPE_MAX, help="bytes a session that still count as flat")
    parser.add_argument("--blocks-max", type=float, default=_BLOCKS_MAX, help="blocks a session, likewise")
    arguments = parser.parse_args()
    if arguments.sessions < 4 * arguments.step:
        parser.error("a slope needs four steps or more")
    flat = uvloop.run(run(arguments))
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
