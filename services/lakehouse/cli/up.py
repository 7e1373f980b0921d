"""``lakehouse up``: the three services on this machine, with prefixed logs; Ctrl-C stops all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from lakehouse.cli.stack import SERVICES, Stack, StackError, examples
from lakehouse.cli.tracing_environ import tracing_environ
from lakehouse.sessions.store.names import LOG_NAME
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.tracing.tree import render_tree

_COLOURS = {"iterate": "cyan", "chatd": "magenta", "validated": "green"}
_LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}
_TREE_POLL_S = 0.5


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file of all three.")
@click.option("--roster", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Roster file.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".lakehouse"),
    show_default=True,
    help="Folder of the session log.",
)
@click.option("--trace-view", is_flag=True, help="Show each session's trace tree here, without a Langfuse server.")
@click.option("--json", "as_json", is_flag=True, help="Print the services' log lines as the JSON that they are.")
def command(config: Path | None, roster: Path | None, data: Path, trace_view: bool, as_json: bool) -> None:  # noqa: FBT001  click passes them by name
    """Start validated, chatd and iterate; Ctrl-C stops them.

    They listen on 127.0.0.1:50053, :50052 and :50051 unless the configuration or <SERVICE>_BIND says otherwise. Without
    a configuration the roster is the example one, and the model is scripted: it needs no key and no network.
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        asyncio.run(_up(console, config=config, roster=roster, data=data, trace_view=trace_view, as_json=as_json))
    except StackError as error:
        raise click.ClickException(str(error)) from None


async def _up(
    console: Console, *, config: Path | None, roster: Path | None, data: Path, trace_view: bool, as_json: bool
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    environ = _defaults(config, roster, data)

    def on_log(service: str, entry: dict[str, Any] | str) -> None:
        _print(console, service, entry, as_json=as_json)

    async with contextlib.AsyncExitStack() as resources:
        if trace_view:
            environ |= tracing_environ(await resources.enter_async_context(_trace_view(console)))
        stack = Stack(on_log=on_log, environ=environ, config=config)
        resources.push_async_callback(stack.stop)
        starting = asyncio.create_task(stack.start())
        if not await _first(starting, stop):
            return
        console.print(f"[bold]ready[/bold]: iterate at {stack.addresses['iterate']}. Ctrl-C stops all.")
        if log := environ.get("ITERATE_SESSION_LOG_PATH"):
            console.print(f"[dim]session log: {log}[/dim]")
        ended = asyncio.create_task(stack.wait())
        if await _first(ended, stop):
            raise StackError(f"{ended.result()} ended by itself; the others were stopped")
        console.print("stopping …")


def _defaults(config: Path | None, roster: Path | None, data: Path) -> dict[str, str]:
    """What is set where neither a configuration file nor the caller's environment decides."""
    defaults = {}
    if roster is not None:
        defaults["VALIDATED_ROSTER__PATH"] = str(roster)
    elif config is None:
        defaults["VALIDATED_ROSTER__PATH"] = str(examples() / "roster" / "workers.csv")
    if config is None:
        data.mkdir(parents=True, exist_ok=True)
        defaults["ITERATE_SESSION_LOG_PATH"] = str(data.resolve() / LOG_NAME)
    return {name: value for name, value in defaults.items() if roster is not None or name not in os.environ}


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
