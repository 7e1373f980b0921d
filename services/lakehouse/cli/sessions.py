"""`lakehouse sessions`: everything that reads the session log."""

from __future__ import annotations

import click

from lakehouse.cli.exit_status import statuses
from lakehouse.cli.sessions_figures import report, stats
from lakehouse.cli.sessions_query import ls, sql, tail
from lakehouse.cli.sessions_replay import replay
from lakehouse.cli.sessions_show import show
from lakehouse.cli.sessions_upkeep import compact, verify


@click.group(
    "sessions",
    short_help="Read, check and compact the session log.",
    epilog=statuses("done", "no such session, verdicts that differ, a log that is not whole"),
)
def command() -> None:
    """Read the session log: the live file, its rotated files (plain, gzip, zstd) and the compacted Parquet as one
    stream."""


for _subcommand in (ls, show, stats, sql, tail, verify, compact, report, replay):
    command.add_command(_subcommand)
