"""Clients of iterate, and the call that may be repeated: the same id, the same answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from lakehouse.channels import AsyncClient, Metadata, SyncClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.repeated_calls import TRIES, OnRepeat, Repetition, with_session_id


class IterateClient(SyncClient):
    """Sync client of ``lakehouse.iterate.v1.IterateService``."""

    _where = "iterate"

    def iterate(
        self,
        request: iterate_pb2.IterateRequest,
        *,
        session_id: str = "",
        timeout_s: float | None = None,
        metadata: Metadata = (),
    ) -> iterate_pb2.IterateResponse:
        """Run one session. Raises Fault; attempts that ran out are a response.

        With a `session_id`, which is put into the request, the call may be repeated word for word: a session that ended
        by an outcome is answered again, unbilled and marked `recalled`, and one that is running is waited for. That
        holds within one session log: repeat it on the same address. ``iterate_safely`` does.
        """
        stub = iterate_pb2_grpc.IterateServiceStub(self._channel)
        asked = with_session_id(request, session_id) if session_id else request
        answer: iterate_pb2.IterateResponse = self._unary(stub.Iterate, asked, timeout_s, metadata)
        return answer

    def iterate_safely(
        self,
        request: iterate_pb2.IterateRequest,
        *,
        session_id: str = "",
        timeout_s: float | None = None,
        metadata: Metadata = (),
        tries: int = TRIES,
        may_bill_twice: bool = False,
        on_repeat: OnRepeat | None = None,
    ) -> iterate_pb2.IterateResponse:
        """Run one session, and repeat the call with the same id where it failed by what may pass: UNAVAILABLE,
        DEADLINE_EXCEEDED, a broken connection, SESSION_NOT_LOGGED, SESSION_ID_IN_FLIGHT.

        `session_id`: of the task, so that it can be repeated by another process as well; the request's own, or a random
        one, where it is not given. `timeout_s`: of each call. `tries`: calls at most. Between them it waits as long as
        the service asks for, and longer each time. All calls go to one address of the target's, since an id is
        answered once within one session log; with `may_bill_twice` they go wherever the target leads, and a session
        that was answered by another replica, or is running there, is run and billed again.

        Raises Fault, the last call's, and ValueError for two ids that differ.
        """
        asked, repetition = with_session_id(request, session_id), Repetition(tries)
        with ExitStack() as held:
            channel: Any = self._channel if may_bill_twice else None
            while True:
                try:
                    if channel is None:
                        channel = held.enter_context(self._at_one_address())
                    stub = iterate_pb2_grpc.IterateServiceStub(channel)
                    answer: iterate_pb2.IterateResponse = self._unary(stub.Iterate, asked, timeout_s, metadata)
                except Fault as fault:
                    wait_s = repetition.next_wait_s(fault, on_repeat)
                else:
                    return answer
                time.sleep(wait_s)

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

    def get_session(
        self, session_id: str, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> iterate_pb2.IterateResponse:
        """Return the response of a session that ended by an outcome. Raises Fault: SESSION_NOT_FOUND,
        SESSION_ID_IN_FLIGHT while it runs, and what the session ended with where that is no outcome."""
        stub = iterate_pb2_grpc.IterateServiceStub(self._channel)
        request = iterate_pb2.GetSessionRequest(session_id=session_id)
        answer: iterate_pb2.GetSessionResponse = self._unary(stub.GetSession, request, timeout_s, metadata)
        return answer.response


class AsyncIterateClient(AsyncClient):
    """Async client of ``lakehouse.iterate.v1.IterateService``."""

    _where = "iterate"

    def _make_stub(self) -> None:
        self._stub = iterate_pb2_grpc.IterateServiceStub(self._channel)

    async def iterate(
        self,
        request: iterate_pb2.IterateRequest,
        *,
        session_id: str = "",
        timeout_s: float | None = None,
        metadata: Metadata = (),
    ) -> iterate_pb2.IterateResponse:
        """As ``IterateClient.iterate``."""
        asked = with_session_id(request, session_id) if session_id else request
        answer: iterate_pb2.IterateResponse = await self._unary(self._stub.Iterate, asked, timeout_s, metadata)
        return answer

    async def iterate_safely(
        self,
        request: iterate_pb2.IterateRequest,
        *,
        session_id: str = "",
        timeout_s: float | None = None,
        metadata: Metadata = (),
        tries: int = TRIES,
        may_bill_twice: bool = False,
        on_repeat: OnRepeat | None = None,
    ) -> iterate_pb2.IterateResponse:
        """As ``IterateClient.iterate_safely``."""
        asked, repetition = with_session_id(request, session_id), Repetition(tries)
        async with AsyncExitStack() as held:
            stub: Any = self._stub if may_bill_twice else None
            while True:
                try:
                    if stub is None:
                        channel = await held.enter_async_context(self._at_one_address())
                        stub = iterate_pb2_grpc.IterateServiceStub(channel)
                    answer: iterate_pb2.IterateResponse = await self._unary(stub.Iterate, asked, timeout_s, metadata)
                except Fault as fault:
                    wait_s = repetition.next_wait_s(fault, on_repeat)
                else:
                    return answer
                await asyncio.sleep(wait_s)

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

    async def get_session(
        self, session_id: str, *, timeout_s: float | None = None, metadata: Metadata = ()
    ) -> iterate_pb2.IterateResponse:
        """As ``IterateClient.get_session``."""
        request = iterate_pb2.GetSessionRequest(session_id=session_id)
        answer: iterate_pb2.GetSessionResponse = await self._unary(self._stub.GetSession, request, timeout_s, metadata)
        return answer.response
