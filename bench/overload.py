"""What happens at ten times the capacity: refused at once, goodput kept, memory bounded, health up, quick recovery.

    python -m bench.overload [--seconds 8]

The services are told to take --limit sessions at once. The peak is what that many callers get in a closed loop. Then
callers arrive at ten times that rate, whatever comes back (an open loop), for --seconds; each call is classed by its
status and its time. Meanwhile health is asked ten times a second. After it the closed loop runs again, and the time
until its rate is back at 90 % of the peak is the recovery. Exit status 1 where a rule is broken.
"""

from __future__ import annotations

from lakehouse.server.grpc_switches import set_grpc_switches

if __name__ == "__main__":
    set_grpc_switches()  # before the imports below bring grpc

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop
from bench.stack.load import TIMEOUT_S, request
from bench.stack.proc import Machine, rss_mib
from bench.stack.variants import open_field
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lakehouse.iterate.v1 import iterate_pb2_grpc

_LATENCY_MS = 50
_TICK_S = 0.01
_TIMES = 10


class Caller:
    """Calls, and remembers what came of it."""

    def __init__(self, address: str) -> None:
        channel = grpc.aio.insecure_channel(address, (("grpc.enable_retries", 0),))
        self._stub: Any = iterate_pb2_grpc.IterateServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self._message = request(_LATENCY_MS)
        self.statuses: Counter[str] = Counter()
        self.refused_ms: list[float] = []
        self.ended_at: list[float] = []
        self.without_retry_info = 0

    async def call(self) -> None:
        """One session, however it ends."""
        begun = time.perf_counter()
        try:
            await self._stub.Iterate(self._message, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            self.statuses[error.code().name] += 1
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.refused_ms.append((time.perf_counter() - begun) * 1000)
                self.without_retry_info += not _has_retry_info(error)
        else:
            self.statuses["OK"] += 1
            self.ended_at.append(time.perf_counter())

    async def closed(self, workers: int, seconds: float) -> float:
        """Sessions a second of so many callers who wait for their answers."""
        before, begun = self.statuses["OK"], time.perf_counter()

        async def worker() -> None:
            while time.perf_counter() - begun < seconds:
                await self.call()

        await asyncio.gather(*(worker() for _ in range(workers)))
        return (self.statuses["OK"] - before) / (time.perf_counter() - begun)

    async def open(self, rate: float, seconds: float) -> float:
        """Goodput while callers arrive at `rate` a second and wait for nobody."""
        before, begun = self.statuses["OK"], time.perf_counter()
        running: set[asyncio.Task[None]] = set()
        sent = 0
        while (now := time.perf_counter() - begun) < seconds:
            for _ in range(int(rate * now) - sent):
                task = asyncio.create_task(self.call())
                running.add(task)
                task.add_done_callback(running.discard)
                sent += 1
            await asyncio.sleep(_TICK_S)
        goodput = (self.statuses["OK"] - before) / seconds
        await asyncio.gather(*running)
        return goodput


async def run(arguments: argparse.Namespace) -> bool:
    """Print what was seen; whether all rules hold."""
    with tempfile.TemporaryDirectory(prefix="bench-overload-") as folder:
        async with open_field(Path(folder)) as field:
            await field.start(())
            limit = {"ITERATE_MAX_CONCURRENT_RPCS": str(arguments.limit)}
            stack = await field.ours(log=True, traced=True, name="overload", environ=limit)
            caller = Caller(stack.command["target"])
            await caller.closed(arguments.limit, 2)
            peak = await caller.closed(arguments.limit, arguments.seconds)
            before = {role: rss_mib(pid) for role, pid in stack.pids.items()}
            caller.statuses.clear()
            caller.refused_ms.clear()
            watch = asyncio.create_task(_unhealthy(caller))
            goodput = await caller.open(peak * _TIMES, arguments.seconds)
            watch.cancel()
            unhealthy = await watch
            after = {role: rss_mib(pid) for role, pid in stack.pids.items()}
            statuses, refused = dict(caller.statuses), sorted(caller.refused_ms)
            overload_over = time.perf_counter()
            caller.ended_at.clear()
            await caller.closed(arguments.limit, 3)
            recovery_s = _recovery_s(caller.ended_at, overload_over, peak)
    grown = {role: after[role] - before[role] for role in before}
    refused_p50 = statistics.median(refused) if refused else 0.0
    refused_p99 = refused[int(len(refused) * 0.99)] if refused else 0.0
    rules = {
        f"refusals are RESOURCE_EXHAUSTED with RetryInfo; statuses {statuses}": set(statuses)
        <= {"OK", "RESOURCE_EXHAUSTED"}
        and caller.without_retry_info == 0
        and statuses.get("RESOURCE_EXHAUSTED", 0) > 0,
        f"refused at once: p50 {refused_p50:.1f} ms, p99 {refused_p99:.1f} ms": refused_p50 < 2 * _LATENCY_MS,
        f"goodput {goodput:.0f} of a peak of {peak:.0f} sessions/s ({goodput / peak:.0%})": goodput >= 0.8 * peak,
        f"memory grew by {', '.join(f'{role} {each:+.1f} MiB' for role, each in grown.items())}": max(grown.values())
        < arguments.grown_mib_max,
        f"health was not SERVING {unhealthy} times": unhealthy == 0,
        f"recovery in {recovery_s:.2f} s": recovery_s <= 1.0,
    }
    print(f"limit {arguments.limit}, model latency {_LATENCY_MS} ms, {_TIMES} x the peak for {arguments.seconds:g} s")
    for rule, holds in rules.items():
        print(f"{'holds ' if holds else 'BROKEN'} {rule}")
    print(Machine.here())
    return all(rules.values())


async def _unhealthy(caller: Caller) -> int:
    found = 0
    try:
        while True:
            try:
                answer = await caller.health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                found += answer.status != health_pb2.HealthCheckResponse.SERVING
            except grpc.aio.AioRpcError:
                found += 1
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return found


def _recovery_s(ended_at: list[float], since: float, peak: float) -> float:
    """Return the end of the first quarter of a second that has 90 % of the peak's sessions, seconds after `since`."""
    window_s = 0.25
    for number in range(12):
        begin = since + number * window_s
        if sum(begin <= each < begin + window_s for each in ended_at) >= 0.9 * peak * window_s:
            return (number + 1) * window_s
    return float("inf")


def _has_retry_info(error: grpc.aio.AioRpcError) -> bool:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            return any(each.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for each in status.details)
    return False


def main() -> None:
    """Exit with 1 where a rule is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--limit", type=int, default=16, help="max_concurrent_rpcs of iterate")
    parser.add_argument("--grown-mib-max", type=float, default=64.0)
    sys.exit(0 if uvloop.run(run(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
