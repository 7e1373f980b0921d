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
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc.aio
import structlog

from lakehouse.server import log
from lakehouse.server.addresses import bind_problem, port_problem
from lakehouse.server.callers.opening import open_callers
from lakehouse.server.config import CONFIG_FILE_VARIABLE, ServerTable, configuration_file, load
from lakehouse.server.interceptor import Interceptor, ReadContext
from lakehouse.server.listener import StartError, bind, listener_tls, make_server, metrics_served
from lakehouse.server.metrics import Metrics
from lakehouse.server.parent import parent
from lakehouse.server.readiness import Causes, Readiness
from lakehouse.settings import ConfigError

if TYPE_CHECKING:
    from lakehouse.server.callers.access import Callers

_log = structlog.get_logger()
# How long handlers that were cancelled at the end of the drain may take to say so.
_CANCEL_S = 2.0

T = TypeVar("T", bound=ServerTable)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a service puts on the listener."""

    service_names: tuple[str, ...]
    """Full proto names, for health and reflection."""
    add: Callable[[grpc.aio.Server], None]
    read_context: ReadContext
    unready: Causes | None = None
    """What keeps the service from its work now; health follows it. None: it is ready from the start to the drain."""
    reload: tuple[Callable[[], object], ...] = ()
    """What SIGHUP has read again, beside the listener's certificates."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the process offers to a service while it is composed."""

    metrics: Metrics
    draining: Callable[[], bool]
    callers: Callers | None = None
    """Who may call; None: everybody."""


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
    missing: Check[T] = _nothing_more,
    advise: Check[T] = _nothing_more,
) -> None:
    """Be `main` of a service. `advise` names what can be used and is not well: a warning each, of `--check` and the
    start. `missing` names what cannot work as long as the machine stays as it is: `--check` refuses it, and the start,
    which waits for it, warns and is not ready.

    `--check` and the start read the configuration alike: what the start refuses, `--check` does. Exits with 2 where the
    configuration is wrong, or where `--check` finds anything; with 1 where the start fails by what may change: a file
    or an address that is not there, or an address that another process has.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {service}", description=description)
    parser.add_argument("--config", type=Path, help=f"TOML file (default: ${CONFIG_FILE_VARIABLE}; none: defaults)")
    parser.add_argument("--check", action="store_true", help="read the configuration, say what is wrong, and exit")
    arguments = parser.parse_args()
    file = configuration_file(arguments.config, os.environ)
    try:
        config = load(service, model, file=file, environ=os.environ)
    except ConfigError as error:
        _refuse(service, error, start=not arguments.check)
    problems = [f"{service}.{problem}" for problem in (*_machine_problems(config), *check(config))]
    if problems and not arguments.check:
        _refuse(service, ConfigError(problems, of_machine=True), start=True)
    if arguments.check:
        problems += [f"{service}.{problem}" for problem in missing(config)]
        for problem in problems:
            print(f"{service}: {problem}", file=sys.stderr)  # noqa: T201  a command's answer
        for advice in advise(config):
            print(f"{service}: warning: {service}.{advice}", file=sys.stderr)  # noqa: T201  a command's answer
        if problems:
            sys.exit(2)
        print(f"{service}: configuration is good")  # noqa: T201  a command's answer
        return
    log.configure(service=service, level=config.log_level, form=config.log_format)
    for advice in (*missing(config), *advise(config)):
        _log.warning("configuration", advice=f"{service}.{advice}")
    try:
        _run_loop(serve(service, config, compose))
    except (ConfigError, StartError) as error:
        _log.error("cannot start", problem=str(error))
        sys.exit(1)


def _refuse(service: str, error: ConfigError, *, start: bool) -> NoReturn:
    """Exit with what is wrong; a `start` that fails by what may change says it in its log."""
    if start and error.of_machine:
        log.configure(service=service, level="info", form="auto")
        _log.error("cannot start", problem=str(error))
        sys.exit(1)
    for problem in error.problems:
        print(f"{service}: {problem}", file=sys.stderr)  # noqa: T201  before the log is configured
    sys.exit(2)


def _machine_problems(config: ServerTable) -> Iterator[str]:
    """Yield what this machine refuses. Sets the scheduling class, which is this process's alone."""
    if problem := bind_problem(config.bind):
        yield f"bind: {problem}"
    if config.metrics_port and (problem := port_problem(config.metrics_host, config.metrics_port)):
        yield f"metrics_host: {problem}"
    if config.sched_batch:
        try:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        except OSError as error:
            yield f"sched_batch: {error.strerror}"


