"""Puts ``validated`` together: roster, kinds, tracing, listener. ``python -m validated --help``."""

from __future__ import annotations

from lakehouse.server.grpc_switches import set_grpc_switches

if __name__ == "__main__":
    set_grpc_switches()  # before the imports below bring grpc

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

import psycopg.conninfo

from lakehouse.server import bootstrap
from lakehouse.server.bootstrap import Registration, Runtime, StartError
from lakehouse.server.tracing_setup import open_tracing
from lakehouse.settings import read_secret
from lakehouse.trace_context import read_hop_context
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc
from validated.config import ValidatedTable
from validated.datasets.file import FileRoster
from validated.datasets.postgres import PostgresRoster
from validated.datasets.worker import WorkerLookup
from validated.kinds import KindError, find_kinds, make_validators
from validated.kinds.validator import Tools
from validated.servicer import ValidateServicer

_ROSTER_GAUGES = ("rows", "age_seconds", "refused", "too_old", "assignments_unknown", "do_not_send_unknown")


@contextlib.asynccontextmanager
async def compose(config: ValidatedTable, runtime: Runtime) -> AsyncIterator[Registration]:
    """The service for the time of the block. Raises StartError where a kind from outside cannot be loaded."""
    async with contextlib.AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(open_tracing(config, runtime, service="validated"))
        roster = await stack.enter_async_context(_open_roster(config, runtime))
        try:
            validators = await stack.enter_async_context(
                make_validators(Tools(roster, config.limits, config.roster.region, config.candidate_facts))
            )
        except KindError as error:
            raise StartError(str(error)) from None
        servicer = ValidateServicer(validators, tracing, config.limits)
        yield Registration(
            service_names=(validated_pb2.DESCRIPTOR.services_by_name["ValidateService"].full_name,),
            add=lambda server: validated_pb2_grpc.add_ValidateServiceServicer_to_server(servicer, server),
            read_context=read_hop_context,
            is_ready=roster.is_ready if isinstance(roster, PostgresRoster) else None,
        )


@contextlib.asynccontextmanager
async def _open_roster(config: ValidatedTable, runtime: Runtime) -> AsyncIterator[WorkerLookup]:
    table = config.roster
    if table.backend == "postgres":
        conninfo = read_secret(table.postgres.conninfo, table.postgres.conninfo_file)
        async with PostgresRoster(table, conninfo, near_ms=config.limits.suggestions_ms).open() as database:
            runtime.metrics.export("lakehouse_roster", database.counts, gauges=("ready",))
            yield database
        return
    async with FileRoster(table, near_ms=config.limits.suggestions_ms).open() as files:
        runtime.metrics.export("lakehouse_roster", lambda: {**files.counts(), **files.state()}, gauges=_ROSTER_GAUGES)
        with _on_sighup(files):
            yield files


@contextlib.contextmanager
def _on_sighup(files: FileRoster) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    # Neither Windows nor a loop outside the main thread has signals; the files are polled there all the same.
    with contextlib.suppress(NotImplementedError, ValueError, RuntimeError, AttributeError):
        loop.add_signal_handler(signal.SIGHUP, files.reload)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError, AttributeError):
            loop.remove_signal_handler(signal.SIGHUP)


def check(config: ValidatedTable) -> Iterator[str]:
    """What is wrong with the kinds from outside, and with what the roster is to be read from."""
    try:
        find_kinds()
    except KindError as error:
        yield f"kinds: {error}"
    table = config.roster
    if table.backend == "postgres":
        try:
            psycopg.conninfo.conninfo_to_dict(read_secret(table.postgres.conninfo, table.postgres.conninfo_file))
        except psycopg.Error:
            # Its message may repeat the password.
            yield "roster.postgres.conninfo: neither a libpq connection string nor a URI"


def main() -> None:
    """Serve until a signal."""
    bootstrap.run(
        "validated", ValidatedTable, compose, description="Checks artifacts against the ground truth.", check=check
    )


if __name__ == "__main__":
    main()
