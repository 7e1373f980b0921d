"""``lakehouse chat``: ask a model through chatd, and see its answer as it is made."""

from __future__ import annotations

import json
import sys

import click
from google.protobuf import json_format

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.cli.connection import Connection, checked_address, connection_options
from lakehouse.cli.exit_status import Interrupted, of_fault, statuses
from lakehouse.cli.finite_numbers import FiniteRange, timeout_option
from lakehouse.clients import ChatClient
from lakehouse.errors import Fault, Reason


@click.command(epilog=statuses("answered"))
@click.argument("prompt", default="-")
@click.option(
    "--address",
    default="127.0.0.1:50052",
    show_default=True,
    envvar="LAKEHOUSE_CHATD",
    callback=checked_address,
    help="chatd.",
)
@connection_options
@click.option("--provider", default="", help="Provider or route of chatd.")
@click.option("--model", default="", help="Model, as the provider spells it.")
@click.option("--system", default="", help="Instructions that go before the prompt.")
@click.option("--temperature", type=FiniteRange(0, 2), help="Sampling temperature, 0 to 2.")
@click.option("--max-tokens", type=click.IntRange(1, 2**31 - 1), help="The longest answer in tokens.")
@timeout_option(120.0)
@click.option("--json", "as_json", is_flag=True, help="Print the response as one JSON object and nothing else.")
def command(
    *,
    prompt: str,
    address: str,
    provider: str,
    model: str,
    system: str,
    temperature: float | None,
    max_tokens: int | None,
    timeout_s: float,
    as_json: bool,
    connection: Connection,
) -> None:
    """Ask a model. PROMPT is the question; - or nothing reads it from standard input."""
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise click.UsageError("the prompt is empty")
    messages = [chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content=text)]
    if system:
        messages.insert(0, chatd_pb2.Message(role=chatd_pb2.ROLE_SYSTEM, content=system))
    try:
        request = chatd_pb2.CompleteRequest(
            messages=messages,
            target=chatd_pb2.Target(provider=provider, model=model),
            temperature=temperature,
            max_tokens=max_tokens,
        )
    except ValueError as error:
        raise click.UsageError(f"the request does not fit CompleteRequest: {error}") from None
    try:
        with ChatClient(address, credentials=connection.credentials(), token=connection.token()) as client:
            if as_json:
                _print_json(client.complete(request, timeout_s=timeout_s))
            else:
                _print_live(client, request, timeout_s)
    except Fault as fault:
        hint = f"\nIs chatd running on {address}?" if fault.reason is Reason.CHATD_UNREACHABLE else ""
        if problem := connection.explain(fault, address):
            hint = f"\n{problem}"
        raise of_fault(fault, f"{fault}{hint}") from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted: the call was cancelled") from None


def _print_live(client: ChatClient, request: chatd_pb2.CompleteRequest, timeout_s: float) -> None:
    """Print the answer's text on standard output, the reasoning and what it took on standard error."""
    thinking = False
    for event in client.stream_complete(request, timeout_s=timeout_s):
        match event.WhichOneof("event"):
            case "reasoning_delta":
                click.secho(event.reasoning_delta, dim=True, nl=False, err=True)
                thinking = True
            case "text_delta":
                if thinking:
                    click.echo(err=True)
                    thinking = False
                click.echo(event.text_delta, nl=False)
                sys.stdout.flush()
            case "response":
                if event.response.text and not event.response.text.endswith("\n"):
                    click.echo()
                for call in event.response.tool_calls:
                    click.echo(f"{call.name}({call.arguments_json})")
                click.secho(_summary(event.response), dim=True, err=True)
            case _:
                # An event of a later chatd.
                pass


def _summary(response: chatd_pb2.CompleteResponse) -> str:
    usage = response.usage
    parts = [
        f"{response.provider}/{response.model}",
        f"{usage.input_tokens} + {usage.output_tokens} tokens",
        f"first after {response.time_to_first_token_ms} ms",
    ]
    if response.HasField("cost"):
        parts.append(f"${response.cost.total_usd:.6f}")
    if response.finish_reason not in {
        chatd_pb2.FINISH_REASON_UNSPECIFIED,
        chatd_pb2.FINISH_REASON_STOP,
    }:
        name = chatd_pb2.FinishReason.Name(response.finish_reason)
        parts.append(f"ended by {name.removeprefix('FINISH_REASON_').lower()}")
    return "[" + ", ".join(parts) + "]"


def _print_json(response: chatd_pb2.CompleteResponse) -> None:
    value = json_format.MessageToDict(response, preserving_proto_field_name=True)
    # ProtoJSON writes 64-bit integers as strings.
    value["time_to_first_token_ms"] = response.time_to_first_token_ms
    name = chatd_pb2.FinishReason.Name(response.finish_reason)
    value["finish_reason"] = name.removeprefix("FINISH_REASON_").lower()
    click.echo(json.dumps(value, ensure_ascii=False))
