"""Several processes of a service on one port of different loopback addresses, as behind a headless service, and a load
of sessions that repeats what may be repeated."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from lakehouse.cli.stack import Stack
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

HANG_S = 120
# Between two sessions of a worker: a load that leaves the machine to the processes that start under it.
PAUSE_S = 0.02


def free_port() -> int:
    """Return a port that is free on every address."""
    with socket.socket() as each:
        each.bind(("0.0.0.0", 0))
        return int(each.getsockname()[1])


class Replicas:
    """Processes of one service, each on an address of its own."""

    def __init__(self, service: str, environ: Mapping[str, str]) -> None:
        self.service = service
        self.port = free_port()
        self._environ = environ
        self.stacks: dict[str, Stack] = {}
        self.calls: dict[str, int] = {}

    async def start(self, address: str, **environ: str) -> None:
        def count(_: str, entry: dict[str, Any] | str) -> None:
            if isinstance(entry, dict) and entry.get("event") == "rpc":
                self.calls[address] = self.calls.get(address, 0) + 1

        stack = self.stacks[address] = Stack(
            on_log=count,
            environ={**self._environ, **environ, f"{self.service.upper()}_BIND": f"{address}:{self.port}"},
            alone=True,
        )
        await stack.start_service(self.service)
        async with asyncio.timeout(HANG_S):
            await stack.ready()

    async def stop(self, address: str) -> None:
        await self.stacks.pop(address).stop()

    async def stop_all(self) -> None:
        await asyncio.gather(*map(self.stop, list(self.stacks)))


class Load:
    """Sessions, a few at a time, until the block ends. A call whose fault is safe to repeat is repeated."""

    def __init__(
        self, client: AsyncIterateClient, make_request: Callable[[], iterate_pb2.IterateRequest], *, workers: int = 4
    ) -> None:
        self._client = client
        self._make_request = make_request
        self._workers = workers
        self.accepted = 0
        self.answered: list[iterate_pb2.IterateResponse] = []
        self.repeated: list[Fault] = []
        self.failed: list[Fault] = []
        self._over = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        workers = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        try:
            yield self
        finally:
            self._over = True
            async with asyncio.timeout(HANG_S):
                await asyncio.gather(*workers)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():
                await asyncio.sleep(0.02)

    async def more(self, sessions: int = 20) -> None:
        """Let so many sessions more end well."""
        wanted = self.accepted + sessions
        await self.until(lambda: self.accepted >= wanted)

    async def _work(self) -> None:
        while not self._over:
            request = self._make_request()
            for attempt in range(30):
                try:
                    response = await self._client.iterate(request, timeout_s=30)
                except Fault as fault:
                    # UNAVAILABLE with a delay: the contract says that no model was paid for nothing and when to come
                    # again. Anything else a caller must not repeat by himself.
                    if fault.code != "UNAVAILABLE" or attempt == 29:
                        self.failed.append(fault)
                        break
                    self.repeated.append(fault)
                    await asyncio.sleep((fault.retry_delay_ms or 200) / 1000)
                else:
                    assert response.WhichOneof("outcome") == "accepted"
                    self.answered.append(response)
                    self.accepted += 1
                    break
            await asyncio.sleep(PAUSE_S)
