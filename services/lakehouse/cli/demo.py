"""``lakehouse demo``: one whole session on a stack of its own, as a person would watch it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from lakehouse.cli.exit_status import NOT_ACCEPTED, SystemFault, statuses
from lakehouse.cli.iterate import response_object
from lakehouse.cli.log_entry import sentence
from lakehouse.cli.progress import show
from lakehouse.cli.stack import Stack, StackError, examples, free_port_binds, running_stack
from lakehouse.cli.terminal import terminal
from lakehouse.cli.tracing_environ import tracing_environ
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.sessions.store.names import LOG_NAME
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.tracing.tree import TraceTree, render_tree
from lakehouse.validated.v1 import validated_pb2

_TITLES: Mapping[iterate_pb2.Grounding, str] = {
    iterate_pb2.GROUNDING_NONE: "a model that is told nothing",
    iterate_pb2.GROUNDING_CANDIDATES: "the same task, grounded from the first attempt",
}
_ALONE = "a task, grounded from the first attempt"
_BOTH = tuple(_TITLES)
_GROUNDED = (iterate_pb2.GROUNDING_CANDIDATES,)
_SESSION_S = 60.0
_TREE_S = 15.0
_ROW_S = 5.0


@click.command(epilog=statuses("accepted", "not accepted"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--grounded", is_flag=True, help="The grounded session alone.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the session log in this folder.")
def command(as_json: bool, grounded: bool, keep: Path | None) -> None:  # noqa: FBT001  click passes them by name
    """Run one task twice on a stack of its own: without grounding, then with it.

    The three services start on free ports, with the example roster and the scripted model: a deterministic stand-in
    that needs no key and no network. Told nothing, its first answer names a worker who does not exist; the gate catches
    it, the findings go back, and the second answer is accepted. Given the candidates, it takes of them, and the first
    answer is accepted. Then the stack stops.

    With --json the object is the first session's, and its "grounded" the second one's.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="lakehouse-demo-") as scratch:
            folder = keep or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            results = asyncio.run(_demo(folder, terminal(quiet=as_json), _GROUNDED if grounded else _BOTH))
    except (StackError, Fault, TimeoutError) as error:
        raise SystemFault(str(error)) from None
    if as_json:
        shown = results[0] if len(results) == 1 else {**results[0], "grounded": results[1]}
        click.echo(json.dumps(shown, ensure_ascii=False))
    sys.exit(0 if all(each["final_verdict"] == "accepted" for each in results) else NOT_ACCEPTED)


async def _demo(folder: Path, console: Console, groundings: Sequence[iterate_pb2.Grounding]) -> list[dict[str, Any]]:
    log = folder / LOG_NAME
    environ = {
        **free_port_binds(),
        "VALIDATED_ROSTER__PATH": str(examples() / "roster" / "workers.csv"),
        "ITERATE_SESSION_LOG_PATH": str(log),
    }
    console.print("[dim]starting validated, chatd and iterate on free ports …[/dim]")
    with TraceReceiver() as receiver:
        problems: list[str] = []

        def on_log(service: str, entry: dict[str, Any] | str) -> None:
            if isinstance(entry, dict) and entry.get("event") == "listening":
                console.print(f"[dim]  {service} listens on {entry['address']}[/dim]")
            _note(problems, service, entry)

        async with running_stack(
            on_log=on_log,
            environ={**environ, **tracing_environ(receiver)},
            # Whatever is configured here: the demo is the same everywhere, and must not ask a model that costs.
            alone=True,
        ) as stack:
            results = []
            for grounding in groundings:
                title = _TITLES[grounding] if len(groundings) > 1 else _ALONE
                console.print(f"\n[bold]{title}[/bold]")
                response = await _session(stack, console, grounding)
                tree = await asyncio.to_thread(_wait_for_tree, receiver, response)
                row = await asyncio.to_thread(_row, log, response.session_id)
                results.append(_shown(response, tree, row, console))
    for problem in problems:
        console.print(f"[yellow]{escape(problem)}[/yellow]")
    return results


def _shown(
    response: iterate_pb2.IterateResponse, tree: TraceTree, row: dict[str, Any], console: Console
) -> dict[str, Any]:
    console.print("\n[bold]the trace[/bold], rebuilt from what the three processes exported")
    console.print(escape(render_tree(tree)))
    console.print("\n[bold]the row[/bold] in the session log")
    console.print(f"[dim]{escape(json.dumps(row, ensure_ascii=False))}[/dim]")
    answered = response_object(response)
    names = ("final_verdict", "iterations", "session_id", "trace_id", "brief", "attempts", "artifact")
    return {**{name: answered[name] for name in names}, "row": row, "spans": tree.as_json()["spans"]}


async def _session(stack: Stack, console: Console, grounding: iterate_pb2.Grounding) -> iterate_pb2.IterateResponse:
    request = iterate_pb2.IterateRequest(
        kind="fill",
        fill=validated_pb2.FillSpec(role="forklift operator", count=3, city="Toledo", state="OH"),
        prompt="Fill 3 forklift operators in Toledo for Saturday.",
        grounding=grounding,
    )
    console.print(f"the task: {request.prompt}")
    console.print("the model: scripted (a deterministic stand-in that replays a file; no key, no network)\n")
    response: iterate_pb2.IterateResponse | None = None
    async with AsyncIterateClient(stack.addresses["iterate"]) as client:
        async for event in client.stream_iterate(request, timeout_s=_SESSION_S):
            show(event, console)
            if event.HasField("response"):
                response = event.response
    if response is None:
        raise StackError("iterate ended the stream without a response")
    return response


def _wait_for_tree(receiver: TraceReceiver, response: iterate_pb2.IterateResponse) -> TraceTree:
    # A root, a brief, and an attempt, a generation and a guardrail for each attempt that reached the gate.
    reached = sum(attempt.verdict != iterate_pb2.VERDICT_UNPARSABLE for attempt in response.attempts)
    expected = 2 + 2 * len(response.attempts) + reached

    def whole(received: TraceReceiver) -> TraceTree | None:
        tree = received.tree(response.trace_id)
        return tree if tree is not None and len(tree.spans) >= expected else None

    tree = receiver.wait_for(whole, _TREE_S)
    assert tree is not None  # noqa: S101  what was waited for
    return tree


def _row(log: Path, session_id: str) -> dict[str, Any]:
    ends_at = time.monotonic() + _ROW_S
    while time.monotonic() < ends_at:
        for line in log.read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            if row["session_id"] == session_id:
                return row
        time.sleep(0.02)  # on a slow disk the answer does not wait for its row
    raise StackError(f"the session log has no row of session {session_id}")


def _note(problems: list[str], service: str, entry: dict[str, Any] | str) -> None:
    # What an operator could set better does not matter to a stack that lives for one session.
    if isinstance(entry, str) or (
        entry.get("level") in {"warning", "error", "critical"} and entry.get("event") != "configuration"
    ):
        problems.append(sentence(service, entry))
