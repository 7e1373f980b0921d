"""`lakehouse sessions table`: where the table of all replicas is, for engines that others wrote."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lakehouse.cli.sessions_lake import config_option, open_lake
from lakehouse.cli.sessions_output import json_option, one_line_errors, plural, print_json


@click.command("table", short_help="Where the table of all replicas is, for other engines.")
@config_option
@json_option
@one_line_errors
def table(config: Path | None, *, as_json: bool) -> None:
    """Print where the Apache Iceberg table is and what it is now: its folder, the metadata file and the snapshot of the
    last commit, its rows and files.

    An engine that is connected to the catalog finds all that by itself. One that is given a path should be given the
    metadata file or the snapshot: in the folder there may be files of commits that were not to be.
    """
    from lakehouse.sessions.lake.reading import table_state  # noqa: PLC0415  for who reads the table

    lake = open_lake(config)
    state = table_state(lake)
    if as_json:
        print_json({"table": lake.name, "catalog": lake.config.catalog, **asdict(state)})
        return
    click.echo(f"table     {lake.name} of the catalog {lake.config.catalog}")
    click.echo(f"location  {state.location}")
    click.echo(f"metadata  {state.metadata}")
    if state.snapshot_id is None or state.committed_at is None:
        click.echo("Nothing was published yet.")
        return
    click.echo(f"snapshot  {state.snapshot_id} of {state.committed_at:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"holds     {plural(state.rows, 'row')} in {plural(state.files, 'file')}")
