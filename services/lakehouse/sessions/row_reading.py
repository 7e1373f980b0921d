"""A line of the session log as a ``SessionRecord``; ``row`` is the other direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast, get_args

from lakehouse.sessions.record import (
    ROW_BYTES_MAX,
    SCHEMA,
    AttemptVerdict,
    BriefGrounding,
    BriefRecord,
    DatasetRecord,
    ErrorRecord,
    FinalVerdict,
    FindingRecord,
    SessionAttemptRecord,
    SessionRecord,
    Where,
)
from lakehouse.sessions.row import INTEGER_MAX
from lakehouse.strict_json.parser import JsonBreach, JsonValue, parse_json, print_canonical
from lakehouse.strict_json.rules import DEPTH_MAX

# A suggestion, itself of at most DEPTH_MAX, stands in a finding of an attempt of the row: six levels down.
ROW_DEPTH_MAX: Final = DEPTH_MAX + 6

BreachKind = Literal["blank", "torn", "foreign", "invalid"]


class RowBreach(ValueError):  # noqa: N818 - beside JsonBreach, whose word is the contract's
    """A line that is no row of schema ``session.iterate.v1``.

    ``kind``: ``blank`` (legal, and nothing to read), ``torn`` (not one JSON object), ``foreign`` (an object of
    another schema) or ``invalid`` (of this schema by its name, not by its keys). ``problem`` says where and why.
    """

    def __init__(self, kind: BreachKind, problem: str) -> None:
        super().__init__(f"{kind} row: {problem}")
        self.kind: Final = kind
        self.problem: Final = problem


def decode_row(line: bytes) -> SessionRecord:
    """Return the record of a line, with or without its LF; unknown keys are ignored.

    Of a line that ``encode_row`` wrote, ``encode_row`` gives the same bytes again.

    Raises:
        RowBreach: the line is no row of this schema.
    """
    if not line.strip():
        raise RowBreach("blank", "the line is empty")
    try:
        row = parse_json(line, bytes_max=ROW_BYTES_MAX, depth_max=ROW_DEPTH_MAX)
    except JsonBreach as breach:
        raise RowBreach("torn", breach.problem) from None
    if not isinstance(row, dict):
        raise RowBreach("torn", "not a JSON object")
    if row.get("schema") != SCHEMA:
        raise RowBreach("foreign", f"its schema is not {SCHEMA}")
    return _record(_Fields(row, ""))


def decode_attempt(attempt: Mapping[str, JsonValue]) -> SessionAttemptRecord:
    """Return the attempt of a parsed ``encode_attempt`` text. Unknown keys are ignored.

    Raises:
        RowBreach: a key is missing or has a value of the wrong kind.
    """
    return _attempt_record(_Fields(attempt, ""))


class _Fields:
    """Typed access to the keys of one object of a row; ``at`` is its JSON Pointer, for breaches."""

    def __init__(self, values: Mapping[str, JsonValue], at: str) -> None:
        self._values = values
        self.at = at

    def _breach(self, key: str, wanted: str) -> RowBreach:
        found = "absent" if key not in self._values else f"{self._values[key]!r:.40}"
        return RowBreach("invalid", f"{self.at}/{key} is {found}: {wanted} is expected")

    def has(self, key: str) -> bool:
        return key in self._values

    def string(self, key: str) -> str:
        value = self._values.get(key)
        if not isinstance(value, str):
            raise self._breach(key, "a string")
        return value

    def integer(self, key: str) -> int:
        value = self._values.get(key)
        if type(value) is not int or not 0 <= value <= INTEGER_MAX:
            raise self._breach(key, "an integer of 0 to 2^63-1")
        return value

    def boolean(self, key: str) -> bool:
        value = self._values.get(key)
        if not isinstance(value, bool):
            raise self._breach(key, "true or false")
        return value

    def optional_string(self, key: str) -> str | None:
        return self.string(key) if self.has(key) else None

    def optional_integer(self, key: str) -> int | None:
        return self.integer(key) if self.has(key) else None

    def flag(self, key: str) -> bool:
        """Return a key that stands for true alone; absent is false."""
        return self.boolean(key) if self.has(key) else False

    def try_number(self) -> int:
        number = self.integer("try") if self.has("try") else 1
        if self.has("try") and number < 2:
            raise self._breach("try", "an integer of 2 and up")
        return number

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        value = self._values.get(key)
        if not isinstance(value, str) or value not in choices:
            raise self._breach(key, f"one of {', '.join(choices)}")
        return value

    def object(self, key: str) -> _Fields:
        return _Fields(self._mapping(key), f"{self.at}/{key}")

    def objects(self, key: str) -> list[_Fields]:
        value = self._values.get(key)
        if not isinstance(value, list):
            raise self._breach(key, "an array")
        fields = []
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise self._breach(key, "an array of objects")
            fields.append(_Fields(item, f"{self.at}/{key}/{index}"))
        return fields

    def canonical(self, key: str) -> str:
        return self._canonical(key, self._mapping(key))

    def canonical_objects(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self._breach(key, "an array of objects")
        return tuple(self._canonical(key, each) for each in value)

    def _canonical(self, key: str, value: JsonValue) -> str:
        try:
            return print_canonical(value)
        except JsonBreach as breach:
            raise RowBreach("invalid", f"{self.at}/{key}: {breach.problem}") from None

    def _mapping(self, key: str) -> dict[str, JsonValue]:
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self._breach(key, "an object")
        return value


def _record(row: _Fields) -> SessionRecord:
    record = SessionRecord(
        session_id=row.string("session_id"),
        timestamp=row.string("timestamp"),
        daemon=row.string("daemon"),
        trace_id=row.string("trace_id"),
        caller_trace=row.optional_string("caller_trace"),
        kind=row.string("kind"),
        provider=row.string("provider"),
        model=row.string("model"),
        prompt=row.string("prompt"),
        spec=row.canonical("spec") if row.has("spec") else None,
        max_iterations=row.integer("max_iterations"),
        final_verdict=cast(FinalVerdict, row.one_of("final_verdict", get_args(FinalVerdict))),
        error=_error_record(row.object("error")) if row.has("error") else None,
        artifact=row.canonical("artifact") if row.has("artifact") else None,
        grounded_in_roster=row.boolean("grounded_in_roster") if row.has("grounded_in_roster") else None,
        attempts=tuple(_attempt_record(attempt) for attempt in row.objects("attempts")),
        duration_ms=row.integer("duration_ms"),
        caller=row.optional_string("caller"),
        brief=_brief_record(row.object("brief")) if row.has("brief") else None,
        token_budget_spent=row.flag("token_budget_spent"),
        no_progress=row.flag("no_progress"),
        try_number=row.try_number(),
        request_digest=row.optional_string("request_digest"),
    )
    for key in ("iterations", "input_tokens", "output_tokens"):
        stated, derived = row.integer(key), getattr(record, key)
        if stated != derived:
            raise RowBreach("invalid", f"/{key} is {stated}, but the attempts make {derived}")
    cost_nano_usd = row.optional_integer("cost_nano_usd")
    if cost_nano_usd != record.cost_nano_usd:
        raise RowBreach("invalid", f"/cost_nano_usd is {cost_nano_usd}, but the attempts make {record.cost_nano_usd}")
    return record


def _attempt_record(fields: _Fields) -> SessionAttemptRecord:
    return SessionAttemptRecord(
        iteration=fields.integer("iteration"),
        provider=fields.string("provider"),
        model=fields.string("model"),
        verdict=cast(AttemptVerdict, fields.one_of("verdict", get_args(AttemptVerdict))),
        span_id=fields.optional_string("span_id"),
        raw=fields.string("raw"),
        raw_truncated=fields.flag("raw_truncated"),
        findings=_finding_records(fields),
        error=_error_record(fields.object("error")) if fields.has("error") else None,
        input_tokens=fields.integer("input_tokens"),
        output_tokens=fields.integer("output_tokens"),
        chat_ms=fields.integer("chat_ms"),
        validate_ms=fields.integer("validate_ms"),
        roster=fields.optional_string("roster"),
        datasets=(
            tuple(DatasetRecord(each.string("name"), each.string("version")) for each in fields.objects("datasets"))
            if fields.has("datasets")
            else None
        ),
        cost_nano_usd=fields.optional_integer("cost_nano_usd"),
        parse_problem=fields.optional_string("parse_problem"),
    )


def _brief_record(fields: _Fields) -> BriefRecord:
    return BriefRecord(
        grounding=cast(BriefGrounding, fields.one_of("grounding", get_args(BriefGrounding))),
        candidates=fields.optional_integer("candidates"),
        candidates_total=fields.optional_integer("candidates_total"),
        candidates_total_is_floor=fields.flag("candidates_total_is_floor"),
        infeasible=fields.flag("infeasible"),
        degraded=fields.flag("degraded"),
        findings=_finding_records(fields),
        roster=fields.optional_string("roster"),
        brief_ms=fields.integer("brief_ms"),
    )


def _finding_records(fields: _Fields) -> tuple[FindingRecord, ...] | None:
    if not fields.has("findings"):
        return None
    return tuple(
        FindingRecord(
            code=finding.string("code"),
            path=finding.string("path"),
            message=finding.string("message"),
            suggestions=finding.canonical_objects("suggestions") if finding.has("suggestions") else None,
        )
        for finding in fields.objects("findings")
    )


def _error_record(fields: _Fields) -> ErrorRecord:
    return ErrorRecord(
        code=fields.string("code"),
        reason=fields.string("reason"),
        where=cast(Where, fields.one_of("where", get_args(Where))),
        message=fields.string("message"),
    )
