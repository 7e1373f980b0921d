"""A session as a person watches it: one block an attempt, from the events of ``StreamIterate``."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from lakehouse.cli.facts_table import show_facts
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.validated.v1 import validated_pb2

_MARKS = {
    iterate_pb2.VERDICT_ACCEPTED: "[green]✓ accepted[/green]",
    iterate_pb2.VERDICT_REJECTED: "[yellow]✗ rejected[/yellow]",
    iterate_pb2.VERDICT_UNPARSABLE: "[yellow]✗ unparsable[/yellow]",
}
_RAW_CHARS_MAX = 400
# The whole list is for `lakehouse brief`, whose --seed is the session's id.
_CANDIDATES_SHOWN_MAX = 10


def show(event: iterate_pb2.StreamIterateResponse, console: Console) -> None:
    """Print one event. The last one (the response) prints the outcome."""
    which = event.WhichOneof("event")
    if which == "brief":
        _show_brief(event.brief, console)
        _show_candidates(event.candidates_json, console)
    elif which == "attempt_started":
        started = event.attempt_started
        asked = "/".join(part for part in (started.provider, started.model) if part) or "the default model"
        console.print(
            f"[bold]attempt {started.iteration}[/bold] of at most {started.max_iterations}: asking {escape(asked)} …"
        )
    elif which == "model_answered":
        answered = event.model_answered
        console.print(f"  {escape(answered.provider)}/{escape(answered.model)} answered in {answered.chat_ms} ms:")
        console.print(f"  [dim]{escape(_short(answered.raw))}[/dim]")
    elif which == "attempt_finished":
        _show_attempt(event.attempt_finished, console)
    elif which == "response" and event.response.recalled:
        console.print(f"[bold]recalled[/bold]: session {escape(event.response.session_id)} was answered before")
        show_session(event.response, console)
    elif which == "response":
        _show_outcome(event.response, console)


def _show_brief(brief: iterate_pb2.Brief, console: Console) -> None:
    took = f"({brief.brief_ms} ms)"
    if brief.infeasible:
        console.print(f"[bold]brief[/bold] {took}: [yellow]no answer can pass[/yellow]")
    elif brief.degraded:
        missing = "who qualifies" if brief.grounding == iterate_pb2.GROUNDING_CANDIDATES else "the form of an answer"
        console.print(f"[bold]brief[/bold] {took}: {missing} could not be had in time; going on with less")
    # Of a kind that counts nobody there are no candidates to speak of.
    elif brief.grounding == iterate_pb2.GROUNDING_CANDIDATES and (brief.candidates or brief.candidates_total):
        least = "at least " if brief.candidates_total_is_floor else ""
        console.print(
            f"[bold]brief[/bold] {took}: {brief.candidates} candidates of {least}{brief.candidates_total} who qualify"
        )
    else:
        console.print(f"[bold]brief[/bold] {took}: the form of an answer")
    _show_findings(brief.findings, console)


def _show_candidates(text: str, console: Console) -> None:
    try:
        candidates = json.loads(text) if text else []
    except ValueError:
        return
    if isinstance(candidates, list) and all(isinstance(facts, dict) for facts in candidates):
        show_facts(candidates, console, rows_max=_CANDIDATES_SHOWN_MAX)


def _show_findings(findings: Iterable[validated_pb2.Finding], console: Console) -> None:
    for finding in findings:
        console.print(
            f"    [red]{escape(finding.code)}[/red] at {escape(finding.path or '/')}: {escape(finding.message)}"
        )


def _show_attempt(attempt: iterate_pb2.Attempt, console: Console) -> None:
    mark = _MARKS.get(attempt.verdict, "✗")
    took = f" (gate: {attempt.validate_ms} ms)" if attempt.verdict != iterate_pb2.VERDICT_UNPARSABLE else ""
    console.print(f"  {mark}{took}")
    if attempt.parse_problem:
        console.print(f"    {escape(attempt.parse_problem)}")
    _show_findings(attempt.findings, console)


def show_session(response: iterate_pb2.IterateResponse, console: Console) -> None:
    """Print a session that ended by an outcome, whole."""
    if response.HasField("brief"):
        _show_brief(response.brief, console)
    for attempt in response.attempts:
        console.print(f"[bold]attempt {attempt.iteration}[/bold]: {escape(attempt.provider)}/{escape(attempt.model)}")
        console.print(f"  [dim]{escape(_short(attempt.raw))}[/dim]")
        _show_attempt(attempt, console)
    _show_outcome(response, console)


def _show_outcome(response: iterate_pb2.IterateResponse, console: Console) -> None:
    count = len(response.attempts)
    attempts = f"{count} attempt{'' if count == 1 else 's'}"
    if response.WhichOneof("outcome") == "accepted":
        console.print(f"[bold green]accepted[/bold green] after {attempts} in {response.duration_ms} ms")
        console.print(f"  {escape(response.accepted.artifact_json)}")
    elif response.max_iter_exhausted.infeasible:
        why = "; ".join(escape(finding.message) for finding in response.brief.findings) or "no answer can pass"
        console.print(f"[bold yellow]not accepted[/bold yellow]: infeasible, no model was asked: {why}")
    else:
        why = "attempts exhausted"
        if response.max_iter_exhausted.token_budget_spent:
            why = "token budget spent"
        elif response.max_iter_exhausted.no_progress:
            why = "the model gave an answer again that had been rejected"
        console.print(f"[bold yellow]not accepted[/bold yellow] after {attempts}: {why}")
    if response.HasField("grounded_in_roster"):
        console.print(f"  grounded in the roster: {'yes' if response.grounded_in_roster else 'no'}")
    console.print(f"  session {response.session_id}  trace {response.trace_id}")


def _short(raw: str) -> str:
    text = " ".join(raw.split())
    return text if len(text) <= _RAW_CHARS_MAX else f"{text[:_RAW_CHARS_MAX]}… ({len(raw)} characters)"
