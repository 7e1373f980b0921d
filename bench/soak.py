"""Whether memory stays flat: sessions by the ten thousand against the real three processes, cancelled ones among them.

    python -m bench.soak [--sessions 200000] [--concurrency 16] [--cancelled 0.05]

One process a service, log on, tracing on to a sink. A share of the callers goes away in the middle of a session (the
model takes 50 ms there). Every --step sessions the resident memory of each service is read, after a pause that lets
exporters and drains end; a line is fitted through the second half, and its slope in bytes per session is what counts:
below --slope-max it is flat. Exit status 1 where it is not.
"""

from __future__ import annotations

import lakehouse.server  # noqa: F401  first: it sets what the C core reads when grpc is imported

import argparse  # isort: skip
import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop
from bench.stack.load import TIMEOUT_S, request
from bench.stack.proc import Machine, rss_mib
from bench.stack.variants import open_field

from lakehouse.iterate.v1 import iterate_pb2_grpc

_PAUSE_S = 2.0
_random = random.Random(7)


class Callers:
    """Runs sessions, and counts how they end."""

    def __init__(self, address: str, cancelled: float) -> None:
        channel = grpc.aio.insecure_channel(address, (("grpc.enable_retries", 0),))
        self._stub: Any = iterate_pb2_grpc.IterateServiceStub(channel)
        self._cancelled = cancelled
        self._fast, self._slow = request(0), request(50)
        self.ended = {"accepted": 0, "cancelled": 0, "other": 0}

    async def one(self) -> None:
        """One session, or one that its caller leaves."""
        if _random.random() >= self._cancelled:
            response = await self._stub.Iterate(self._fast, timeout=TIMEOUT_S)
            self.ended["accepted" if response.WhichOneof("outcome") == "accepted" else "other"] += 1
            return
        call = self._stub.Iterate(self._slow, timeout=TIMEOUT_S)
        await asyncio.sleep(_random.uniform(0.005, 0.09))
        call.cancel()
        try:
            await call
            self.ended["accepted"] += 1
        except asyncio.CancelledError:
            self.ended["cancelled"] += 1

    async def many(self, sessions: int, concurrency: int) -> None:
        """So many sessions."""
        left = sessions

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.one()

        await asyncio.gather(*(worker() for _ in range(concurrency)))


async def run(arguments: argparse.Namespace) -> bool:
    """Print a table; whether every service is flat."""
    points: list[tuple[int, dict[str, float]]] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as folder:
        async with open_field(Path(folder)) as field:
            await field.start(())
            stack = await field.ours(log=True, traced=True, name="soak")
            callers = Callers(stack.command["target"], arguments.cancelled)
            done = 0
            print("| sessions | " + " | ".join(f"{role} MiB" for role in stack.pids) + " |\n|---|" + "---|" * 3)
            while done < arguments.sessions:
                await callers.many(arguments.step, arguments.concurrency)
                done += arguments.step
                await asyncio.sleep(_PAUSE_S)
                memory = {role: rss_mib(pid) for role, pid in stack.pids.items()}
                points.append((done, memory))
                print(f"| {done} | " + " | ".join(f"{memory[role]:.1f}" for role in stack.pids) + " |", flush=True)
            roles = list(stack.pids)
    half = points[len(points) // 2 :]
    flat = True
    for role in roles:
        line = statistics.linear_regression([at for at, _ in half], [memory[role] * 2**20 for _, memory in half])
        flat = flat and line.slope <= arguments.slope_max
        print(f"{role}: {line.slope:+.1f} bytes a session over the second half")
    minutes = (time.monotonic() - started) / 60
    ended = ", ".join(f"{count} {how}" for how, count in callers.ended.items())
    print(f"{done} sessions in {minutes:.1f} minutes: {ended}; {Machine.here()}")
    return flat


def main() -> None:
    """Exit with 1 where memory grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200_000)
    parser.add_argument("--step", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--cancelled", type=float, default=0.05, help="share of sessions that their caller leaves")
    parser.add_argument("--slope-max", type=float, default=64.0, help="bytes a session that still count as flat")
    flat = uvloop.run(run(parser.parse_args()))
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
