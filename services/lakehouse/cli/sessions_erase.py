"""`lakehouse sessions erase`: sessions out of the log and of the table of all replicas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lakehouse.cli.exit_status import SystemFault
from lakehouse.cli.sessions_lake import config_option, open_lake
from lakehouse.cli.sessions_output import json_option, log_option, one_line_errors, plural, print_json, safe
from lakehouse.cli.sessions_query import Moment
from lakehouse.sessions.lake.errors import LakeUnavailableError
from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError

if TYPE_CHECKING:
    from lakehouse.sessions.lake.erasing import TableErasure
    from lakehouse.sessions.lake.table import LakeTable
    from lakehouse.sessions.upkeep.erasing import Erasing
    from lakehouse.sessions.upkeep.erasure import LogErasure

_TRACES_SHOWN: Final = 20


@click.command("erase", short_help="Sessions out of the log and of the table, for good.")
@log_option
@config_option
@click.option("--caller", help="Sessions of this caller.")
@click.option("--session", "session_ids", multiple=True, help="The session with this id; may be given again.")
@click.option("--before", type=Moment(), help="Ended before then: 2026-11-24, an RFC 3339 time, 90d.")
@click.option(
    "--spill-dir",
    envvar="ITERATE_SPILL_DIR",
    show_envvar=True,
    default="",
    help="iterate's spill_dir (default: that of the configuration file).",
)
@click.option("--no-table", is_flag=True, help="From the log alone, where no table of all replicas is configured.")
@click.option("--yes", is_flag=True, help="Do it; without it only what would go is shown.")
@json_option
@one_line_errors
def erase(
    log_path: Path,
    config: Path | None,
    caller: str | None,
    session_ids: tuple[str, ...],
    before: datetime | None,
    spill_dir: str,
    *,
    no_table: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase the sessions that fit all of what is given: from the log and its rotated files, from journals and spill
    (what dead processes left is settled first), from the Parquet files and their manifests, from half-built files, from
    the index, and from the table of all replicas with its snapshots and data files. What was erased is not published
    again.

    iterate must be stopped, and no publisher at work. With several machines run it on each: each has a log of its own.

    The report says what went where, what was not reached, and the call that reaches Langfuse. Exit status 1: something
    was not reached.
    """
    from lakehouse.sessions.upkeep.erasing import Erasing  # noqa: PLC0415  what this command alone needs

    try:
        erasing = Erasing(caller=caller, session_ids=session_ids, before=before)
    except ValueError as error:
        raise click.UsageError(f"{error} (--caller, --session, --before)") from None
    try:
        lake = None if no_table else open_lake(config)
    except LakeUnavailableError as error:
        raise SystemFault(f"{error}; or give --no-table where nothing was ever published") from None
    spill_dir = spill_dir or _configured_spill_dir(config)
    _settle(log_path, spill_dir)
    try:
        log, table = _erase(log_path, spill_dir, erasing, lake, dry_run=not yes)
    except ArchiveDamagedError as error:
        raise SystemFault(f"{error}; nothing more was changed") from None
    report = _report(log, table, erasing, lake, done=yes)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if report["not_reached"] and yes:
        raise click.exceptions.Exit(1)


def _configured_spill_dir(config: Path | None) -> str:
    from lakehouse.server.config import configuration_file, given_values  # noqa: PLC0415
    from lakehouse.settings import ConfigError  # noqa: PLC0415

    try:
        values = given_values("iterate", file=configuration_file(config, os.environ), environ=os.environ)
    except ConfigError as error:
        raise SystemFault(str(error)) from None
    return str(values.get("spill_dir", ""))


def _settle(log_path: Path, spill_dir: str) -> None:
    """Let iterate's own sweep give the sessions of dead processes their rows."""
    # This package imports no service.
    command = [sys.executable, "-m", "iterate.session_log.settle", str(log_path)]
    command += ["--spill-dir", spill_dir] if spill_dir else []
    result = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  our own module
    if result.returncode != 0:
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise SystemFault(f"the sessions of dead processes could not be settled: {last[0]}")
    for line in (result.stdout + result.stderr).decode(errors="replace").splitlines():
        # Its warnings; its answer is of no use to a person.
        if "warning" in line:
            click.echo(line, err=True)


