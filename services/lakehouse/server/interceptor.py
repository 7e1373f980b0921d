"""The one server interceptor: call context, limit, errors, metrics, one log line. No domain logic, ever.

It wraps each handler once per method, streams included. Nothing but a status of ours leaves a wrapped handler: the C
core would send an exception's own text to the caller, and a CancelledError that the peer did not cause would leave the
caller without any status at all (grpc/grpc#29248).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog

from lakehouse.errors import STATUS_DETAILS_KEY, Fault, Reason
from lakehouse.server.call import Call, enter_call
from lakehouse.server.log import RpcLevel, rpc_line
from lakehouse.server.metrics import Metrics
from lakehouse.trace_context import TraceContext

if TYPE_CHECKING:
    from lakehouse.server.callers.access import Callers

_log = structlog.get_logger()
_CODES = {code.name: code for code in grpc.StatusCode}
# Health and reflection: never limited, never logged, never refused while draining; callers may be asked who they are.
_UNGUARDED = ("/grpc.health.v1.", "/grpc.reflection.")
# What ends an RPC by its caller's doing: nothing that an operator has to look after.
_OF_CALLERS = frozenset(
    ("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "UNAUTHENTICATED", "PERMISSION_DENIED", "CANCELLED")
)

ReadContext = Callable[[Any], TraceContext]
Handler = Callable[[Any, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Status(grpc.Status):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


class Interceptor(grpc.aio.ServerInterceptor):
    """Guards every RPC of one process. Its other methods are for the shutdown in ``bootstrap``."""

    def __init__(
        self, *, read_context: ReadContext, metrics: Metrics, max_concurrent_rpcs: int, callers: Callers | None = None
    ) -> None:
        """`callers`: who may call; None: everybody."""
        self._read_context = read_context
        self._callers = callers
        self._metrics = metrics
        self._max_concurrent_rpcs = max_concurrent_rpcs
        self._wrapped: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: asyncio.Event | None = None
        """Set when no call is in flight; made by who waits for it."""
        self._refusing = False
        self._cancelling = False
        metrics.in_flight = self._tasks.__len__

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        # An unknown method has no handler and must not grow the cache.
        if handler is None:
            return None
        if method.startswith(_UNGUARDED):
            return handler if self._callers is None else self._callers.guard(method, handler, _refuse)
        if handler.unary_unary is not None:
            wrapped = grpc.unary_unary_rpc_method_handler(
                self._guard(method, handler.unary_unary),
                handler.request_deserializer,
                handler.response_serializer,
            )
        elif handler.unary_stream is not None:
            wrapped = grpc.unary_stream_rpc_method_handler(
                self._guard(method, handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        else:
            raise TypeError(f"{method}: client streams are not guarded")
        self._wrapped[method] = wrapped
        return wrapped

    def refuse_new(self) -> None:
        """From now on new calls end at once with SHUTTING_DOWN."""
        self._refusing = True

    async def drained(self, timeout_s: float) -> bool:
        """Wait until no call is in flight; False where `timeout_s` ran out first."""
        self._idle = asyncio.Event()
        if not self._tasks:
            return True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def cancel_running(self, timeout_s: float) -> None:
        """End the running calls: their handlers are cancelled, their callers get SHUTTING_DOWN."""
        self._cancelling = True
        for task in tuple(self._tasks):
            task.cancel()
        await self.drained(timeout_s)

    def _guard(self, method: str, inner: Handler) -> Any:
        service, name = method[1:].split("/", 1)
        counts = self._metrics.method(service, name)
        tasks = self._tasks
        callers = self._callers

        async def guarded(request: Any, context: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  aio runs each handler in a task
            trace = self._read_context(context.invocation_metadata())
            call = Call(method, trace, trace.session_id or "", task, self._is_cancelling, context.time_remaining)
            enter_call(call)
            counts.started += 1
            fault: Fault | None = None
            try:
                # First: who is nobody takes nobody's place, not even while its key is looked for.
                if callers is not None:
                    await callers.admit(call, name, context)
                self._admit()
                tasks.add(task)
                try:
                    return await inner(request, context)
                finally:
                    tasks.discard(task)
                    if self._idle is not None and not tasks:
                        self._idle.set()
            except grpc.aio.AbortError:
                raise
            except asyncio.CancelledError as error:
                fault = call.fault_of(error)
                if fault.reason is Reason.SHUTTING_DOWN:
                    while task.uncancel():
                        pass
                elif task.cancelling():
                    raise  # The peer went away or its deadline passed: nobody reads a status.
                _log_bug(call, fault, error)
            except Exception as error:  # noqa: BLE001  the last line of defence: nothing unmapped may leave
                fault = call.fault_of(error)
                _log_bug(call, fault, error)
            finally:
                elapsed = time.monotonic() - call.started
                counts.ended("OK" if fault is None else fault.code, elapsed)
                self._log_line(call, fault, elapsed)
            await _abort(context, fault, call)
            raise AssertionError("abort raises")

        return guarded

    def _is_cancelling(self) -> bool:
        return self._cancelling

    def _admit(self) -> None:
        if self._refusing:
            raise Fault(Reason.SHUTTING_DOWN)
        if len(self._tasks) >= self._max_concurrent_rpcs:
            raise Fault(Reason.OVERLOADED)

    def _log_line(self, call: Call, fault: Fault | None, elapsed: float) -> None:
        trace = call.trace
        level: RpcLevel = "info"
        line: dict[str, object] = {
            "method": call.method,
            "code": "OK",
            "duration_ms": int(elapsed * 1000),
            "trace_id": trace.trace_id,
            "session_id": call.session_id,
            **call.facts,
        }
        for warning in trace.warnings:
            _log.warning("trace context ignored", problem=warning, trace_id=trace.trace_id)
        if fault is not None:
            self._metrics.faults[fault.reason or ""] = self._metrics.faults.get(fault.reason or "", 0) + 1
            line["code"] = fault.code
            line["reason"] = fault.reason
            if fault.violations:
                line["violations"] = [f"{each.field}: {each.description}" for each in fault.violations[:8]]
            if call.session_begun or fault.code not in _OF_CALLERS:
                level = "warning"
        rpc_line(line, level)


def _log_bug(call: Call, fault: Fault, error: BaseException) -> None:
    """Write what a BUG's status does not say. The details of a BUG that a hop reported stand in that hop's log."""
    cause = error.__cause__ if error is fault else error
    if fault.reason is Reason.BUG and cause is not None:
        _log.error("bug", method=call.method, trace_id=call.trace.trace_id, session_id=call.session_id, exc_info=cause)


async def _abort(context: Any, fault: Fault | None, call: Call) -> None:
    if fault is None:
        fault = Fault(Reason.BUG)
    await _refuse(context, fault, session_id=call.session_id, trace_id=call.trace.trace_id)


async def _refuse(context: Any, fault: Fault, **metadata: str) -> None:
    status = fault.to_status(**metadata)
    await context.abort_with_status(
        _Status(
            code=_CODES[fault.code],
            details=status.message,
            trailing_metadata=((STATUS_DETAILS_KEY, status.SerializeToString()),),
        )
    )
