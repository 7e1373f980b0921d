"""Finding sessions: the newest that fit, and one by its id."""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.record import SCHEMA
from lakehouse.sessions.store.lines import Progress, SegmentDamagedError, read_lines

_RELATIVE: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """What sessions must have; None lets all pass. ``since`` counts, ``until`` does not; both naive UTC."""

    verdict: str | None = None
    kind: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> tuple[str, list[object]]:
        """SQL after WHERE over ``facts`` or ``sessions``, and its parameters."""
        conditions: list[str] = ["true"]
        parameters: list[object] = []
        for condition, value in (
            ("final_verdict = ?", self.verdict),
            ("kind = ?", self.kind),
            ("model = ?", self.model),
            ("timestamp >= ?", self.since),
            ("timestamp < ?", self.until),
        ):
            if value is not None:
                conditions.append(condition)
                parameters.append(value)
        return " AND ".join(conditions), parameters


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in one line. A value is None where a row has none of the right type."""

    timestamp: str | None
    session_id: str | None
    trace_id: str | None
    kind: str | None
    provider: str | None
    model: str | None
    final_verdict: str | None
    reason: str | None
    """The error's, of an ``infra_error``."""
    iterations: int | None
    grounded_in_roster: bool | None
    input_tokens: int | None
    output_tokens: int | None
    duration_ms: int | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_sessions(reader: SessionReader, wanted: SessionFilter, *, limit: int) -> list[SessionSummary]:
    """The newest ``limit`` sessions that fit, newest first. Raises QueryRefusedError."""
    where, parameters = wanted.where()
    _, rows = reader.query(
        "SELECT timestamp, session_id, trace_id, kind, provider, model, final_verdict, error.reason, iterations,"
        " grounded_in_roster, input_tokens, output_tokens, duration_ms"
        f" FROM facts WHERE {where} ORDER BY timestamp DESC NULLS LAST, session_id DESC LIMIT ?",
        [*parameters, limit],
    )
    return [SessionSummary(timestamp_text(row[0]), *row[1:]) for row in rows]


def find_rows(reader: SessionReader, identifier: str, progress: Progress | None = None) -> Iterator[bytes]:
    """Lines, to the byte, of the sessions with this session id, trace id or caller's trace string; oldest segment
    first. A session that stands in the log twice is given twice. Raises QueryRefusedError."""
    snapshot = reader.snapshot
    if snapshot.parquet_files:
        yield from _find_in_parquet(reader, identifier)
    needle = orjson.dumps(identifier)
    for segment in snapshot.segments:
        try:
            for line in read_lines(segment, progress):
                # Our writers' spelling first: a search for bytes passes a gigabyte a second.
                if needle in line.data and _is_of(line.data, identifier):
                    yield line.data
        except SegmentDamagedError:
            continue


def _find_in_parquet(reader: SessionReader, identifier: str) -> Iterator[bytes]:
    _, rows = reader.query(
        "SELECT line FROM parquet_rows WHERE session_id = $1 OR trace_id = $1 OR caller_trace = $1 ORDER BY timestamp",
        [identifier],
    )
    for (line,) in rows:
        yield line.encode()


def _is_of(line: bytes, identifier: str) -> bool:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return (
        isinstance(row, dict)
        and row.get("schema") == SCHEMA
        and identifier in (row.get("session_id"), row.get("trace_id"), row.get("caller_trace"))
    )


def timestamp_text(moment: datetime | None) -> str | None:
    """As in a row: RFC 3339, UTC, six fractional digits, ``Z``."""
    return None if moment is None else moment.isoformat(timespec="microseconds") + "Z"


def parse_moment(text: str, *, now: datetime) -> datetime:
    """Naive UTC of ``2026-11-24``, of an RFC 3339 time (UTC without a zone), or of ``90m``, ``24h``, ``7d``, ``2w``
    before ``now`` (aware). Raises ValueError, which says what is accepted."""
    match = _RELATIVE.fullmatch(text)
    try:
        moment = now - timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else datetime.fromisoformat(text)
        return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r:.60} is no time: give a date (2026-11-24), an RFC 3339 time (2026-11-24T10:00:00Z) or an age"
            " (90m, 24h, 7d, 2w)"
        ) from None
