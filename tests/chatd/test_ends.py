"""Goal: whatever ends a completion, its span, its log line and its status name the same reason.

Method: the real chatd on port 0 with its traces, its scripted provider, and a handler that is cut off in each way.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]  # not public, and what is raised

from chatd.__main__ import compose
from chatd.config import ChatdConfig
from chatd.servicer import ChatServicer
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncChatClient
from lakehouse.errors import Fault, Reason
from lakehouse.server.bootstrap import running
from lakehouse.tracing.receiver import TraceReceiver

REQUEST = chatd_pb2.CompleteRequest(messages=[chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content="Hello")])


async def reasons_of(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[AsyncChatClient], Any]
) -> tuple[str, object, Fault]:
    """Return what the span, the log line and the status of a completion say."""
    lines: list[dict[str, object]] = []
    monkeypatch.setattr("lakehouse.server.interceptor.rpc_line", lambda line, _: lines.append(line))
    with TraceReceiver() as receiver:
        tracing = {"host": receiver.url, "public_key": f"pk-{uuid.uuid4()}", "secret_key": "sk"}
        config = ChatdConfig.model_validate(
            {"bind": "127.0.0.1:0", "tracing": tracing, "providers": {"scripted": {"type": "scripted"}}}
        )
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(running("chatd", config, compose))
            client = await stack.enter_async_context(AsyncChatClient(server.address))
            with pytest.raises(Fault) as caught:
                await call(client)
        (tree,) = receiver.trees()
    return tree.spans[0].status_message.partition(":")[0], lines[0]["reason"], caught.value


async def stream(client: AsyncChatClient) -> None:
    async for _ in client.stream_complete(REQUEST, timeout_s=30):
        pass


async def test_a_piece_that_cannot_be_written_has_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        async def write(self, _: Any) -> None:
            raise ExecuteBatchError("Failed", 8, ())

    whole = ChatServicer.StreamComplete

    async def deaf(servicer: ChatServicer, request: chatd_pb2.StreamCompleteRequest, _: Any) -> None:
        await whole(servicer, request, Deaf())

    monkeypatch.setattr(ChatServicer, "StreamComplete", deaf)
    span, line, status = await reasons_of(monkeypatch, stream)

    assert [span, line, status.reason] == [Reason.CALLER_GONE] * 3


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ZeroDivisionError("theirs")])
async def test_what_nobody_asked_for_is_a_bug(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    async def planted(*_: Any, **__: Any) -> AsyncIterator[None]:
        raise error

    monkeypatch.setattr("chatd.routes.Router.complete", planted)
    span, line, status = await reasons_of(monkeypatch, lambda client: client.complete(REQUEST, timeout_s=30))

    assert [span, line, status.reason] == [Reason.BUG] * 3
