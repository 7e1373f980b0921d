"""Goal: replicas come and go under load, and every call that fails for it may be repeated, and succeeds then.

Method: several processes of a service on one port of different loopback addresses, behind one name of a name server of
our own, as behind a headless service.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from name_server import NameServer

from lakehouse.cli.stack import Stack
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is loopback there")

Request = Callable[..., iterate_pb2.IterateRequest]
ROSTER = Path(__file__).resolve().parents[2] / "examples" / "roster" / "workers.csv"
NAME = "replicas.test"
HANG_S = 120
# What a connection lives for here; in earnest it is minutes.
AGE = {"CONNECTION_AGE_MS": "500"}


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("0.0.0.0", 0))
        return int(each.getsockname()[1])


class Replicas:
    """Processes of one service, each on an address of its own."""

    def __init__(self, service: str, environ: dict[str, str]) -> None:
        self.service = service
        self.port = free_port()
        self._environ = environ
        self.stacks: dict[str, Stack] = {}
        self.calls: dict[str, int] = {}

    async def start(self, address: str) -> None:
        def count(_: str, entry: dict[str, Any] | str) -> None:
            if isinstance(entry, dict) and entry.get("event") == "rpc":
                self.calls[address] = self.calls.get(address, 0) + 1

        stack = self.stacks[address] = Stack(
            on_log=count,
            environ={**self._environ, f"{self.service.upper()}_BIND": f"{address}:{self.port}"},
            alone=True,
        )
        await stack.start_service(self.service)
        async with asyncio.timeout(HANG_S):
            await stack.ready()

    async def stop(self, address: str) -> None:
        await self.stacks.pop(address).stop()

    async def stop_all(self) -> None:
        for address in list(self.stacks):
            await self.stop(address)


class Load:
    """Sessions, a few at a time, until the block ends. A call whose fault is safe to repeat is repeated."""

    def __init__(self, client: AsyncIterateClient, request: iterate_pb2.IterateRequest) -> None:
        self._client = client
        self._request = request
        self.accepted = 0
        self.repeated: list[Fault] = []
        self.failed: list[Fault] = []
        self._over = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        workers = [asyncio.create_task(self._work()) for _ in range(4)]
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
            for attempt in range(30):
                try:
                    response = await self._client.iterate(self._request, timeout_s=30)
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
                    self.accepted += 1
                    break


def settings(**given: str) -> dict[str, str]:
    return {f"{service}_{key}": value for service in ("CHATD", "VALIDATED", "ITERATE") for key, value in given.items()}


@asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[tuple[NameServer, Replicas, Replicas, Replicas]]:
    """One chatd, one validated and one iterate, each behind the name; the iterate's caller uses it as well."""
    environ = settings(**AGE, DRAIN_MS="10000", DRAIN_DELAY_MS="200")
    chatd, validated = Replicas("chatd", environ), Replicas("validated", environ)
    environ["VALIDATED_ROSTER__PATH"] = str(ROSTER)
    async with NameServer(["127.0.0.2"]) as names:
        environ["ITERATE_CHATD"] = f"dns://127.0.0.1:{names.port}/{NAME}:{chatd.port}"
        environ["ITERATE_VALIDATED"] = f"dns://127.0.0.1:{names.port}/{NAME}:{validated.port}"
        environ["ITERATE_SESSION_LOG_PATH"] = str(folder / "sessions.jsonl")
        iterate = Replicas("iterate", environ)
        try:
            for each in (chatd, validated, iterate):
                await each.start("127.0.0.2")
            yield names, chatd, validated, iterate
        finally:
            for each in (iterate, chatd, validated):
                await each.stop_all()


async def test_a_new_replica_gets_calls_without_one_that_fails(tmp_path: Path, make_request: Request) -> None:
    async with (
        replicated(tmp_path) as (names, chatd, _, iterate),
        AsyncIterateClient(f"127.0.0.2:{iterate.port}") as client,
        Load(client, make_request()).running() as load,
    ):
        await load.more()
        await chatd.start("127.0.0.3")
        names.addresses.append("127.0.0.3")
        await load.until(lambda: chatd.calls.get("127.0.0.3", 0) >= 20)
        shared = dict(chatd.calls)
        await load.more()

    assert chatd.calls["127.0.0.2"] > shared["127.0.0.2"], "the old one goes on"
    assert load.failed == []
    assert load.repeated == []


async def test_every_service_is_replaced_under_load_and_what_fails_may_be_repeated_and_succeeds(
    tmp_path: Path, make_request: Request
) -> None:
    async with replicated(tmp_path) as (names, chatd, validated, iterate):
        target = f"dns://127.0.0.1:{names.port}/{NAME}:{iterate.port}"
        async with AsyncIterateClient(target) as client, Load(client, make_request()).running() as load:
            await load.more()
            for service in (chatd, validated, iterate):
                await service.start("127.0.0.3")
            names.addresses.append("127.0.0.3")
            for service in (chatd, validated, iterate):
                await load.until(lambda service=service: service.calls.get("127.0.0.3", 0) >= 5)  # type: ignore[misc]
                await service.stop("127.0.0.2")
                await load.more()
            names.addresses.remove("127.0.0.2")
            await load.more()

    assert load.failed == []
    assert {fault.code for fault in load.repeated} <= {"UNAVAILABLE"}
    assert all(fault.retry_delay_ms or fault.reason is None for fault in load.repeated)
