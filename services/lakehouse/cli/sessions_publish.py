"""`lakehouse sessions publish`: the log's closed segments into the table of all replicas."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli.exit_status import SystemFault
from lakehouse.cli.sessions_lake import Duration, check_retention, compaction_options, config_option, open_lake
from lakehouse.cli.sessions_output import json_option, log_option, one_line_errors, plural, print_json
from lakehouse.sessions.lake.errors import LakeUnavailableError, PublishRefusedError
from lakehouse.sessions.store.archive import ArchiveDamagedError
from lakehouse.sessions.store.segments import SessionLogUnavailableError
from lakehouse.sessions.upkeep.closing import CompactionRefusedError

if TYPE_CHECKING:
    from lakehouse.sessions.lake.table import LakeTable


@dataclass(slots=True)
class _Round:
    """What one look at the log has done."""

    rotated: str | None = None
    compacted: int = 0
    """Segments."""
    published: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    expired: int = 0
    """Rows that are older than they are kept, out of the table."""
    left: list[str] = field(default_factory=list)
    """What was not done, in a sentence each."""


@click.command("publish", short_help="Closed segments into the table of all replicas.")
@log_option
@config_option
@click.option("--every", "every_s", type=Duration(), help="Go on, with such a pause, until stopped: 60s.")
@click.option(
    "--rotate-after",
    "rotate_after_s",
    type=Duration(),
    help="First rename the live file if its first row is as old as that (10m): where nothing else rotates it.",
)
@compaction_options
@json_option
@one_line_errors
def publish(
    log_path: Path,
    config: Path | None,
    every_s: float | None,
    rotate_after_s: float | None,
    settle_s: float,
    recall_hours: float,
    retention_days: float | None,
    *,
    as_json: bool,
) -> None:
    """Compact the rotated files beside the log, as `compact` does, and add the rows of every compacted segment to the
    Apache Iceberg table that [lake] names (LAKE_WAREHOUSE=/srv/lake, or s3://bucket/lake with LAKE_CATALOG_URI).

    Each row stands there once, whatever is killed, tried again or run twice. Many machines publish to one table, each
    its own log.

    Exit status 1: something was left as it is; the reason says what to do. With --every, what goes wrong is said and
    tried again with the next round.
    """
    check_retention(retention_days, recall_hours)
    lake = open_lake(config)
    if every_s is None:
        done = _round(log_path, lake, rotate_after_s, settle_s, recall_hours, retention_days)
        _print(done, as_json=as_json, quiet=False)
        if done.left:
            raise click.exceptions.Exit(1)
        return
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        # A commit under way is as good as killed, which costs nothing.
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        began = time.monotonic()
        try:
            done = _round(log_path, lake, rotate_after_s, settle_s, recall_hours, retention_days)
        except (SystemFault, LakeUnavailableError, PublishRefusedError, SessionLogUnavailableError, OSError) as error:
            text = error.message if isinstance(error, SystemFault) else str(error)
            done = _Round(left=[text])
        _print(done, as_json=as_json, quiet=True)
        stop.wait(max(0.0, every_s - (time.monotonic() - began)))


def _round(
    log_path: Path,
    lake: LakeTable,
    rotate_after_s: float | None,
    settle_s: float,
    recall_hours: float,
    retention_days: float | None,
) -> _Round:
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    from lakehouse.sessions.lake.publishing import publish as publish_log  # noqa: PLC0415  what this needs alone
    from lakehouse.sessions.upkeep.compaction import compact  # noqa: PLC0415
    from lakehouse.sessions.upkeep.merging import merge_days  # noqa: PLC0415
    from lakehouse.sessions.upkeep.rotation import rotate_after  # noqa: PLC0415

    done = _Round()
    try:
        if rotate_after_s is not None:
            rotated = rotate_after(log_path, rotate_after_s)
            done.rotated = rotated.name if rotated is not None else None
        try:
            for outcome in compact(log_path, settle_s=settle_s, recall_hours=recall_hours):
                done.compacted += outcome.compacted
                # A file that is only too young is nothing to report: a later round takes it.
                if not (outcome.compacted or outcome.young or outcome.recalled):
                    done.left.append(f"{outcome.source}: {outcome.reason}")
            for day in merge_days(log_path):
                if not day.merged:
                    done.left.append(f"{day.day or 'the Parquet files'}: not merged: {day.reason}")
        except CompactionRefusedError as error:
            # What was compacted before can be published all the same.
            done.left.append(str(error))
        for batch in publish_log(log_path, lake):
            done.rows += batch.rows
            done.published.append(asdict(batch))
            if batch.reason:
                done.left.append(batch.reason)
        if retention_days is not None:
            done.expired = _expire(log_path, lake, retention_days, done)
    except duckdb.Error as error:
        raise SystemFault(f"DuckDB failed, and no row was removed: {error}") from None
    return done


def _expire(log_path: Path, lake: LakeTable, retention_days: float, done: _Round) -> int:
    """Return how many rows went out of the table."""
    from lakehouse.sessions.lake.erasing import expire_days  # noqa: PLC0415  for who has a retention
    from lakehouse.sessions.upkeep.retention import drop_days, first_kept_day  # noqa: PLC0415

    before = first_kept_day(retention_days)
    try:
        drop_days(log_path, before)
    except (PublishRefusedError, CompactionRefusedError, ArchiveDamagedError) as error:
        done.left.append(f"older rows: {error}")
    table = expire_days(lake, before)
    if table is None:
        return 0
    done.left += table.not_reached
    return table.rows


def _print(done: _Round, *, as_json: bool, quiet: bool) -> None:
    """``quiet``: a round that had nothing to do says nothing."""
    if as_json:
        if not quiet or done.published or done.left or done.compacted or done.rotated:
            print_json(asdict(done))
        return
    for text in done.left:
        click.echo(f"left as it is: {text}", err=True)
    segments = sum(len(batch["segments"]) for batch in done.published if not batch["reason"])
    if segments:
        click.echo(f"{plural(segments, 'segment')} published, {plural(done.rows, 'row')} added")
    if done.expired:
        click.echo(f"{plural(done.expired, 'row')} older than they are kept removed from the table")
    if not segments and not quiet:
        click.echo("Nothing to publish: every compacted segment is in the table.")
