"""Typed clients of the three services, one sync and one async each. They raise ``lakehouse.errors.Fault``.

A client owns one channel, made once and kept for life. It repeats nothing by itself: a session or a completion is
billed, so whether to ask again is the caller's decision (``Fault.retry_delay_ms`` says when it makes sense).
``IterateClient.iterate_safely`` does it for a session, which has an id for that. Every call takes `timeout_s`, the
deadline in seconds, and `metadata`: ``trace_context.trace_metadata`` makes what joins a call to a trace.

    with IterateClient("127.0.0.1:50051") as client:
        request = IterateRequest(kind="fill", fill=FillSpec(role="welder", count=2), prompt="…")
        response = client.iterate(request, timeout_s=60, metadata=trace_metadata("order-4711"))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import cast

from lakehouse.channels import AsyncClient, Metadata, SyncClient, Token
from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.errors import Reason
from lakehouse.iterate_clients import AsyncIterateClient, IterateClient
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

__all__ = [
    "AsyncChatClient",
    "AsyncClient",
    "AsyncIterateClient",
    "AsyncValidateClient",
    "ChatClient",
    "IterateClient",
    "Metadata",
    "Token",
    "ValidateClient",
]


class ChatClient(SyncClient):
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


class ValidateClient(SyncClient):
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
