"""``lakehouse``: finds the commands. Each one is imported when it is asked for, so that ``--help`` stays quick."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

try:
    import click
except ModuleNotFoundError:  # the client half alone is installed
    sys.exit("lakehouse: the command line needs the extra `server`: pip install 'lakehouse-iterate[server]'")

from lakehouse.cli.command_group import CommandGroup
from lakehouse.cli.exit_status import ReaderGone, end_process, statuses
from lakehouse.cli.standard_streams import take_standard_streams
from lakehouse.colours import has_colours
from lakehouse.server.grpc_switches import set_grpc_switches

# name -> what it does, as `lakehouse --help` says. The module lakehouse.cli.<name> has the click command `command`.
_COMMANDS = {
    "demo": "Run one whole session on a stack of its own: a phantom worker is caught and corrected.",
    "up": "Start the three services on this machine; Ctrl-C stops them.",
    "iterate": "Run a session against a running stack and watch it.",
    "brief": "Show what a model would be shown before it answers: form, rules, candidates.",
    "kinds": "List the kinds of artifact that a validated knows; check and try declared ones.",
    "validate": "Check an artifact file against the ground truth.",
    "chat": "Ask a model through chatd.",
    "callers": "Look at a callers' file: check it, and who a credential would be.",
    "roster": "Look at a roster file: check it, count it, search it.",
    "dataset": "Look at a dataset of the configuration: check it, describe it, search it.",
    "completion": "Print the completion script of bash, zsh or fish.",
    "sessions": "Read the session log: list, show, count, query, verify, compact.",
}


class _Lakehouse(CommandGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"lakehouse.cli.{cmd_name}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for each in args:
            try:
                each.encode()
            except UnicodeEncodeError:
                # Python carries such bytes along as lone surrogates, which nothing that we call takes for text.
                shown = os.fsencode(each[:60]).decode(errors="backslashreplace")
                raise click.UsageError(f"an argument is not UTF-8: {shown}") from None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Lakehouse,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=statuses("accepted, done or true", "not accepted, or the answer is no"),
)
@click.version_option(package_name="lakehouse-iterate", prog_name="lakehouse")
def main() -> None:
    """Answers that passed the gate: ask a model, validate against the ground truth, feed the findings back."""


def run() -> None:
    """Run the command: the process is ours from its first line on."""
    take_standard_streams()
    # A shell without job control starts background jobs with SIGINT ignored, and Python leaves it so: a command would
    # then go on, and its children with it, where somebody asks it to end. What is not ignored is not inherited either.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # grpc comes with the command's module.
    set_grpc_switches()
    # None: click looks whether the stream is a terminal.
    colours = None if has_colours() else False
    end_process(lambda: main.main(prog_name="lakehouse", standalone_mode=False, color=colours))


if __name__ == "__main__":
    run()
