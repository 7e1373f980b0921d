"""``lakehouse up``: the three services on this machine, with prefixed logs; Ctrl-C stops all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from lakehouse.cli.exit_status import SystemFault, WrongRequest, statuses
from lakehouse.cli.stack import SERVICES, Stack, StackError, examples
from lakehouse.cli.terminal import terminal
from lakehouse.cli.tracing_environ import tracing_environ
from lakehouse.server.config import CONFIG_FILE_VARIABLE, ServerTable, configuration_file, given_values
from lakehouse.sessions.lake.config import load_lake_config
from lakehouse.sessions.store.names import LOG_NAME
from lakehouse.settings import ConfigError
from lakehouse.targets import check_bind, hosts_overlap, split_bind, unix_path
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.tracing.tree import render_tree

_COLOURS = {"iterate": "cyan", "chatd": "magenta", "validated": "green"}
_LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}
_TREE_POLL_S = 0.5

_Address = tuple[str, int] | Path
"""Host and port, or a socket's path."""


@click.command(epilog=statuses("stopped by a signal, in order"))
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"TOML file of all three (default: ${CONFIG_FILE_VARIABLE}).",
)
@click.option(
    "--roster", type=click.Path(exists=True, path_type=Path), help="Roster file; goes over what is configured."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the session log; goes over what is configured (default where nothing is: .lakehouse).",
)
@click.option("--check", is_flag=True, help="Say what is wrong with the configuration, and exit.")
@click.option("--trace-view", is_flag=True, help="Show each session's trace tree here, without a Langfuse server.")
@click.option("--json", "as_json", is_flag=True, help="Print the services' log lines as the JSON that they are.")
def command(
    *, config: Path | None, roster: Path | None, data: Path | None, check: bool, trace_view: bool, as_json: bool
) -> None:
    """Start validated, chatd and iterate; Ctrl-C stops them.

    They listen on 127.0.0.1:50053, :50052 and :50051 unless the configuration or <SERVICE>_BIND says otherwise. What is
    configured is obeyed. Only where no roster and no model is, the roster is the example one and the model is scripted,
    which needs no key and no network.
    """
    console = terminal()
    try:
        file = configuration_file(config, os.environ)
        setup = _set_up(file, roster, data)
        if check:
            sys.exit(_check(setup, file))
        setup.make_folders()
        asyncio.run(_up(console, setup, config=config, trace_view=trace_view, as_json=as_json))
    except ConfigError as error:
        raise WrongRequest(str(error)) from None
    except StackError as error:
        raise SystemFault(str(error)) from None


@dataclass(frozen=True)
class _SetUp:
    """What this command sets for the services, where neither a file nor the environment decides, and says of it."""

    environ: Mapping[str, str]
    announcements: Sequence[str]
    session_log: str
    """Where it will be; empty: nowhere."""
    folder: Path | None = None
    """Made before the start: our own choice, so that it need not exist."""

    def make_folders(self) -> None:
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise SystemFault(f"{self.folder} is no folder: name one by --data") from None
            except OSError as error:
                raise SystemFault(f"{self.folder} cannot be made: {error.strerror}: name another by --data") from None


def _set_up(file: Path | None, roster: Path | None, data: Path | None) -> _SetUp:
    """Raise ConfigError where the file cannot be read, or leaves open what must not be guessed."""
    given = {name: given_values(name, file=file, environ=os.environ) for name in SERVICES}
    if problems := list(_shared_addresses(given)):
        raise ConfigError(problems)
    environ: dict[str, str] = {}
    announcements: list[str] = []
    if roster is not None:
        environ |= {"VALIDATED_ROSTER__PATH": str(roster), "VALIDATED_ROSTER__BACKEND": "file"}
    elif file is None and not {"path", "backend"} & set(given["validated"].get("roster", ())):
        example = examples() / "roster" / "workers.csv"
        if "providers" in given["chatd"]:
            problem = "a model is configured and no roster: set VALIDATED_ROSTER__PATH or give --roster; the example is"
            raise ConfigError([f"{problem} {example}"])
        environ["VALIDATED_ROSTER__PATH"] = str(example)
        for name in ("assignments", "do_not_send"):
            companion = example.with_name(f"{name}.csv")
            if f"{name}_path" not in given["validated"].get("roster", ()) and companion.exists():
                environ[f"VALIDATED_ROSTER__{name.upper()}_PATH"] = str(companion)
        announcements.append(
            f"example data: nothing is configured: the roster is {example}, whose people do not exist, with their "
            "assignments and do-not-send list, and the model is scripted"
        )
    folder = None
    session_log = str(given["iterate"].get("session_log_path", ""))
    if data is not None or (file is None and "session_log_path" not in given["iterate"]):
        folder = data or Path(".lakehouse")
        session_log = environ["ITERATE_SESSION_LOG_PATH"] = str(folder.resolve() / LOG_NAME)
    return _SetUp(environ, announcements, session_log, folder)


