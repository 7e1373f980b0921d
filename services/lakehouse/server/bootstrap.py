"""The life of a service process: read the config, listen, serve, drain, stop.

Order of the end (SIGTERM or SIGINT): health says NOT_SERVING; after ``drain_delay_ms`` new calls are refused; running
calls may end until ``drain_ms``; what still runs then is cancelled and its callers get SHUTTING_DOWN; the listener
stops; only then are channels, pools and logs closed (a channel closed under a running handler would leave its caller
without a status). A second signal ends the process at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lakehouse.server import log
from lakehouse.server.addresses import bind_problem, port_problem
from lakehouse.server.config import CONFIG_FILE_VARIABLE, ServerTable, TlsTable, load
from lakehouse.server.interceptor import Interceptor, ReadContext
from lakehouse.server.metrics import Metrics
from lakehouse.settings import ConfigError

_log = structlog.get_logger()
# How long handlers that were cancelled at the end of the drain may take to say so.
_CANCEL_S = 2.0
_READINESS_S = 0.5

T = TypeVar("T", bound=ServerTable)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a service puts on the listener."""

    service_names: tuple[str, ...]
    """Full proto names, for health and reflection."""
    add: Callable[[grpc.aio.Server], None]
    read_context: ReadContext
    is_ready: Callable[[], bool] | None = None
    """Whether calls can be answered now; health follows it. None: from the start to the drain."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the process offers to a service while it is composed."""

    metrics: Metrics
    draining: Callable[[], bool]


Compose = Callable[[T, Runtime], AbstractAsyncContextManager[Registration]]
# What a service finds wrong with its own settings beyond its tables' rules: one line a problem, from the key on.
Check = Callable[[T], Iterable[str]]


def _nothing_more(_: ServerTable) -> Iterable[str]:
    return ()


def run(
    service: str,
    model: type[T],
    compose: Compose[T],
    *,
    description: str,
    check: Check[T] = _nothing_more,
    advise: Check[T] = _nothing_more,
) -> None:
    """`main` of a service. `advise` names what can be used and is not well: a warning each, of `--check` and the start.

    `--check` and the start read the configuration alike: what one refuses, the other does. Exits with 2 where the
    configuration is wrong, or where `--check` finds anything; with 1 where the start fails by what may change: a file
    or an address that is not there.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {service}", description=description)
    parser.add_argument("--config", type=Path, help=f"TOML file (default: ${CONFIG_FILE_VARIABLE}; none: defaults)")
    parser.add_argument("--check", action="store_true", help="read the configuration, say what is wrong, and exit")
    arguments = parser.parse_args()
    named = os.environ.get(CONFIG_FILE_VARIABLE)
    file = arguments.config or (Path(named) if named else None)
    try:
        config = _usable_configuration(service, model, file, check)
    except ConfigError as error:
        if error.of_machine and not arguments.check:
            log.configure(service=service, level="info", form="auto")
            _log.error("cannot start", problem=str(error))
            sys.exit(1)
        for problem in error.problems:
            print(f"{service}: {problem}", file=sys.stderr)  # noqa: T201  before the log is configured
        sys.exit(2)
    if arguments.check:
        for advice in advise(config):
            print(f"{service}: warning: {service}.{advice}", file=sys.stderr)  # noqa: T201  a command's answer
        print(f"{service}: configuration is good")  # noqa: T201  a command's answer
        return
    log.configure(service=service, level=config.log_level, form=config.log_format)
    for advice in advise(config):
        _log.warning("configuration", advice=f"{service}.{advice}")
    try:
        _run_loop(serve(service, config, compose))
    except (ConfigError, StartError) as error:
        _log.error("cannot start", problem=str(error))
        sys.exit(1)


def _usable_configuration(service: str, model: type[T], file: Path | None, check: Check[T]) -> T:
    config = load(service, model, file=file, environ=os.environ)
    if problems := [*_machine_problems(config), *check(config)]:
        raise ConfigError([f"{service}.{problem}" for problem in problems], of_machine=True)
    return config


def _machine_problems(config: ServerTable) -> Iterator[str]:
    """What this machine refuses. Sets the scheduling class, which is this process's alone."""
    if problem := bind_problem(config.bind):
        yield f"bind: {problem}"
    if config.metrics_port and (problem := port_problem(config.metrics_host, config.metrics_port)):
        yield f"metrics_host: {problem}"
    if config.sched_batch:
        try:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        except OSError as error:
            yield f"sched_batch: {error.strerror}"


class StartError(Exception):
    """The service cannot start, for a reason that an operator can mend; the text says which."""


async def serve(service: str, config: T, compose: Compose[T]) -> None:
    """Serve until a signal. Raises StartError where the address cannot be bound."""
    stop = _signals()
    async with running(service, config, compose) as server:
        _log.info("listening", address=server.address, services=server.registration.service_names)
        await stop.wait()
        _log.info("draining", drain_ms=config.drain_ms)
    _log.info("stopped")


