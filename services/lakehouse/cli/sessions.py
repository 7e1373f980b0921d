"""`lakehouse sessions`: everything that reads the session log."""

from __future__ import annotations

import importlib

import click

from lakehouse.cli.command_group import CommandGroup
from lakehouse.cli.exit_status import statuses

# Name -> the module of lakehouse.cli that has the command under this name. Each is imported when it is asked for: `ls`
# and `show` are to answer at once, and `replay` brings grpc.
_COMMANDS = {
    "ls": "sessions_query",
    "show": "sessions_show",
    "get": "sessions_get",
    "stats": "sessions_figures",
    "sql": "sessions_query",
    "tail": "sessions_query",
    "verify": "sessions_upkeep",
    "compact": "sessions_upkeep",
    "publish": "sessions_publish",
    "table": "sessions_table",
    "erase": "sessions_erase",
    "report": "sessions_figures",
    "serve": "sessions_serve",
    "replay": "sessions_replay",
}


class _Sessions(CommandGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = getattr(importlib.import_module(f"lakehouse.cli.{_COMMANDS[cmd_name]}"), cmd_name)
        return found


@click.group(
    "sessions",
    cls=_Sessions,
    short_help="Read, check and compact the session log.",
    epilog=statuses("done", "no such session, verdicts that differ, a log that is not whole"),
)
def command() -> None:
    """Read the session log: the live file, its rotated files (plain, gzip, zstd) and the compacted Parquet as one
    stream."""
