"""Goal: whatever ends a session, its row, its root span, its log line and its status name the same reason.

Method: the real iterate on port 0, with its log and its traces, before a chatd that does what each test asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]  # not public, and what is raised

from iterate.__main__ import compose
from iterate.config import IterateConfig
from iterate.servicer import IterateServicer
from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.server.bootstrap import running
from lakehouse.server.call import current_call
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc
from lakehouse.validated.v1.validated_pb2 import FillSpec

Step = Callable[[Any], Awaitable[Any]]


class Chatd(chatd_pb2_grpc.ChatServiceServicer):
    """Does what `step` does with the call's context."""

    def __init__(self, step: Step) -> None:
        self.asked = asyncio.Event()
        self._step = step

    async def Complete(self, request: chatd_pb2.CompleteRequest, context: Any) -> Any:
        self.asked.set()
        return await self._step(context)

    async def StreamComplete(  # type: ignore[override]  # aio takes a coroutine, the stub's types do not
        self, request: chatd_pb2.StreamCompleteRequest, context: Any
    ) -> None:
        raise NotImplementedError


class Validated(validated_pb2_grpc.ValidateServiceServicer):
    """Does at Brief what `step` does with the call's context; nothing of an older one that does not know it."""

    def __init__(self, step: Step) -> None:
        self.asked = asyncio.Event()
        self._step = step

    async def Brief(self, request: validated_pb2.BriefRequest, context: Any) -> Any:
        self.asked.set()
        return await self._step(context)

    async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> Any:
        raise NotImplementedError

    async def ListKinds(self, request: validated_pb2.ListKindsRequest, context: Any) -> Any:
        raise NotImplementedError


