"""``lakehouse brief``: what a model would be shown before it answers."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from google.protobuf import json_format
from rich.markup import escape

from lakehouse.cli.exit_status import NOT_ACCEPTED, statuses
from lakehouse.cli.facts_table import show_facts
from lakehouse.cli.gate import SPEC_OPTIONS, Validated, give_spec, roster_line, server_options, with_options
from lakehouse.cli.terminal import terminal
from lakehouse.validated.v1 import validated_pb2


@click.command(epilog=statuses("an answer can pass", "none can (infeasible)"))
@with_options(*SPEC_OPTIONS)
@click.option("--prompt", default="", help="The task in words: whom it names and who qualifies comes first.")
@click.option("--candidates", "candidates_max", type=click.IntRange(0, 200), help="At most so many (default: 50).")
@click.option("--seed", default="", help="Draws the sample; a session's id gives the list of that session.")
@click.option("--schema", "shows_schema", is_flag=True, help="Show the JSON Schema that an answer is held to, too.")
@server_options
def command(
    *,
    kind: str,
    spec: str | None,
    prompt: str,
    candidates_max: int | None,
    seed: str,
    shows_schema: bool,
    validated: Validated,
    timeout_s: float,
    as_json: bool,
    **fields: Any,
) -> None:
    """Show what a model would be shown before it answers: the instructions, the candidates, how many qualify; and where
    too few do, which demand shuts most out. No model is asked.

    \b
      lakehouse brief --kind fill --spec '{"role": "welder", "count": 2}' --prompt "Two welders for Saturday" \\
        --roster examples/roster/workers.csv
    """
    request = validated_pb2.BriefRequest(kind=kind, prompt=prompt, candidates_max=candidates_max, seed=seed)
    give_spec(request, kind, spec, fields)
    response = validated.ask(lambda client: client.brief(request, timeout_s=timeout_s))
    if as_json:
        click.echo(json.dumps(_object(response), ensure_ascii=False))
    else:
        _show(response)
        if shows_schema:
            _show_schema(response)
    sys.exit(NOT_ACCEPTED if response.infeasible else 0)


def _object(response: validated_pb2.BriefResponse) -> dict[str, Any]:
    value = json_format.MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    # JSON in JSON is for programs that pass it on; whoever reads this wants it as it is.
    for name in ("form_schema", "candidates_schema", "candidates"):
        text = value.pop(f"{name}_json")
        value[name] = json.loads(text) if text else None
    return value


def _show(response: validated_pb2.BriefResponse) -> None:
    console = terminal()
    if response.infeasible:
        console.print("[bold]infeasible:[/bold] no answer can pass; a session would end without asking a model")
        for finding in response.findings:
            console.print(f"  {escape(finding.code)}: {escape(finding.message)}")
        console.print()
    console.print("[bold]instructions[/bold]")
    console.print(f"  {escape(response.instructions) or '(none)'}", end="\n\n")
    if not response.HasField("roster"):
        console.print("no candidates: this kind has none, or none were asked for")
        return
    candidates: list[dict[str, Any]] = json.loads(response.candidates_json) if response.candidates_json else []
    show_facts(candidates, console, rows_max=len(candidates))
    floor = "at least " if response.candidates_total_is_floor else ""
    needed = f", {response.needed} needed" if response.needed else ""
    console.print(f"{len(candidates)} candidates of {floor}{response.candidates_total} who qualify{needed}")
    if not response.candidates_schema_json:
        console.print("no schema of candidates: a model would be held to the form alone")
    console.print(escape(roster_line(response.roster)))


def _show_schema(response: validated_pb2.BriefResponse) -> None:
    console = terminal()
    schemas = (("form", response.form_schema_json), ("candidates", response.candidates_schema_json))
    for name, text in schemas:
        console.print(f"\n[bold]schema of the {name}[/bold]")
        shown = json.dumps(json.loads(text), ensure_ascii=False, indent=2) if text else "(none)"
        console.print(shown, markup=False, highlight=False, soft_wrap=True)
