"""``lakehouse kinds``: which kinds of artifact a validated knows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from lakehouse.cli.declared import config_option, json_option, look
from lakehouse.cli.exit_status import NOT_ACCEPTED, statuses
from lakehouse.cli.gate import Validated, server_options
from lakehouse.validated.v1 import validated_pb2


@click.group(invoke_without_command=True, epilog=statuses("listed, good or accepted", "problems, or findings"))
@server_options
def command(*, validated: Validated, timeout_s: float, as_json: bool) -> None:
    """List the kinds of artifact that a running validated knows (also: ls): what each is for, and the fields of its
    spec. The schema of each spec is in the --json form. check and try look at declared kinds without a server.
    """
    if click.get_current_context().invoked_subcommand is None:
        _list(validated, timeout_s, as_json=as_json)


@command.command("ls")
@server_options
def ls(*, validated: Validated, timeout_s: float, as_json: bool) -> None:
    """List the kinds that a running validated knows."""
    _list(validated, timeout_s, as_json=as_json)


@command.command("check")
@config_option
@json_option
def check(*, config: Path | None, as_json: bool) -> None:
    """Check the declarations in kinds_dir of the configuration. Reads no dataset."""
    report = look("kinds-check", config)
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        for problem in report["problems"]:
            click.echo(problem)
        if not report["problems"]:
            click.echo(f"{report['kinds_dir']}: {', '.join(report['kinds']) or 'no kind is declared'}: no problems")
    sys.exit(NOT_ACCEPTED if report["problems"] else 0)


@command.command("try")
@click.argument("kind")
@click.argument("artifact", type=click.File(encoding="utf-8"))
@click.option("--spec", default="", help="The spec, one JSON object.")
@config_option
@json_option
def try_artifact(*, kind: str, artifact: Any, spec: str, config: Path | None, as_json: bool) -> None:
    """Judge the file ARTIFACT (- for standard input) by the declared KIND, on the datasets of the configuration."""
    report = look("kinds-try", config, kind, f"--text={spec}", given=artifact.read())
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        for finding in report["findings"]:
            click.echo(f"{finding['code']} {finding['path'] or '(the whole)'}: {finding['message']}")
        click.echo("accepted" if report["passed"] else "rejected")
        for each in report["datasets"]:
            click.echo(f"dataset {each['name']} {each['version']}")
    sys.exit(0 if report["passed"] else NOT_ACCEPTED)


def _list(validated: Validated, timeout_s: float, *, as_json: bool) -> None:
    response = validated.ask(lambda client: client.list_kinds(timeout_s=timeout_s))
    if as_json:
        click.echo(json.dumps({"kinds": [_object(kind) for kind in response.kinds]}, ensure_ascii=False))
        return
    for kind in response.kinds:
        click.echo(f"{kind.name}: {kind.description or 'it says nothing of itself'}")
        click.echo(f"  spec: {_fields(_schema(kind))}")
        click.echo(f"  candidates: {'yes' if kind.has_candidates else 'no'}")


def _object(kind: validated_pb2.Kind) -> dict[str, Any]:
    return {
        "name": kind.name,
        "description": kind.description,
        "spec_schema": _schema(kind),
        "has_candidates": kind.has_candidates,
    }


def _schema(kind: validated_pb2.Kind) -> Any:
    # A kind from outside says what it likes.
    try:
        return json.loads(kind.spec_schema_json) if kind.spec_schema_json else None
    except ValueError:
        return None


def _fields(schema: Any) -> str:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not properties:
        return "any JSON object, or none"
    required = schema.get("required", ())
    names = sorted(properties, key=lambda name: name not in required)
    return ", ".join(f"{name} (required)" if name in required else name for name in names)
