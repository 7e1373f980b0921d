"""Goal: a call whose caller goes away ends on the other side, and leaves nothing in this process.

Method: a real server on port 0 whose handler waits until it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from gates import Patient

from lakehouse.clients import AsyncValidateClient
from lakehouse.errors import Fault
from lakehouse.server.metrics import Metrics
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

REQUEST = validated_pb2.ValidateRequest(kind="k")
METADATA = tuple((f"x-lakehouse-{name}", name * 40) for name in ("a", "b", "c"))


@contextlib.asynccontextmanager
async def patient() -> AsyncIterator[tuple[Patient, AsyncValidateClient]]:
    servicer, server = Patient(), grpc.aio.server()
    validated_pb2_grpc.add_ValidateServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncValidateClient(f"127.0.0.1:{port}") as client:
        yield servicer, client
    await server.stop(0)


async def leave(servicer: Patient, client: AsyncValidateClient) -> None:
    task = asyncio.ensure_future(client.validate(REQUEST, timeout_s=30, metadata=METADATA))
    await servicer.come.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(servicer.gone.get(), 10)


async def test_a_call_that_is_left_ends_on_the_other_side() -> None:
    async with patient() as (servicer, client):
        await leave(servicer, client)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library keeps no account of its heap")
async def test_calls_that_are_left_leave_no_memory_behind() -> None:
    registry = Metrics().registry

    def allocated() -> float:
        gc.collect()
        return registry.get_sample_value("lakehouse_allocated_bytes") or 0

    async with patient() as (servicer, client):
        for _ in range(100):
            await leave(servicer, client)
        before = allocated()
        for _ in range(500):
            await leave(servicer, client)
        growth = (allocated() - before) / 500

    # 1,400 where the batch of each call stays.
    assert growth < 300


async def test_a_call_that_cannot_begin_says_so_at_once() -> None:
    async with patient() as (_, client):
        with pytest.raises(Exception, match="INVALID_METADATA"):
            await asyncio.wait_for(client.validate(REQUEST, timeout_s=30, metadata=(("UPPER", "x"),)), 10)


async def test_a_client_that_closes_ends_its_calls() -> None:
    async with patient() as (servicer, client):
        task = asyncio.ensure_future(client.validate(REQUEST, timeout_s=30))
        await servicer.come.get()
        await client.close()
        with pytest.raises((asyncio.CancelledError, Fault)):
            await task
        await asyncio.wait_for(servicer.gone.get(), 10)
