"""`lakehouse sessions get`: one session, asked of a running iterate."""

from __future__ import annotations

import json
import sys

import click

from lakehouse.cli.connection import Connection, iterate_options
from lakehouse.cli.exit_status import NOT_ACCEPTED, Negative, statuses
from lakehouse.cli.finite_numbers import timeout_option
from lakehouse.cli.iterate import failed_call, response_object
from lakehouse.cli.progress import show_session
from lakehouse.cli.terminal import terminal
from lakehouse.clients import IterateClient
from lakehouse.errors import Fault, Reason


@click.command(
    "get",
    short_help="One session, of a running iterate.",
    epilog=statuses("accepted", "not accepted: the attempts are exhausted; or no such session"),
)
@click.argument("session_id")
@iterate_options
@timeout_option(10.0)
@click.option("--json", "as_json", is_flag=True, help="Print the response as one JSON object and nothing else.")
def get(session_id: str, address: str, timeout_s: float, connection: Connection, *, as_json: bool) -> None:
    """Ask a running iterate for a session of the last hours, as its caller may: the response that Iterate gave, or what
    the session ended with. `lakehouse sessions show` reads the log itself.
    """
    try:
        with IterateClient(address, credentials=connection.credentials(), token=connection.token()) as client:
            response = client.get_session(session_id, timeout_s=timeout_s)
    except Fault as fault:
        if fault.reason is Reason.SESSION_NOT_FOUND:
            raise Negative(
                f"{fault.message} `lakehouse sessions show {session_id}` looks through the whole log."
            ) from None
        raise failed_call(fault, address, connection) from None
    if as_json:
        click.echo(json.dumps(response_object(response), ensure_ascii=False))
    else:
        show_session(response, terminal(sys.stdout))
    sys.exit(0 if response.WhichOneof("outcome") == "accepted" else NOT_ACCEPTED)
