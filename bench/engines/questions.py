"""What each engine is asked of the table, in its own SQL, and how a row looks when all of it is compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

# A day and a moment of bench/lake_engines.py's rows, for the questions that need not read every file.
DAY = "2026-11-21"
NEXT_DAY = "2026-11-22"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an engine says what SQL leaves open."""

    characters: str
    """Of a text; ``{}`` is the value, as in the others."""
    utf8_bytes: str
    unix_us: str
    day: str
    """The UTC day as text."""
    moment: str
    """00:00 UTC of a day that is given as text."""
    elements: str
    """A query for the elements of the list ``{list}``, as ``{name}``, with the columns ``{keep}`` of ``{source}``."""


def questions(say: Dialect, table: str = "sessions") -> dict[str, str]:
    """Return each figure's query by its name. Their rows are compared without regard to order."""

    def elements(listed: str, name: str, source: str, keep: str) -> str:
        return say.elements.format(list=listed, name=name, source=source, keep=keep)

    attempts = _named(
        "host, a.provider AS provider, a.model AS model, a.verdict AS verdict, a.raw AS raw,"
        " a.input_tokens AS input_tokens, a.output_tokens AS output_tokens, a.cost_nano_usd AS cost_nano_usd,"
        " a.findings AS findings",
        elements("attempts", "a", table, "host"),
    )
    findings = _named(
        "model, f.code AS code, f.path AS path, f.message AS message, f.suggestions AS suggestions",
        elements("findings", "f", attempts, "model"),
    )
    suggestions = f"({elements('suggestions', 's', findings, 'code')}) AS listed"
    texts = ("prompt", "spec", "artifact")
    lengths = [f"sum({each.format(text)})" for text in texts for each in (say.characters, say.utf8_bytes)]
    moment = say.unix_us.format("timestamp")
    return {
        "rows": _select(table, "count(*)", "count(timestamp)", "count(artifact)", "count(caller)"),
        "keys": _select(f"(SELECT DISTINCT host, session_id, coalesce(try, 1) AS try FROM {table}) AS k", "count(*)"),
        "sums": _select(
            table, *map("sum({})".format, ("input_tokens", "output_tokens", "duration_ms", "cost_nano_usd"))
        ),
        "texts": _select(table, *lengths),
        "moments": _select(table, f"min({moment})", f"max({moment})"),
        "by_verdict": _select(table, "count(*)", "sum(duration_ms)", by=("final_verdict",)),
        "by_model": _select(table, "count(*)", "sum(output_tokens)", by=("provider", "model")),
        "by_day": _select(table, "count(*)", "sum(input_tokens)", by=(say.day.format("timestamp"),)),
        "by_host": _select(table, "count(*)", "count(DISTINCT segment)", by=("host",)),
        "by_caller": _select(table, "count(*)", by=("caller",)),
        "by_error": _select(table, "count(*)", by=("error.code", "error.reason")),
        "briefs": _select(table, "count(*)", "sum(brief.candidates)", by=("brief.grounding",)),
        "attempts": _select(
            attempts,
            *("count(*)", "sum(input_tokens)", "sum(output_tokens)", "sum(cost_nano_usd)"),
            f"sum({say.utf8_bytes.format('raw')})",
            by=("provider", "model", "verdict"),
        ),
        "findings": _select(
            findings, "count(*)", f"sum({say.characters.format('message')})", by=("model", "code", "path")
        ),
        "suggestions": _select(suggestions, "count(*)", f"sum({say.utf8_bytes.format('s')})", by=("code",)),
        "one_day": _select(
            table,
            *("count(*)", "sum(input_tokens)"),
            where=f"timestamp >= {say.moment.format(DAY)} AND timestamp < {say.moment.format(NEXT_DAY)}",
        ),
        "before_1970": _select(table, "count(*)", where=f"timestamp < {say.moment.format('1970-01-01')}"),
        "no_moment": _select(table, "count(*)", "sum(input_tokens)", where="timestamp IS NULL"),
        "one_host": _select(table, "count(*)", where="host = 'host-1'"),
        "nobody": _select(table, "count(*)", where="host = 'nobody'"),
    }


def _select(source: str, *values: str, by: tuple[str, ...] = (), where: str = "") -> str:
    """Return a query for values, each under a name of its own, of all rows or of groups."""
    named = ", ".join(f"{value} AS v{number}" for number, value in enumerate((*by, *values)))
    condition = f" WHERE {where}" if where else ""
    return f"SELECT {named} FROM {source}{condition}" + (f" GROUP BY {', '.join(by)}" if by else "")


def _named(columns: str, query: str) -> str:
    return f"(SELECT {columns} FROM ({query}) AS listed) AS named"


def canonical(value: Any, *, null_lists: bool) -> Any:
    """Return a value without the keys that are null, a struct of nulls being null. ``null_lists``: whether a list that
    is null is known from an empty one, which is left out as well where it is not."""
    if isinstance(value, dict):
        fields = {name: canonical(each, null_lists=null_lists) for name, each in value.items()}
        return {name: each for name, each in sorted(fields.items()) if each is not None} or None
    if isinstance(value, list):
        return [canonical(each, null_lists=null_lists) for each in value] if value or null_lists else None
    return value


def row_digest(row: dict[str, Any], *, null_lists: bool) -> tuple[str, str]:
    """Return the key of a row and the SHA-256 of all that stands in it; ``timestamp`` is in microseconds."""
    text = json.dumps(canonical(row, null_lists=null_lists), ensure_ascii=False, sort_keys=True)
    key = json.dumps([row["host"], row["session_id"], row["try"] or 1])
    return key, hashlib.sha256(text.encode()).hexdigest()
