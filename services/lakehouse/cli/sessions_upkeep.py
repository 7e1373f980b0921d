"""`lakehouse sessions verify` and `compact`: is the log whole, and is it small."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse.cli.exit_status import SystemFault
from lakehouse.cli.finite_numbers import HOURS_MAX, FiniteRange
from lakehouse.cli.sessions_lake import check_retention, compaction_options
from lakehouse.cli.sessions_output import (
    json_option,
    log_option,
    one_line_errors,
    plural,
    print_json,
    progress_display,
    safe,
)
from lakehouse.sessions.record import RECALL_HOURS
from lakehouse.sessions.store.archive import ArchiveDamagedError

if TYPE_CHECKING:
    from lakehouse.sessions.upkeep.compaction import SegmentOutcome


@click.command("verify", short_help="Counts whole, torn, foreign and duplicate rows.")
@log_option
@click.option("--canonical", is_flag=True, help="Also check that each row's bytes are the contract's encoding of it.")
@click.option(
    "--problems",
    "problems_max",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="Places to name of each kind.",
)
@click.option(
    "--recall-hours",
    type=FiniteRange(0, HOURS_MAX),
    default=RECALL_HOURS,
    show_default=True,
    help="iterate's recall_hours: a row of a used id that ended later is `reused` and no duplicate.",
)
@json_option
@one_line_errors
def verify(log_path: Path, problems_max: int, recall_hours: float, *, canonical: bool, as_json: bool) -> None:
    """Read every line of the log, Parquet included.

    Two rows with the same session id are no fault where their `try` differs (a session that ended as infra_error was
    tried again), or where the later one ended more than --recall-hours after the one before (`reused`). Any others are
    duplicates.

    Exit status 0: nothing torn, doubled or unreadable (and all canonical, if asked). 1: something is; 3:
    there is no log. Rows of other producers, and rows that claim our schema without its keys, are counted and do not
    fail it.
    """
    from lakehouse.sessions.store.segments import open_snapshot  # noqa: PLC0415  what this command alone needs
    from lakehouse.sessions.upkeep.verification import verify_log  # noqa: PLC0415

    with progress_display("Reading every line") as display, open_snapshot(log_path) as snapshot:
        result = verify_log(
            snapshot,
            canonical=canonical,
            problems_max=problems_max,
            recall_hours=recall_hours,
            progress=display.advance,
            on_start=display.start,
        )
        for notice in snapshot.notices:
            click.echo(f"Warning: {notice}", err=True)
    if as_json:
        print_json(result.to_dict())
    else:
        counts = [
            (name, getattr(result, name)) for name in ("whole", "torn", "foreign", "invalid", "duplicates", "reused")
        ]
        counts += [("not canonical", result.not_canonical), ("unreadable files", result.unreadable)]
        for name, count in counts:
            if count is not None:
                click.echo(f"{name:<17}{count}")
        for problem in result.problems:
            place = f"{problem.path}, {'line' if problem.offset is not None else 'row'} {problem.line}"
            place += f", byte {problem.offset}" if problem.offset is not None else ""
            text = f"{place}: {problem.detail}" if problem.path else problem.detail
            click.echo(f"{problem.kind:<17}{safe(text)}")
        if result.in_flight:
            click.echo("A row was being written at the end of the live file; it is not counted.")
    if not result.passed:
        raise click.exceptions.Exit(1)


@click.command("compact", short_help="Rotated files to Parquet.")
@log_option
@click.option(
    "--memory",
    "memory_mib",
    type=click.IntRange(min=256),
    default=400,
    show_default=True,
    help="MiB that it takes at most, about; what does not fit goes to the disk.",
)
@compaction_options
@json_option
@one_line_errors
def compact(
    log_path: Path,
    settle_s: float,
    memory_mib: int,
    recall_hours: float,
    retention_days: float | None,
    *,
    as_json: bool,
) -> None:
    """Turn the rotated files beside the log into ZSTD Parquet by day, in the folder `<log>.parquet`, and remove each
    once its Parquet was read back and compared with it; then merge the small files of each day into few. The live file
    is never touched.

    May be killed and run again at any moment. Run it when logrotate is not at work (from its `postrotate`, or at
    another hour), since a compressor that has a file open finishes it under the old name.

    Exit status 1: a file or a day was left as it is, but for --recall-hours; the reason says what to do.
    """
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    from lakehouse.sessions.upkeep.compaction import compact as compact_log  # noqa: PLC0415
    from lakehouse.sessions.upkeep.merging import merge_days  # noqa: PLC0415

    memory_bytes = memory_mib * 1024**2
    check_retention(retention_days, recall_hours)
    outcomes, days_left = [], 0
    with progress_display("Compacting") as display:
        try:
            for outcome in compact_log(
                log_path,
                settle_s=settle_s,
                recall_hours=recall_hours,
                memory_bytes=memory_bytes,
                progress=display.advance,
                on_start=display.start,
            ):
                outcomes.append(outcome)
                if not as_json:
                    click.echo(f"{outcome.source}: {_done(outcome)}")
            for day in merge_days(
                log_path, memory_bytes=memory_bytes, progress=display.advance, on_start=display.start
            ):
                days_left += not day.merged
                if not day.merged:
                    click.echo(f"{day.day or 'the Parquet files'}: not merged: {day.reason}", err=as_json)
                elif not as_json:
                    click.echo(f"{day.day}: {day.files} Parquet files of {day.lines} lines merged into one")
            if retention_days is not None:
                _drop_days(log_path, retention_days)
        except duckdb.Error as error:
            raise SystemFault(f"DuckDB failed, and no row was removed: {error}") from None
        except ArchiveDamagedError as error:
            raise SystemFault(str(error)) from None
    if as_json:
        print_json([asdict(outcome) for outcome in outcomes])
    elif not outcomes:
        click.echo("Nothing to compact: no rotated file stands beside the live one.")
    if days_left or not all(outcome.compacted or outcome.recalled for outcome in outcomes):
        raise click.exceptions.Exit(1)


def _done(outcome: SegmentOutcome) -> str:
    if not outcome.compacted:
        return f"left as it is: {outcome.reason}"
    torn = f", {outcome.torn} torn ones kept as they are" if outcome.torn else ""
    return f"{outcome.lines} lines, {outcome.source_bytes} bytes to {outcome.parquet_bytes}{torn}"


def _drop_days(log_path: Path, retention_days: float) -> None:
    from lakehouse.sessions.upkeep.retention import drop_days, first_kept_day  # noqa: PLC0415  for who has a retention

    gone = drop_days(log_path, first_kept_day(retention_days))
    if gone:
        click.echo(f"{plural(gone, 'line')} older than they are kept removed", err=True)
