"""Typed clients of the three services, one sync and one async each. They raise ``lakehouse.errors.Fault``.

A client owns one channel, made once and kept for life. It repeats nothing by itself: a session or a completion is
billed, so whether to ask again is the caller's decision (``Fault.retry_delay_ms`` says when it makes sense). Every call
takes `timeout_s`, the deadline in seconds, and `metadata`: ``trace_context.trace_metadata`` makes what joins a call to
a trace.

    with IterateClient("127.0.0.1:50051") as client:
        request = IterateRequest(kind="fill", fill=FillSpec(role="welder", count=2), prompt="…")
        response = client.iterate(request, timeout_s=60, metadata=trace_metadata("order-4711"))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self, cast

import grpc
import grpc.aio

from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.errors import Fault, Reason, from_rpc_error
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.private_names import answer_of
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

# Answers carry the whole attempt history, so they may be larger than what a service takes in.
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.lb_policy_name", "round_robin"),
    # A service that was away is used again within seconds, not within the core's two minutes; and a new client does not
    # inherit the back-off of an older one to the same address.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
    ("grpc.use_local_subchannel_pool", 1),
    # A name is looked up again when a connection ends, which servers see to now and then: new replicas are found then.
    ("grpc.dns_min_time_between_resolutions_ms", 5000),
)
# How long calls may go on after their client has got other credentials.
_OLD_CHANNEL_S: Final = 3600.0

Metadata = Sequence[tuple[str, str]]
Token = str | Callable[[], str] | None


def _with_token(metadata: Metadata, token: Token) -> Metadata:
    if token is None:
        return metadata
    return (*metadata, ("authorization", f"Bearer {token if isinstance(token, str) else token()}"))


class _SyncClient:
    """A channel, and the translation of its errors."""

    _where: str
    _unreachable: Reason | None = None

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.Channel | None = None,
        token: Token = None,
    ) -> None:
        """`target` is `host:port`, `dns:///name:port` (replicas are used in turn) or `unix:/path`; plain text unless
        `credentials` are given. A `channel` of the caller's own is used as it is. `token` says who calls: the token, or
        what gives the one to send now. Without TLS it can be read on the way."""
        self._token = token
        if channel is not None:
            self._channel = channel
        elif credentials is not None:
            self._channel = grpc.secure_channel(target, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, _OPTIONS)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _unary(self, method: Any, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        try:
            return method(request, timeout=timeout_s, metadata=_with_token(metadata, self._token))
        except grpc.RpcError as error:
            raise self._fault(error) from None

    def _stream(self, method: Any, request: Any, timeout_s: float | None, metadata: Metadata) -> Iterator[Any]:
        call = method(request, timeout=timeout_s, metadata=_with_token(metadata, self._token))
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._fault(error) from None
        finally:
            # Leaving the loop early ends the session on the other side too.
            call.cancel()

    def _fault(self, error: Any) -> Fault:
        return from_rpc_error(error, where=self._where, unreachable=self._unreachable)


class AsyncClient:
    """A channel, and the translation of its errors. Cancelling the awaiting task cancels the call."""

    _where: str
    _unreachable: Reason | None = None

    def __init__(self, target: str, *, credentials: grpc.ChannelCredentials | None = None, token: Token = None) -> None:
        """As for the sync clients; to be made inside the running event loop."""
        self._token = token
        self._target = target
        self._old: set[asyncio.Task[None]] = set()
        self._connect(credentials)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel that calls take now, for calls that this client has no method for, such as health."""
        return self._channel

    def reconnect(self, credentials: grpc.ChannelCredentials | None) -> None:
        """Take other credentials from the next call on. Running calls end on the old channel, closed behind them."""
        old = self._channel
        self._connect(credentials)
        closing = asyncio.create_task(old.close(_OLD_CHANNEL_S))
        self._old.add(closing)
        closing.add_done_callback(self._old.discard)

    def _connect(self, credentials: grpc.ChannelCredentials | None) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self._target, _OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(self._target, credentials, _OPTIONS)
        self._make_stub()

    def _make_stub(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        for closing in self._old:
            closing.cancel()
        await asyncio.gather(*self._old, return_exceptions=True)
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.close()

    async def _unary(self, method: Any, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        try:
            return await answer_of(method(request, timeout=timeout_s, metadata=_with_token(metadata, self._token)))
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from None

    async def _stream(
        self, method: Any, request: Any, timeout_s: float | None, metadata: Metadata
    ) -> AsyncIterator[Any]:
        call = method(request, timeout=timeout_s, metadata=_with_token(metadata, self._token))
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from None
        finally:
            call.cancel()

    def _fault(self, error: Any) -> Fault:
        return from_rpc_error(error, where=self._where, unreachable=self._unreachable)


class IterateClient(_SyncClient):
    """Sync client of ``lakehouse.iterate.v1.IterateService``."""

    _where = "iterate"

    def iterate(
        self, request: iterate_pb2.IterateRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> iterate_pb2.IterateResponse:
        """Run one session. Raises Fault; attempts that ran out are a response."""
        stub = iterate_pb2_grpc.IterateServiceStub(self._channel)
        answer: iterate_pb2.IterateResponse = self._unary(stub.Iterate, request, timeout_s, metadata)
        return answer

    def stream_iterate(
        self, request: iterate_pb2.IterateRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> Iterator[iterate_pb2.StreamIterateResponse]:
        """Run one session and yield its events. Raises Fault. Closing the iterator cancels the session."""
        stub = iterate_pb2_grpc.IterateServiceStub(self._channel)
        return self._stream(
            stub.StreamIterate,
            iterate_pb2.StreamIterateRequest(request=request),
            timeout_s,
            metadata,
        )


class AsyncIterateClient(AsyncClient):
    """Async client of ``lakehouse.iterate.v1.IterateService``."""

    _where = "iterate"

    def _make_stub(self) -> None:
        self._stub = iterate_pb2_grpc.IterateServiceStub(self._channel)

    async def iterate(
        self, request: iterate_pb2.IterateRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> iterate_pb2.IterateResponse:
        """Run one session. Raises Fault; attempts that ran out are a response."""
        answer: iterate_pb2.IterateResponse = await self._unary(self._stub.Iterate, request, timeout_s, metadata)
        return answer

    def stream_iterate(
        self, request: iterate_pb2.IterateRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[iterate_pb2.StreamIterateResponse]:
        """Run one session and yield its events. Raises Fault. Closing the iterator cancels the session."""
        return self._stream(
            self._stub.StreamIterate,
            iterate_pb2.StreamIterateRequest(request=request),
            timeout_s,
            metadata,
        )


class ChatClient(_SyncClient):
    """Sync client of ``lakehouse.chatd.v1.ChatService``."""

    _where = "chatd"
    _unreachable = Reason.CHATD_UNREACHABLE

    def complete(
        self, request: chatd_pb2.CompleteRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> chatd_pb2.CompleteResponse:
        """One answer. Raises Fault."""
        stub = chatd_pb2_grpc.ChatServiceStub(self._channel)
        answer: chatd_pb2.CompleteResponse = self._unary(stub.Complete, request, timeout_s, metadata)
        return answer

    def stream_complete(
        self, request: chatd_pb2.CompleteRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> Iterator[chatd_pb2.StreamCompleteResponse]:
        """One answer as it is made. Raises Fault. Closing the iterator cancels the call to the model."""
        stub = chatd_pb2_grpc.ChatServiceStub(self._channel)
        return self._stream(
            stub.StreamComplete,
            chatd_pb2.StreamCompleteRequest(request=request),
            timeout_s,
            metadata,
        )


class AsyncChatClient(AsyncClient):
    """Async client of ``lakehouse.chatd.v1.ChatService``."""

    _where = "chatd"
    _unreachable = Reason.CHATD_UNREACHABLE

    def _make_stub(self) -> None:
        self._stub = chatd_pb2_grpc.ChatServiceStub(self._channel)

    async def complete(
        self, request: chatd_pb2.CompleteRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> chatd_pb2.CompleteResponse:
        """One answer. Raises Fault."""
        answer: chatd_pb2.CompleteResponse = await self._unary(self._stub.Complete, request, timeout_s, metadata)
        return answer

    def stream_complete(
        self, request: chatd_pb2.CompleteRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[chatd_pb2.StreamCompleteResponse]:
        """One answer as it is made. Raises Fault. Closing the iterator cancels the call to the model."""
        return self._stream(
            self._stub.StreamComplete,
            chatd_pb2.StreamCompleteRequest(request=request),
            timeout_s,
            metadata,
        )


class ValidateClient(_SyncClient):
    """Sync client of ``lakehouse.validated.v1.ValidateService``."""

    _where = "validated"
    _unreachable = Reason.VALIDATED_UNREACHABLE

    def brief(
        self, request: validated_pb2.BriefRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> validated_pb2.BriefResponse:
        """Return what a model should know before it answers. Raises Fault."""
        stub = validated_pb2_grpc.ValidateServiceStub(self._channel)
        answer: validated_pb2.BriefResponse = self._unary(stub.Brief, request, timeout_s, metadata)
        return answer

    def list_kinds(self, *, timeout_s: float | None = None, metadata: Metadata = ()) -> validated_pb2.ListKindsResponse:
        """Return the kinds of the deployment, by name. Raises Fault."""
        stub = validated_pb2_grpc.ValidateServiceStub(self._channel)
        answer = self._unary(stub.ListKinds, validated_pb2.ListKindsRequest(), timeout_s, metadata)
        return cast("validated_pb2.ListKindsResponse", answer)

    def validate(
        self, request: validated_pb2.ValidateRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> validated_pb2.ValidateResponse:
        """One verdict. Raises Fault; findings are a response."""
        stub = validated_pb2_grpc.ValidateServiceStub(self._channel)
        answer: validated_pb2.ValidateResponse = self._unary(stub.Validate, request, timeout_s, metadata)
        return answer


class AsyncValidateClient(AsyncClient):
    """Async client of ``lakehouse.validated.v1.ValidateService``."""

    _where = "validated"
    _unreachable = Reason.VALIDATED_UNREACHABLE

    def _make_stub(self) -> None:
        self._stub = validated_pb2_grpc.ValidateServiceStub(self._channel)

    async def brief(
        self, request: validated_pb2.BriefRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> validated_pb2.BriefResponse:
        """Return what a model should know before it answers. Raises Fault."""
        answer: validated_pb2.BriefResponse = await self._unary(self._stub.Brief, request, timeout_s, metadata)
        return answer

    async def list_kinds(
        self, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> validated_pb2.ListKindsResponse:
        """Return the kinds of the deployment, by name. Raises Fault."""
        answer = await self._unary(self._stub.ListKinds, validated_pb2.ListKindsRequest(), timeout_s, metadata)
        return cast("validated_pb2.ListKindsResponse", answer)

    async def validate(
        self, request: validated_pb2.ValidateRequest, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> validated_pb2.ValidateResponse:
        """One verdict. Raises Fault; findings are a response."""
        answer: validated_pb2.ValidateResponse = await self._unary(self._stub.Validate, request, timeout_s, metadata)
        return answer