def _erase(
    log_path: Path, spill_dir: str, erasing: Erasing, lake: LakeTable | None, *, dry_run: bool
) -> tuple[LogErasure, TableErasure | None]:
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    from lakehouse.sessions.lake.publications import Publications  # noqa: PLC0415
    from lakehouse.sessions.upkeep.erasure import erase_from_log, erasing_alone  # noqa: PLC0415

    archive = Archive(log_path)
    publications = Publications(archive)
    asked = datetime.now(UTC).replace(tzinfo=None)
    try:
        with erasing_alone(archive), publications.locked():
            log = erase_from_log(log_path, erasing, spill_dir=spill_dir, dry_run=dry_run)
            if lake is None:
                return log, None
            from lakehouse.sessions.lake.erasing import Rows, erase_from_table, tombstone  # noqa: PLC0415

            rows = Rows(caller=erasing.caller, session_ids=erasing.session_ids, before=erasing.before)
            table = erase_from_table(lake, rows, tombstone(rows, asked), publications.writes(), dry_run=dry_run)
            if table is not None and not dry_run:
                publications.note_writes(())
            return log, table
    except duckdb.Error as error:
        raise SystemFault(f"DuckDB failed: {error}; run the same again when that is mended") from None


def _report(
    log: LogErasure, table: TableErasure | None, erasing: Erasing, lake: LakeTable | None, *, done: bool
) -> dict[str, Any]:
    traces: dict[str, set[str]] = {}
    for found in (log.found.traces, table.traces if table is not None else {}):
        for session_id, ids in found.items():
            traces.setdefault(session_id, set()).update(filter(None, ids))
    all_traces = sorted({trace_id for ids in traces.values() for trace_id in ids})
    report: dict[str, Any] = {
        "done": done,
        "sessions": sorted(traces),
        "log": {
            "rows": log.found.rows,
            "torn_lines": log.in_lines.torn + log.in_parquet.torn,
            "torn_lines_kept": log.in_lines.torn_kept + log.in_parquet.torn_kept,
            "files": log.files,
            "removed": log.removed,
        },
        "table": None,
        "not_reached": [*log.not_reached, *(table.not_reached if table is not None else [])],
        "langfuse": None,
    }
    if table is not None:
        report["table"] = {
            "rows": table.rows,
            "snapshots_expired": table.snapshots_expired,
            "files_removed": table.files_removed,
        }
    if all_traces:
        report["langfuse"] = {"trace_ids": all_traces, "call": _langfuse_call(all_traces)}
    return report


def _langfuse_call(trace_ids: list[str]) -> str:
    host = os.environ.get("LANGFUSE_BASE_URL") or os.environ.get("LANGFUSE_HOST") or "$LANGFUSE_BASE_URL"
    body = json.dumps({"traceIds": trace_ids[:_TRACES_SHOWN]})
    return (
        f"curl -X DELETE {host.rstrip('/')}/api/public/traces -u $LANGFUSE_PUBLIC_KEY:$LANGFUSE_SECRET_KEY"
        f" -H 'Content-Type: application/json' -d '{body}'"
    )


def _print(report: dict[str, Any]) -> None:
    log, table = report["log"], report["table"]
    went = "went" if report["done"] else "would go (--yes does it)"
    click.echo(f"{plural(len(report['sessions']), 'session')} {went}")
    click.echo(f"log: {plural(log['rows'], 'row')} of {plural(len(log['files']), 'file')}")
    if log["torn_lines"]:
        click.echo(f"log: {plural(log['torn_lines'], 'torn line')} that named them")
    if log["torn_lines_kept"]:
        click.echo(f"log: {plural(log['torn_lines_kept'], 'torn line')} stay, of which nobody can say whose they are")
    if log["removed"]:
        click.echo(f"log: removed {', '.join(map(safe, log['removed'][:10]))}")
    if table is not None:
        removed = f", {table['snapshots_expired']} snapshots, {table['files_removed']} files" if report["done"] else ""
        click.echo(f"table: {plural(table['rows'], 'row')}{removed}")
    for text in report["not_reached"]:
        click.echo(f"not reached: {safe(text)}", err=True)
    if report["langfuse"] is not None:
        ids = report["langfuse"]["trace_ids"]
        click.echo(f"not reached from here: {plural(len(ids), 'trace')} in Langfuse, if they were sent there:")
        click.echo(f"  {safe(report['langfuse']['call'])}")
        if len(ids) > _TRACES_SHOWN:
            click.echo(f"  and {len(ids) - _TRACES_SHOWN} more ids, which --json lists")
    click.echo("not reached from here: backups, other hosts' logs, old versions of a bucket's objects, log lines")
