"""``lakehouse validate``: check an artifact file against the ground truth."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from google.protobuf import json_format

from lakehouse.cli.exit_status import NOT_ACCEPTED, statuses
from lakehouse.cli.gate import SPEC_OPTIONS, Validated, give_spec, read_text, roster_line, server_options, with_options
from lakehouse.validated.v1 import validated_pb2


@click.command(epilog=statuses("passed", "findings"))
@click.argument("artifact_file", default="-")
@with_options(*SPEC_OPTIONS)
@server_options
def command(
    *,
    artifact_file: str,
    kind: str,
    spec: str | None,
    validated: Validated,
    timeout_s: float,
    as_json: bool,
    **fields: Any,
) -> None:
    """Check an artifact. ARTIFACT_FILE is JSON; - or nothing reads it from standard input.

    \b
      lakehouse validate answer.json --role "forklift operator" --count 3 --city Toledo --state OH \\
        --roster examples/roster/workers.csv
    """
    request = validated_pb2.ValidateRequest(kind=kind, artifact_json=read_text(artifact_file))
    give_spec(request, kind, spec, fields)
    response = validated.ask(lambda client: client.validate(request, timeout_s=timeout_s))
    if as_json:
        click.echo(json.dumps(_object(response), ensure_ascii=False))
    else:
        _show(response)
    sys.exit(0 if response.passed else NOT_ACCEPTED)


def _object(response: validated_pb2.ValidateResponse) -> dict[str, Any]:
    value = json_format.MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    value["artifact"] = json.loads(value.pop("artifact_json"))
    return value


def _show(response: validated_pb2.ValidateResponse) -> None:
    total = len(response.findings) + response.findings_left_out
    click.echo("passed" if response.passed else f"refused: {total} finding{'s' * (total != 1)}")
    for finding in response.findings:
        click.echo(f"  {finding.code} at {finding.path or 'the top'}: {finding.message}")
    if response.findings_left_out:
        click.echo(f"  and {response.findings_left_out} more")
    if response.HasField("grounded_in_roster"):
        click.echo("every worker stands in the roster" if response.grounded_in_roster else "not grounded in the roster")
    if response.HasField("roster"):
        click.echo(roster_line(response.roster))
