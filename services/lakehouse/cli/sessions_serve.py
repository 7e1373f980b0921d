"""`lakehouse sessions serve`: the session log as web pages on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from pathlib import Path

import click

from lakehouse.cli.exit_status import SystemFault, WrongRequest, statuses
from lakehouse.cli.finite_numbers import FiniteRange
from lakehouse.cli.sessions_lake import open_lake, table_option
from lakehouse.cli.sessions_output import log_option, one_line_errors
from lakehouse.cli.trace_link import langfuse_link, langfuse_options
from lakehouse.sessions.store.segments import SessionLogUnavailableError, open_snapshot

_QUESTION_S = 60.0


@click.command(
    "serve",
    short_help="The log as web pages: filters, live tail, one session whole, charts.",
    epilog=statuses("stopped by a signal"),
)
@log_option
@table_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8642, show_default=True, help="0: a free one.")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    help="A host name by which browsers call it, beside localhost and addresses; may be repeated.",
)
@click.option(
    "--question-s",
    type=FiniteRange(1, 86_400),
    default=_QUESTION_S,
    show_default=True,
    help="How long a page may look through the log.",
)
@langfuse_options
@one_line_errors
def serve(
    log_path: Path,
    config: Path | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    question_s: float,
    langfuse_host: str | None,
    langfuse_project: str | None,
    *,
    in_table: bool,
) -> None:
    """Show the session log in a browser: sessions as they come, filters, one session with its attempts side by side,
    statistics; each session can be downloaded as JSON or as one HTML file.

    The pages are only read and load nothing from elsewhere. There is no password: whoever reaches the port reads what
    whoever started it may read. So it listens on this machine alone, unless --host says otherwise. It needs the extra
    `page`.
    """
    try:
        from lakehouse.sessions.query.viewer import server, source  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise SystemFault(
            f"the pages need the extra `page` ({error.name} is missing): pip install 'lakehouse-iterate[server,page]'"
        ) from None

    address = _address(host)
    sessions: source.LogSource
    if in_table:
        from lakehouse.sessions.lake.table_source import TableSource  # noqa: PLC0415  for who reads the table

        sessions = TableSource(open_lake(config), question_s=question_s)
    else:
        sessions = source.LogSource(log_path, question_s=question_s)
        try:
            open_snapshot(log_path).close()
        except SessionLogUnavailableError as error:
            click.echo(f"Warning: {error}; the pages show sessions as soon as there are some", err=True)
    try:
        listener = server.listen(address, port)
    except OSError as error:
        raise SystemFault(f"{host}:{port}: {error.strerror or error}: name another by --host and --port") from None
    with listener:
        if not ipaddress.ip_address(address).is_loopback:
            click.echo(
                f"Warning: {address} can be reached from other machines, without a password and in plain text: whoever"
                " reaches it reads every prompt and answer",
                err=True,
            )
        shown = f"[{address}]" if ":" in address else address
        click.echo(f"http://{shown}:{listener.getsockname()[1]}/ shows {sessions.name}. Ctrl-C stops it.")

        async def run() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            # As `up`: a shell's background job is to end by SIGINT, one under nohup outlives its shell.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    loop.add_signal_handler(number, stop.set)
            await server.serve(
                listener,
                sessions,
                stop=stop,
                names=names,
                link_of=lambda trace_id: langfuse_link(langfuse_host, langfuse_project, trace_id),
            )

        asyncio.run(run())


def _address(host: str) -> str:
    """Return the IP address of a host. Raises WrongRequest."""
    try:
        return str(socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise WrongRequest(f"--host {host!r:.80}: {error.strerror or error}") from None
