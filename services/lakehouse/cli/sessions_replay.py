"""``lakehouse sessions replay``: run recorded sessions again, against today's validators and roster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import click

from lakehouse.cli.exit_status import NOT_ACCEPTED, SYSTEM_FAULT, Negative, SystemFault, statuses
from lakehouse.cli.replay_comparison import Replayed
from lakehouse.cli.replay_report import SHOWN_MAX, ReplayReport
from lakehouse.cli.replay_run import CONCURRENCY_MAX, Today, replay_rows
from lakehouse.cli.sessions_output import (
    log_option,
    one_line_errors,
    open_reader,
    plural,
    print_json,
    print_table,
    safe,
)
from lakehouse.cli.sessions_query import filter_options
from lakehouse.cli.stack import StackError
from lakehouse.sessions.query.fitting_rows import fitting_rows
from lakehouse.sessions.query.listing import find_rows
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.row_reading import RowBreach, decode_row


@click.command(
    "replay",
    short_help="Run recorded sessions against today's gate.",
    epilog=statuses("all verdicts are the same", "some differ, or there is nothing to replay"),
)
@click.argument("session_id", required=False)
@log_option
@click.option("--all", "is_all", is_flag=True, help="All sessions that fit the filters: a regression run of the gate.")
@filter_options
@click.option("--limit", type=click.IntRange(1, 100_000), help="With --all: the newest so many.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, CONCURRENCY_MAX),
    default=4,
    show_default=True,
    help="With --all: sessions at a time.",
)
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --all: write JUnit XML here, a test case a session.",
)
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML of today's validated."
)
@click.option("--roster", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Today's roster file.")
@click.option(
    "--ask",
    metavar="[PROVIDER]/[MODEL]",
    help="Ask a model of --config anew, which is paid for, in place of the recorded answers; `/` is its default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as one JSON object.")
@one_line_errors
def replay(
    session_id: str | None,
    log_path: Path,
    verdict: str | None,
    kind: str | None,
    model: str | None,
    caller: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    concurrency: int,
    junit: Path | None,
    config: Path | None,
    roster: Path | None,
    ask: str | None,
    *,
    is_all: bool,
    as_json: bool,
) -> None:
    """Run a recorded session again, or with --all every one that fits, and compare the verdicts with those of then.

    A stack of its own starts on free ports: chatd answers with what the row recorded, validated judges with today's
    rules and roster (of --config or --roster), and nothing is written to the log. No brief is given, a session that
    nobody could fill today is judged as well, and so is an answer that came before.

    \b
    lakehouse sessions replay SESSION_ID --roster today.csv
    lakehouse sessions replay --all --since 7d --kind fill --junit replay.xml

    With --ask the prompts and the model of today are tried instead: each session is run with its request, its
    grounding and new answers, and what it comes to is compared, not each attempt.

    With --all the sessions that differ are shown, with the findings of then and now. Skipped is what has no answer that
    the gate had judged. Sessions that a fault kept from being judged make the exit status 3, unless others differ.
    """
    wanted = SessionFilter(verdict=verdict, kind=kind, model=model, caller=caller, since=since, until=until)
    today = Today(config, roster, None if ask is None else _target(ask))
    if is_all == (session_id is not None):
        raise click.UsageError("name one SESSION_ID, or --all")
    if session_id is not None:
        if wanted.given or limit is not None or junit is not None:
            raise click.UsageError("filters, --limit and --junit go with --all")
        _replay_one(log_path, session_id, today, as_json=as_json)
    else:
        _replay_all(log_path, wanted, limit, today, concurrency, junit, as_json=as_json)


def _target(text: str) -> tuple[str, str]:
    """Return provider and model of `--ask`. Raises UsageError."""
    provider, slash, model = text.partition("/")
    if not slash:
        raise click.UsageError(f"--ask {text!r:.80}: write PROVIDER/MODEL; either may be empty, as in openai/ or /")
    return provider, model


def _replay_one(log_path: Path, session_id: str, today: Today, *, as_json: bool) -> None:
    results: list[Replayed] = []
    _run(iter([_find(log_path, session_id)]), today, 1, results.append)
    [result] = results
    if result.outcome in ("skipped", "refused"):
        raise Negative(f"session {session_id} cannot be run again: {result.reason}")
    if result.outcome == "failed":
        raise SystemFault(result.reason)
    click.echo(json.dumps(result.as_json(), ensure_ascii=False) if as_json else render(result))
    sys.exit(0 if result.outcome == "same" else NOT_ACCEPTED)


def _replay_all(
    log_path: Path,
    wanted: SessionFilter,
    limit: int | None,
    today: Today,
    concurrency: int,
    junit: Path | None,
    *,
    as_json: bool,
) -> None:
    if junit is not None and not junit.parent.is_dir():
        raise SystemFault(f"{junit}: there is no folder {junit.parent}")
    with ReplayReport() as report, open_reader(log_path) as (reader, display):
        display.start("Replaying", reader.snapshot.size_bytes)
        with contextlib.closing(fitting_rows(reader, wanted, limit=limit, progress=display.advance)) as lines:
            _run(lines, today, concurrency, report.add)
        if junit is not None:
            report.write_junit(junit)
        if as_json:
            print_json(report.as_json())
        else:
            _print(report)
        if report.differing:
            sys.exit(NOT_ACCEPTED)
        if report.counts["failed"]:
            sys.exit(SYSTEM_FAULT)
        if not report.compared:
            raise Negative("nothing was judged again: no session that fits has what could be compared")


def _print(report: ReplayReport) -> None:
    table = report.table()
    if table:
        print_table(("session", "ended", "kind", "model", "then  →  now"), table)
        click.echo()
    if len(report.shown) == SHOWN_MAX:
        click.echo(f"The first {SHOWN_MAX} sessions that are not the same; --junit has all.")
    click.echo(report.summary())


def _run(lines: Iterator[bytes], today: Today, concurrency: int, on_replayed: Callable[[Replayed], None]) -> None:
    try:
        asyncio.run(
            replay_rows(
                lines,
                today,
                concurrency=concurrency,
                on_replayed=on_replayed,
                on_waiting=lambda causes: click.echo(f"waiting until the gate is ready: {causes}", err=True),
            )
        )
    except StackError as error:
        raise SystemFault(str(error)) from None


def render(result: Replayed) -> str:
    """Return the comparison for a person."""
    lines = [f"session {result.session_id}, replayed"]
    lines += [f"{' ' if attempt.is_same else '≠'} {attempt}" for attempt in result.attempts]
    lines.append(f"  verdict: {result.then}  →  {result.now}")
    if result.roster_then != result.roster_now:
        lines.append(f"  roster: {result.roster_then}  →  {result.roster_now}")
    differing = sum(not attempt.is_same for attempt in result.attempts)
    lines.append("the same" if result.outcome == "same" else f"different: {plural(differing, 'attempt')}")
    return safe("\n".join(lines))


def _find(log_path: Path, session_id: str) -> bytes:
    """Return the session's row; the last one where the id was used again."""
    found: bytes | None = None
    with open_reader(log_path, f"Looking for {session_id}") as (reader, display):
        display.start(f"Looking for {session_id}", reader.snapshot.size_bytes)
        for line in find_rows(reader, session_id, display.advance):
            try:
                record = decode_row(line)
            except RowBreach as breach:
                raise Negative(f"the row of {session_id} cannot be read: {breach.problem}") from None
            if record.session_id == session_id:
                found = line
    if found is not None:
        return found
    raise Negative(f"no session {session_id!r} in {log_path}: `lakehouse sessions ls` shows the newest")
