"""`lakehouse sessions show`: a session as a person would read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from lakehouse.cli.sessions_output import log_option, one_line_errors, open_reader, plural, safe
from lakehouse.sessions.query.listing import find_rows

SESSIONS_MAX: Final = 20

_COLOURS: Final = {
    "accepted": "green",
    "rejected": "yellow",
    "unparsable": "yellow",
    "max_iter_exhausted": "yellow",
    "infra_error": "red",
}


@click.command("show", short_help="One session, whole.")
@click.argument("identifier", metavar="SESSION_ID|TRACE_ID")
@log_option
@click.option(
    "--langfuse-host",
    envvar=["LANGFUSE_BASE_URL", "LANGFUSE_HOST"],
    help="Langfuse's base URL: links the trace. [env: LANGFUSE_BASE_URL, LANGFUSE_HOST]",
)
@click.option(
    "--langfuse-project", envvar="LANGFUSE_PROJECT_ID", show_envvar=True, help="The project's id, for the link."
)
@click.option("--json", "as_json", is_flag=True, help="Print the row, to the byte as the log has it.")
@one_line_errors
def show(
    identifier: str, log_path: Path, langfuse_host: str | None, langfuse_project: str | None, *, as_json: bool
) -> None:
    """Show the session with this session id, trace id or caller's trace string: the request, each attempt with its
    answer and findings, the verdict.

    A trace can hold several sessions: all are shown, oldest first, twenty at most.
    """
    with open_reader(log_path, f"Looking for {identifier}") as (reader, display):
        display.start(f"Looking for {identifier}", reader.snapshot.size_bytes)
        found: list[bytes] = []
        for line in find_rows(reader, identifier, display.advance):
            found.append(line)
            if len(found) > SESSIONS_MAX:
                break
    if not found:
        raise click.ClickException(
            f"no session with the id or trace id {identifier!r} is in {log_path}: `lakehouse sessions ls` shows the"
            " newest"
        )
    if len(found) > SESSIONS_MAX:
        click.echo(f"Warning: more than {SESSIONS_MAX} sessions; the others are not shown", err=True)
    for place, line in enumerate(found[:SESSIONS_MAX]):
        if as_json:
            click.echo(line)
        else:
            if place:
                click.echo()
            click.echo(render(line, langfuse_link(langfuse_host, langfuse_project, line)))


def langfuse_link(host: str | None, project: str | None, line: bytes) -> str | None:
    """The trace's page; without a project id Langfuse looks the project up itself."""
    trace_id = json.loads(line).get("trace_id")
    if not host or not isinstance(trace_id, str) or not trace_id:
        return None
    trace = quote(trace_id, safe="")
    if project:
        return f"{host.rstrip('/')}/project/{quote(project, safe='')}/traces/{trace}"
    return f"{host.rstrip('/')}/trace/{trace}"


def render(line: bytes, link: str | None) -> str:
    """The text for one row of our schema; keys that it has not, or not in our shape, are passed over."""
    row = _Row(json.loads(line))
    verdict = row.text("final_verdict")
    out = [f"{click.style('Session ' + row.text('session_id'), bold=True)}  {_verdict(verdict)}"]
    caller = f" (the caller's {row.text('caller_trace')})" if row.has("caller_trace") else ""
    facts = [
        ("ended", f"{row.text('timestamp')}, after {_duration(row.number('duration_ms'))}"),
        ("kind", row.text("kind")),
        (
            "asked",
            f"{row.text('provider')} / {row.text('model')}, at most {plural(row.number('max_iterations'), 'attempt')}",
        ),
        ("trace", row.text("trace_id") + caller),
        ("Langfuse", link or ""),
        ("tokens", f"{row.number('input_tokens')} in, {row.number('output_tokens')} out"),
        ("grounded", _grounded(row.values.get("grounded_in_roster"))),
        ("written by", row.text("daemon")),
    ]
    out += [f"  {name:<11}{value}" for name, value in facts if value]
    out += _block("Prompt", row.text("prompt"))
    if row.has("spec"):
        out += _block("Spec", _pretty(row.values["spec"]))
    attempts = row.values.get("attempts")
    for number, attempt in enumerate(attempts if isinstance(attempts, list) else [], 1):
        out += _attempt(number, _Row(attempt))
    out.append("")
    out.append(
        f"{click.style('Outcome', bold=True)}  {_verdict(verdict)} after {plural(row.number('iterations'), 'attempt')}"
    )
    out += _error(row)
    if row.has("artifact"):
        name = "Artifact" if verdict == "accepted" else "Last artifact that parsed"
        out += _block(name, _pretty(row.values["artifact"]))
    return "\n".join(out)


def _grounded(value: object) -> str:
    if value is True:
        return "yes: every worker is in the roster"
    return "no: a worker is not in the roster" if value is False else ""


def _attempt(number: int, attempt: _Row) -> list[str]:
    head = click.style(f"Attempt {attempt.number('iteration') or number}", bold=True)
    out = ["", f"{head}  {_verdict(attempt.text('verdict'))}"]
    facts = [
        f"{attempt.text('provider')} / {attempt.text('model')}",
        f"{attempt.number('input_tokens')} tokens in, {attempt.number('output_tokens')} out",
        f"chat {_duration(attempt.number('chat_ms'))}, validate {_duration(attempt.number('validate_ms'))}",
    ]
    facts += [
        f"{name} {attempt.text(key)}" for name, key in (("span", "span_id"), ("roster", "roster")) if attempt.has(key)
    ]
    out.append("  " + "; ".join(facts))
    raw = attempt.text("raw")
    if raw:
        cut = " (cut at 256 KiB)" if attempt.values.get("raw_truncated") is True else ""
        out.append(f"  answer{cut}:")
        out += [f"    {line}" for line in raw.split("\n")]
    findings = attempt.values.get("findings")
    if isinstance(findings, list):
        out.append("  findings:" if findings else "  findings: none")
        for value in findings:
            finding = _Row(value)
            where = finding.text("path") or "(whole artifact)"
            out.append(f"    {finding.text('code')} at {where}: {finding.text('message')}")
    out += _error(attempt)
    return out


def _error(row: _Row) -> list[str]:
    if not row.has("error"):
        return []
    error = _Row(row.values["error"])
    text = f"{error.text('code')} / {error.text('reason')} in {error.text('where')}: {error.text('message')}"
    return [f"  {click.style('error', fg='red')} {text}"]


def _block(name: str, text: str) -> list[str]:
    return ["", click.style(name, bold=True), *(f"  {line}" for line in text.split("\n"))]


def _pretty(value: object) -> str:
    return safe(json.dumps(value, ensure_ascii=False, indent=2))


def _verdict(verdict: str) -> str:
    return click.style(verdict.upper().replace("_", " "), fg=_COLOURS.get(verdict), bold=True)


def _duration(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


class _Row:
    """An object of a row, whose keys may be missing or of another type."""

    def __init__(self, values: object) -> None:
        self.values: dict[str, Any] = values if isinstance(values, dict) else {}

    def has(self, key: str) -> bool:
        return key in self.values

    def text(self, key: str) -> str:
        value = self.values.get(key)
        return safe(value) if isinstance(value, str) else "" if value is None else _pretty(value)

    def number(self, key: str) -> int:
        value = self.values.get(key)
        return value if type(value) is int else 0