def _shared_addresses(given: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the settings by which two services would listen on one address: each finds its own good."""
    listened = [(name, *each) for name, values in given.items() for each in _addresses(values)]
    for (one, first, _, there), (other, second, shown, here) in itertools.combinations(listened, 2):
        if one != other and _is_one_address(there, here):
            both = f"{one}.{first} and {other}.{second} are both {shown}"
            yield f"{both}: give each {'a port' if second == 'metrics_port' else 'an address'} of its own"


def _addresses(values: Mapping[str, Any]) -> Iterator[tuple[str, str, _Address]]:
    """Yield what a service's given settings let it listen on: the setting, what it is, the address. A bad one is left
    to the service, which says so itself."""
    bind, metrics_port = str(values.get("bind", "")), str(values.get("metrics_port", ""))
    with contextlib.suppress(ValueError):
        check_bind(bind)
        yield "bind", bind, split_bind(bind) or Path(unix_path(bind))
    if metrics_port.isdecimal():
        host = values.get("metrics_host", ServerTable.model_fields["metrics_host"].default)
        yield "metrics_port", metrics_port, (str(host), int(metrics_port))


def _is_one_address(one: _Address, other: _Address) -> bool:
    if isinstance(one, Path) or isinstance(other, Path):
        return one == other
    # Port 0 is another one each time.
    return one[1] == other[1] != 0 and hosts_overlap(one[0], other[0])


def _check(setup: _SetUp, file: Path | None) -> int:
    setup.make_folders()
    command = ["--check", *(("--config", str(file)) if file is not None else ())]
    environ = {**os.environ, **setup.environ}
    # One after the other: their lines must not mix.
    statuses = [
        subprocess.run([sys.executable, "-m", name, *command], env=environ, check=False).returncode  # noqa: S603  ours
        for name in SERVICES
    ]
    if given_values("lake", file=file, environ=os.environ):
        statuses.append(_check_lake(file))
    return max(statuses)


def _check_lake(file: Path | None) -> int:
    try:
        load_lake_config(file, os.environ)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"lake: {problem}", err=True)
        return 2
    click.echo("lake: configuration is good")
    return 0


async def _up(console: Console, setup: _SetUp, *, config: Path | None, trace_view: bool, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A background job of a shell ignores SIGINT, and is to end by it all the same; one under nohup outlives its shell.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)

    def on_log(service: str, entry: dict[str, Any] | str) -> None:
        _print(console, service, entry, as_json=as_json)

    environ = dict(setup.environ)
    for announcement in setup.announcements:
        console.print(f"[yellow]{escape(announcement)}[/yellow]")
    async with contextlib.AsyncExitStack() as resources:
        if trace_view:
            environ |= tracing_environ(await resources.enter_async_context(_trace_view(console)))
        stack = Stack(on_log=on_log, environ=environ, config=config)
        resources.push_async_callback(stack.stop)
        starting = asyncio.create_task(stack.start())
        if not await _first(starting, stop):
            return
        console.print(f"[bold]ready[/bold]: iterate at {stack.addresses['iterate']}. Ctrl-C stops all.")
        console.print(f"[dim]session log: {escape(setup.session_log) or 'none is configured'}[/dim]")
        ended = asyncio.create_task(stack.wait())
        if await _first(ended, stop):
            raise StackError(f"{ended.result()} ended by itself; the others were stopped")
        console.print("stopping …")


async def _first(task: asyncio.Task[Any], stop: asyncio.Event) -> bool:
    """Wait for the task or for the signal; True where the task ended first. Raises what the task raised."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        stopped.cancel()
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


@contextlib.asynccontextmanager
async def _trace_view(console: Console) -> AsyncIterator[TraceReceiver]:
    async def watch(receiver: TraceReceiver) -> None:
        while True:
            await asyncio.sleep(_TREE_POLL_S)
            for tree in receiver.take_settled():
                console.print(f"\n{escape(render_tree(tree))}\n")

    with TraceReceiver() as receiver:
        watching = asyncio.create_task(watch(receiver))
        try:
            yield receiver
        finally:
            watching.cancel()


def _print(console: Console, service: str, entry: dict[str, Any] | str, *, as_json: bool) -> None:
    if as_json:
        text = entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)
        console.print(text, markup=False)
        return
    width = max(len(name) for name in SERVICES)
    prefix = f"[{_COLOURS[service]}]{service:>{width}}[/] "
    if isinstance(entry, str):
        console.print(prefix + escape(entry))
        return
    event = str(entry.pop("event", ""))
    colour = _LEVELS.get(str(entry.pop("level", "")))
    clock = str(entry.pop("timestamp", ""))[11:23]
    entry.pop("service", None)
    facts = " ".join(f"{key}={_fact(value)}" for key, value in entry.items() if value not in ("", None))
    shown = f"[{colour}]{escape(event)}[/]" if colour else escape(event)
    console.print(f"{prefix}[dim]{clock}[/dim] {shown} [dim]{escape(facts)}[/dim]")


def _fact(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
