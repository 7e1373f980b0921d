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

# How long a session is known by its id, unless configured otherwise.
RECALL_HOURS: Final = 24.0

FinalVerdict = Literal["accepted", "max_iter_exhausted", "infra_error"]
AttemptVerdict = Literal["accepted", "rejected", "unparsable", "infra_error"]
Where = Literal["iterate", "chatd", "validated"]
BriefGrounding = Literal["form", "candidates"]


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
    suggestions: tuple[str, ...] | None = None
    """What would pass in its place: of each, its facts as the canonical JSON text of an object. None: not sought."""


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset that decided about an attempt, in the version that decided."""

    name: str
    version: str


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
    datasets: tuple[DatasetRecord, ...] | None = None
    """The datasets that decided, of a kind that declares some; None for the others."""
    cost_nano_usd: int | None = None
    """What the attempt cost, in 10^-9 US dollars; None where a price is not known."""
    parse_problem: str | None = None
    """Why the answer is ``unparsable``, in a sentence; None where it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefRecord:
    """What the model was given before its first attempt."""

    grounding: BriefGrounding
    candidates: int | None = None
    """How many candidates it was given; None where none were asked for."""
    candidates_total: int | None = None
    """How many qualify; None where none were asked for."""
    candidates_total_is_floor: bool = False
    """Whether more may qualify than ``candidates_total``."""
    infeasible: bool = False
    """Whether fewer qualify than are needed."""
    degraded: bool = False
    """Whether the candidates could not be had in time, so that the form alone was given."""
    findings: tuple[FindingRecord, ...] | None = None
    """Why it is infeasible; None where it is not."""
    roster: str | None = None
    """The version of the roster that the candidates are from."""
    brief_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One session, however it ended.

    ``iterations`` and the totals of tokens and cost are derived from ``attempts``, so that they cannot disagree.
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
    caller: str | None = None
    """The authenticated caller's name."""
    brief: BriefRecord | None = None
    """None where the model was given none."""
    token_budget_spent: bool = False
    """Whether the session ended early since its token budget was spent."""
    no_progress: bool = False
    """Whether the session ended early since an answer came again."""
    try_number: int = 1
    """Which use of its id the session is, from 1; the row's key is ``try``, and absent for 1."""
    request_digest: str | None = None
    """``sha256:`` and 32 hex digits of the request; None unless the caller gave the id."""

    @property
    def schema(self) -> str:
        return SCHEMA

    @property
    def iterations(self) -> int:
        return len(self.attempts)

    @property
    def is_infeasible(self) -> bool:
        """Whether it ended without a model call, since no artifact could pass."""
        # Of attempts that ran out there is at least one.
        return self.final_verdict == "max_iter_exhausted" and not self.attempts

    @property
    def input_tokens(self) -> int:
        return sum(attempt.input_tokens for attempt in self.attempts)

    @property
    def output_tokens(self) -> int:
        return sum(attempt.output_tokens for attempt in self.attempts)

    @property
    def cost_nano_usd(self) -> int | None:
        """The sum over the attempts, in 10^-9 US dollars; None without attempts, or where one's cost is not known."""
        costs = [attempt.cost_nano_usd for attempt in self.attempts]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known and len(known) == len(costs) else None


def rfc3339(unix_us: int) -> str:
    """Return a row's ``timestamp``: UTC with six fractional digits and ``Z``."""
    seconds, fraction_us = divmod(unix_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{fraction_us:06d}Z"


def parse_rfc3339(timestamp: str) -> int:
    """Microseconds since 1970 of a row's ``timestamp``. Raises ValueError."""
    moment = datetime.fromisoformat(timestamp)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
