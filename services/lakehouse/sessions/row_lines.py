"""The one reading of a line of the log: which lines are rows, and what they say.

``decode_row`` decides, and everything that reads the log asks here: the views, ``ls``, ``show``, ``replay``, ``tail``,
``verify`` and compaction. A line that our writers wrote takes a short way of compiled code; every other line is decoded
whole. The short way accepts only what ``decode_row`` accepts, and only lines in which every JSON reader finds the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, get_args

import orjson

from lakehouse.sessions.record import ROW_BYTES_MAX, SCHEMA, AttemptVerdict, BriefGrounding, FinalVerdict, Where
from lakehouse.sessions.row import INTEGER_MAX, encode_row
from lakehouse.sessions.row_reading import decode_row
from lakehouse.strict_json.rules import DEPTH_MAX, JsonBreach, check_depth

_STRINGS: Final = ("session_id", "timestamp", "daemon", "trace_id", "kind", "provider", "model", "prompt")
_COUNTS: Final = ("max_iterations", "duration_ms")
_OPTIONAL_STRINGS: Final = ("caller_trace", "caller", "request_digest")
_FLAGS: Final = ("grounded_in_roster", "token_budget_spent", "no_progress")
_ATTEMPT_STRINGS: Final = ("provider", "model", "raw")
_ATTEMPT_COUNTS: Final = ("iteration", "input_tokens", "output_tokens", "chat_ms", "validate_ms")
_ATTEMPT_OPTIONAL_STRINGS: Final = ("span_id", "roster", "parse_problem")
_FINAL_VERDICTS: Final = frozenset(get_args(FinalVerdict))
_ATTEMPT_VERDICTS: Final = frozenset(get_args(AttemptVerdict))
_GROUNDINGS: Final = frozenset(get_args(BriefGrounding))
_WHERES: Final = frozenset(get_args(Where))
_ROW_START: Final = f'{{"schema":"{SCHEMA}",'.encode()
_SCHEMA_BYTES: Final = SCHEMA.encode()


@dataclass(frozen=True, slots=True)
class RowLine:
    """What a row says, as far as it is asked for without the rest."""

    session_id: str
    trace_id: str
    caller_trace: str | None
    timestamp: str
    try_number: int
    text: bytes
    """JSON in which every reader finds what ``decode_row`` finds; the line itself where it is spelled so."""


def read_row_line(line: bytes) -> RowLine:
    """The row in a line, without its LF. Raises RowBreach, exactly where ``decode_row`` does."""
    fields = _plain_fields(line)
    if fields is not None:
        return RowLine(
            fields["session_id"],
            fields["trace_id"],
            fields.get("caller_trace"),
            fields["timestamp"],
            fields.get("try", 1),
            line,
        )
    record = decode_row(line)
    return RowLine(
        record.session_id,
        record.trace_id,
        record.caller_trace,
        record.timestamp,
        record.try_number,
        encode_row(record).removesuffix(b"\n"),
    )


def is_read_alike(line: bytes) -> bool:
    """Whether any JSON reader that looks for rows of our schema finds in this line, without its LF, what
    ``read_row_line`` finds: the row, or none. False leaves it open."""
    if _plain_fields(line) is not None:
        return True
    # No object, or none that names our schema in whatever spelling.
    return not line.rstrip().endswith(b"}") or (_SCHEMA_BYTES not in line and b"\\" not in line)


def _plain_fields(line: bytes) -> dict[str, Any] | None:
    """The fields of a row that orjson reads and prints again to the byte, so that no name stands twice, no surrogate
    alone and no number is beyond what a reader keeps; whose keys and types are those that ``decode_row`` wants. None
    where that is not sure."""
    if not line.startswith(_ROW_START) or len(line) > ROW_BYTES_MAX:
        return None
    try:
        row: dict[str, Any] = orjson.loads(line)
        if orjson.dumps(row) != line:
            return None
        if line.count(b"{") + line.count(b"[") > DEPTH_MAX:
            check_depth(line.decode(), DEPTH_MAX)
    except (orjson.JSONDecodeError, TypeError, JsonBreach):
        return None
    return row if _is_row(row) else None


def _is_row(row: dict[str, Any]) -> bool:
    attempts = row.get("attempts")
    if not (
        _have(row, _STRINGS, str)
        and _have_counts(row, _COUNTS)
        and _is_text_of(row.get("final_verdict"), _FINAL_VERDICTS)
        and type(attempts) is list
        and all(type(each) is dict and _is_attempt(each) for each in attempts)
        and row.get("iterations") == len(attempts)
        and _may_have(row, _OPTIONAL_STRINGS, str)
        and _may_have(row, _FLAGS, bool)
        and _may_have(row, ("spec", "artifact"), dict)
        and ("try" not in row or (_is_count(row["try"]) and row["try"] >= 2))
        and ("error" not in row or _is_error(row["error"]))
        and ("brief" not in row or _is_brief(row["brief"]))
    ):
        return False
    for key in ("input_tokens", "output_tokens"):
        if not _is_count(row.get(key)) or row[key] != sum(attempt[key] for attempt in attempts):
            return False
    costs = [attempt.get("cost_nano_usd") for attempt in attempts]
    known = None if None in costs or not costs else sum(costs)
    return row.get("cost_nano_usd") == known and ("cost_nano_usd" not in row or _is_count(known))


def _is_attempt(attempt: dict[str, Any]) -> bool:
    return (
        _have(attempt, _ATTEMPT_STRINGS, str)
        and _have_counts(attempt, _ATTEMPT_COUNTS)
        and _is_text_of(attempt.get("verdict"), _ATTEMPT_VERDICTS)
        and _may_have(attempt, _ATTEMPT_OPTIONAL_STRINGS, str)
        and _may_have(attempt, ("raw_truncated",), bool)
        and ("findings" not in attempt or _are_findings(attempt["findings"]))
        and ("error" not in attempt or _is_error(attempt["error"]))
        and ("datasets" not in attempt or _are_datasets(attempt["datasets"]))
        and ("cost_nano_usd" not in attempt or _is_count(attempt["cost_nano_usd"]))
    )


def _is_brief(brief: object) -> bool:
    return (
        isinstance(brief, dict)
        and _is_text_of(brief.get("grounding"), _GROUNDINGS)
        and _is_count(brief.get("brief_ms"))
        and all(_is_count(brief[key]) for key in ("candidates", "candidates_total") if key in brief)
        and _may_have(brief, ("candidates_total_is_floor", "infeasible", "degraded"), bool)
        and _may_have(brief, ("roster",), str)
        and ("findings" not in brief or _are_findings(brief["findings"]))
    )


def _are_findings(findings: object) -> bool:
    return isinstance(findings, list) and all(
        isinstance(each, dict)
        and _have(each, ("code", "path", "message"), str)
        and (
            "suggestions" not in each
            or (isinstance(each["suggestions"], list) and all(isinstance(one, dict) for one in each["suggestions"]))
        )
        for each in findings
    )


def _are_datasets(datasets: object) -> bool:
    return isinstance(datasets, list) and all(
        isinstance(each, dict) and _have(each, ("name", "version"), str) for each in datasets
    )


def _is_error(error: object) -> bool:
    return (
        isinstance(error, dict)
        and _have(error, ("code", "reason", "message"), str)
        and _is_text_of(error.get("where"), _WHERES)
    )


def _is_text_of(value: object, choices: frozenset[str]) -> bool:
    return isinstance(value, str) and value in choices


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= INTEGER_MAX


def _have(fields: dict[str, Any], keys: tuple[str, ...], kind: type) -> bool:
    for key in keys:  # noqa: SIM110  a generator costs twice the time
        if type(fields.get(key)) is not kind:
            return False
    return True


def _have_counts(fields: dict[str, Any], keys: tuple[str, ...]) -> bool:
    for key in keys:
        value = fields.get(key)
        if type(value) is not int or not 0 <= value <= INTEGER_MAX:
            return False
    return True


def _may_have(fields: dict[str, Any], keys: tuple[str, ...], kind: type) -> bool:
    for key in keys:  # noqa: SIM110  as above
        if key in fields and type(fields[key]) is not kind:
            return False
    return True
