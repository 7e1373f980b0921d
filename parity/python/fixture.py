"""A session of a fixture as a ``SessionRecord``: raw uncut, spec and artifact as the JSON text from outside."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakehouse.sessions.record import (
    BriefRecord,
    DatasetRecord,
    ErrorRecord,
    FindingRecord,
    SessionAttemptRecord,
    SessionRecord,
)
from lakehouse.sessions.row import cut_raw
from lakehouse.strict_json.parser import JsonBreach, canonicalize

DAEMON = "iterate-python"


class RefusedError(Exception):
    """This JSON of the session broke a rule."""

    def __init__(self, key: str, kind: str) -> None:
        super().__init__(f"{key}: {kind}")
        self.key = key
        self.kind = kind


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def text_of(value: Any) -> str | bytes:
    """Return a string, a long one told in parts (``{"parts": [["[", 101], ["]", 101]]}``), or bytes
    (``{"base64"}``)."""
    if isinstance(value, str):
        return value
    if "base64" in value:
        return base64.b64decode(value["base64"])
    return "".join(piece * times for piece, times in value["parts"])


def record_of(session: dict[str, Any], now: datetime | None = None) -> SessionRecord:
    """Return the session as a record that ended ``now``.

    Raises:
        RefusedError: its spec or artifact breaks a rule of JSON from outside.
    """
    moment = now or datetime.now(UTC)
    return SessionRecord(
        session_id=session["session_id"],
        timestamp=moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        daemon=DAEMON,
        trace_id=session["trace_id"],
        caller_trace=session.get("caller_trace"),
        kind=session["kind"],
        provider=session["provider"],
        model=session["model"],
        prompt=str(text_of(session["prompt"])),
        spec=_canonical("spec", session),
        max_iterations=session["max_iterations"],
        final_verdict=session["final_verdict"],
        error=_error(session),
        artifact=_canonical("artifact", session),
        grounded_in_roster=session.get("grounded_in_roster"),
        attempts=tuple(_attempt(attempt) for attempt in session["attempts"]),
        duration_ms=session["duration_ms"],
        caller=session.get("caller"),
        brief=_brief(session["brief"]) if "brief" in session else None,
        token_budget_spent="token_budget_spent" in session,
        no_progress="no_progress" in session,
        try_number=session.get("try", 1),
        request_digest=session.get("request_digest"),
    )


def _canonical(key: str, session: dict[str, Any]) -> str | None:
    return _canonical_text(key, session[key]) if key in session else None


def _canonical_text(key: str, text: Any) -> str:
    try:
        return canonicalize(text_of(text))
    except JsonBreach as breach:
        raise RefusedError(key, breach.kind) from breach


def _attempt(attempt: dict[str, Any]) -> SessionAttemptRecord:
    raw, truncated = cut_raw(str(text_of(attempt["raw"])))
    return SessionAttemptRecord(
        iteration=attempt["iteration"],
        provider=attempt["provider"],
        model=attempt["model"],
        verdict=attempt["verdict"],
        span_id=attempt.get("span_id"),
        raw=raw,
        raw_truncated=truncated,
        findings=_findings(attempt),
        error=_error(attempt),
        input_tokens=attempt["input_tokens"],
        output_tokens=attempt["output_tokens"],
        chat_ms=attempt["chat_ms"],
        validate_ms=attempt["validate_ms"],
        roster=attempt.get("roster"),
        datasets=(tuple(DatasetRecord(**each) for each in attempt["datasets"]) if "datasets" in attempt else None),
        cost_nano_usd=attempt.get("cost_nano_usd"),
        parse_problem=attempt.get("parse_problem"),
    )


def _brief(brief: dict[str, Any]) -> BriefRecord:
    return BriefRecord(
        grounding=brief["grounding"],
        candidates=brief.get("candidates"),
        candidates_total=brief.get("candidates_total"),
        candidates_total_is_floor="candidates_total_is_floor" in brief,
        infeasible="infeasible" in brief,
        degraded="degraded" in brief,
        findings=_findings(brief),
        roster=brief.get("roster"),
        brief_ms=brief["brief_ms"],
    )


def _findings(holder: dict[str, Any]) -> tuple[FindingRecord, ...] | None:
    if "findings" not in holder:
        return None
    return tuple(
        FindingRecord(
            finding["code"],
            finding["path"],
            finding["message"],
            tuple(_canonical_text("suggestions", text) for text in finding["suggestions"])
            if "suggestions" in finding
            else None,
        )
        for finding in holder["findings"]
    )


def _error(holder: dict[str, Any]) -> ErrorRecord | None:
    return ErrorRecord(**holder["error"]) if "error" in holder else None
