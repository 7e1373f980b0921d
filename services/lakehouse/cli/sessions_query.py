"""`lakehouse sessions ls`, `sql` and `tail`: questions to the log."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import click

from lakehouse.cli.exit_status import INTERRUPTED
from lakehouse.cli.sessions_lake import open_lake, table_option
from lakehouse.cli.sessions_output import (
    json_option,
    log_option,
    one_line_errors,
    open_reader,
    plural,
    print_csv,
    print_json,
    print_json_rows,
    print_table,
    safe,
)
from lakehouse.sessions.query.listing import list_sessions
from lakehouse.sessions.query.session_filter import SessionFilter, parse_moment
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.row_reading import RowBreach

_P = ParamSpec("_P")
_R = TypeVar("_R")

TABLE_ROWS_MAX: Final = 1000
_POLL_S: Final = 0.2
_NUMBERS: Final = frozenset({"try", "n", "tokens in", "tokens out", "ms"})


class Moment(click.ParamType[datetime]):
    """A date, an RFC 3339 time or an age, to naive UTC."""

    name = "time"

    def convert(self, value: datetime | str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(value, now=datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def filter_options(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add `--verdict`, `--kind`, `--model`, `--caller`, `--since` and `--until`."""
    options = (
        click.option("--verdict", type=click.Choice(["accepted", "max_iter_exhausted", "infra_error"])),
        click.option("--kind", help="Sessions of this kind."),
        click.option("--model", help="Sessions that asked for this model."),
        click.option("--caller", help="Sessions of this caller."),
        click.option("--since", type=Moment(), help="Ended then or later: 2026-11-24, an RFC 3339 time, 90m, 24h, 7d."),
        click.option("--until", type=Moment(), help="Ended before then."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command("ls", short_help="The newest sessions.")
@log_option
@table_option
@filter_options
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True)
@json_option
@one_line_errors
def ls(
    log_path: Path,
    verdict: str | None,
    kind: str | None,
    model: str | None,
    caller: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    config: Path | None,
    *,
    in_table: bool,
    as_json: bool,
) -> None:
    """List sessions, newest first, one a line. One whose id was used again after it had failed stands there with each
    `try`.
    """
    wanted = SessionFilter(verdict=verdict, kind=kind, model=model, caller=caller, since=since, until=until)
    lake = open_lake(config) if in_table else None
    with open_reader(log_path, lake=lake) as (reader, display):
        display.start("Reading the newest sessions", reader.snapshot.size_bytes)
        found = list_sessions(reader, wanted, limit=limit, progress=display.advance)
    if as_json:
        print_json([session.to_dict() for session in found])
        return
    names = ("ended", "session", "try", "kind", "model", "verdict", "n", "tokens in", "tokens out", "ms")
    print_table(
        names,
        (
            (
                (session.timestamp or "")[:19] + ("Z" if session.timestamp else ""),
                session.session_id,
                session.try_number,
                session.kind,
                session.model,
                f"{session.final_verdict} ({session.reason})" if session.reason else session.final_verdict,
                session.iterations,
                session.input_tokens,
                session.output_tokens,
                session.duration_ms,
            )
            for session in found
        ),
        right=_NUMBERS,
    )
    if not found:
        click.echo("No session fits.", err=True)


@click.command("sql", short_help="A DuckDB query over `sessions` and `attempts`.")
@click.argument("statement")
@log_option
@table_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@one_line_errors
def sql(statement: str, log_path: Path, config: Path | None, *, in_table: bool, as_json: bool, as_csv: bool) -> None:
    """Run one reading statement in DuckDB.

    Views: `sessions` (a row's keys as columns), `attempts` (one row an attempt) and `facts` (`sessions` without its
    long texts, for speed). `timestamp` is UTC, `spec` and `artifact` are JSON text, `try` is NULL for the first use of
    an id. `DESCRIBE sessions` lists them.

    \b
    lakehouse sessions sql "SELECT kind, count(*) FROM sessions GROUP BY kind"
    lakehouse sessions sql "SELECT artifact->>'$.subject' FROM sessions WHERE kind = 'email'"
    """
    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both")
    lake = open_lake(config) if in_table else None
    with open_reader(log_path, lake=lake) as (reader, _):
        names, rows = reader.query_read_only(statement)
        if as_json:
            print_json_rows(names, rows)
        elif as_csv:
            print_csv(names, rows)
        else:
            shown = list(itertools.islice(rows, TABLE_ROWS_MAX))
            print_table(names, shown)
            if next(rows, None) is not None:
                click.echo(f"The first {TABLE_ROWS_MAX} rows; --json and --csv print all.", err=True)


@click.command("tail", short_help="The last sessions, and those to come.")
@log_option
@click.option("-n", "count", type=click.IntRange(0, 10_000), default=10, show_default=True, help="Rows to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new rows, across rotation, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows, to the byte as the log has them.")
@one_line_errors
def tail(log_path: Path, count: int, *, follow: bool, as_json: bool) -> None:
    """Print the newest rows of the live file and the rotated ones, oldest first, one a line; compacted rows are not
    looked for. Lines that are torn, or rows of other producers, are printed with --json alone."""
    from lakehouse.sessions.query.follow import LogFollower  # noqa: PLC0415  beside what it needs alone
    from lakehouse.sessions.store.lines import last_lines  # noqa: PLC0415
    from lakehouse.sessions.store.segments import open_snapshot  # noqa: PLC0415

    with open_snapshot(log_path) as snapshot:
        live = next((segment for segment in snapshot.segments if segment.live), None)
        for line in last_lines(snapshot.segments, count):
            _print_row(line, as_json=as_json)
        if not follow:
            return
        follower = LogFollower(log_path, after=live)
    with follower:
        try:
            while True:
                for line in follower.poll():
                    _print_row(line, as_json=as_json)
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def _print_row(line: bytes, *, as_json: bool) -> None:
    if as_json:
        click.echo(line)
        return
    try:
        row = json.loads(read_row_line(line).text)
    except RowBreach:
        return
    error = row.get("error")
    reason = f" ({error.get('reason')})" if isinstance(error, dict) else ""
    again = f" (try {row['try']})" if "try" in row else ""
    shown = (
        f"{str(row.get('timestamp'))[:19]}Z  {row['session_id']}{again}  {row.get('kind')}  {row.get('model')}"
        f"  {row['final_verdict']}{reason}  {plural(row.get('iterations'), 'attempt')}  {row.get('duration_ms')} ms"
    )
    click.echo(safe(shown).replace("\n", "\\n"))
