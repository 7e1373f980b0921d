"""``lakehouse roster``: look at a roster file before, or while, validated uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Column, Table

from lakehouse.cli.exit_status import NOT_ACCEPTED, SystemFault, statuses
from lakehouse.cli.terminal import terminal

_COLUMNS = ("worker_id", "name", "role", "city", "state", "active", "certifications", "phone")
_SORTS = {
    "confusable_ids": "ids that may be taken for each other",
    "confusable_names": "names that may be taken for each other",
    "one_person_under_two_ids": "one person under several ids?",
}


@click.group(epilog=statuses("good, or found", "the roster is refused, or nobody was found"))
def command() -> None:
    """Look at a roster: check it, count it, search it. Formats: CSV, TSV, JSONL (also .gz, .zst), Parquet, folders of
    these; check also looks at a PostgreSQL roster. Without FILE: the roster of the configuration.
    """


_FILE = click.argument("file", type=click.Path(path_type=Path, exists=True), required=False)
_OPTIONS = (
    click.option("--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Configuration file."),
    click.option("--assignments", type=click.Path(path_type=Path), help="Companion: worker_id, shift_start, …"),
    click.option("--do-not-send", type=click.Path(path_type=Path), help="Companion: client_id, worker_id."),
    click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="A column with another name."),
    click.option("--ignore-column", "ignored", multiple=True, metavar="NAME", help="It is not ours."),
    click.option("--delimiter", help="What parts the columns of .csv."),
    click.option("--encoding", help="Of .csv, .tsv and .jsonl, such as cp1252."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else."),
)


def _with_options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return _FILE(function)


@command.command()
@_with_options
@click.option(
    "--problems-max",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Problems that are listed; more are counted.",
)
def check(*, file: Path | None, as_json: bool, problems_max: int, **given: Any) -> None:
    """List every problem with its row, what is read, ignored and taken for granted, and what a person should look at. A
    roster without problems is one that validated loads.
    """
    report = _run("check", file, given, "--problems-max", str(problems_max))
    if as_json:
        _print_json(report)
    else:
        _show_problems(report)
        _show_columns(report)
        for warning in report["warnings"]:
            click.echo(f"warning: {warning}")
        if not report["problems"]:
            _show_likeness(report)
            version = f", version {report['version']}" if "version" in report else ""
            click.echo(f"{report['source']}: good, {report['row_count']} workers{version}")
    sys.exit(NOT_ACCEPTED if report["problems"] else 0)


@command.command()
@_with_options
def info(*, file: Path | None, as_json: bool, **given: Any) -> None:
    """Count a roster by role and place, and show its version."""
    report = _run("info", file, given)
    _exit_on_problems(report, as_json=as_json)
    if as_json:
        _print_json(report)
        return
    click.echo(f"{report['source']}: {report['row_count']} workers, {report['active']} active")
    click.echo(f"version {report['version']}, read in {report['load_ms']} ms")
    for title in ("roles", "places"):
        table = Table("workers", title, box=None, pad_edge=False)
        for name, count in report[title].items():
            table.add_row(str(count), escape(name or "(none)"))
        terminal(wraps=True).print("", table, sep="\n")


@command.command()
@_with_options
@click.argument("text")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="The most workers.")
def find(*, file: Path | None, text: str, limit: int, as_json: bool, **given: Any) -> None:
    """Find workers by an id, a name, or a part of either; where nobody has it, those who look like it."""
    report = _run("find", file, given, f"--text={text}", "--limit", str(limit))
    _exit_on_problems(report, as_json=as_json)
    found = bool(report["workers"])
    if as_json:
        _print_json(report)
    else:
        if not found:
            click.echo(f'nobody has "{text}"' + ("; near to it:" if report["near"] else ""))
        _show_workers(report["workers"] or report["near"])
    sys.exit(0 if found else NOT_ACCEPTED)


def _run(action: str, file: Path | None, given: dict[str, Any], *arguments: str) -> dict[str, Any]:
    # The reader is validated's own, in a process of its own: this package imports no service.
    command_line = [sys.executable, "-m", "validated.roster_tool", action]
    command_line += [str(file)] if file is not None else []
    command_line += [*arguments, *(("--config", str(given["config"])) if given["config"] is not None else ())]
    columns = dict(pair.partition("=")[::2] for pair in given["columns"])
    if not all(columns.values()):
        raise click.UsageError("--column takes OURS=THEIRS, such as --column worker_id=emp_no")
    rules = {
        "assignments_path": given["assignments"] and str(given["assignments"]),
        "do_not_send_path": given["do_not_send"] and str(given["do_not_send"]),
        "columns": columns,
        "ignore_columns": given["ignored"],
        "delimiter": given["delimiter"],
        "encoding": given["encoding"],
    }
    command_line += ["--rules", json.dumps({name: value for name, value in rules.items() if value})]
    result = subprocess.run(command_line, capture_output=True, check=False)  # noqa: S603  our own interpreter and module
    try:
        report: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise SystemFault(f"the reader failed: {last[0]}") from None
    if "usage" in report:
        raise click.UsageError(report["usage"])
    return report


def _exit_on_problems(report: dict[str, Any], *, as_json: bool) -> None:
    if not report.get("problems"):
        return
    if as_json:
        _print_json(report)
    else:
        _show_problems(report)
    sys.exit(NOT_ACCEPTED)


def _show_problems(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        where = ", ".join(filter(None, (f"row {problem['row']}" if problem["row"] else "", problem["column"])))
        click.echo(": ".join(filter(None, (problem["file"], where, problem["text"]))))
    if report["problems"]:
        total = len(report["problems"]) + report["problems_left_out"]
        click.echo(f"{total} problem{'s' * (total != 1)}; validated refuses this roster")


def _show_columns(report: dict[str, Any]) -> None:
    for dataset, columns in report["columns"].items():
        used = ", ".join(name if name == theirs else f"{name} = {theirs}" for name, theirs in columns["used"].items())
        rows = report["rows"].get(dataset)
        click.echo(f"{dataset}: {rows} rows; read: {used}")
        for what in ("ignored", "not_readable"):
            if columns.get(what):
                click.echo(f"{dataset}: {what.replace('_', ' ')}: {', '.join(columns[what])}")
        for name, meaning in columns["defaulted"].items():
            click.echo(f"{dataset}: no {name}: {meaning}")
    for dataset, count in report["unknown"].items():
        click.echo(f"{dataset}: {count} of {report['rows'].get(dataset)} rows about nobody of the roster")


def _show_likeness(report: dict[str, Any]) -> None:
    for sort, title in _SORTS.items():
        found = report[sort]
        if found["total"]:
            click.echo(f"{title} ({found['total']})")
        for group in found["shown"]:
            click.echo("  " + "  ".join(f"{each!a}" if not each.isascii() else each for each in group))


def _show_workers(workers: list[dict[str, Any]]) -> None:
    if not workers:
        return
    # Folded, not cut: an id that is not whole is none.
    table = Table(*(Column(name, overflow="fold") for name in _COLUMNS), box=None, pad_edge=False)
    for worker in workers:
        cells = {**worker, "certifications": "; ".join(worker.get("certifications", ()))}
        table.add_row(*(escape(str(cells.get(name, ""))) for name in _COLUMNS))
    terminal(wraps=True).print(table)


def _print_json(report: dict[str, Any]) -> None:
    click.echo(json.dumps(report, ensure_ascii=False))