async def serve(service: str, config: T, compose: Compose[T]) -> None:
    """Serve until a signal, or until the process that started us is gone. Raises StartError."""
    stop = _signals()
    starter = parent()
    if starter is not None:
        starter.on_gone(stop.set)
    async with running(service, config, compose) as server:
        _log.info("listening", address=server.address, services=server.registration.service_names)
        if starter is not None:
            report = partial(starter.report, server.address)
            server.readiness.on_change = report
            report(server.readiness.causes)
        await stop.wait()
        _log.info("draining", drain_ms=config.drain_ms)
    _log.info("stopped")


@dataclass(slots=True)
class RunningServer:
    """A server that listens."""

    address: str
    """`host:port` with the port that was really bound, or `unix:/path`."""
    registration: Registration
    readiness: Readiness


@contextlib.asynccontextmanager
async def running(service: str, config: T, compose: Compose[T]) -> AsyncIterator[RunningServer]:
    """Yield a serving server for the time of the block; the drain runs at its end. Tests use it in-process."""
    metrics = Metrics()
    metrics.export("lakehouse_log", log.counts)
    metrics.build(service, metadata.version("lakehouse-iterate"))
    draining = asyncio.Event()
    async with contextlib.AsyncExitStack() as opened:
        callers = opened.enter_context(open_callers(service, config, metrics))
        registration = await opened.enter_async_context(compose(config, Runtime(metrics, draining.is_set, callers)))
        interceptor = Interceptor(
            read_context=registration.read_context,
            metrics=metrics,
            max_concurrent_rpcs=config.max_concurrent_rpcs,
            callers=callers,
        )
        with metrics_served(service, config, metrics), listener_tls(service, config) as tls:
            server, healthiness = make_server(config, interceptor, registration.add, registration.service_names)
            try:
                address = bind(server, service, config, tls)
            except StartError:
                # Left to the collector, it would complain of the closed event loop.
                await server.stop(None)
                raise
            readiness = Readiness(healthiness, registration.service_names, registration.unready)
            # Health first: the first probe must not find a service that is not known.
            await readiness.open()
            await server.start()
            _settle_heap()
            watched = [each for each in (tls, callers) if each is not None]
            reloads = (*registration.reload, *(each.reload for each in watched))
            async with contextlib.AsyncExitStack() as stack:
                # Around the drain: a signal that comes meanwhile must not kill.
                stack.enter_context(_on_sighup(reloads))
                stack.push_async_callback(_drain, server, interceptor, config, draining)
                await stack.enter_async_context(readiness.followed())
                yield RunningServer(address, registration, readiness)


async def _drain(
    server: grpc.aio.Server, interceptor: Interceptor, config: ServerTable, draining: asyncio.Event
) -> None:
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


@contextlib.contextmanager
def _on_sighup(reloads: Sequence[Callable[[], object]]) -> Iterator[None]:
    def reload() -> None:
        _log.info("reloading", of="SIGHUP")
        for each in reloads:
            each()

    loop = asyncio.get_running_loop()
    # Neither Windows nor a loop outside the main thread has signals; what is watched is read again there all the same.
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    # Not the loop's own handler: when that is removed, the default, which kills, stands there for a moment.
    before = signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(reload))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before or signal.SIG_DFL)


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
