"""``lakehouse validate``: check an artifact file against the ground truth."""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import grpc
from google.protobuf import json_format

from lakehouse.cli.connection import TlsFlags, checked_address, tls_options
from lakehouse.cli.stack import Stack, StackError
from lakehouse.clients import ValidateClient
from lakehouse.errors import Fault, Reason
from lakehouse.spec_member import SpecError, set_spec, spec_member
from lakehouse.validated.v1 import validated_pb2

EXIT_FINDINGS = 3
ADDRESS = "127.0.0.1:50053"


@click.command(epilog="Exit status: 0 passed, 3 findings, 1 a fault, 2 wrong usage.")
@click.argument("artifact_file", default="-")
@click.option("--kind", default="fill", show_default=True, help="Which validator decides: fill, email, json_schema, …")
@click.option("--spec", help="The kind's spec: JSON, or @FILE (JSON or TOML); for json_schema the schema itself.")
@click.option("--role", help="fill: the role that each worker must hold.")
@click.option("--count", type=int, help="fill: how many workers, exactly.")
@click.option("--city", help="fill: where each worker must be based.")
@click.option("--state", help="fill: the same, two letters.")
@click.option("--shift-start", help="fill: RFC 3339 with an offset.")
@click.option("--shift-end", help="fill: RFC 3339 with an offset.")
@click.option("--certification", "required_certifications", multiple=True, help="fill: must be held; repeatable.")
@click.option("--client-id", help="fill: whose do-not-send list counts.")
@click.option(
    "--address",
    envvar="LAKEHOUSE_VALIDATED",
    callback=checked_address,
    help=f"A running validated (default: {ADDRESS}).",
)
@tls_options
@click.option("--roster", type=click.Path(path_type=Path), help="Start a validated of our own on this roster instead.")
@click.option("--timeout", "timeout_s", type=float, default=30.0, show_default=True, help="Deadline, seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the response as one JSON object and nothing else.")
def command(
    *,
    artifact_file: str,
    kind: str,
    spec: str | None,
    address: str | None,
    roster: Path | None,
    timeout_s: float,
    as_json: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    **fields: Any,
) -> None:
    """Check an artifact. ARTIFACT_FILE is JSON; - or nothing reads it from standard input.

    \b
      lakehouse validate answer.json --role "forklift operator" --count 3 --city Toledo --state OH \\
        --roster examples/roster/workers.csv
    """
    if roster is not None and address is not None:
        raise click.UsageError("give --roster or --address, not both")
    tls = TlsFlags(ca, cert, key)
    given = {name: value for name, value in fields.items() if value not in (None, ())}
    request = _request(kind, _artifact(artifact_file), spec, given)
    try:
        if roster is not None:
            response = asyncio.run(_validate_with(roster, request, timeout_s))
        else:
            response = _validate(address or ADDRESS, request, timeout_s, tls.credentials())
    except Fault as fault:
        raise _failed(fault, address or ADDRESS, roster, tls) from None
    except StackError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(_object(response), ensure_ascii=False))
    else:
        _show(response)
    sys.exit(0 if response.passed else EXIT_FINDINGS)


def _validate(
    address: str,
    request: validated_pb2.ValidateRequest,
    timeout_s: float,
    credentials: grpc.ChannelCredentials | None = None,
) -> validated_pb2.ValidateResponse:
    with ValidateClient(address, credentials=credentials) as client:
        return client.validate(request, timeout_s=timeout_s)


async def _validate_with(
    roster: Path, request: validated_pb2.ValidateRequest, timeout_s: float
) -> validated_pb2.ValidateResponse:
    environ = {"VALIDATED_BIND": "127.0.0.1:0", "VALIDATED_ROSTER__PATH": str(roster)}
    stack = Stack(on_log=lambda *_: None, environ=environ)
    try:
        await stack.start_service("validated")
        if causes := stack.causes["validated"]:
            raise StackError("\n".join(causes))
        return await asyncio.to_thread(_validate, stack.addresses["validated"], request, timeout_s)
    finally:
        await stack.stop()


def _artifact(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{file}: not UTF-8") from None


def _request(kind: str, artifact: str, spec: str | None, fields: dict[str, Any]) -> validated_pb2.ValidateRequest:
    if fields and kind != "fill":
        raise click.UsageError(f"--{next(iter(fields)).replace('_', '-')} belongs to kind fill; use --spec")
    request = validated_pb2.ValidateRequest(kind=kind, artifact_json=artifact)
    member = spec_member(request, kind)
    try:
        if spec is not None:
            set_spec(request, kind, _spec_text(spec), unwrapped=True)
        elif member.message_type is not None:
            # Set, though empty: the answer then names the fields that are missing.
            getattr(request, member.name).SetInParent()
        if fields:
            for name in fields:
                request.fill.ClearField(name)
            json_format.ParseDict(fields, request.fill)
    except (SpecError, json_format.ParseError) as error:
        raise click.UsageError(f"the spec does not fit: {error}") from None
    return request


def _spec_text(spec: str) -> str:
    if not spec.startswith("@"):
        return spec
    file = Path(spec[1:])
    text = _artifact(str(file))
    if file.suffix != ".toml":
        return text
    try:
        return json.dumps(tomllib.loads(text), default=str)
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{file}: not TOML: {error}") from None


def _failed(fault: Fault, address: str, roster: Path | None, tls: TlsFlags) -> click.ClickException:
    text = str(fault)
    if roster is None and (problem := tls.explain(fault, address)):
        text += f"\n{problem}"
    elif fault.reason is Reason.VALIDATED_UNREACHABLE and roster is None:
        text += f"\nnobody listens on {address}: start the services with `lakehouse up`, or give --roster FILE"
    return click.ClickException(text)


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
        roster = response.roster
        click.echo(f"roster {roster.source}, {roster.version}, {roster.row_count} workers, loaded {roster.loaded_at}")
