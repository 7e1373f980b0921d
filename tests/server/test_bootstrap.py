"""Goal: whatever a handler does, the caller gets a status of ours, and the process drains in order.

Method: a real server on port 0 around a servicer that does what each test asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from gates import ValidateAlone
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lakehouse.clients import AsyncValidateClient
from lakehouse.errors import Fault, Reason, Violation, bad_request
from lakehouse.server.bootstrap import Registration, RunningServer, Runtime, running
from lakehouse.server.call import current_call
from lakehouse.server.config import ServerTable
from lakehouse.server.listener import StartError
from lakehouse.trace_context import read_hop_context
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

Handler = Callable[[validated_pb2.ValidateRequest, Any], Awaitable[Any]]
SERVICE = "lakehouse.validated.v1.ValidateService"
REQUEST = validated_pb2.ValidateRequest(kind="k")


class Config(ServerTable):
    bind: str = "127.0.0.1:0"


@contextlib.asynccontextmanager
async def serving(handler: Handler, **config: Any) -> AsyncIterator[tuple[RunningServer, Runtime]]:
    runtimes: list[Runtime] = []

    class Servicer(ValidateAlone):
        async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> Any:
            return await handler(request, context)

    @contextlib.asynccontextmanager
    async def compose(_: Config, runtime: Runtime) -> AsyncIterator[Registration]:
        runtimes.append(runtime)
        yield Registration(
            service_names=(SERVICE,),
            add=lambda server: validated_pb2_grpc.add_ValidateServiceServicer_to_server(Servicer(), server),
            read_context=read_hop_context,
        )

    async with running("validated", Config(**config), compose) as server:
        yield server, runtimes[0]


async def fault_of(handler: Handler, **config: Any) -> Fault:
    async with serving(handler, **config) as (server, _), AsyncValidateClient(server.address) as client:
        with pytest.raises(Fault) as caught:
            await client.validate(REQUEST, timeout_s=10)
        return caught.value


class Gate:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False

    async def __call__(self, request: validated_pb2.ValidateRequest, context: Any) -> validated_pb2.ValidateResponse:
        self.entered.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return validated_pb2.ValidateResponse(passed=True)


async def test_a_fault_reaches_the_caller_with_reason_violations_and_ids() -> None:
    async def refuse(request: Any, context: Any) -> None:
        current_call().session_id = "s-1"
        raise bad_request(Violation("kind", "is wrong"))

    fault = await fault_of(refuse)

    assert fault.reason is Reason.BAD_REQUEST
    assert fault.violations == (Violation("kind", "is wrong"),)
    assert fault.metadata["session_id"] == "s-1"
    assert len(fault.metadata["trace_id"]) == 32


async def test_a_bug_is_internal_and_says_nothing_of_itself() -> None:
    async def bug(request: Any, context: Any) -> None:
        raise ValueError("secret detail")

    fault = await fault_of(bug)

    assert (fault.code, fault.reason) == ("INTERNAL", Reason.BUG)
    assert "secret" not in str(fault)


async def test_a_cancellation_that_nobody_asked_for_is_a_status_not_a_hang() -> None:
    async def cancelled(request: Any, context: Any) -> None:
        raise asyncio.CancelledError

    assert (await fault_of(cancelled)).reason is Reason.BUG


async def test_beyond_the_limit_calls_are_refused_at_once_and_health_is_not() -> None:
    gate = Gate()
    async with serving(gate, max_concurrent_rpcs=1) as (server, _), AsyncValidateClient(server.address) as client:
        first = asyncio.create_task(client.validate(REQUEST, timeout_s=10))
        await gate.entered.wait()
        with pytest.raises(Fault) as caught:
            await client.validate(REQUEST, timeout_s=10)
        health = await check(server.address)
        gate.go.set()
        answer = await first

    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.retry_delay_ms
    assert health == "SERVING"
    assert answer.passed


async def test_a_message_above_the_size_limit_is_refused_and_the_process_lives() -> None:
    async def answer(request: Any, context: Any) -> validated_pb2.ValidateResponse:
        return validated_pb2.ValidateResponse(passed=True)

    async with serving(answer) as (server, _), AsyncValidateClient(server.address) as client:
        with pytest.raises(Fault) as caught:
            await client.validate(validated_pb2.ValidateRequest(kind="k", artifact_json="x" * 5_000_000), timeout_s=10)
        after = await client.validate(REQUEST, timeout_s=10)

    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert after.passed


async def test_the_drain_lets_running_calls_end_and_refuses_new_ones() -> None:
    gate = Gate()
    async with contextlib.AsyncExitStack() as stack:
        server_context = serving(gate, drain_ms=10_000)
        server, _ = await server_context.__aenter__()
        client = await stack.enter_async_context(AsyncValidateClient(server.address))
        running_call = asyncio.create_task(client.validate(REQUEST, timeout_s=10))
        await gate.entered.wait()
        stopping = asyncio.create_task(server_context.__aexit__(None, None, None))
        refused = await refused_while_draining(client)
        health = await check(server.address)
        gate.go.set()
        answer = await running_call
        await stopping

    assert refused.reason is Reason.SHUTTING_DOWN
    assert health == "NOT_SERVING"
    assert answer.passed
    assert not gate.cancelled


async def test_what_still_runs_after_the_drain_ends_with_shutting_down() -> None:
    gate = Gate()
    server_context = serving(gate, drain_ms=50)
    server, _ = await server_context.__aenter__()
    async with AsyncValidateClient(server.address) as client:
        call = asyncio.create_task(client.validate(REQUEST, timeout_s=10))
        await gate.entered.wait()
        await server_context.__aexit__(None, None, None)
        with pytest.raises(Fault) as caught:
            await call

    assert caught.value.reason is Reason.SHUTTING_DOWN
    assert gate.cancelled


async def test_an_open_health_watch_does_not_hold_the_shutdown() -> None:
    async def answer(request: Any, context: Any) -> validated_pb2.ValidateResponse:
        return validated_pb2.ValidateResponse()

    server_context = serving(answer, drain_ms=60_000)
    server, _ = await server_context.__aenter__()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no method
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(10):
            await server_context.__aexit__(None, None, None)
        watch.cancel()


async def test_every_call_is_counted_by_its_code() -> None:
    async def refuse(request: Any, context: Any) -> None:
        raise Fault(Reason.ROSTER_UNAVAILABLE)

    async with serving(refuse) as (server, runtime), AsyncValidateClient(server.address) as client:
        for _ in range(3):
            with pytest.raises(Fault):
                await client.validate(REQUEST, timeout_s=10)
        count = runtime.metrics.registry.get_sample_value(
            "grpc_server_handled_total",
            {"grpc_service": SERVICE, "grpc_method": "Validate", "grpc_code": "UNAVAILABLE"},
        )

    assert count == 3


async def test_an_unknown_method_is_unimplemented_and_costs_no_memory() -> None:
    async def answer(request: Any, context: Any) -> validated_pb2.ValidateResponse:
        return validated_pb2.ValidateResponse()

    async with serving(answer) as (server, _), grpc.aio.insecure_channel(server.address) as channel:
        for number in range(5):
            nope: Any = channel.unary_unary(f"/{SERVICE}/Nope{number}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await nope(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_address_is_a_clear_start_error() -> None:
    async def answer(request: Any, context: Any) -> validated_pb2.ValidateResponse:
        return validated_pb2.ValidateResponse()

    async with serving(answer) as (server, _):
        with pytest.raises(StartError, match="another process"):
            async with serving(answer, bind=server.address):
                pass


async def test_a_taken_metrics_port_is_a_clear_start_error_and_leaves_nothing_listening(tmp_path: Path) -> None:
    async def answer(request: Any, context: Any) -> validated_pb2.ValidateResponse:
        return validated_pb2.ValidateResponse()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"unix:{tmp_path / 'socket'}"
        with pytest.raises(StartError, match="cannot expose metrics"):
            async with serving(answer, bind=bind, metrics_port=taken.getsockname()[1]):
                pass
        with socket.socket(socket.AF_UNIX) as caller, pytest.raises(FileNotFoundError):
            caller.connect(bind.removeprefix("unix:"))


async def check(address: str) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def refused_while_draining(client: AsyncValidateClient) -> Fault:
    # The drain begins in another task: until it has, a call is taken and waits; it ends by its short deadline.
    async with asyncio.timeout(10):
        while True:
            try:
                await client.validate(REQUEST, timeout_s=0.2)
            except Fault as fault:
                if fault.reason is not Reason.DEADLINE:
                    return fault
