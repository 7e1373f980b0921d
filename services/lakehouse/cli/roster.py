"""``lakehouse roster``: look at a roster file before, or while, validated uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

EXIT_PROBLEMS = 3
_COLUMNS = ("worker_id", "name", "role", "city", "state", "active", "certifications", "phone")


@click.group(epilog="Exit status: 0 good, 3 the roster has problems or nobody was found, 1 a failure, 2 wrong usage.")
def command() -> None:
    """Look at a roster file: check it, count it, search it. Formats: CSV, TSV, JSONL, Parquet."""


_FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
_COMPANIONS = (
    click.option("--assignments", type=click.Path(path_type=Path), help="Companion: worker_id, shift_start, …"),
    click.option("--do-not-send", type=click.Path(path_type=Path), help="Companion: client_id, worker_id."),
    click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="A column with another name."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else."),
)


def _with_companions(function: Any) -> Any:
    for option in reversed(_COMPANIONS):
        function = option(function)
    return _FILE(function)


@command.command()
@_with_companions
@click.option("--problems-max", default=1000, show_default=True, help="Problems that are listed; more are counted.")
def check(*, file: Path, as_json: bool, problems_max: int, **companions: Any) -> None:
    """List every problem with its row. A file without problems is one that validated loads."""
    report = _run("check", file, companions, "--problems-max", str(problems_max))
    if as_json:
        _print_json(report)
    else:
        _show_problems(report)
        for warning in report["warnings"]:
            click.echo(f"warning: {warning}")
        if not report["problems"]:
            click.echo(f"{file}: good, {report['row_count']} workers, version {report['version']}")
    sys.exit(EXIT_PROBLEMS if report["problems"] else 0)


@command.command()
@_with_companions
def info(*, file: Path, as_json: bool, **companions: Any) -> None:
    """Count a roster by role and place, and show its version."""
    report = _run("info", file, companions)
    _exit_on_problems(report, as_json=as_json)
    if as_json:
        _print_json(report)
        return
    click.echo(f"{file}: {report['row_count']} workers, {report['active']} active")
    click.echo(f"version {report['version']}, read in {report['load_ms']} ms")
    for title in ("roles", "places"):
        table = Table("workers", title, box=None, pad_edge=False)
        for name, count in report[title].items():
            table.add_row(str(count), escape(name or "(none)"))
        Console(highlight=False).print("", table, sep="\n")


@command.command()
@_with_companions
@click.argument("text")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="The most workers.")
def find(*, file: Path, text: str, limit: int, as_json: bool, **companions: Any) -> None:
    """Find workers by an id, a name, or a part of either; where nobody has it, those who look like it."""
    report = _run("find", file, companions, f"--text={text}", "--limit", str(limit))
    _exit_on_problems(report, as_json=as_json)
    found = bool(report["workers"])
    if as_json:
        _print_json(report)
    else:
        if not found:
            click.echo(f'nobody has "{text}"' + ("; near to it:" if report["near"] else ""))
        _show_workers(report["workers"] or report["near"])
    sys.exit(0 if found else EXIT_PROBLEMS)


def _run(action: str, file: Path, companions: dict[str, Any], *arguments: str) -> dict[str, Any]:
    # The reader is validated's own, in a process of its own: this package imports no service.
    command_line = [sys.executable, "-m", "validated.roster_tool", action, str(file), *arguments]
    for name in ("assignments", "do_not_send"):
        if companions[name] is not None:
            command_line += [f"--{name.replace('_', '-')}", str(companions[name])]
    columns = dict(pair.partition("=")[::2] for pair in companions["columns"])
    if not all(columns.values()):
        raise click.UsageError("--column takes OURS=THEIRS, such as --column worker_id=emp_no")
    command_line += ["--columns", json.dumps(columns)]
    result = subprocess.run(command_line, capture_output=True, check=False)  # noqa: S603  our own interpreter and module
    try:
        report: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise click.ClickException(f"the reader failed: {last[0]}") from None
    return report


def _exit_on_problems(report: dict[str, Any], *, as_json: bool) -> None:
    if not report.get("problems"):
        return
    if as_json:
        _print_json(report)
    else:
        _show_problems(report)
    sys.exit(EXIT_PROBLEMS)


def _show_problems(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        where = ", ".join(filter(None, (f"row {problem['row']}" if problem["row"] else "", problem["column"])))
        click.echo(": ".join(filter(None, (problem["file"], where, problem["text"]))))
    if report["problems"]:
        total = len(report["problems"]) + report["problems_left_out"]
        click.echo(f"{total} problem{'s' * (total != 1)}; validated refuses this roster")


def _show_workers(workers: list[dict[str, Any]]) -> None:
    if not workers:
        return
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for worker in workers:
        cells = {**worker, "certifications": "; ".join(worker.get("certifications", ()))}
        table.add_row(*(escape(str(cells.get(name, ""))) for name in _COLUMNS))
    Console(highlight=False, soft_wrap=True).print(table)


def _print_json(report: dict[str, Any]) -> None:
    click.echo(json.dumps(report, ensure_ascii=False))
