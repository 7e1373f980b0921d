"""Goal: why a call ended is decided once, in one order, and its log line and its status name the same reason.

Method: the decision for every kind of exception under every state of a call; then a real server on port 0 whose handler
is cut off in each way.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from gates import ValidateAlone
from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]  # not public, and what is raised

from lakehouse.clients import AsyncValidateClient
from lakehouse.errors import Fault, Reason
from lakehouse.server.bootstrap import Registration, Runtime, running
from lakehouse.server.call import DEADLINE_MARGIN_S, Call, current_call
from lakehouse.server.config import ServerTable
from lakehouse.trace_context import TraceContext, read_hop_context
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

REQUEST = validated_pb2.ValidateRequest(kind="k")
TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c")


def rpc_error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="theirs")


CUTS: dict[str, Callable[[], BaseException]] = {
    "a cancellation": asyncio.CancelledError,
    "a hop's CANCELLED": lambda: Fault(None, where="chatd", code="CANCELLED", message="theirs"),
    "a hop's CANCELLED, untranslated": lambda: rpc_error(grpc.StatusCode.CANCELLED),
    "an RPC that has ended": lambda: grpc.aio.UsageError("RPC already finished."),
}
BUGS: dict[str, Callable[[], BaseException]] = {
    "a bug": lambda: ZeroDivisionError("secret"),
    "a time limit of our own that nobody caught": TimeoutError,
    "a status without a reason of ours": lambda: Fault(None, where="chatd", code="UNKNOWN", message="theirs"),
    "a hop's other status, untranslated": lambda: rpc_error(grpc.StatusCode.UNAVAILABLE),
    "the end of the process": lambda: SystemExit(1),
}
STATES = list(itertools.product((True, False), (None, 5.0, 0.0), (True, False)))


class _Task(asyncio.Future[Any]):
    """What a call needs of its task."""

    def __init__(self, *, cancelled: bool) -> None:
        super().__init__()
        self._requests = int(cancelled)

    def cancelling(self) -> int:
        return self._requests


def call(*, draining: bool = False, remaining_s: float | None = None, cancelled: bool = False) -> Call:
    task: Any = _Task(cancelled=cancelled)
    return Call("/s/M", TRACE, "", task, lambda: draining, lambda: remaining_s)


def cut_by(*, draining: bool, remaining_s: float | None, otherwise: Reason) -> Reason:
    if draining:
        return Reason.SHUTTING_DOWN
    return Reason.DEADLINE if remaining_s == 0 else otherwise


@pytest.mark.parametrize(("draining", "remaining_s", "cancelled"), STATES)
@pytest.mark.parametrize("name", CUTS)
async def test_a_cut_is_the_drains_the_deadlines_the_callers_or_a_bug(
    name: str, *, draining: bool, remaining_s: float | None, cancelled: bool
) -> None:
    served = call(draining=draining, remaining_s=remaining_s, cancelled=cancelled)

    reason = served.fault_of(CUTS[name]()).reason

    otherwise = Reason.CALLER_GONE if cancelled else Reason.BUG
    assert reason is cut_by(draining=draining, remaining_s=remaining_s, otherwise=otherwise)


@pytest.mark.parametrize(("draining", "remaining_s", "cancelled"), STATES)
async def test_an_answer_that_cannot_be_written_has_no_reader_though_no_flag_says_so(
    *, draining: bool, remaining_s: float | None, cancelled: bool
) -> None:
    served = call(draining=draining, remaining_s=remaining_s, cancelled=cancelled)

    reason = served.fault_of(ExecuteBatchError("Failed", 8, ())).reason

    assert reason is cut_by(draining=draining, remaining_s=remaining_s, otherwise=Reason.CALLER_GONE)


@pytest.mark.parametrize(("draining", "remaining_s", "cancelled"), STATES)
@pytest.mark.parametrize("name", BUGS)
async def test_what_is_no_fault_and_no_cut_is_a_bug_and_says_nothing_of_itself(
    name: str, *, draining: bool, remaining_s: float | None, cancelled: bool
) -> None:
    served = call(draining=draining, remaining_s=remaining_s, cancelled=cancelled)

    fault = served.fault_of(BUGS[name]())

    assert fault.reason is Reason.BUG
    assert fault.message == Fault(Reason.BUG).message


async def test_a_fault_with_a_reason_stays_what_it_is() -> None:
    raised = Fault(Reason.PROVIDER_AUTH, where="chatd")

    assert call(draining=True, remaining_s=0, cancelled=True).fault_of(raised) is raised


async def test_the_first_reason_for_a_cut_is_kept() -> None:
    remaining_s = 1.0
    task: Any = _Task(cancelled=True)
    served = Call("/s/M", TRACE, "", task, lambda: False, lambda: remaining_s)

    first = served.fault_of(asyncio.CancelledError())
    remaining_s = 0.0

    assert first.reason is Reason.CALLER_GONE
    assert served.fault_of(asyncio.CancelledError()) is first


@pytest.mark.parametrize(
    ("remaining_s", "left_s"), [(None, None), (5.0, 5.0 - DEADLINE_MARGIN_S), (DEADLINE_MARGIN_S / 2, 0.0), (0.0, 0.0)]
)
async def test_a_handler_has_the_callers_time_less_a_margin(remaining_s: float | None, left_s: float | None) -> None:
    assert call(remaining_s=remaining_s).seconds_left() == left_s


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_time_monotonic_is_the_event_loops_clock(run: Any) -> None:
    # What gives `asyncio.timeout_at` a `deadline_s` of time.monotonic relies on it.
    async def apart_s() -> float:
        return abs(asyncio.get_running_loop().time() - time.monotonic())

    assert run(apart_s()) < 1


class Config(ServerTable):
    bind: str = "127.0.0.1:0"


class Lines:
    """The log lines of a server's calls."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    def add(self, line: dict[str, object], level: object) -> None:
        self._lines.put_nowait(line)

    async def reason(self) -> object:
        return (await asyncio.wait_for(self._lines.get(), 10)).get("reason")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    kept = Lines()
    monkeypatch.setattr("lakehouse.server.interceptor.rpc_line", kept.add)
    return kept


