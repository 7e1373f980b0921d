"""What listens: the gRPC server on its address, with or without TLS, and the exposition of metrics."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lakehouse.server.addresses import bind_problem, port_problem
from lakehouse.server.config import ServerTable
from lakehouse.server.metrics import Metrics
from lakehouse.server.tls import ListenerTls

_log = structlog.get_logger()
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name


class StartError(Exception):
    """The service cannot start, for a reason that an operator can mend; the text says which."""


def make_server(
    config: ServerTable,
    interceptor: grpc.aio.ServerInterceptor,
    add: Callable[[grpc.aio.Server], None],
    service_names: Sequence[str],
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """Return a server that does not listen yet, with the service, health and, where configured, reflection on it."""
    server = grpc.aio.server(
        interceptors=(interceptor,),
        options=(
            ("grpc.max_receive_message_length", config.message_bytes_max),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 64 * 1024),
            # Two servers on one port would share it in silence.
            ("grpc.so_reuseport", 0),
            *_ageing(config),
        ),
    )
    add(server)
    healthiness = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthiness, server)
    if config.reflection:
        names = (*service_names, health.SERVICE_NAME, _REFLECTION)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(_Reflection(names), server)  # type: ignore[no-untyped-call]
    return server, healthiness


class _Reflection(reflection_pb2_grpc.ServerReflectionServicer):
    """grpc's own reflection, imported when somebody asks: with it comes the description of all descriptors, a
    twentieth of a start."""

    def __init__(self, service_names: Sequence[str]) -> None:
        self._service_names = service_names
        self._servicer: Any = None

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802  the proto's name
        if self._servicer is None:
            from grpc_reflection.v1alpha import reflection  # noqa: PLC0415  see above

            self._servicer = reflection.aio.ReflectionServicer(self._service_names)
        async for response in self._servicer.ServerReflectionInfo(request_iterator, context):
            yield response


def _ageing(config: ServerTable) -> tuple[tuple[str, int], ...]:
    if not config.connection_age_ms:
        return ()
    return (
        ("grpc.max_connection_age_ms", config.connection_age_ms),
        ("grpc.max_connection_age_grace_ms", config.connection_age_grace_ms),
    )


@contextlib.contextmanager
def listener_tls(service: str, config: ServerTable) -> Iterator[ListenerTls | None]:
    """Yield the listener's credentials, read again when their files change; None for plain text. Raises StartError."""
    if config.tls is None:
        yield None
        return
    try:
        tls = ListenerTls(config.tls)
    except OSError as error:
        raise StartError(f"{service}.tls: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise StartError(f"{service}.tls: {error}") from None
    with tls.watched():
        yield tls


def bind(server: grpc.aio.Server, service: str, config: ServerTable, tls: ListenerTls | None) -> str:
    """Have the server listen; its address with the port that was really bound. Raises StartError."""
    if config.bind.startswith("unix:") and (problem := bind_problem(config.bind)):
        raise StartError(f"{service}.bind: {config.bind}: {problem}")
    try:
        if tls is not None:
            port = server.add_secure_port(config.bind, tls.credentials)
        else:
            port = server.add_insecure_port(config.bind)
    except RuntimeError as error:
        problem = bind_problem(config.bind) or "is another process there?"
        raise StartError(f"{service}.bind: {config.bind}: {problem}") from error
    if tls is None and not config.bind.startswith(("127.", "localhost:", "[::1]", "unix:")):
        _log.warning("plain text beyond loopback", bind=config.bind, advice="set tls, or keep the network private")
    if config.bind.startswith("unix:"):
        return config.bind
    return f"{config.bind.rpartition(':')[0]}:{port}"


@contextlib.contextmanager
def metrics_served(service: str, config: ServerTable, metrics: Metrics) -> Iterator[None]:
    """Yield the exposition of metrics for the time of the block, where it is on. Raises StartError."""
    if not config.metrics_port:
        yield
        return
    try:
        stop = metrics.serve(config.metrics_host, config.metrics_port)
    except OSError as error:
        problem = port_problem(config.metrics_host, config.metrics_port) or error.strerror
        raise StartError(
            f"{service}.metrics_port: cannot expose metrics on {config.metrics_host}:{config.metrics_port}: {problem}"
        ) from None
    try:
        yield
    finally:
        stop()
