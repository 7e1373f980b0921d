"""Whether a service can do its work now, as grpc.health says it.

Two things are asked and answered apart. *Readiness*, under the overall name "" and each service's: SERVING while no
cause speaks against it. *Liveness*, under the name `liveness`: SERVING for as long as the event loop runs, whatever
else is wrong and while draining too, so that nobody restarts a process that only waits for somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final

import structlog
from grpc_health.v1 import health, health_pb2

from lakehouse.server.liveness import LIVENESS

# How often the causes are asked for: they are in memory, and nobody needs to know sooner.
_POLL_S: Final = 0.5
_CAUSES_MAX: Final = 10

Causes = Callable[[], Iterable[str]]
"""What keeps a service from its work now, one line a cause; none: it is ready. Called on the event loop, often."""
OnChange = Callable[[Sequence[str]], None]

_log = structlog.get_logger()


class Readiness:
    """Follows the causes and sets the health of one server."""

    def __init__(self, servicer: health.aio.HealthServicer, names: Iterable[str], causes: Causes | None) -> None:
        self._servicer = servicer
        self._names = ("", *names)
        self._ask = causes
        self._causes: Sequence[str] = ()
        self.on_change: OnChange | None = None

    @property
    def causes(self) -> Sequence[str]:
        """What speaks against it now."""
        return self._causes

    async def open(self) -> None:
        """Set every name, before the first probe can come."""
        await self._servicer.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        self._causes = self._found()
        await self._set_readiness()

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Follow the causes for the time of the block; at its end nothing is ready any more."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _follow(self) -> None:
        # A service that is ready when it listens says no more than that it listens.
        if self._causes:
            self._say()
        while self._ask is not None:
            await asyncio.sleep(_POLL_S)
            before, self._causes = self._causes, self._found()
            if self._causes == before:
                continue
            if bool(before) != bool(self._causes):
                await self._set_readiness()
            self._say()
            if self.on_change is not None:
                self.on_change(self._causes)

    def _found(self) -> Sequence[str]:
        if self._ask is None:
            return ()
        try:
            return tuple(itertools.islice(self._ask(), _CAUSES_MAX))
        except Exception:  # noqa: BLE001  whatever is wrong there, health must not stand still at what it said before
            _log.exception("readiness bug")
            return ("what it needs could not be looked at",)

    def _say(self) -> None:
        if self._causes:
            _log.warning("not ready", causes=self._causes)
        else:
            _log.info("ready")

    async def _set_readiness(self) -> None:
        await self._set(
            health_pb2.HealthCheckResponse.NOT_SERVING if self._causes else health_pb2.HealthCheckResponse.SERVING
        )

    async def _set(self, status: int) -> None:
        for name in self._names:
            await self._servicer.set(name, status)