class Handler(ValidateAlone):
    """Does what `step` does; keeps the reasons that it was given."""

    def __init__(self, step: Callable[[], Awaitable[Any]]) -> None:
        self.entered = asyncio.Event()
        self.reasons: list[Reason | None] = []
        self._step = step

    async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> Any:
        self.entered.set()
        try:
            return await self._step()
        except BaseException as error:
            self.reasons.append(current_call().fault_of(error).reason)
            raise


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Yield a server's address, for the time of the block; it drains at its end."""

    @contextlib.asynccontextmanager
    async def compose(_: Config, runtime: Runtime) -> AsyncIterator[Registration]:
        yield Registration(
            service_names=("lakehouse.validated.v1.ValidateService",),
            add=lambda server: validated_pb2_grpc.add_ValidateServiceServicer_to_server(handler, server),
            read_context=read_hop_context,
        )

    async with running("validated", Config(drain_ms=10), compose) as server:
        yield server.address


async def hang() -> None:
    await asyncio.Event().wait()


async def outstay() -> None:
    """Stay until the deadline has passed here too: the caller's own clock, a transit earlier, resets the call first."""
    try:
        await hang()
    finally:
        while (current_call().time_remaining() or 0) > 0:
            await asyncio.sleep(0)


async def test_a_callers_cancel_is_caller_gone_everywhere(lines: Lines) -> None:
    handler = Handler(hang)
    async with serving(handler) as address, AsyncValidateClient(address) as client:
        left = asyncio.ensure_future(client.validate(REQUEST, timeout_s=30))
        await handler.entered.wait()
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left

        assert await lines.reason() == Reason.CALLER_GONE
    assert handler.reasons == [Reason.CALLER_GONE]


async def test_a_passed_deadline_is_deadline_everywhere(lines: Lines) -> None:
    handler = Handler(outstay)
    async with serving(handler) as address, AsyncValidateClient(address) as client:
        with pytest.raises(Fault) as caught:
            await client.validate(REQUEST, timeout_s=0.3)

        assert await lines.reason() == Reason.DEADLINE
    assert handler.reasons == [Reason.DEADLINE]
    assert caught.value.reason is Reason.DEADLINE


async def test_a_drain_is_shutting_down_everywhere(lines: Lines) -> None:
    handler = Handler(hang)
    async with contextlib.AsyncExitStack() as stack:
        async with serving(handler) as address:
            client = await stack.enter_async_context(AsyncValidateClient(address))
            cut = asyncio.ensure_future(client.validate(REQUEST, timeout_s=30))
            await handler.entered.wait()
        with pytest.raises(Fault) as caught:
            await cut

    assert await lines.reason() == Reason.SHUTTING_DOWN
    assert handler.reasons == [Reason.SHUTTING_DOWN]
    assert caught.value.reason is Reason.SHUTTING_DOWN


@pytest.mark.parametrize("name", [*CUTS, *(name for name in BUGS if name != "the end of the process")])
async def test_what_nobody_asked_for_is_a_bug_everywhere(lines: Lines, name: str) -> None:
    async def raises() -> None:
        error = {**CUTS, **BUGS}[name]()
        raise error

    handler = Handler(raises)
    async with serving(handler) as address, AsyncValidateClient(address) as client:
        with pytest.raises(Fault) as caught:
            await client.validate(REQUEST, timeout_s=10)

        assert await lines.reason() == Reason.BUG
    assert handler.reasons == [Reason.BUG]
    assert (caught.value.code, caught.value.reason) == ("INTERNAL", Reason.BUG)
    assert "secret" not in str(caught.value)
    assert "theirs" not in str(caught.value)
