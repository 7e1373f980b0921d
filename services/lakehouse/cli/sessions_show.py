"""`lakehouse sessions show`: a session as a person would read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from lakehouse.cli.exit_status import Negative
from lakehouse.cli.sessions_lake import open_lake, table_option
from lakehouse.cli.sessions_output import log_option, one_line_errors, open_reader, plural, safe
from lakehouse.cli.trace_link import langfuse_link, langfuse_options
from lakehouse.sessions.query.listing import find_rows
from lakehouse.sessions.row_lines import read_row_line

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
@table_option
@langfuse_options
@click.option(
    "--all-tries", is_flag=True, help="Also the tries of an id that ended as infra_error before its last one."
)
@click.option("--json", "as_json", is_flag=True, help="Print the row, to the byte as the log has it.")
@one_line_errors
def show(
    identifier: str,
    log_path: Path,
    config: Path | None,
    langfuse_host: str | None,
    langfuse_project: str | None,
    *,
    in_table: bool,
    all_tries: bool,
    as_json: bool,
) -> None:
    """Show the session with this session id, trace id or caller's trace string: the request, each attempt with its
    answer and findings, the verdict.

    A trace can hold several sessions: all are shown, oldest first, the last twenty at most. Of an id that was used
    again after it had failed, the last try is; the others too with --all-tries.
    """
    lake = open_lake(config) if in_table else None
    found = _Found(all_tries=all_tries)
    with open_reader(log_path, f"Looking for {identifier}", lake=lake) as (reader, display):
        display.start(f"Looking for {identifier}", reader.snapshot.size_bytes)
        for line in find_rows(reader, identifier, display.advance):
            found.add(line)
    if not found.lines:
        raise Negative(
            f"no session with the id or trace id {identifier!r} is in {lake.name if lake is not None else log_path}:"
            " `lakehouse sessions ls` shows the newest"
        )
    if found.left_out:
        click.echo(f"Warning: more than {SESSIONS_MAX} sessions; the {found.left_out} before are not shown", err=True)
    for place, line in enumerate(found.lines):
        if as_json:
            click.echo(line)
        else:
            if place:
                click.echo()
            click.echo(render(line, langfuse_link(langfuse_host, langfuse_project, read_row_line(line).trace_id)))


class _Found:
    """The last of the rows that were found, ``SESSIONS_MAX`` at most; of an id its last try alone, unless all are
    wanted."""

    def __init__(self, *, all_tries: bool) -> None:
        self._all_tries = all_tries
        self._rows: list[tuple[str, int, bytes]] = []
        self.left_out = 0

    @property
    def lines(self) -> list[bytes]:
        return [line for _, _, line in self._rows]

    def add(self, line: bytes) -> None:
        row = read_row_line(line)
        if not self._all_tries:
            if any(session_id == row.session_id and number > row.try_number for session_id, number, _ in self._rows):
                return
            self._rows = [each for each in self._rows if each[0] != row.session_id or each[1] == row.try_number]
        self._rows.append((row.session_id, row.try_number, line))
        if len(self._rows) > SESSIONS_MAX:
            del self._rows[0]
            self.left_out += 1


def render(line: bytes, link: str | None) -> str:
    """Return the text for one row. Raises RowBreach."""
    row = _Row(json.loads(read_row_line(line).text))
    verdict = row.text("final_verdict")
    out = [f"{click.style('Session ' + row.text('session_id'), bold=True)}  {_verdict(verdict)}"]
    caller = f" (the caller's {row.text('caller_trace')})" if row.has("caller_trace") else ""
    facts = [
        ("ended", f"{row.text('timestamp')}, after {_duration(row.number('duration_ms'))}"),
        ("kind", row.text("kind")),
        (
            "asked",
            f"{_asked(row)}, at most {plural(row.number('max_iterations'), 'attempt')}",
        ),
        ("trace", row.text("trace_id") + caller),
        ("Langfuse", link or ""),
        ("caller", row.text("caller")),
        ("try", f"{row.number('try')}: the id was used before and ended as infra_error" if row.has("try") else ""),
        ("tokens", f"{row.number('input_tokens')} in, {row.number('output_tokens')} out"),
        ("cost", _cost(row)),
        ("grounded", _grounded(row.values.get("grounded_in_roster"))),
        ("written by", row.text("daemon")),
    ]
    out += [f"  {name:<11}{value}" for name, value in facts if value]
    out += _block("Prompt", row.text("prompt"))
    if row.has("spec"):
        out += _block("Spec", _pretty(row.values["spec"]))
    if row.has("brief"):
        out += _brief(_Row(row.values["brief"]))
    attempts = row.values.get("attempts")
    for number, attempt in enumerate(attempts if isinstance(attempts, list) else [], 1):
        out += _attempt(number, _Row(attempt))
    out.append("")
    out.append(
        f"{click.style('Outcome', bold=True)}  {_verdict(verdict)} after {plural(row.number('iterations'), 'attempt')}"
    )
    out += _error(row)
    if row.values.get("token_budget_spent") is True:
        out.append("  ended early: the token budget was spent")
    if row.values.get("no_progress") is True:
        out.append("  ended early: the model gave an answer again that had been rejected")
    if verdict == "max_iter_exhausted" and not attempts:
        out.append("  no model was asked: no answer can pass, as the brief says")
    if row.has("artifact"):
        name = "Artifact" if verdict == "accepted" else "Last artifact that parsed"
        out += _block(name, _pretty(row.values["artifact"]))
    return "\n".join(out)


def _grounded(value: object) -> str:
    if value is True:
        return "yes: every worker is in the roster"
    return "no: a worker is not in the roster" if value is False else ""


def _asked(row: _Row) -> str:
    provider, model = row.text("provider"), row.text("model")
    return (
        f"{provider or 'the default provider'} / {model or 'its default model'}" if provider or model else "the default"
    )


def _cost(row: _Row) -> str:
    """In US dollars, with as many digits as it takes."""
    if not row.has("cost_nano_usd"):
        return ""
    dollars, nano = divmod(row.number("cost_nano_usd"), 10**9)
    return f"{dollars}.{f'{nano:09d}'.rstrip('0'):0<2} USD"


def _brief(brief: _Row) -> list[str]:
    out = ["", click.style("Brief", bold=True)]
    # Of a kind that counts nobody there are no candidates to speak of.
    counted = any(brief.number(name) for name in ("candidates", "candidates_total"))
    is_bare = brief.has("candidates") and not counted and brief.values.get("infeasible") is not True
    facts = ["the form alone" if brief.text("grounding") == "form" or is_bare else "the form and candidates"]
    if brief.has("candidates") and not is_bare:
        total = f"{'at least ' if brief.values.get('candidates_total_is_floor') is True else ''}"
        facts.append(f"{brief.number('candidates')} given of {total}{brief.number('candidates_total')} who qualify")
    if brief.has("roster"):
        facts.append(f"roster {brief.text('roster')}")
    facts.append(_duration(brief.number("brief_ms")))
    out.append("  " + "; ".join(facts))
    if brief.values.get("degraded") is True:
        if brief.text("grounding") == "form":
            out.append("  degraded: not even the form could be had in time")
        else:
            out.append("  degraded: the candidates could not be had in time, or did not fit the context")
    if brief.values.get("infeasible") is True:
        out.append("  infeasible: fewer qualify than are needed")
    return out + (_findings(brief) if brief.has("findings") else [])


def _findings(row: _Row) -> list[str]:
    findings = row.values.get("findings")
    if not isinstance(findings, list):
        return []
    out = ["  findings:" if findings else "  findings: none"]
    for value in findings:
        finding = _Row(value)
        where = finding.text("path") or "(whole artifact)"
        out.append(f"    {finding.text('code')} at {where}: {finding.text('message')}")
        suggestions = finding.values.get("suggestions")
        if isinstance(suggestions, list):
            out.append("      what would pass:" if suggestions else "      nothing was found that would pass")
            out += [f"        {_facts(each)}" for each in suggestions]
    return out


def _facts(suggestion: object) -> str:
    values = suggestion if isinstance(suggestion, dict) else {}
    shown = (f"{name} {value if isinstance(value, str) else _flat(value)}" for name, value in values.items())
    return safe(", ".join(shown)).replace("\n", "\\n")


def _flat(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _attempt(number: int, attempt: _Row) -> list[str]:
    head = click.style(f"Attempt {attempt.number('iteration') or number}", bold=True)
    out = ["", f"{head}  {_verdict(attempt.text('verdict'))}"]
    facts = [
        f"{attempt.text('provider')} / {attempt.text('model')}",
        f"{attempt.number('input_tokens')} tokens in, {attempt.number('output_tokens')} out",
        f"chat {_duration(attempt.number('chat_ms'))}, validate {_duration(attempt.number('validate_ms'))}",
    ]
    if attempt.has("cost_nano_usd"):
        facts.append(_cost(attempt))
    if attempt.has("datasets"):
        named = [f"{_Row(each).text('name')} {_Row(each).text('version')}" for each in attempt.values["datasets"]]
        facts.append(f"datasets {', '.join(named) or 'none'}")
    facts += [
        f"{name} {attempt.text(key)}" for name, key in (("span", "span_id"), ("roster", "roster")) if attempt.has(key)
    ]
    out.append("  " + "; ".join(facts))
    raw = attempt.text("raw")
    if raw:
        cut = " (cut at 256 KiB)" if attempt.values.get("raw_truncated") is True else ""
        out.append(f"  answer{cut}:")
        out += [f"    {line}" for line in raw.split("\n")]
    if attempt.has("parse_problem"):
        out.append(f"  not read: {attempt.text('parse_problem')}")
    out += _findings(attempt)
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
