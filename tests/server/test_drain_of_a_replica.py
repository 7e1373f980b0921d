"""Goal: a replica that drains loses nobody, where its `drain_delay_ms` is 5 s above its `connection_age_ms`.

Each connection ends by its age while calls are still taken, and its client, which looks the name up again, finds the
others. What runs on it ends there. Method: two servers in this process behind one name; calls are held on the one that
goes, so that its drain lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gates import ValidateAlone
from name_server import NameServer

from lakehouse.clients import AsyncValidateClient
from lakehouse.errors import Fault, Reason
from lakehouse.server.bootstrap import Registration, Runtime, running
from lakehouse.server.config import ServerTable
from lakehouse.trace_context import read_hop_context
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is loopback there")

HELD = validated_pb2.ValidateRequest(kind="held")
QUICK = validated_pb2.ValidateRequest(kind="quick")
HANG_S = 30
# Above what a client lets pass between two looks at a name, and the age of its connection after that.
DELAY_MS = 6_000


class Config(ServerTable):
    bind: str = "127.0.0.2:0"


class Replica(ValidateAlone):
    """Answers at once and counts, or holds a call until it is let go."""

    def __init__(self) -> None:
        self.holds = asyncio.Event()
        self.let_go = asyncio.Event()
        self.quick = 0

    async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> validated_pb2.ValidateResponse:
        if request.kind == "held":
            self.holds.set()
            await self.let_go.wait()
        else:
            self.quick += 1
        return validated_pb2.ValidateResponse(passed=True)

    @contextlib.asynccontextmanager
    async def serving(self, bind: str, drain_delay_ms: int = 0) -> AsyncIterator[str]:
        @contextlib.asynccontextmanager
        async def compose(_: Config, __: Runtime) -> AsyncIterator[Registration]:
            yield Registration(
                service_names=("lakehouse.validated.v1.ValidateService",),
                add=lambda server: validated_pb2_grpc.add_ValidateServiceServicer_to_server(self, server),
                read_context=read_hop_context,
            )

        config = Config(bind=bind, connection_age_ms=200, drain_delay_ms=drain_delay_ms, drain_ms=60_000)
        async with running("validated", config, compose) as server:
            yield server.address


async def refuses(client: AsyncValidateClient) -> bool:
    try:
        await client.validate(QUICK, timeout_s=HANG_S)
    except Fault as fault:
        assert fault.reason is Reason.SHUTTING_DOWN
        return True
    return False


async def test_while_a_call_runs_on_the_one_that_goes_every_new_call_is_answered_by_the_other() -> None:
    goes, stays = Replica(), Replica()
    async with contextlib.AsyncExitStack() as stack:
        going = goes.serving("127.0.0.2:0", DELAY_MS)
        port = (await going.__aenter__()).rpartition(":")[2]
        await stack.enter_async_context(stays.serving(f"127.0.0.3:{port}"))
        names = await stack.enter_async_context(NameServer(["127.0.0.2", "127.0.0.3"]))
        client = AsyncValidateClient(f"dns://127.0.0.1:{names.port}/replicas.test:{port}")
        await stack.enter_async_context(client)
        while not (goes.quick and stays.quick):
            await client.validate(QUICK, timeout_s=HANG_S)
        held = [asyncio.create_task(client.validate(HELD, timeout_s=HANG_S)) for _ in range(4)]
        async with asyncio.timeout(HANG_S):
            await goes.holds.wait()

        names.addresses.remove("127.0.0.2")
        ending = asyncio.create_task(going.__aexit__(None, None, None))
        async with asyncio.timeout(HANG_S), AsyncValidateClient(f"127.0.0.2:{port}") as direct:
            while not await refuses(direct):
                await client.validate(QUICK, timeout_s=HANG_S)
                await asyncio.sleep(0.01)
        for _ in range(50):
            await client.validate(QUICK, timeout_s=HANG_S)
        still_runs = not ending.done()
        goes.let_go.set()
        stays.let_go.set()
        answers = await asyncio.gather(*held)
        await ending

    assert still_runs
    assert [answer.passed for answer in answers] == [True] * 4
