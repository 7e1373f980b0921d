"""What chatd adds to the bare HTTP call: CPU and latency, beside the same call through the `openai` SDK.

    python bench/chatd.py [--rounds 5] [--seconds 1.5]

Ways, each a process of its own against one fake endpoint (a process too; 4 KB request, 1.5 KB answer):
  bare      aiohttp + orjson, nothing else
  layer     chatd's route, limit, breaker, retry and provider, without gRPC
  chatd     a call to a chatd process; its CPU is chatd's, the caller's is told apart
  openai    the official SDK, where .tools/conformance has it

All ways run in turn in every round; told are medians over the rounds. Compare ratios inside one run.
"""

# ruff: noqa: PLC0415  each way imports what it measures and no more; the SDK's environment has nothing else

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SDK_PYTHON = ROOT / ".tools" / "conformance" / "bin" / "python"
PROMPT = "Fill 3 forklift operators in Toledo for Saturday. " * 80
ANSWER = '{"workers": [' + ", ".join(f'{{"worker_id": "W-{n:06}", "name": "Rosa Jackson"}}' for n in range(24)) + "]}"
BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "fake-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 400, "total_tokens": 1300},
    }
).encode()
CLOCK_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

Call = Callable[[], Awaitable[object]]


# The endpoint -----------------------------------------------------------------------------------------------------


class Endpoint(asyncio.Protocol):
    """Answers every whole request with the same bytes; as little work as a server can do."""

    response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY

    def __init__(self) -> None:
        self.data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self.data.clear()
            self.transport.write(self.response)


async def serve_endpoint() -> None:
    server = await asyncio.get_running_loop().create_server(Endpoint, "127.0.0.1", 0)
    print(json.dumps({"address": f"127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await server.serve_forever()


# The ways ---------------------------------------------------------------------------------------------------------


async def bare(address: str, concurrency: int, seconds: float) -> dict[str, float]:
    import aiohttp
    import orjson

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
    url = f"http://{address}/v1/chat/completions"

    async def call() -> object:
        body = orjson.dumps({"model": "fake-1", "messages": [{"role": "user", "content": PROMPT}]})
        headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-1"}
        async with session.post(url, data=body, headers=headers) as response:
            return orjson.loads(await response.read())["choices"][0]["message"]["content"]

    try:
        return await measure(call, concurrency, seconds)
    finally:
        await session.close()


async def layer(address: str, concurrency: int, seconds: float) -> dict[str, float]:
    from chatd.completion import CompletionRequest, Message
    from chatd.config import OpenAiTable
    from chatd.endpoint import Endpoint as GuardedEndpoint
    from chatd.endpoint import Tally
    from chatd.providers import open_provider
    from chatd.routes import Router, Target

    table = OpenAiTable(type="openai", base_url=f"http://{address}/v1", default_model="fake-1")
    endpoint = GuardedEndpoint("main", open_provider(table), table)
    router = Router({"main": endpoint}, {}, "main")

    async def call() -> object:
        request = CompletionRequest(messages=(Message("user", PROMPT),))
        return await router.complete(
            request, router.choose(Target()), deadline_s=time.monotonic() + 60, on_delta=None, tally=Tally()
        )

    try:
        return await measure(call, concurrency, seconds)
    finally:
        await endpoint.close()


async def through_chatd(address: str, concurrency: int, seconds: float) -> dict[str, float]:
    from lakehouse.chatd.v1.chatd_pb2 import ROLE_USER, CompleteRequest, Message
    from lakehouse.clients import AsyncChatClient

    async with AsyncChatClient(address) as client:

        async def call() -> object:
            request = CompleteRequest(messages=[Message(role=ROLE_USER, content=PROMPT)])
            return (await client.complete(request, timeout_s=60)).text

        return await measure(call, concurrency, seconds)


async def openai_sdk(address: str, concurrency: int, seconds: float) -> dict[str, float]:
    import openai

    client = openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key="sk-1", max_retries=0)

    async def call() -> object:
        messages: Any = [{"role": "user", "content": PROMPT}]
        answer = await client.chat.completions.create(model="fake-1", messages=messages)
        return answer.choices[0].message.content

    try:
        return await measure(call, concurrency, seconds)
    finally:
        await client.close()


WAYS = {"bare": bare, "layer": layer, "chatd": through_chatd, "openai": openai_sdk}


async def measure(call: Call, concurrency: int, seconds: float) -> dict[str, float]:
    """Run a closed loop of `concurrency` callers for `seconds`, after a warm-up."""
    await asyncio.gather(*(call() for _ in range(concurrency)))
    latencies_ms: list[float] = []
    end = time.monotonic() + seconds
    started_cpu_s = time.process_time()

    async def caller() -> None:
        while (before := time.monotonic()) < end:
            await call()
            latencies_ms.append((time.monotonic() - before) * 1000)

    print("started", flush=True)
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    cpu_s = time.process_time() - started_cpu_s
    latencies_ms.sort()
    return {
        "calls": len(latencies_ms),
        "p50_ms": latencies_ms[len(latencies_ms) // 2],
        "p99_ms": latencies_ms[int(len(latencies_ms) * 0.99)],
        "cpu_us": cpu_s * 1e6 / len(latencies_ms),
    }


# The bench --------------------------------------------------------------------------------------------------------


def start(command: list[str], **environ: str) -> tuple[subprocess.Popen[str], str]:
    """Return a server process and its address, which it prints as JSON."""
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT / "services"), **environ}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address: str = json.loads(process.stdout.readline())["address"]
    return process, address


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * CLOCK_TICK_S


def run_way(way: str, address: str, concurrency: int, seconds: float, server: int | None) -> dict[str, float]:
    python = str(SDK_PYTHON) if way == "openai" else sys.executable
    # -P: this file has the name of the package.
    command = [python, "-P", __file__, "--way", way, "--address", address]
    command += ["--concurrency", str(concurrency), "--seconds", str(seconds)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "services")}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before_s = cpu_s(server) if server is not None else 0.0
        told: dict[str, float] = json.loads(process.stdout.readline())
        if server is not None:
            told["caller_cpu_us"] = told["cpu_us"]
            told["cpu_us"] = (cpu_s(server) - before_s) * 1e6 / told["calls"]
    return told


