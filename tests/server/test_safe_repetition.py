"""Goal: `iterate_safely` repeats what may pass, with the same id, on one address, and nothing else.

Method: real services on real sockets that fail as often as a test says; sync and async clients alike.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest

from lakehouse import repeated_calls
from lakehouse.clients import AsyncIterateClient, IterateClient
from lakehouse.errors import STATUS_DETAILS_KEY, Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.repeated_calls import Repetition, is_worth_repeating, name_of

REQUEST = iterate_pb2.IterateRequest(kind="song", prompt="Sing")
Iterate = Callable[..., Any]


@dataclass
class Failing(iterate_pb2_grpc.IterateServiceServicer):
    """Ends its calls with `ends`, one after the other; then it answers."""

    ends: list[Fault | grpc.StatusCode] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    StreamIterate = GetSession = None  # type: ignore[assignment]  # not asked here

    async def Iterate(self, request: iterate_pb2.IterateRequest, context: Any) -> iterate_pb2.IterateResponse:
        self.ids.append(request.session_id)
        if self.ends:
            end = self.ends.pop(0)
            if isinstance(end, grpc.StatusCode):
                await context.abort(end, "of grpc's own")
            else:
                status = end.to_status()
                code = grpc.StatusCode[end.code]
                await context.abort(code, status.message, ((STATUS_DETAILS_KEY, status.SerializeToString()),))
        return iterate_pb2.IterateResponse(session_id=request.session_id)


@asynccontextmanager
async def served(*services: Failing) -> AsyncIterator[list[int]]:
    """Serve each on a port of its own."""
    servers, ports = [], []
    for service in services:
        server = grpc.aio.server()
        iterate_pb2_grpc.add_IterateServiceServicer_to_server(service, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    try:
        yield ports
    finally:
        for server in servers:
            await server.stop(0)


@pytest.fixture(params=["sync", "async"])
def iterate_safely(request: pytest.FixtureRequest) -> Iterate:
    async def call(target: str, *arguments: Any, **keywords: Any) -> Any:
        if request.param == "async":
            async with AsyncIterateClient(target) as client:
                return await client.iterate_safely(*arguments, **keywords)

        def in_thread() -> Any:
            with IterateClient(target) as client:
                return client.iterate_safely(*arguments, **keywords)

        return await asyncio.to_thread(in_thread)

    return call


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_calls, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(repeated_calls, "_ASKED_WAIT_S_MAX", 0.001)


async def test_what_may_pass_is_repeated_with_one_id_until_it_is_answered(iterate_safely: Iterate) -> None:
    service = Failing(
        [
            Fault(Reason.SHUTTING_DOWN),
            Fault(Reason.SESSION_NOT_LOGGED),
            Fault(Reason.SESSION_ID_IN_FLIGHT),
            Fault(Reason.PROVIDER_TIMEOUT),
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.UNKNOWN,
        ]
    )
    seen: list[str] = []
    async with served(service) as (port,):
        answer = await iterate_safely(
            f"127.0.0.1:{port}", REQUEST, timeout_s=10, tries=7, on_repeat=lambda fault, _: seen.append(fault.code)
        )

    assert len(service.ids) == 7
    assert set(service.ids) == {answer.session_id}
    assert answer.session_id
    assert len(seen) == 6
    assert REQUEST.session_id == "", "the caller's own request stays as it is"


@pytest.mark.parametrize(
    "end",
    [
        Fault(Reason.SESSION_ID_TAKEN),
        Fault(Reason.BAD_REQUEST),
        Fault(Reason.PROVIDER_FAILED),
        Fault(Reason.CALLER_QUOTA),
        Fault(Reason.OVERLOADED),
        Fault(Reason.BUG),
    ],
    ids=lambda fault: fault.reason,
)
async def test_what_will_not_pass_or_may_be_billed_again_is_not_repeated(iterate_safely: Iterate, end: Fault) -> None:
    service = Failing([end])
    async with served(service) as (port,):
        with pytest.raises(Fault) as caught:
            await iterate_safely(f"127.0.0.1:{port}", REQUEST, session_id="mine", timeout_s=10)

    assert caught.value.reason is end.reason
    assert service.ids == ["mine"]


async def test_after_the_last_try_its_fault_is_raised(iterate_safely: Iterate) -> None:
    service = Failing([Fault(Reason.SHUTTING_DOWN)] * 9)
    async with served(service) as (port,):
        with pytest.raises(Fault) as caught:
            await iterate_safely(f"127.0.0.1:{port}", REQUEST, timeout_s=10, tries=3)

    assert caught.value.reason is Reason.SHUTTING_DOWN
    assert len(service.ids) == 3


@pytest.mark.parametrize("may_bill_twice", [False, True])
async def test_of_several_addresses_one_gets_all_calls_unless_the_caller_may_be_billed_twice(
    iterate_safely: Iterate, monkeypatch: pytest.MonkeyPatch, may_bill_twice: bool
) -> None:
    one, two = Failing([Fault(Reason.SHUTTING_DOWN)] * 4), Failing([Fault(Reason.SHUTTING_DOWN)] * 4)
    async with served(one, two) as ports:
        # Two addresses of one port, as two replicas behind one name have them, by what a lookup of it gives.
        targets = [repeated_calls.Address(f"ipv4:127.0.0.1:{port}", "replicas:1") for port in ports]
        monkeypatch.setattr(repeated_calls.TargetName, "addresses", lambda *_: targets)
        listed = ",".join(f"127.0.0.1:{port}" for port in ports)
        target = f"ipv4:{listed}" if may_bill_twice else f"localhost:{ports[0]}"
        with pytest.raises(Fault):
            await iterate_safely(target, REQUEST, timeout_s=10, tries=4, may_bill_twice=may_bill_twice)

    calls = sorted([len(one.ids), len(two.ids)])
    assert sum(calls) == 4
    assert (calls[0] > 0) is may_bill_twice


async def test_an_address_that_nobody_listens_on_is_passed_over_before_anything_is_sent(
    iterate_safely: Iterate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.channels._CONNECT_S", 0.5)
    service = Failing()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with served(service) as (port,):
            targets = [
                repeated_calls.Address(f"ipv4:127.0.0.1:{each}", "replicas:1")
                for each in (nobody.getsockname()[1], port)
            ]
            monkeypatch.setattr(repeated_calls.TargetName, "addresses", lambda *_: targets)
            answer = await iterate_safely(f"localhost:{port}", REQUEST, session_id="s", timeout_s=10)

    assert answer.session_id == "s"
    assert service.ids == ["s"]


def test_two_ids_that_differ_are_an_error_and_no_call() -> None:
    with IterateClient("127.0.0.1:9") as client:
        with pytest.raises(ValueError, match="session_id"):
            client.iterate_safely(iterate_pb2.IterateRequest(session_id="a"), session_id="b")
        with pytest.raises(ValueError, match="tries"):
            client.iterate_safely(REQUEST, tries=0)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("iterate:50051", ("iterate", 50051)),
        ("dns:///iterate.svc:50051", ("iterate.svc", 50051)),
        ("dns://1.1.1.1/iterate.svc:50051", ("iterate.svc", 50051)),
        ("127.0.0.1:50051", None),
        ("[::1]:50051", None),
        ("dns:///127.0.0.1:50051", None),
        ("ipv4:127.0.0.1:50051", None),
        ("unix:/run/iterate.sock", None),
    ],
)
def test_names_and_addresses_are_told_apart(target: str, name: tuple[str, int] | None) -> None:
    assert name_of(target) == name


def test_waits_grow_and_are_never_shorter_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    repetition = Repetition(5)
    waits = [repetition.wait_s(Fault(Reason.SHUTTING_DOWN, retry_delay_ms=delay)) for delay in (0, 0, 0, 30_000)]

    first, second, third, asked = (each or 0.0 for each in waits)
    assert 0.2 <= first < 0.4 <= second < 0.8 <= third < 1.6
    assert 30 <= asked < 40
    assert repetition.wait_s(Fault(Reason.SHUTTING_DOWN)) is None
    assert not is_worth_repeating(Fault(None, code="CANCELLED"))
