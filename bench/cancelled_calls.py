"""What a unary call leaves behind in gRPC, by how it ends: bare grpc.aio on both ends, and our own client beside it.

    python -m bench.cancelled_calls [--calls 3000]

The caller is this process, the server another one; both are asked what the C library's allocator holds
(``lakehouse.server.metrics``), before and after some thousands of calls that end in one way. Each call carries 1.5 KB
and the three metadata entries of a hop; its handler would answer after 50 ms and is left after 10. Figures of some
tens of bytes are noise.

aio frees a batch of operations where the coroutine that awaits it goes on. Where that coroutine's task is cancelled, or
the batch fails, nobody does: the operations, their metadata and their buffers stay (grpc/grpc#43360).
"""

from __future__ import annotations

from lakehouse.server.grpc_switches import set_grpc_switches

if __name__ == "__main__":
    set_grpc_switches()  # before the imports below bring grpc

import argparse
import asyncio
import contextlib
import gc
import sys
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import uvloop
from bench.stack.job import ROOT
from bench.stack.variants import free_port

from lakehouse.clients import AsyncValidateClient
from lakehouse.server.metrics import Metrics
from lakehouse.trace_context import trace_metadata
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

_HANDLER_S = 0.05
_LEAVE_S = 0.01
_CONCURRENCY = 16
_WARM = 500
_PAUSE_S = 0.5
_TIMEOUT_S = 30
_METADATA = trace_metadata(
    "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "019f0000-0000-7000-8000-000000000000"
)


class Server(validated_pb2_grpc.ValidateServiceServicer):
    """Answers after a while. Asked for the kind `abort`, it sends a status even though its caller has gone."""

    async def Validate(  # noqa: N802  gRPC's name
        self, request: validated_pb2.ValidateRequest, context: Any
    ) -> validated_pb2.ValidateResponse:
        try:
            await asyncio.sleep(_HANDLER_S)
        except asyncio.CancelledError:
            if request.kind != "abort":
                raise
            await context.abort(grpc.StatusCode.CANCELLED, "The caller has gone.")
        return validated_pb2.ValidateResponse(passed=True)


@dataclass(frozen=True, slots=True)
class Ways:
    """How a call ends."""

    stub: Any
    streaming: Any
    """The same method as a stream of one answer."""
    client: AsyncValidateClient

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """By name."""
        return {
            "answered": self._answered,
            "its deadline passes": self._deadline,
            "task cancelled": lambda: _left(self._call()),
            "task cancelled, the call then awaited to its end": lambda: _left(self._awaited_to_its_end()),
            "call.cancel()": self._cancelled,
            "asyncio.timeout": self._timeout,
            "read as a stream, task cancelled": lambda: _left(self._streamed()),
            "task cancelled, the handler sends a status all the same": lambda: _left(self._call("abort")),
            "our client, task cancelled": lambda: _left(self._ours()),
        }

    async def _call(self, kind: str = "fill", timeout_s: float = _TIMEOUT_S) -> None:
        await self.stub.Validate(_request(kind), timeout=timeout_s, metadata=_METADATA)

    async def _answered(self) -> None:
        await self._call()

    async def _deadline(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._call(timeout_s=_LEAVE_S)

    async def _cancelled(self) -> None:
        call = self.stub.Validate(_request(), timeout=_TIMEOUT_S, metadata=_METADATA)
        await asyncio.sleep(_LEAVE_S)
        call.cancel()

    async def _awaited_to_its_end(self) -> None:
        call = self.stub.Validate(_request(), timeout=_TIMEOUT_S, metadata=_METADATA)
        try:
            await call
        except asyncio.CancelledError:
            await call.code()
            await asyncio.sleep(_LEAVE_S)
            raise

    async def _timeout(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._call()

    async def _streamed(self) -> None:
        await self.streaming(_request(), timeout=_TIMEOUT_S, metadata=_METADATA).read()

    async def _ours(self) -> None:
        await self.client.validate(_request(), timeout_s=_TIMEOUT_S, metadata=_METADATA)


async def measure(calls: int) -> None:
    """Print the table: `calls` of each way."""
    registry = Metrics().registry
    channel_options = (("grpc.enable_retries", 0),)
    async with (
        _server() as (address, port),
        AsyncValidateClient(address) as client,
        grpc.aio.insecure_channel(address, channel_options) as channel,
    ):
        stub = validated_pb2_grpc.ValidateServiceStub(channel)
        streaming = channel.unary_stream(
            "/lakehouse.validated.v1.ValidateService/Validate",
            request_serializer=validated_pb2.ValidateRequest.SerializeToString,
            response_deserializer=validated_pb2.ValidateResponse.FromString,
        )

        async def held() -> tuple[float, float]:
            await asyncio.sleep(_PAUSE_S)
            gc.collect()
            here = registry.get_sample_value("lakehouse_allocated_bytes")
            if here is None:
                sys.exit("this C library does not tell what it holds")
            return here, await asyncio.to_thread(_allocated, port)

        print("| the call ends by | bytes kept a call: caller | server |\n|---|---|---|")
        for name, end in Ways(stub, streaming, client).all().items():
            await _many(end, _WARM)
            before = await held()
            await _many(end, calls)
            growth = [(then - first) / calls for first, then in zip(before, await held(), strict=True)]
            print(f"| {name} | {growth[0]:+.0f} | {growth[1]:+.0f} |", flush=True)


async def _many(end: Callable[[], Awaitable[None]], calls: int) -> None:
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await end()

    await asyncio.gather(*(worker() for _ in range(_CONCURRENCY)))


async def _left(call: Any) -> None:
    """Cancel the task that makes the call, as aio does with a handler whose caller has gone."""
    task = asyncio.ensure_future(call)
    await asyncio.sleep(_LEAVE_S)
    task.cancel()
    await asyncio.wait((task,))


def _request(kind: str = "fill") -> validated_pb2.ValidateRequest:
    return validated_pb2.ValidateRequest(kind=kind, artifact_json="x" * 1500)


@contextlib.asynccontextmanager
async def _server() -> AsyncIterator[tuple[str, int]]:
    """Address and metrics port of a server in a process of its own."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.cancelled_calls", "--serve", str(port), stdin=DEVNULL, stdout=PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip(), port
    finally:
        process.terminate()
        await process.wait()


def _allocated(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("lakehouse_allocated_bytes "):
                return float(line.split(" ")[1])
    raise LookupError("lakehouse_allocated_bytes")


async def serve(metrics_port: int) -> None:
    """Be the server, until the process is ended."""
    Metrics().serve("127.0.0.1", metrics_port)
    server = grpc.aio.server()
    validated_pb2_grpc.add_ValidateServiceServicer_to_server(Server(), server)  # type: ignore[abstract]  # nobody asks for the rest
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def main() -> None:
    """Measure, or serve what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3_000, help="of each way")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.serve) if arguments.serve else measure(arguments.calls))


if __name__ == "__main__":
    main()
