"""One row as a page shows it: parsed once, bounded, its attempts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from lakehouse.sessions.query.viewer.artifact_lines import PrintedArtifact, print_artifact
from lakehouse.sessions.record import FindingRecord, SessionAttemptRecord, SessionRecord
from lakehouse.sessions.row_reading import decode_row
from lakehouse.strict_json.answer import Unparsable, read_artifact
from lakehouse.strict_json.parser import BYTES_MAX, JsonBreach, JsonValue, parse_json
from lakehouse.strict_json.rules import DEPTH_MAX

ATTEMPTS_MAX: Final = 20
FINDINGS_MAX: Final = 50
SUGGESTIONS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt. ``printed`` is the artifact that was read in its answer; None where there is none."""

    record: SessionAttemptRecord
    printed: PrintedArtifact | None
    findings: Sequence[FindingRecord]
    """Those that have no artifact to stand in; bounded, as those in ``printed`` are."""
    findings_left_out: int


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session. ``line`` is its row to the byte."""

    line: bytes
    record: SessionRecord
    spec: PrintedArtifact | None
    artifact: PrintedArtifact | None
    attempts: Sequence[AttemptView]
    attempts_left_out: int

    @property
    def began(self) -> str:
        """The time of its beginning, to the millisecond; empty where the row's timestamp is none."""
        try:
            ended = datetime.fromisoformat(self.record.timestamp).timestamp()
            began = datetime.fromtimestamp(
                ended - self.record.duration_ms / 1000, datetime.fromisoformat(self.record.timestamp).tzinfo
            )
        except (ValueError, OverflowError, OSError):
            return ""
        return began.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def view_of(line: bytes) -> SessionView:
    """Return the view of a row. Raises RowBreach."""
    record = decode_row(line)
    artifact = _value(record.artifact)
    shown = record.attempts[:ATTEMPTS_MAX]
    # The row's artifact is the last one that was read: no second reading of its text can differ from it.
    last_read = max((place for place, each in enumerate(shown) if _was_read(each)), default=-1)
    attempts: list[AttemptView] = []
    before: JsonValue | None = None
    for place, attempt in enumerate(shown):
        is_last = place == last_read and len(record.attempts) == len(shown)
        value = artifact if is_last and artifact is not None else _artifact_of(attempt)
        attempts.append(_attempt_view(attempt, value, before))
        before = value if value is not None else before
    spec = _value(record.spec)
    return SessionView(
        line=line,
        record=record,
        spec=None if spec is None else print_artifact(spec),
        artifact=None if artifact is None else print_artifact(artifact),
        attempts=attempts,
        attempts_left_out=len(record.attempts) - len(shown),
    )


def _attempt_view(attempt: SessionAttemptRecord, value: JsonValue | None, before: JsonValue | None) -> AttemptView:
    found = attempt.findings or ()
    findings = [
        replace(each, suggestions=(each.suggestions or ())[:SUGGESTIONS_MAX] or each.suggestions)
        for each in found[:FINDINGS_MAX]
    ]
    printed = None if value is None else print_artifact(value, findings, before=before)
    return AttemptView(attempt, printed, () if printed else findings, len(found) - len(findings))


def _was_read(attempt: SessionAttemptRecord) -> bool:
    return attempt.verdict in ("accepted", "rejected") or attempt.findings is not None


def _artifact_of(attempt: SessionAttemptRecord) -> JsonValue | None:
    """Return what iterate read in the answer, by the same reading; None where it read nothing or the row cut it."""
    if not _was_read(attempt) or attempt.raw_truncated or len(attempt.raw) > BYTES_MAX:
        return None
    try:
        return _value(read_artifact(attempt.raw, bytes_max=BYTES_MAX))
    except Unparsable:
        return None


def _value(canonical: str | None) -> JsonValue | None:
    if canonical is None:
        return None
    try:
        return parse_json(canonical, bytes_max=max(BYTES_MAX, 4 * len(canonical)), depth_max=DEPTH_MAX)
    except JsonBreach:
        return None