@dataclass(slots=True)
class RunningServer:
    """A server that listens."""

    address: str
    """`host:port` with the port that was really bound, or `unix:/path`."""
    registration: Registration


@contextlib.asynccontextmanager
async def running(service: str, config: T, compose: Compose[T]) -> AsyncIterator[RunningServer]:
    """A serving server for the time of the block; the drain runs at its end. Tests use it in-process."""
    metrics = Metrics()
    metrics.export("lakehouse_log", log.counts)
    draining = asyncio.Event()
    async with compose(config, Runtime(metrics, draining.is_set)) as registration:
        interceptor = Interceptor(
            read_context=registration.read_context,
            metrics=metrics,
            max_concurrent_rpcs=config.max_concurrent_rpcs,
        )
        with _metrics_served(config, metrics):
            server, healthiness = _server(config, registration, interceptor)
            try:
                address = _bind(server, config)
            except StartError:
                # Left to the collector, it would complain of the closed event loop.
                await server.stop(None)
                raise
            # Health first: the first probe must not find a service that is not known.
            await _say_readiness(healthiness, registration)
            await server.start()
            _settle_heap()
            readiness = asyncio.create_task(_follow_readiness(healthiness, registration))
            try:
                yield RunningServer(address, registration)
            finally:
                readiness.cancel()
                await healthiness.enter_graceful_shutdown()
                await asyncio.sleep(config.drain_delay_ms / 1000)
                interceptor.refuse_new()
                if not await interceptor.drained(config.drain_ms / 1000):
                    draining.set()
                    await interceptor.cancel_running(_CANCEL_S)
                # Not before: an open health Watch would hold stop() for the whole of its grace.
                await server.stop(None)


def _settle_heap() -> None:
    """Keep the collector of cycles from walking what the start has made, and from walking often.

    What a call leaves is freed by its reference counts; cycles are few (exceptions and their frames), so that they may
    wait until there can be some MiB of them. A walk of everything holds up each call for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _say_readiness(healthiness: health.aio.HealthServicer, registration: Registration) -> bool:
    is_ready = registration.is_ready is None or registration.is_ready()
    status = health_pb2.HealthCheckResponse.SERVING if is_ready else health_pb2.HealthCheckResponse.NOT_SERVING
    for name in ("", *registration.service_names):
        await healthiness.set(name, status)
    return is_ready


async def _follow_readiness(healthiness: health.aio.HealthServicer, registration: Registration) -> None:
    said = await _say_readiness(healthiness, registration)
    while registration.is_ready is not None:
        await asyncio.sleep(_READINESS_S)
        if registration.is_ready() != said:
            said = await _say_readiness(healthiness, registration)


def _server(
    config: ServerTable, registration: Registration, interceptor: Interceptor
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    server = grpc.aio.server(
        interceptors=(interceptor,),
        options=(
            ("grpc.max_receive_message_length", config.message_bytes_max),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 64 * 1024),
            # Two servers on one port would share it in silence.
            ("grpc.so_reuseport", 0),
        ),
    )
    registration.add(server)
    healthiness = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthiness, server)
    if config.reflection:
        names = (*registration.service_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    return server, healthiness


def _bind(server: grpc.aio.Server, config: ServerTable) -> str:
    try:
        if config.tls is None:
            port = server.add_insecure_port(config.bind)
            if not config.bind.startswith(("127.", "localhost:", "[::1]", "unix:")):
                _log.warning(
                    "plain text beyond loopback",
                    bind=config.bind,
                    advice="set tls, or keep the network private",
                )
        else:
            port = server.add_secure_port(config.bind, _credentials(config.tls))
    except RuntimeError as error:
        raise StartError(f"cannot listen on {config.bind}: is another process there?") from error
    if config.bind.startswith("unix:"):
        return config.bind
    return f"{config.bind.rpartition(':')[0]}:{port}"


def _credentials(tls: TlsTable) -> grpc.ServerCredentials:
    try:
        pair = (tls.key_file.read_bytes(), tls.certificate_file.read_bytes())
        authorities = tls.client_ca_file.read_bytes() if tls.client_ca_file is not None else None
    except OSError as error:
        raise StartError(f"tls: {error.filename}: {error.strerror}") from None
    return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)


@contextlib.contextmanager
def _metrics_served(config: ServerTable, metrics: Metrics) -> Iterator[None]:
    if not config.metrics_port:
        yield
        return
    try:
        stop = metrics.serve(config.metrics_host, config.metrics_port)
    except OSError as error:
        raise StartError(
            f"cannot expose metrics on {config.metrics_host}:{config.metrics_port}: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        stop()


def _signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            log.flush()
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _run_loop(main: Any) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop  # noqa: PLC0415  absent on Windows

    uvloop.run(main)
