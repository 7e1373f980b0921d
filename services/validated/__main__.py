"""Puts ``validated`` together: roster, kinds, tracing, listener. ``python -m validated --help``."""

from __future__ import annotations

from lakehouse.server.process import begin_process

if __name__ == "__main__":
    begin_process()  # before the imports below bring grpc

import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.server import bootstrap
from lakehouse.server.bootstrap import Registration, Runtime
from lakehouse.server.listener import StartError
from lakehouse.server.tracing_setup import open_tracing
from lakehouse.settings import read_secret
from lakehouse.trace_context import read_hop_context
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc
from validated.config import DatasetTable, RosterTable, ValidatedTable, database_of
from validated.datasets.file import FileRoster
from validated.datasets.loaded_dataset import Datasets
from validated.kinds import KindError, find_kinds, make_validators
from validated.kinds.declared.declaration import DeclarationError
from validated.kinds.declared.registry import Kinds, check_kinds
from validated.kinds.declared.shown import People
from validated.kinds.validator import Tools
from validated.servicer import ValidateServicer

if TYPE_CHECKING:
    from validated.datasets.postgres import PostgresRoster

_DATASET_GAUGES = ("rows", "age_seconds", "refused", "too_old")
_ROSTER_GAUGES = ("rows", "age_seconds", "refused", "too_old", "assignments_unknown", "do_not_send_unknown")


@contextlib.asynccontextmanager
async def compose(config: ValidatedTable, runtime: Runtime) -> AsyncIterator[Registration]:
    """Yield the service for the time of the block. Raises StartError where a kind cannot be loaded."""
    async with contextlib.AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(open_tracing(config, runtime, service="validated"))
        roster = await stack.enter_async_context(_open_roster(config, runtime))
        try:
            validators = await stack.enter_async_context(
                make_validators(Tools(roster, config.limits, config.roster.region, config.candidate_facts))
            )
        except KindError as error:
            raise StartError(str(error)) from None
        datasets = Datasets(config.datasets, config.roster)
        people = People(config.candidate_facts, config.roster.region)
        try:
            kinds = Kinds(validators, config.kinds_dir, datasets, config.limits, people)
        except DeclarationError as error:
            raise StartError(str(error)) from None
        await stack.enter_async_context(datasets.open())
        runtime.metrics.export("lakehouse_dataset", datasets.metrics, gauges=_DATASET_GAUGES, label="dataset")
        servicer = ValidateServicer(kinds, tracing, config.limits)
        yield Registration(
            service_names=(validated_pb2.DESCRIPTOR.services_by_name["ValidateService"].full_name,),
            add=lambda server: validated_pb2_grpc.add_ValidateServiceServicer_to_server(servicer, server),
            read_context=read_hop_context,
            unready=lambda: (*roster.unready(), *datasets.unready()),
            reload=(*((roster.reload,) if isinstance(roster, FileRoster) else ()), datasets.reload, kinds.reload),
        )


@contextlib.asynccontextmanager
async def _open_roster(config: ValidatedTable, runtime: Runtime) -> AsyncIterator[FileRoster | PostgresRoster]:
    table = config.roster
    if table.backend == "postgres":
        from validated.datasets.postgres import PostgresRoster  # noqa: PLC0415  the driver is for those who need it

        conninfo = read_secret(table.postgres.conninfo, table.postgres.conninfo_file)
        async with PostgresRoster(table, conninfo, near_ms=config.limits.suggestions_ms).open() as database:
            runtime.metrics.export("lakehouse_roster", database.counts, gauges=("ready",))
            yield database
        return
    async with FileRoster(table, near_ms=config.limits.suggestions_ms).open() as files:
        runtime.metrics.export("lakehouse_roster", files.metrics, gauges=_ROSTER_GAUGES)
        yield files


def check(config: ValidatedTable) -> Iterator[str]:
    """Yield what is wrong with the kinds from outside and the declared ones, and with what the roster is to be read
    from."""
    try:
        find_kinds()
    except KindError as error:
        yield f"kinds: {error}"
    if config.kinds_dir is not None:
        try:
            people = People(config.candidate_facts, config.roster.region)
            yield from check_kinds(config.kinds_dir, Datasets(config.datasets, config.roster), config.limits, people)
        except DeclarationError as error:
            yield f"kinds_dir: {error}"
    named: dict[str, DatasetTable | RosterTable] = {"roster": config.roster}
    named |= {f"datasets.{name}": table for name, table in config.datasets.items()}
    for setting, table in named.items():
        database = database_of(table)
        if database is not None:
            import psycopg.conninfo  # noqa: PLC0415  as above

            try:
                psycopg.conninfo.conninfo_to_dict(read_secret(database.conninfo, database.conninfo_file))
            except psycopg.Error:
                # Its message may repeat the password.
                yield f"{setting}.postgres.conninfo: neither a libpq connection string nor a URI"


def missing(config: ValidatedTable) -> Iterator[str]:
    """Files of the roster and of datasets that are not there, or that we may not read."""
    table = config.roster
    if table.backend == "file":
        for key in ("path", "assignments_path", "do_not_send_path"):
            path: Path | None = getattr(table, key)
            if path is not None and (problem := _unreadable(path)):
                yield f"roster.{key}: {path}: {problem}"
    for name, dataset in config.datasets.items():
        if dataset.backend == "file" and (problem := _unreadable(dataset.path)):
            yield f"datasets.{name}.path: {dataset.path}: {problem}"


def _unreadable(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return error.strerror or type(error).__name__
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "is neither a file nor a folder"
    wanted = os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK
    return "" if os.access(path, wanted) else os.strerror(errno.EACCES)


def advise(config: ValidatedTable) -> Iterator[str]:
    """Whether the ground truth is the example."""
    if config.roster.backend == "file" and "path" not in config.roster.model_fields_set:
        example = config.roster.path
        yield f"roster.path: not configured: the example roster {example} is taken, whose people do not exist"


def main() -> None:
    """Serve until a signal."""
    bootstrap.run(
        "validated",
        ValidatedTable,
        compose,
        description="Checks artifacts against the ground truth.",
        check=check,
        missing=missing,
        advise=advise,
    )


if __name__ == "__main__":
    main()
