"""Health and reflection for known callers alone: their handlers come from grpc's own packages, in several shapes."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc

from lakehouse.errors import Fault


class Refuse(Protocol):
    """Ends the call with the fault's status: it raises."""

    async def __call__(self, context: Any, fault: Fault, **metadata: str) -> None: ...


def known_alone(handler: Any, check: Callable[[Any], Awaitable[None]]) -> Any:
    """Return the handler behind `check`, which ends the call of whoever is not known.

    Raises TypeError for a shape that neither of the two services has.
    """
    for shape in ("unary_unary", "unary_stream", "stream_stream"):
        inner = getattr(handler, shape)
        if inner is not None:
            make = getattr(grpc, f"{shape}_rpc_method_handler")
            checked = _generator(inner, check) if inspect.isasyncgenfunction(inner) else _coroutine(inner, check)
            return make(checked, handler.request_deserializer, handler.response_serializer)
    raise TypeError("client streams are not guarded")


def _coroutine(inner: Any, check: Callable[[Any], Awaitable[None]]) -> Any:
    async def checked(request: Any, context: Any) -> Any:
        await check(context)
        return await inner(request, context)

    return checked


def _generator(inner: Any, check: Callable[[Any], Awaitable[None]]) -> Any:
    async def checked(request: Any, context: Any) -> AsyncIterator[Any]:
        await check(context)
        async for answer in inner(request, context):
            yield answer

    return checked
