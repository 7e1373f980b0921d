"""`lakehouse sessions stats` and `report`: the figures of many sessions."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

import click

from lakehouse.cli.exit_status import SystemFault
from lakehouse.cli.sessions_lake import open_lake, table_option
from lakehouse.cli.sessions_output import json_option, log_option, one_line_errors, open_reader, print_json, print_table
from lakehouse.cli.sessions_query import filter_options
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.query.stats import SessionStats, Slice, finding_counts, session_stats

# The figures of one group of sessions, as `_print_slices` gives them.
_FIGURES = (
    "sessions",
    "accepted",
    "rate",
    "exhausted",
    "infra",
    "attempts",
    "phantom",
    "tokens/accepted",
    "USD",
    "USD/accepted",
    "mean ms",
)
_RIGHT = frozenset(_FIGURES)


@click.command("stats", short_help="Acceptance, attempts, phantoms, errors, tokens.")
@log_option
@table_option
@filter_options
@click.option("--by", "period", type=click.Choice(["day", "week"]), default="day", show_default=True)
@json_option
@one_line_errors
def stats(
    log_path: Path,
    verdict: str | None,
    kind: str | None,
    model: str | None,
    caller: str | None,
    since: datetime | None,
    until: datetime | None,
    period: Literal["day", "week"],
    config: Path | None,
    *,
    in_table: bool,
    as_json: bool,
) -> None:
    """Sum up sessions: acceptance by kind and model over time, how many attempts they took, the phantom rate, infra
    errors by cause, tokens per accepted artifact.

    Rate: accepted of all sessions, infra errors included. Phantom: attempts that named a worker who does not exist, of
    those that were validated. Tokens/accepted: all tokens spent, failures included, by accepted sessions. USD: of the
    sessions whose every attempt has a price; "-" where none has.
    """
    wanted = SessionFilter(verdict=verdict, kind=kind, model=model, caller=caller, since=since, until=until)
    lake = open_lake(config) if in_table else None
    with open_reader(log_path, lake=lake) as (reader, _):
        found = session_stats(reader, wanted, period=period)
    if as_json:
        print_json(found.to_dict())
    else:
        _print_stats(found)


def _print_stats(found: SessionStats) -> None:
    totals = found.totals
    click.secho(f"{totals.sessions} sessions", bold=True)
    _print_slices("By kind and model", ("kind", "provider", "model"), found.by_model)
    _print_slices(f"By {found.period}", (found.period,), found.by_period)
    _print_slices(
        f"By {found.period}, kind and model", (found.period, "kind", "provider", "model"), found.by_period_and_model
    )
    _heading("Attempts a session")
    print_table(
        ("attempts", "accepted", "exhausted", "infra"),
        ((bar.iterations, bar.accepted, bar.exhausted, bar.infra_errors) for bar in found.attempts),
        right=_RIGHT,
    )
    if found.causes:
        _heading("Infra errors by cause")
        print_table(
            ("where", "reason", "code", "sessions"),
            ((cause.where, cause.reason, cause.code, cause.sessions) for cause in found.causes),
            right=_RIGHT,
        )


def _print_slices(title: str, keys: tuple[str, ...], slices: list[Slice]) -> None:
    _heading(title)
    print_table(
        (*keys, *_FIGURES),
        (
            (
                *(getattr(part, "period" if key in ("day", "week") else key) or "-" for key in keys),
                part.totals.sessions,
                part.totals.accepted,
                _percent(part.totals.acceptance_rate),
                part.totals.exhausted,
                part.totals.infra_errors,
                _rounded(part.totals.attempts_per_session, 2),
                _percent(part.totals.phantom_rate),
                _rounded(part.totals.tokens_per_accepted, 0),
                _usd(part.totals.cost_nano_usd if part.totals.priced else None),
                _usd(part.totals.cost_nano_usd_per_accepted),
                _rounded(part.totals.duration_ms_mean, 0),
            )
            for part in slices
        ),
        right=_RIGHT,
    )


def _heading(text: str) -> None:
    click.echo()
    click.secho(text, bold=True)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _usd(nano_usd: float | None) -> str:
    return "-" if nano_usd is None else f"{nano_usd / 1e9:.4f}"


def _rounded(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@click.command("report", short_help="One self-contained HTML page with charts.")
@log_option
@filter_options
@click.option("--by", "period", type=click.Choice(["day", "week"]), default="day", show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default="sessions.html",
    show_default=True,
    help="The page's file; - is standard output.",
)
@one_line_errors
def report(
    log_path: Path,
    verdict: str | None,
    kind: str | None,
    model: str | None,
    caller: str | None,
    since: datetime | None,
    until: datetime | None,
    period: Literal["day", "week"],
    output: Path,
) -> None:
    """Write the figures of `stats` as a page that needs no network, no script and no other file."""
    from datetime import UTC  # noqa: PLC0415

    from lakehouse.sessions.query.report import render_report  # noqa: PLC0415  its charts are for this command alone

    to_stdout = str(output) == "-"
    if not to_stdout:
        _check_place(output)
    wanted = SessionFilter(verdict=verdict, kind=kind, model=model, caller=caller, since=since, until=until)
    with open_reader(log_path) as (reader, _):
        click.echo(f"reading {reader.snapshot.size_bytes / 1e6:.1f} MB of {log_path} …", err=True)
        found = session_stats(reader, wanted, period=period)
        findings = finding_counts(reader, wanted, period=period)
    page = render_report(found, findings, wanted, source=str(log_path), made_at=datetime.now(UTC))
    if to_stdout:
        click.echo(page)
        return
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise _unwritable(output, error.strerror or str(error)) from None
    click.echo(f"{output}: {found.totals.sessions} sessions", err=True)


def _check_place(output: Path) -> None:
    """Raise SystemFault where the page could not be written, before a long log is read in vain."""
    folder = output.parent
    if not folder.is_dir():
        raise _unwritable(output, f"there is no folder {folder}")
    # False on a read-only file system, whoever asks.
    if not os.access(output if output.exists() else folder, os.W_OK):
        raise _unwritable(output, "it cannot be written there (a read-only file system, or no permission)")


def _unwritable(output: Path, why: str) -> SystemFault:
    return SystemFault(f"{output}: {why}: name another place by --output, or --output - for standard output")
