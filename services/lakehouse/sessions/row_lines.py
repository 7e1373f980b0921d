"""The one reading of a line of the log: which lines are rows, and what they say.

``decode_row`` decides, and everything that reads the log asks here: the views, ``ls``, ``show``, ``replay``, ``tail``,
``verify`` and compaction. A line that our writers wrote takes a short way of compiled code; every other line is decoded
whole. The short way accepts only what ``decode_row`` accepts, and only lines in which every JSON reader finds the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, get_args

import orjson

from lakehouse.sessions.record import ROW_BYTES_MAX, SCHEMA, AttemptVerdict, BriefGrounding, FinalVerdict, Where
from lakehouse.sessions.row import INTEGER_MAX, encode_row
from lakehouse.sessions.row_reading import decode_row
from lakehouse.strict_json.rules import DEPTH_MAX, JsonBreach, check_depth

_STRINGS: Final = (
    "session_id", "timestamp", "daemon", "trace_id", "kind", "provider", "model", "prompt", "final_verdict",
)  # fmt: skip
_COUNTS: Final = ("max_iterations", "iterations", "input_tokens", "output_tokens", "duration_ms")
_OPTIONAL_STRINGS: Final = ("caller_trace", "caller", "request_digest")
_FLAGS: Final = ("grounded_in_roster", "token_budget_spent", "no_progress")
_ATTEMPT_STRINGS: Final = ("provider", "model", "verdict", "raw")
_ATTEMPT_COUNTS: Final = ("iteration", "input_tokens", "output_tokens", "chat_ms", "validate_ms")
_ATTEMPT_OPTIONAL_STRINGS: Final = ("span_id", "roster", "parse_problem")
_FINAL_VERDICTS: Final = frozenset(get_args(FinalVerdict))
_ATTEMPT_VERDICTS: Final = frozenset(get_args(AttemptVerdict))
_GROUNDINGS: Final = frozenset(get_args(BriefGrounding))
_WHERES: Final = frozenset(get_args(Where))
_ROW_START: Final = f'{{"schema":"{SCHEMA}",'.encode()
_SCHEMA_BYTES: Final = SCHEMA.encode()

# What `_is_shaped` remembers.
_SHAPES_MAX: Final = 1024
_NAMES: Final = frozenset(
    (*_STRINGS, *_COUNTS, *_OPTIONAL_STRINGS, *_FLAGS, *_ATTEMPT_STRINGS, *_ATTEMPT_COUNTS, *_ATTEMPT_OPTIONAL_STRINGS)
) | {"schema", "spec", "artifact", "attempts", "error", "brief", "try", "cost_nano_usd", "raw_truncated", "findings",
     "datasets"}  # fmt: skip
_ROW_SHAPES: Final[set[tuple[object, ...]]] = set()
_ATTEMPT_SHAPES: Final[set[tuple[object, ...]]] = set()


class RowLine(NamedTuple):
    """What a row says, as far as it is asked for without the rest."""

    session_id: str
    trace_id: str
    caller_trace: str | None
    timestamp: str
    try_number: int
    text: bytes
    """JSON in which every reader finds what ``decode_row`` finds; the line itself where it is spelled so."""


def read_row_line(line: bytes) -> RowLine:
    """Return the row in a line, without its LF. Raises RowBreach, exactly where ``decode_row`` does."""
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
    """Return the fields of a row that orjson reads and prints again to the byte, so that no name stands twice, no
    surrogate alone and no number is beyond what a reader keeps; whose keys and types are those that ``decode_row``
    wants. None where that is not sure."""
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
    if not _is_shaped(row, _ROW_SHAPES, _has_row_types):
        return False
    attempts = row["attempts"]
    iterations, input_tokens, output_tokens, cost_nano_usd = len(attempts), 0, 0, 0
    costs_known = iterations > 0
    for attempt in attempts:
        if type(attempt) is not dict or not _is_attempt(attempt):
            return False
        input_tokens += attempt["input_tokens"]
        output_tokens += attempt["output_tokens"]
        if "cost_nano_usd" in attempt:
            cost_nano_usd += attempt["cost_nano_usd"]
        else:
            costs_known = False
    return (
        row["final_verdict"] in _FINAL_VERDICTS
        and row["iterations"] == iterations
        and row["input_tokens"] == input_tokens <= INTEGER_MAX
        and row["output_tokens"] == output_tokens <= INTEGER_MAX
        and 0 <= row["max_iterations"] <= INTEGER_MAX
        and 0 <= row["duration_ms"] <= INTEGER_MAX
        and row.get("cost_nano_usd") == (cost_nano_usd if costs_known else None)
        and cost_nano_usd <= INTEGER_MAX
        and ("try" not in row or 2 <= row["try"] <= INTEGER_MAX)
        and ("error" not in row or _is_error(row["error"]))
        and ("brief" not in row or _is_brief(row["brief"]))
    )


def _is_attempt(attempt: dict[str, Any]) -> bool:
    return (
        _is_shaped(attempt, _ATTEMPT_SHAPES, _has_attempt_types)
        and attempt["verdict"] in _ATTEMPT_VERDICTS
        and 0 <= attempt["iteration"] <= INTEGER_MAX
        and 0 <= attempt["input_tokens"] <= INTEGER_MAX
        and 0 <= attempt["output_tokens"] <= INTEGER_MAX
        and 0 <= attempt["chat_ms"] <= INTEGER_MAX
        and 0 <= attempt["validate_ms"] <= INTEGER_MAX
        and ("findings" not in attempt or _are_findings(attempt["findings"]))
        and ("error" not in attempt or _is_error(attempt["error"]))
        and ("datasets" not in attempt or _are_datasets(attempt["datasets"]))
        and ("cost_nano_usd" not in attempt or 0 <= attempt["cost_nano_usd"] <= INTEGER_MAX)
    )


def _is_shaped(
    fields: dict[str, Any], shapes: set[tuple[object, ...]], has_types: Callable[[dict[str, Any]], bool]
) -> bool:
    """Whether the keys and the types of their values are as they should be, which is asked once for each shape that
    turns up: rows of one writer have a dozen."""
    shape = (*fields, *map(type, fields.values()))
    if shape in shapes:
        return True
    if not has_types(fields):
        return False
    # A name that is not ours may be of any length, and is not kept.
    if len(shapes) < _SHAPES_MAX and _NAMES.issuperset(fields):
        shapes.add(shape)
    return True


def _has_row_types(row: dict[str, Any]) -> bool:
    return (
        _have(row, _STRINGS, str)
        and _have(row, _COUNTS, int)
        and _have(row, ("attempts",), list)
        and _may_have(row, _OPTIONAL_STRINGS, str)
        and _may_have(row, _FLAGS, bool)
        and _may_have(row, ("spec", "artifact"), dict)
        and _may_have(row, ("try", "cost_nano_usd"), int)
    )


def _has_attempt_types(attempt: dict[str, Any]) -> bool:
    return (
        _have(attempt, _ATTEMPT_STRINGS, str)
        and _have(attempt, _ATTEMPT_COUNTS, int)
        and _may_have(attempt, _ATTEMPT_OPTIONAL_STRINGS, str)
        and _may_have(attempt, ("raw_truncated",), bool)
        and _may_have(attempt, ("cost_nano_usd",), int)
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


def _may_have(fields: dict[str, Any], keys: tuple[str, ...], kind: type) -> bool:
    for key in keys:  # noqa: SIM110  as above
        if key in fields and type(fields[key]) is not kind:
            return False
    return True
