"""``lakehouse iterate``: run a session against a running stack and watch it."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import click
from google.protobuf import json_format

from lakehouse.cli.connection import Connection, iterate_options
from lakehouse.cli.exit_status import NOT_ACCEPTED, Interrupted, SystemFault, of_fault, statuses
from lakehouse.cli.finite_numbers import timeout_option
from lakehouse.cli.progress import show
from lakehouse.cli.terminal import terminal
from lakehouse.clients import IterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.message_fields import FieldsError, set_fields
from lakehouse.spec_member import SpecError, read_object, set_spec
from lakehouse.trace_context import normalise_trace_id, trace_metadata


@click.command(epilog=statuses("accepted", "not accepted: the attempts are exhausted"))
@click.argument("request_file", required=False, type=click.Path(path_type=Path))
@iterate_options
@click.option("--kind", help="Which validator decides: a name that `lakehouse kinds` lists.")
@click.option("--prompt", help="The task in words; - reads standard input.")
@click.option("--spec", help="The kind's spec: JSON, or @FILE (JSON or TOML).")
@click.option("--provider", help="Provider or route of chatd.")
@click.option("--model", help="Model, as the provider spells it.")
@click.option(
    "--grounding",
    type=click.Choice(["none", "form", "candidates"]),
    help="What the model gets to know before it answers (default: as the deployment is configured).",
)
@click.option("--max-iterations", type=int, help="The most attempts.")
@click.option(
    "--session-id",
    help="Id of the session (default: a UUIDv7). The same call with the same id is answered again, unbilled.",
)
@click.option("--trace-id", help="Joins the session to a trace of yours.")
@timeout_option(120.0)
@click.option("--json", "as_json", is_flag=True, help="Print the response as one JSON object and nothing else.")
def command(
    request_file: Path | None,
    address: str,
    prompt: str | None,
    spec: str | None,
    grounding: str | None,
    trace_id: str | None,
    timeout_s: float,
    as_json: bool,  # noqa: FBT001  click passes it by name
    connection: Connection,
    **flags: Any,
) -> None:
    """Run a session and watch it.

    REQUEST_FILE is an IterateRequest as JSON or TOML, with the proto's field names; flags go over it.

    \b
      lakehouse iterate --kind fill --prompt "Fill 3 forklift operators in Toledo for Saturday" \\
        --spec '{"role": "forklift operator", "count": 3, "city": "Toledo", "state": "OH"}'
    """
    if grounding is not None:
        flags["grounding"] = f"GROUNDING_{grounding.upper()}"
    request = _request(request_file, prompt=prompt, spec=spec, **flags)
    try:
        metadata = trace_metadata(trace_id) if trace_id is not None else ()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--trace-id") from None
    console = terminal(sys.stderr if as_json else sys.stdout)
    response = None
    try:
        with IterateClient(address, credentials=connection.credentials(), token=connection.token()) as client:
            for event in client.stream_iterate(request, timeout_s=timeout_s, metadata=metadata):
                if not as_json:
                    show(event, console)
                if event.HasField("response"):
                    response = event.response
    except Fault as fault:
        raise failed_call(fault, address, connection) from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted: the session was cancelled") from None
    if response is None:
        raise SystemFault("iterate ended the stream without a response")
    if trace_id is not None and (normalise_trace_id(trace_id) or ("",))[0] != response.trace_id:
        click.echo(f"--trace-id was not used: the session's trace is {response.trace_id}", err=True)
    if as_json:
        click.echo(json.dumps(response_object(response), ensure_ascii=False))
    sys.exit(0 if response.WhichOneof("outcome") == "accepted" else NOT_ACCEPTED)


def response_object(response: iterate_pb2.IterateResponse) -> dict[str, Any]:
    """Return the response as JSON-ready values: verdicts and grounding as words, the artifact as it is."""
    attempts = []
    for attempt in response.attempts:
        value = json_format.MessageToDict(attempt, preserving_proto_field_name=True)
        value["verdict"] = iterate_pb2.Verdict.Name(attempt.verdict).removeprefix("VERDICT_").lower()
        attempts.append(value)
    brief = None
    if response.HasField("brief"):
        brief = json_format.MessageToDict(response.brief, preserving_proto_field_name=True)
        brief["grounding"] = iterate_pb2.Grounding.Name(response.brief.grounding).removeprefix("GROUNDING_").lower()
    outcome = response.WhichOneof("outcome") or ""
    artifact = getattr(response, outcome).artifact_json if outcome else ""
    return {
        "final_verdict": outcome,
        "recalled": response.recalled,
        "infeasible": response.max_iter_exhausted.infeasible,
        "no_progress": response.max_iter_exhausted.no_progress,
        "token_budget_spent": response.max_iter_exhausted.token_budget_spent,
        "iterations": len(attempts),
        "session_id": response.session_id,
        "trace_id": response.trace_id,
        "brief": brief,
        "attempts": attempts,
        "artifact": json.loads(artifact) if artifact else None,
        "grounded_in_roster": response.grounded_in_roster if response.HasField("grounded_in_roster") else None,
        "input_tokens": response.input_tokens,
        "output_tokens": response.output_tokens,
        "duration_ms": response.duration_ms,
    }


_EMPTY_INPUT: Final = ": standard input held nothing"


def _request(file: Path | None, *, prompt: str | None, spec: str | None, **flags: Any) -> iterate_pb2.IterateRequest:
    values: dict[str, Any] = _read(file) if file is not None else {}
    values.update({name: value for name, value in flags.items() if value is not None})
    if prompt is not None:
        values["prompt"] = sys.stdin.read() if prompt == "-" else prompt
    for name in ("kind", "prompt"):
        if name not in values:
            raise click.UsageError("give a request file, or --kind and --prompt")
        if values[name] == "":
            raise click.UsageError(f"the {name} is empty{_EMPTY_INPUT if prompt == '-' and name == 'prompt' else ''}")
    request = iterate_pb2.IterateRequest()
    try:
        set_fields(request, values)
    except FieldsError as error:
        raise click.UsageError(f"the request does not fit IterateRequest:\n{error}") from None
    if spec is not None:
        text = json.dumps(_read(Path(spec[1:]))) if spec.startswith("@") else spec
        try:
            set_spec(request, request.kind, text, unwrapped=True)
        except SpecError as error:
            raise click.UsageError(f"--spec: {error}") from None
    return request


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{file}: not UTF-8") from None
    if file.suffix == ".toml":
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise click.UsageError(f"{file}: not TOML: {error}") from None
    try:
        return read_object(text)
    except SpecError as error:
        raise click.UsageError(f"{file}: {error}") from None


def failed_call(fault: Fault, address: str, connection: Connection) -> click.ClickException:
    """Return what the command raises for a call that failed, with what to do about it."""
    hint = ""
    if fault.code == "UNIMPLEMENTED" and fault.reason is None:
        hint = f"\nAt {address} another service answers, or an older release of iterate: is it iterate's address?"
    elif problem := connection.explain(fault, address):
        hint = f"\n{problem}"
    elif fault.reason is None and fault.code == "UNAVAILABLE":
        hint = f"\nIs a stack running at {address}? `lakehouse up` starts one."
    # gRPC's own words for it speak of its connections.
    said = (
        "UNAVAILABLE: iterate cannot be reached."
        if fault.reason is None and fault.code == "UNAVAILABLE"
        else str(fault)
    )
    session = fault.metadata.get("session_id", "")
    where = f"\n  in {fault.where}" if fault.where and fault.reason is not None else ""
    return of_fault(fault, f"{said}{where}" + (f"\n  session {session}" if session else "") + hint)
