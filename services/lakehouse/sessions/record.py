"""``SessionRecord``: one row of the session log, schema ``session.iterate.v1``.

The field order of these classes is the key order of the row; ``row.py`` encodes them. ``spec`` and ``artifact`` hold
canonical JSON text (see ``lakehouse.strict_json``), never a parsed value: the text that validated checked is the
text that the row holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

SCHEMA: Final = "session.iterate.v1"

# The longest `raw` a row holds, in UTF-8 bytes; longer answers are cut on a character boundary.
RAW_BYTES_MAX: Final = 256 * 1024
# What is read as one row at most: far above the longest row of a session within the limits (ten attempts of 256 KiB
# raw, an escape being at most six bytes), and a bound on a foreign line's memory.
ROW_BYTES_MAX: Final = 64 * 1024 * 1024

FinalVerdict = Literal["accepted", "max_iter_exhausted", "infra_error"]
AttemptVerdict = Literal["accepted", "rejected", "unparsable", "infra_error"]
Where = Literal["iterate", "chatd", "validated"]


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """A fault of the system, as a row and a journal entry have it."""

    code: str
    """gRPC status name (``UNAVAILABLE``), or ``PROCESS_DIED`` for a session whose process was killed."""
    reason: str
    """A reason of ``lakehouse.errors.Reason``."""
    where: Where
    """The service in which the fault arose."""
    message: str
    """The reason's fixed sentence; never exception or upstream text."""


PROCESS_DIED: Final = ErrorRecord(
    code="PROCESS_DIED",
    reason="PROCESS_DIED",
    where="iterate",
    message="The process that ran this session ended before the session did.",
)


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """One thing that validated found wrong with an artifact."""

    code: str
    path: str
    """JSON Pointer (RFC 6901) into the artifact; empty for the artifact as a whole."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAttemptRecord:
    """One turn of the loop. Steps that were not reached have 0 or an empty string."""

    iteration: int
    """From 1."""
    provider: str = ""
    """Who answered, as chatd said; what was asked for where chatd did not answer."""
    model: str = ""
    verdict: AttemptVerdict
    span_id: str | None = None
    """The attempt's span in the trace, 16 lower-case hex digits; None where tracing is off."""
    raw: str = ""
    """The model's answer, at most ``RAW_BYTES_MAX`` bytes."""
    raw_truncated: bool = False
    findings: tuple[FindingRecord, ...] | None = None
    """None where validated was not asked (or did not answer)."""
    error: ErrorRecord | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    chat_ms: int = 0
    validate_ms: int = 0
    roster: str | None = None
    """The version of the roster that decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One session, however it ended.

    ``iterations`` and the token totals are derived from ``attempts``, so that they cannot disagree.
    """

    session_id: str
    timestamp: str
    """Session end: RFC 3339, UTC, six fractional digits, ``Z``."""
    daemon: str = "iterate"
    trace_id: str
    caller_trace: str | None = None
    """The caller's own trace string where it was mapped to ``trace_id``."""
    kind: str
    provider: str
    model: str
    prompt: str
    spec: str | None = None
    """Canonical JSON text of the request's spec object."""
    max_iterations: int
    final_verdict: FinalVerdict
    error: ErrorRecord | None = None
    artifact: str | None = None
    """Canonical JSON text of the accepted artifact, or of the last one that parsed."""
    grounded_in_roster: bool | None = None
    attempts: tuple[SessionAttemptRecord, ...] = field(default=())
    duration_ms: int

    @property
    def schema(self) -> str:
        return SCHEMA

    @property
    def iterations(self) -> int:
        return len(self.attempts)

    @property
    def input_tokens(self) -> int:
        return sum(attempt.input_tokens for attempt in self.attempts)

    @property
    def output_tokens(self) -> int:
        return sum(attempt.output_tokens for attempt in self.attempts)


def rfc3339(unix_us: int) -> str:
    """A row's ``timestamp``: UTC with six fractional digits and ``Z``."""
    seconds, fraction_us = divmod(unix_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{fraction_us:06d}Z"


def parse_rfc3339(timestamp: str) -> int:
    """Microseconds since 1970 of a row's ``timestamp``. Raises ValueError."""
    moment = datetime.fromisoformat(timestamp)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
