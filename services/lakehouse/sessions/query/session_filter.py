"""Which sessions are asked for: the same answer from a row as it is read and from DuckDB's views."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_RELATIVE: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """What sessions must have; None lets all pass. ``since`` counts, ``until`` does not; both naive UTC.

    ``trace``: the trace id, or the caller's own trace string. ``text``: stands in a string of the row (prompt, spec,
    answers, findings, ids), upper and lower case alike; it is looked for in whole rows, and ``where`` leaves it out.
    """

    verdict: str | None = None
    kind: str | None = None
    model: str | None = None
    caller: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    trace: str | None = None
    text: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """The conditions as texts, by name."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {
            name: timestamp_text(value) or "" if isinstance(value, datetime) else value
            for name, value in values
            if value is not None
        }

    def where(self) -> tuple[str, list[object]]:
        """Return SQL after WHERE over ``facts`` or ``sessions``, and its parameters; all conditions but ``text``."""
        conditions: list[str] = ["true"]
        parameters: list[object] = []
        for condition, value in (
            ("final_verdict = ?", self.verdict),
            ("kind = ?", self.kind),
            ("model = ?", self.model),
            ("caller = ?", self.caller),
            ("timestamp >= ?", self.since),
            ("timestamp < ?", self.until),
            ("(trace_id = ? OR caller_trace = ?)", self.trace),
        ):
            if value is not None:
                conditions.append(condition)
                parameters += [value] * condition.count("?")
        return " AND ".join(conditions), parameters

    def fits(self, row: dict[str, Any], moment: datetime | None) -> bool:
        """Say whether a row, of this timestamp, has all that is asked for."""
        return (
            all(
                value is None or row.get(key) == value
                for key, value in (
                    ("final_verdict", self.verdict),
                    ("kind", self.kind),
                    ("model", self.model),
                    ("caller", self.caller),
                )
            )
            and (self.since is None or (moment is not None and moment >= self.since))
            and (self.until is None or (moment is not None and moment < self.until))
            and (self.trace is None or self.trace in (row["trace_id"], row.get("caller_trace")))
            and (self.text is None or _stands_in(row, folded(self.text)))
        )

    def may_fit(self, line: bytes) -> bool:
        """Say False of a line that cannot have the text, at a small part of what reading it costs."""
        if self.text is None:
            return True
        text = line.decode(errors="replace")
        return self.text_in_json in folded(text) or any(escape in text for escape in OTHER_SPELLINGS)

    @property
    def text_in_json(self) -> str:
        """The folded text as it stands within the JSON text of a row, unless that spells it by other escapes."""
        return json.dumps(folded(self.text or ""), ensure_ascii=False)[1:-1]


OTHER_SPELLINGS: Final = ("\\u", "\\/")
"""In a row that has none of these a string is spelled in one way alone."""


def folded(text: str) -> str:
    """Return the text in lower case, character by character, as DuckDB's ``lower`` has it."""
    # Python's own has two characters for this I, and another sigma at the end of a word.
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()


def _stands_in(row: dict[str, Any], needle: str) -> bool:
    waiting: list[object] = [row]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if needle in folded(value):
                return True
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, Sequence):
            waiting += value
    return False


def timestamp_text(moment: datetime | None) -> str | None:
    """Return the time as in a row: RFC 3339, UTC, six fractional digits, ``Z``."""
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
