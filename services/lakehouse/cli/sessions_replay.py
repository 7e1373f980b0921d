"""``lakehouse sessions replay``: run a recorded session again, against today's validators and roster."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lakehouse.cli.exit_status import NOT_ACCEPTED, Negative, SystemFault, statuses
from lakehouse.cli.sessions_output import log_option, one_line_errors, open_reader, plural, safe
from lakehouse.cli.stack import StackError, free_port_binds, running_stack
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.sessions.query.listing import find_rows
from lakehouse.sessions.record import SessionAttemptRecord, SessionRecord
from lakehouse.sessions.row_reading import RowBreach, decode_row
from lakehouse.sessions.store.names import LOG_NAME
from lakehouse.spec_member import SpecError, set_spec

_SESSION_S = 120.0
_PROVIDER = "session-replay"


@click.command(
    "replay",
    short_help="Run a recorded session against today's gate.",
    epilog=statuses("the verdicts are the same", "they differ, or there is nothing to replay"),
)
@click.argument("session_id")
@log_option
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML of today's validated."
)
@click.option("--roster", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Today's roster file.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as one JSON object.")
@one_line_errors
def replay(session_id: str, log_path: Path, config: Path | None, roster: Path | None, *, as_json: bool) -> None:
    """Run a recorded session again and compare its verdicts with those of then.

    A stack of its own starts on free ports: chatd answers with what the row recorded, validated judges with today's
    rules and roster (of --config or --roster), and nothing is written to the log.
    """
    record, line = _find(log_path, session_id)
    answered = [attempt for attempt in record.attempts if attempt.error is None or attempt.error.where != "chatd"]
    if not answered:
        raise Negative(f"session {session_id} has no recorded answer: there is nothing to run again")
    request = _request(record, len(answered))
    try:
        response = asyncio.run(_run(request, line, config, roster))
    except (StackError, Fault) as error:
        raise SystemFault(str(error)) from None
    compared = compare(record, response)
    click.echo(json.dumps(compared, ensure_ascii=False) if as_json else render(compared))
    sys.exit(0 if compared["same"] else NOT_ACCEPTED)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the gate said of one attempt."""

    verdict: str
    codes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "findings": list(self.codes)}


def compare(record: SessionRecord, response: iterate_pb2.IterateResponse) -> dict[str, Any]:
    """Attempt by attempt, what was said then and what is said now; None where that run did not get so far."""
    then = [_then(attempt) for attempt in record.attempts]
    now = [_now(attempt) for attempt in response.attempts]
    rows = []
    for index in range(max(len(then), len(now))):
        old = then[index] if index < len(then) else None
        new = now[index] if index < len(now) else None
        rows.append(
            {
                "iteration": index + 1,
                "then": old.as_json() if old else None,
                "now": new.as_json() if new else None,
                "same": old == new,
            }
        )
    final = response.WhichOneof("outcome") or ""
    return {
        "session_id": record.session_id,
        "final_verdict": {"then": record.final_verdict, "now": final},
        "roster": {
            "then": next((attempt.roster for attempt in reversed(record.attempts) if attempt.roster), None),
            "now": next((attempt.roster for attempt in reversed(response.attempts) if attempt.roster), None),
        },
        "attempts": rows,
        "same": record.final_verdict == final and all(row["same"] for row in rows),
    }


def render(compared: dict[str, Any]) -> str:
    """Return the comparison for a person."""
    lines = [f"session {compared['session_id']}, replayed"]
    for row in compared["attempts"]:
        mark = " " if row["same"] else "≠"
        lines.append(f"{mark} attempt {row['iteration']}: {_judgement(row['then'])}  →  {_judgement(row['now'])}")
    final, roster = compared["final_verdict"], compared["roster"]
    lines.append(f"  verdict: {final['then']}  →  {final['now']}")
    if roster["then"] != roster["now"]:
        lines.append(f"  roster: {roster['then']}  →  {roster['now']}")
    differing = sum(not row["same"] for row in compared["attempts"])
    lines.append("the same" if compared["same"] else f"different: {plural(differing, 'attempt')}")
    return safe("\n".join(lines))


def _judgement(judged: dict[str, Any] | None) -> str:
    if judged is None:
        return "not reached"
    codes = ", ".join(judged["findings"])
    return f"{judged['verdict']} ({codes})" if codes else str(judged["verdict"])


def _then(attempt: SessionAttemptRecord) -> _Judged:
    return _Judged(attempt.verdict, tuple(finding.code for finding in attempt.findings or ()))


def _now(attempt: iterate_pb2.Attempt) -> _Judged:
    verdict = iterate_pb2.Verdict.Name(attempt.verdict).removeprefix("VERDICT_").lower()
    return _Judged(verdict, tuple(finding.code for finding in attempt.findings))


def _find(log_path: Path, session_id: str) -> tuple[SessionRecord, bytes]:
    with open_reader(log_path, f"Looking for {session_id}") as (reader, display):
        display.start(f"Looking for {session_id}", reader.snapshot.size_bytes)
        for line in find_rows(reader, session_id, display.advance):
            try:
                record = decode_row(line)
            except RowBreach as breach:
                raise Negative(f"the row of {session_id} cannot be read: {breach.problem}") from None
            if record.session_id == session_id:
                return record, line
    raise Negative(f"no session {session_id!r} in {log_path}: `lakehouse sessions ls` shows the newest")


def _request(record: SessionRecord, iterations: int) -> iterate_pb2.IterateRequest:
    request = iterate_pb2.IterateRequest(
        kind=record.kind,
        prompt=record.prompt,
        provider=_PROVIDER,
        model=record.session_id,
        max_iterations=iterations,
        grounding=iterate_pb2.GROUNDING_NONE,
    )
    if record.spec is None:
        return request
    try:
        set_spec(request, record.kind, record.spec)
    except SpecError as error:
        raise Negative(f"the row's spec is not one of today's {record.kind}: {error}") from None
    return request


async def _run(
    request: iterate_pb2.IterateRequest, line: bytes, config: Path | None, roster: Path | None
) -> iterate_pb2.IterateResponse:
    with tempfile.TemporaryDirectory(prefix="lakehouse-replay-") as folder:
        recorded = Path(folder) / LOG_NAME
        await asyncio.to_thread(recorded.write_bytes, line.rstrip(b"\n") + b"\n")
        prefix = f"CHATD_PROVIDERS__{_PROVIDER.upper()}"
        environ = {
            **free_port_binds(),
            f"{prefix}__TYPE": "replay",
            f"{prefix}__SESSION_LOG": str(recorded),
            "CHATD_DEFAULT_PROVIDER": _PROVIDER,
            "ITERATE_SESSION_LOG_PATH": "",
            "ITERATE_MAX_ITERATIONS_CAP": "100",
            # The recorded answers are judged as they are, all of them.
            "ITERATE_ON_INFEASIBLE": "ask",
            "ITERATE_ON_NO_PROGRESS": "continue",
        }
        if roster is not None:
            environ["VALIDATED_ROSTER__PATH"] = str(roster)
        async with (
            running_stack(on_log=lambda *_: None, environ=environ, config=config) as stack,
            AsyncIterateClient(stack.addresses["iterate"]) as client,
        ):
            return await client.iterate(request, timeout_s=_SESSION_S)
