"""``lakehouse dataset``: look at a dataset of the configuration before, or while, validated uses it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from lakehouse.cli.declared import config_option, json_option, look
from lakehouse.cli.exit_status import NOT_ACCEPTED, statuses


@click.group(epilog=statuses("good, or found", "the dataset is refused, or nothing was found"))
def command() -> None:
    """Look at a dataset, [validated.datasets.NAME] of the configuration: check it, describe it, search it."""


@command.command()
@click.argument("name")
@config_option
@json_option
def check(*, name: str, config: Path | None, as_json: bool) -> None:
    """List every problem with its row and column. A dataset without problems is one that validated loads."""
    report = look("dataset-check", config, name)
    _print(report, as_json=as_json)
    sys.exit(NOT_ACCEPTED if report["problems"] else 0)


@command.command()
@click.argument("name")
@config_option
@json_option
def info(*, name: str, config: Path | None, as_json: bool) -> None:
    """Show version, columns and the first rows."""
    report = look("dataset-info", config, name)
    _print(report, as_json=as_json)
    sys.exit(NOT_ACCEPTED if report["problems"] else 0)


@command.command()
@click.argument("name")
@click.argument("text")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="The most rows.")
@config_option
@json_option
def find(*, name: str, text: str, limit: int, config: Path | None, as_json: bool) -> None:
    """Find rows by their key (the parts of one of several columns by commas) or by a part of a text; where there is
    none, rows whose keys look like it.
    """
    report = look("dataset-find", config, name, f"--text={text}", "--limit", str(limit))
    if report.get("problems"):
        _print(report, as_json=as_json)
        sys.exit(NOT_ACCEPTED)
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        if not report["rows"]:
            click.echo(f'no row has "{text}"' + ("; near to it:" if report["near"] else ""))
        for row in report["rows"] or report["near"]:
            click.echo(json.dumps(row, ensure_ascii=False))
    sys.exit(0 if report["rows"] else NOT_ACCEPTED)


def _print(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
        return
    for problem in report["problems"]:
        where = ", ".join(filter(None, (f"row {problem['row']}" if problem["row"] else "", problem["column"])))
        click.echo(": ".join(filter(None, (problem["file"], where, problem["text"]))))
    total = len(report["problems"]) + report["problems_left_out"]
    if total:
        click.echo(f"{total} problem{'s' * (total != 1)}; validated refuses this dataset")
        return
    click.echo(f"{report['dataset']}: {report['row_count']} rows of {report['source']}, version {report['version']}")
    click.echo(f"key: {', '.join(report['key'])}")
    click.echo(f"columns: {', '.join(f'{name} ({type_})' for name, type_ in report['columns'].items())}")
    for warning in report["warnings"]:
        click.echo(f"warning: {warning}")
    for row in report.get("first", ()):
        click.echo(json.dumps(row, ensure_ascii=False))
