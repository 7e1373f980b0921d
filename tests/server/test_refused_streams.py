"""Goal: a call that a server never looked at fails for nobody, and one that it looked at is never made twice.

A server ends each connection now and then (`connection_age_ms`). A call that meets that end has not been looked at, as
HTTP/2 says in its GOAWAY frame, and the client makes it on the next connection. Method: a server of frames, since
gRPC's own meets that moment once in thousands of calls.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from http2_server import Connection, Http2Server

from lakehouse.clients import AsyncIterateClient, IterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

REQUEST = iterate_pb2.IterateRequest(kind="fill", prompt="p")
# As large as a service takes.
LARGE = iterate_pb2.IterateRequest(kind="fill", prompt="p" * (4 * 1024 * 1024 - 4096))
HANG_S = 20

Ask = Callable[[str, iterate_pb2.IterateRequest], Awaitable[None]]


async def by_async_client(address: str, request: iterate_pb2.IterateRequest) -> None:
    async with AsyncIterateClient(address) as client:
        await client.iterate(request, timeout_s=HANG_S)


async def by_sync_client(address: str, request: iterate_pb2.IterateRequest) -> None:
    def ask() -> None:
        with IterateClient(address) as client:
            client.iterate(request, timeout_s=HANG_S)

    await asyncio.to_thread(ask)


@pytest.mark.parametrize("request_", [REQUEST, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("ask", [by_async_client, by_sync_client])
async def test_a_call_that_meets_the_end_of_its_connection_is_made_on_the_next_one(
    ask: Ask, request_: iterate_pb2.IterateRequest
) -> None:
    def on_call(connection: Connection, stream: int) -> None:
        if connection is server.connections[0]:
            connection.go_away(0)
        else:
            connection.answer(stream)

    with Http2Server(on_call) as server:
        await ask(server.address, request_)

    assert server.streams == [[1], [1]]


async def test_calls_that_wait_for_their_turn_on_a_connection_that_ends_are_made_on_the_next_one() -> None:
    def on_call(connection: Connection, stream: int) -> None:
        # One at a time is let through: the others stand in the client.
        if connection is server.connections[0]:
            begun.wait(HANG_S)
            connection.go_away(stream)
        connection.answer(stream)

    begun = threading.Event()
    with Http2Server(on_call, streams_max=1) as server:
        async with AsyncIterateClient(server.address) as client:
            calls = [asyncio.create_task(client.iterate(REQUEST, timeout_s=HANG_S)) for _ in range(3)]
            await asyncio.sleep(0)
            begun.set()
            await asyncio.gather(*calls)

    assert server.streams == [[1], [1, 3]]


@pytest.mark.parametrize("ask", [by_async_client, by_sync_client])
@pytest.mark.parametrize("says", [True, False], ids=["goes away", "breaks off"])
async def test_a_call_that_was_looked_at_is_never_made_again(ask: Ask, says: bool) -> None:
    def on_call(connection: Connection, stream: int) -> None:
        if says:
            connection.go_away(stream)
        connection.break_off()

    with Http2Server(on_call) as server, pytest.raises(Fault) as raised:
        await ask(server.address, REQUEST)

    assert raised.value.code == "UNAVAILABLE"
    assert server.streams == [[1]]