def bench(rounds: int, seconds: float) -> None:
    ways = [way for way in WAYS if way != "openai" or SDK_PYTHON.exists()]
    endpoint, endpoint_address = start([sys.executable, __file__, "--serve-endpoint"])
    chatd, chatd_address = start(
        [sys.executable, "-m", "chatd"],
        CHATD_BIND="127.0.0.1:0",
        CHATD_LOG_FORMAT="json",
        CHATD_LOG_LEVEL="info",
        CHATD_PROVIDERS__MAIN__TYPE="openai",
        CHATD_PROVIDERS__MAIN__BASE_URL=f"http://{endpoint_address}/v1",
        CHATD_PROVIDERS__MAIN__DEFAULT_MODEL="fake-1",
        CHATD_PROVIDERS__MAIN__API_KEY="sk-1",
    )
    # chatd's log lines are part of what it costs; somebody has to read them.
    drain = subprocess.Popen(["cat"], stdin=chatd.stdout, stdout=subprocess.DEVNULL)
    results: dict[tuple[int, str], list[dict[str, float]]] = {}
    try:
        for _ in range(rounds):
            for concurrency in (1, 32):
                for way in ways:
                    address = chatd_address if way == "chatd" else endpoint_address
                    server = chatd.pid if way == "chatd" else None
                    told = run_way(way, address, concurrency, seconds, server)
                    results.setdefault((concurrency, way), []).append(told)
    finally:
        for process in (chatd, endpoint, drain):
            process.terminate()
            process.wait()
    for concurrency in (1, 32):
        print(f"\nconcurrency {concurrency}, {rounds} rounds of {seconds} s, medians")
        print("| way | calls/s | p50 ms | p99 ms | CPU µs | p50/bare | CPU/bare | caller CPU µs |")
        print("|---|---|---|---|---|---|---|---|")
        floor = medians(results[concurrency, "bare"])
        for way in ways:
            row = medians(results[concurrency, way])
            print(
                f"| {way} | {row['calls'] / seconds:.0f} | {row['p50_ms']:.3f} | {row['p99_ms']:.2f} "
                f"| {row['cpu_us']:.0f} | {row['p50_ms'] / floor['p50_ms']:.2f} "
                f"| {row['cpu_us'] / floor['cpu_us']:.2f} | {row.get('caller_cpu_us', 0):.0f} |"
            )


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--concurrency", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--serve-endpoint", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_endpoint:
        run_loop(serve_endpoint())
    elif arguments.way:
        print(json.dumps(run_loop(WAYS[arguments.way](arguments.address, arguments.concurrency, arguments.seconds))))
    else:
        bench(arguments.rounds, arguments.seconds)


def run_loop(main: Any) -> Any:
    try:
        import uvloop
    except ModuleNotFoundError:  # not in .tools/conformance
        return asyncio.run(main)
    return uvloop.run(main)


if __name__ == "__main__":
    main()
