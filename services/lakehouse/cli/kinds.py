"""``lakehouse kinds``: which kinds of artifact a validated knows."""

from __future__ import annotations

import json
from typing import Any

import click

from lakehouse.cli.exit_status import statuses
from lakehouse.cli.gate import Validated, server_options
from lakehouse.validated.v1 import validated_pb2


@click.command(epilog=statuses("listed"))
@server_options
def command(*, validated: Validated, timeout_s: float, as_json: bool) -> None:
    """List the kinds of artifact that a running validated knows: what each is for, and the fields of its spec. The
    schema of each spec is in the --json form.
    """
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
