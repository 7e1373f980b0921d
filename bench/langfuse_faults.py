"""What a broken Langfuse costs the callers: whole sessions through nine real stacks, one for each way to misbehave.

    python bench/langfuse_faults.py [--sessions 500] [--concurrency 1]

Stacks: tracing off, and tracing on to a Langfuse that works, refuses connections, answers 401, 413, 429 or 500,
answers after 30 s, or never. The stacks take turns, a batch each, so that the machine's moods hit all alike. Printed
are the medians over all sessions of a stack, their ratio to tracing off in the same run, failed sessions, the services'
memory before and after, spans dropped (from the services' own counters) and how long the stack took to stop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from model_endpoint import ModelEndpoint  # noqa: E402

from lakehouse.cli.stack import SERVICES, Stack, free_port_binds  # noqa: E402  after the path
from lakehouse.clients import AsyncIterateClient  # noqa: E402
from lakehouse.errors import Fault  # noqa: E402
from lakehouse.iterate.v1 import iterate_pb2  # noqa: E402
from lakehouse.validated.v1 import validated_pb2  # noqa: E402

MODES = ("off", "200", "refused", "401", "413", "429", "500", "after 30 s", "never")
BATCH = 25
PORT_FIRST = 19_400


@dataclass
class Subject:
    """One stack and what was seen of it."""

    mode: str
    stack: Stack
    metrics: dict[str, int]
    latencies_ms: list[float] = field(default_factory=list)
    failed: int = 0
    rss_before_mb: float = 0
    rss_after_mb: float = 0
    dropped: int = 0
    stop_s: float = 0

    def rss_mb(self) -> float:
        pages = 0
        for process in self.stack.processes.values():
            pages += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * 4096 / 1e6

    def spans_dropped(self) -> int:
        total = 0.0
        for port in self.metrics.values():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                for line in answer.read().decode().splitlines():
                    if line.startswith("lakehouse_tracing_spans_dropped_total"):
                        total += float(line.rsplit(" ", 1)[1])
        return int(total)


@contextlib.asynccontextmanager
async def sink(mode: str) -> AsyncIterator[str]:
    """Yield a Langfuse that behaves as `mode` says; its base URL."""
    if mode == "refused":
        yield "http://127.0.0.1:9"
        return
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        # A sink that hangs is cancelled when its run is over: that is its end, not an error.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.lower().split("\r\n")
                length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
                await reader.readexactly(length)
                if mode == "never":
                    await asyncio.Event().wait()
                if mode == "after 30 s":
                    await asyncio.sleep(30)
                status = int(mode) if mode.isdigit() else 200
                body = b""
                if "/scores" in lines[0]:
                    status = 202 if status == 200 else status
                    body = b'{"message":"Accepted"}'
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        connections.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in tuple(connections):
            writer.close()


async def start(mode: str, index: int, url: str, endpoint: ModelEndpoint) -> Subject:
    metrics = {name: PORT_FIRST + 3 * index + place for place, name in enumerate(SERVICES)}
    environ = {
        **free_port_binds(),
        "VALIDATED_ROSTER__PATH": str(ROOT / "examples/roster/workers.csv"),
        "CHATD_PROVIDERS__FAKE__TYPE": "openai",
        "CHATD_PROVIDERS__FAKE__BASE_URL": endpoint.base_url,
        "CHATD_PROVIDERS__FAKE__DEFAULT_MODEL": "ok",
    }
    for name, port in metrics.items():
        environ[f"{name.upper()}_METRICS_PORT"] = str(port)
        if mode != "off":
            environ[f"{name.upper()}_TRACING__HOST"] = url
            environ[f"{name.upper()}_TRACING__PUBLIC_KEY"] = "pk-bench"
            environ[f"{name.upper()}_TRACING__SECRET_KEY"] = "sk-bench"
    stack = Stack(on_log=lambda *_: None, environ=environ)
    await stack.start()
    return Subject(mode, stack, metrics)


async def batch(subject: Subject, sessions: int, concurrency: int) -> None:
    request = iterate_pb2.IterateRequest(
        kind="fill",
        fill=validated_pb2.FillSpec(role="forklift operator", count=1, city="Toledo", state="OH"),
        prompt="Fill 1 forklift operator in Toledo. " + "Notes of the desk. " * 200,
    )
    turns = asyncio.Semaphore(concurrency)
    async with AsyncIterateClient(subject.stack.addresses["iterate"]) as client:

        async def one() -> None:
            async with turns:
                started = time.perf_counter()
                try:
                    await client.iterate(request, timeout_s=60)
                except Fault:
                    subject.failed += 1
                subject.latencies_ms.append((time.perf_counter() - started) * 1000)

        await asyncio.gather(*(one() for _ in range(sessions)))


async def main_async(sessions: int, concurrency: int) -> int:
    worker = json.dumps({"workers": [{"worker_id": "W-000169", "name": "Björn Collins"}]}, ensure_ascii=False)
    phantom = json.dumps({"workers": [{"worker_id": "W-999999", "name": "No Body"}], "note": "x" * 1400})
    async with contextlib.AsyncExitStack() as resources:
        endpoint = await resources.enter_async_context(ModelEndpoint([phantom, worker]))
        subjects = []
        for index, mode in enumerate(MODES):
            url = await resources.enter_async_context(sink(mode))
            print(f"starting the stack for: {mode}", file=sys.stderr)
            subjects.append(await start(mode, index, url, endpoint))
        for subject in subjects:
            await batch(subject, BATCH, concurrency)
            subject.latencies_ms.clear()
            subject.rss_before_mb = subject.rss_mb()
        for done in range(0, sessions, BATCH):
            for subject in subjects:
                await batch(subject, min(BATCH, sessions - done), concurrency)
            print(f"{min(done + BATCH, sessions)} of {sessions} sessions each", file=sys.stderr)
        for subject in subjects:
            subject.rss_after_mb = subject.rss_mb()
            subject.dropped = await asyncio.to_thread(subject.spans_dropped)
        for subject in subjects:
            started = time.perf_counter()
            await subject.stack.stop()
            subject.stop_s = time.perf_counter() - started
    return report(subjects)


def report(subjects: list[Subject]) -> int:
    base = statistics.median(subjects[0].latencies_ms)
    print("| Langfuse | failed | p50 ms | p50 / off | p99 ms | RSS MB before → after | spans dropped | stop s |")
    print("|---|---|---|---|---|---|---|---|")
    for subject in subjects:
        ordered = sorted(subject.latencies_ms)
        middle, late = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
        print(
            f"| {subject.mode} | {subject.failed} | {middle:.2f} | {middle / base:.3f} | {late:.1f} "
            f"| {subject.rss_before_mb:.0f} → {subject.rss_after_mb:.0f} | {subject.dropped} | {subject.stop_s:.1f} |"
        )
    return sum(subject.failed for subject in subjects)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=500, help="sessions per stack (500)")
    parser.add_argument("--concurrency", type=int, default=1, help="sessions at a time (1)")
    arguments = parser.parse_args()
    sys.exit(1 if asyncio.run(main_async(arguments.sessions, arguments.concurrency)) else 0)


if __name__ == "__main__":
    main()