async def unknown(context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


async def hang(_: Any) -> None:
    await asyncio.Event().wait()


async def answer(_: Any) -> chatd_pb2.CompleteResponse:
    return chatd_pb2.CompleteResponse(text="{}", provider="p", model="m")


async def cancel(context: Any) -> None:
    await context.abort(grpc.StatusCode.CANCELLED, "theirs")


class Stack:
    """One iterate and every place that reports its one session."""

    def __init__(
        self,
        chatd: Chatd,
        validated: Validated,
        client: AsyncIterateClient,
        log_path: Path,
        receiver: TraceReceiver,
    ) -> None:
        self.chatd = chatd
        self.validated = validated
        self.client = client
        self._log_path = log_path
        self._receiver = receiver
        self.lines: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.sessions: list[asyncio.Task[iterate_pb2.IterateResponse]] = []

    def session(self, timeout_s: float = 30) -> asyncio.Task[iterate_pb2.IterateResponse]:
        self.sessions.append(asyncio.create_task(self.client.iterate(self.request, timeout_s=timeout_s)))
        return self.sessions[-1]

    @property
    def request(self) -> iterate_pb2.IterateRequest:
        fill = FillSpec(role="welder", count=1)
        return iterate_pb2.IterateRequest(kind="fill", fill=fill, prompt="p", session_id="s", max_iterations=1)

    async def log_line(self) -> dict[str, object]:
        return await asyncio.wait_for(self.lines.get(), 10)

    def row(self) -> dict[str, Any]:
        (line,) = self._log_path.read_text(encoding="utf-8").splitlines()
        return dict(json.loads(line))

    def root_message(self) -> str:
        (tree,) = self._receiver.trees()
        (root,) = tree.roots
        return root.status_message


@pytest.fixture
def receiver() -> Iterator[TraceReceiver]:
    with TraceReceiver() as started:
        yield started


StartStack = Callable[..., contextlib.AbstractAsyncContextManager[Stack]]


@pytest.fixture
def start(tmp_path: Path, receiver: TraceReceiver, monkeypatch: pytest.MonkeyPatch) -> StartStack:
    """Start a stack whose chatd does `step` and whose validated does `brief`. At the block's end iterate has drained;
    rows and spans are there."""

    @contextlib.asynccontextmanager
    async def started(step: Step, brief: Step = unknown) -> AsyncIterator[Stack]:
        chatd, validated, server = Chatd(step), Validated(brief), grpc.aio.server()
        chatd_pb2_grpc.add_ChatServiceServicer_to_server(chatd, server)
        validated_pb2_grpc.add_ValidateServiceServicer_to_server(validated, server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        config = IterateConfig.model_validate(
            {
                "bind": "127.0.0.1:0",
                "chatd": address,
                "validated": address,
                "brief_ms_max": 60_000,
                "session_log_path": str(tmp_path / "sessions.jsonl"),
                "drain_ms": 10,
                "tracing": {
                    "host": receiver.url,
                    "public_key": f"pk-{uuid.uuid4()}",
                    "secret_key": "sk",
                    "flush_interval_ms": 20,
                },
            }
        )
        await server.start()
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with running("iterate", config, compose) as served:
                    client = await stack.enter_async_context(AsyncIterateClient(served.address))
                    one = Stack(chatd, validated, client, tmp_path / "sessions.jsonl", receiver)
                    monkeypatch.setattr(
                        "lakehouse.server.interceptor.rpc_line", lambda line, _: one.lines.put_nowait(line)
                    )
                    yield one
                # What the drain cut off is answered before the client closes.
                await asyncio.wait_for(asyncio.gather(*one.sessions, return_exceptions=True), 10)
        finally:
            await server.stop(0)

    return started


async def agree_on(stack: Stack, reason: Reason, status: Fault | None, *, attempts: int = 1) -> None:
    """Row, attempt where one was begun, root span, log line and, where somebody reads it, status."""
    row, line, fault = stack.row(), await stack.log_line(), Fault(reason)
    assert [row["error"]["reason"], line["reason"], stack.root_message()] == [reason, reason, fault.message]
    assert [row["error"]["code"], line["code"]] == [fault.code, fault.code]
    assert [attempt["error"]["reason"] for attempt in row["attempts"] if "error" in attempt] == [reason] * attempts
    if status is not None:
        assert (status.code, status.reason) == (fault.code, reason)
        assert "theirs" not in str(status)


async def test_a_callers_cancel(start: StartStack) -> None:
    async with start(hang) as stack:
        session = stack.session()
        await stack.chatd.asked.wait()
        session.cancel()
        with pytest.raises(asyncio.CancelledError):
            await session
        await _ended(stack)

    await agree_on(stack, Reason.CALLER_GONE, None)


async def test_a_deadline(start: StartStack) -> None:
    async with start(hang) as stack:
        with pytest.raises(Fault) as caught:
            await stack.session(timeout_s=0.5)

    await agree_on(stack, Reason.DEADLINE, caught.value)


async def test_a_deadline_that_the_loop_does_not_see_coming(start: StartStack, monkeypatch: pytest.MonkeyPatch) -> None:
    async def outstay(*_: Any, **__: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            # The caller's own clock, a transit earlier, may reset the call first.
            while (current_call().time_remaining() or 0) > 0:
                await asyncio.sleep(0)

    monkeypatch.setattr("iterate.hops.ChatHop.complete", outstay)
    async with start(hang) as stack:
        with pytest.raises(Fault) as caught:
            await stack.session(timeout_s=0.5)
        await _ended(stack)

    await agree_on(stack, Reason.DEADLINE, caught.value)


async def test_a_drain(start: StartStack) -> None:
    async with start(hang) as stack:
        session = stack.session()
        await stack.chatd.asked.wait()
    with pytest.raises(Fault) as caught:
        await session

    await agree_on(stack, Reason.SHUTTING_DOWN, caught.value)


async def test_a_hop_that_cancels_the_call_as_one_does_that_stops(start: StartStack) -> None:
    async with start(cancel) as stack:
        with pytest.raises(Fault) as caught:
            await stack.session()

    await agree_on(stack, Reason.CHATD_UNREACHABLE, caught.value)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ZeroDivisionError("theirs"), TimeoutError("theirs")])
async def test_a_bug_in_the_loop(start: StartStack, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def planted(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("iterate.loop.read_artifact", planted)
    async with start(answer) as stack:
        with pytest.raises(Fault) as caught:
            await stack.session()

    await agree_on(stack, Reason.BUG, caught.value)


async def test_an_event_that_cannot_be_written(start: StartStack, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        """A context of a caller that is gone, with every flag false."""

        def __init__(self, context: Any) -> None:
            self._context = context

        def __getattr__(self, name: str) -> Any:
            return getattr(self._context, name)

        async def write(self, _: Any) -> None:
            raise ExecuteBatchError("Failed", 8, ())

    whole = IterateServicer.StreamIterate

    async def deaf(servicer: IterateServicer, request: iterate_pb2.StreamIterateRequest, context: Any) -> None:
        await whole(servicer, request, Deaf(context))

    monkeypatch.setattr(IterateServicer, "StreamIterate", deaf)
    async with start(answer) as stack:
        with pytest.raises(Fault) as caught:
            _ = [event async for event in stack.client.stream_iterate(stack.request, timeout_s=30)]

    await agree_on(stack, Reason.CALLER_GONE, caught.value)


async def test_a_reader_that_leaves_its_stream(start: StartStack) -> None:
    async with start(hang) as stack:
        stream = stack.client.stream_iterate(stack.request, timeout_s=30)
        assert (await anext(stream)).WhichOneof("event") == "attempt_started"
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        await _ended(stack)

    await agree_on(stack, Reason.CALLER_GONE, None)


async def test_a_callers_cancel_during_the_brief(start: StartStack) -> None:
    async with start(answer, brief=hang) as stack:
        session = stack.session()
        await stack.validated.asked.wait()
        session.cancel()
        with pytest.raises(asyncio.CancelledError):
            await session
        await _ended(stack)

    await agree_on(stack, Reason.CALLER_GONE, None, attempts=0)
    assert not stack.chatd.asked.is_set()


async def test_a_deadline_after_a_brief_that_hangs(start: StartStack) -> None:
    async with start(hang, brief=hang) as stack:
        with pytest.raises(Fault) as caught:
            await stack.session(timeout_s=1.5)

    await agree_on(stack, Reason.DEADLINE, caught.value, attempts=1)
    assert stack.chatd.asked.is_set(), "the brief leaves time for the model"


async def test_a_drain_during_the_brief(start: StartStack) -> None:
    async with start(answer, brief=hang) as stack:
        session = stack.session()
        await stack.validated.asked.wait()
    with pytest.raises(Fault) as caught:
        await session

    await agree_on(stack, Reason.SHUTTING_DOWN, caught.value, attempts=0)


async def test_a_brief_that_is_cancelled_over_there(start: StartStack) -> None:
    async with start(answer, brief=cancel) as stack:
        with pytest.raises(Fault) as caught:
            await stack.session()

    await agree_on(stack, Reason.VALIDATED_UNREACHABLE, caught.value, attempts=0)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ZeroDivisionError("theirs"), TimeoutError("theirs")])
async def test_a_bug_at_the_brief(start: StartStack, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    async def planted(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("iterate.hops.GateHop.brief", planted)
    async with start(answer) as stack:
        with pytest.raises(Fault) as caught:
            await stack.session()

    await agree_on(stack, Reason.BUG, caught.value, attempts=0)


async def _ended(stack: Stack) -> None:
    """Wait for the call's log line, so that the drain is not what ends it."""
    stack.lines.put_nowait(await stack.log_line())
