"""Whether the services that a service calls can be called: one health Watch for each, and no call per request."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lakehouse.server.ended_task import end_task

# A watch is begun anew so often: it moves to another replica and to a new channel, does not hold on to a connection
# that its server wants to close, and finds out about a peer that has gone silent.
_WATCH_S: Final = 10.0
# A peer that takes a call and says nothing for so long is as good as away.
_ANSWER_S: Final = 3.0
# How long the start waits for the first finding.
_FIRST_S: Final = 1.0
# Between two tries. With a balancing channel each one asks another replica.
_RETRY_S: Final = 0.5
_Serving: Any = health_pb2.HealthCheckResponse


class PeerWatch:
    """Follows one peer. A peer without grpc.health, or without this name in it, is judged by being reachable."""

    def __init__(
        self,
        peer: str,
        service_name: str,
        channel: Callable[[], grpc.aio.Channel],
        *,
        grace_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`peer` is what causes call it; `grace_s` how long it may be away before that counts. `channel` gives the
        channel on which it is called now."""
        self._peer = peer
        self._request = health_pb2.HealthCheckRequest(service=service_name)
        self._channel = channel
        self._grace_s = grace_s
        self._monotonic = monotonic
        self._trouble = "was not reached yet"
        self._known = asyncio.Event()
        """Set once there is a first finding."""
        self._since: float | None = None
        """When the trouble began; None: before it was ever well, and no grace is due."""

    def cause(self) -> str:
        """Why the peer cannot be called, where that has lasted beyond the grace; else empty. A peer that was never
        reached has no grace: a process that has just started is not ready on credit."""
        if not self._trouble:
            return ""
        if self._since is not None and self._monotonic() - self._since < self._grace_s:
            return ""
        return f"{self._peer} {self._trouble}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[PeerWatch]:
        """Watch for the time of the block."""
        watching = asyncio.create_task(self._watch())
        try:
            # So that a process whose peers are there is ready from its first moment on.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_S):
                    await self._known.wait()
            yield self
        finally:
            await end_task(watching)

    async def _watch(self) -> None:
        while True:
            try:
                again_s = await self._watch_once()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                again_s = 0.0  # the channel was replaced
            except Exception:  # noqa: BLE001  whatever it is, the peer was not reached, and the watch goes on
                self._ill("cannot be reached")
                again_s = _RETRY_S
            # Never without a pause: whoever is replaced again and again must not keep the loop busy.
            await asyncio.sleep(max(again_s, 0.05))

    async def _watch_once(self) -> float:
        """Follow one stream to its end; the seconds to wait before the next one."""
        stub: Any = health_pb2_grpc.HealthStub(self._channel())  # its types name no method
        call = stub.Watch(self._request, timeout=_WATCH_S)
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer = await call.read()
            while answer is not grpc.aio.EOF:
                if answer.status == _Serving.NOT_SERVING:
                    # Another replica may serve: the next try finds out.
                    self._ill("says NOT_SERVING")
                    return _RETRY_S
                self._well()
                answer = await call.read()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                self._well()
                return _WATCH_S
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._ill("does not know this service: see its callers' file")
                return _RETRY_S
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        finally:
            call.cancel()
        return 0.0

    def _well(self) -> None:
        self._trouble, self._since = "", None
        self._known.set()

    def _ill(self, trouble: str) -> None:
        if not self._trouble:
            self._since = self._monotonic()
        self._trouble = trouble
        self._known.set()
