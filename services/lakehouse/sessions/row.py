"""One row of the session log: ``SessionRecord`` to bytes, the same bytes as the writers in parity/.

``row_reading`` is the other direction.

The key order is the contract's. ``orjson`` prints the row: its escapes are the contract's too (the tests compare
every character), and ``spec`` and ``artifact`` go in as the canonical text that they are.
"""

from __future__ import annotations

from typing import Final

import orjson

from lakehouse.sessions.record import (
    RAW_BYTES_MAX,
    SCHEMA,
    BriefRecord,
    ErrorRecord,
    FindingRecord,
    SessionAttemptRecord,
    SessionRecord,
)
from lakehouse.strict_json.rules import replace_surrogates, replace_surrogates_within

INTEGER_MAX: Final = 2**63 - 1


def encode_row(record: SessionRecord) -> bytes:
    """Return the record as one LF-ended line of compact UTF-8.

    Lone surrogates become U+FFFD, so that any string of a model or a caller can be written.

    Raises:
        ValueError: an integer is not one of 0 to 2^63-1, or ``spec``, ``artifact`` or a suggestion is not the one-line
            text of a JSON object; both are bugs of the caller.
    """
    return _printed(_row(record)) + b"\n"


def encode_attempt(attempt: SessionAttemptRecord) -> str:
    """Return the attempt as it stands in a row's ``attempts``, in one line.

    Raises:
        ValueError: as ``encode_row``.
    """
    return _printed(_attempt(attempt)).decode()


def cut_raw(text: str) -> tuple[str, bool]:
    """Return a model's answer as a row holds it (at most 256 KiB of UTF-8, whole characters), and whether it was
    cut."""
    if len(text) * 4 <= RAW_BYTES_MAX:  # no character has more than four bytes
        return text, False
    data = replace_surrogates(text).encode()
    if len(data) <= RAW_BYTES_MAX:
        return text, False
    return data[:RAW_BYTES_MAX].decode(errors="ignore"), True


def _printed(fields: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(fields)
    except TypeError:  # a lone surrogate has no UTF-8 form
        return orjson.dumps(replace_surrogates_within(fields))


def _row(record: SessionRecord) -> dict[str, object]:
    input_tokens, output_tokens = record.input_tokens, record.output_tokens
    _check_integers(
        max_iterations=record.max_iterations,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        duration_ms=record.duration_ms,
    )
    row: dict[str, object] = {
        "schema": SCHEMA,
        "session_id": record.session_id,
        "timestamp": record.timestamp,
        "daemon": record.daemon,
        "trace_id": record.trace_id,
    }
    if record.caller_trace is not None:
        row["caller_trace"] = record.caller_trace
    row["kind"] = record.kind
    row["provider"] = record.provider
    row["model"] = record.model
    row["prompt"] = record.prompt
    if record.spec is not None:
        row["spec"] = _fragment("spec", record.spec)
    row["max_iterations"] = record.max_iterations
    row["iterations"] = len(record.attempts)
    row["final_verdict"] = record.final_verdict
    if record.error is not None:
        row["error"] = _error(record.error)
    if record.artifact is not None:
        row["artifact"] = _fragment("artifact", record.artifact)
    if record.grounded_in_roster is not None:
        row["grounded_in_roster"] = record.grounded_in_roster
    row["attempts"] = [_attempt(attempt) for attempt in record.attempts]
    row["input_tokens"] = input_tokens
    row["output_tokens"] = output_tokens
    row["duration_ms"] = record.duration_ms
    if record.caller is not None:
        row["caller"] = record.caller
    if record.brief is not None:
        row["brief"] = _brief(record.brief)
    if record.token_budget_spent:
        row["token_budget_spent"] = True
    if record.no_progress:
        row["no_progress"] = True
    if record.try_number != 1:
        _check_integers(**{"try": record.try_number})
        row["try"] = record.try_number
    if record.request_digest is not None:
        row["request_digest"] = record.request_digest
    cost_nano_usd = record.cost_nano_usd
    if cost_nano_usd is not None:
        _check_integers(cost_nano_usd=cost_nano_usd)
        row["cost_nano_usd"] = cost_nano_usd
    return row


def _attempt(attempt: SessionAttemptRecord) -> dict[str, object]:
    _check_integers(
        iteration=attempt.iteration,
        input_tokens=attempt.input_tokens,
        output_tokens=attempt.output_tokens,
        chat_ms=attempt.chat_ms,
        validate_ms=attempt.validate_ms,
    )
    fields: dict[str, object] = {
        "iteration": attempt.iteration,
        "provider": attempt.provider,
        "model": attempt.model,
        "verdict": attempt.verdict,
    }
    if attempt.span_id is not None:
        fields["span_id"] = attempt.span_id
    fields["raw"] = attempt.raw
    if attempt.raw_truncated:
        fields["raw_truncated"] = True
    if attempt.findings is not None:
        fields["findings"] = [_finding(finding) for finding in attempt.findings]
    if attempt.error is not None:
        fields["error"] = _error(attempt.error)
    fields["input_tokens"] = attempt.input_tokens
    fields["output_tokens"] = attempt.output_tokens
    fields["chat_ms"] = attempt.chat_ms
    fields["validate_ms"] = attempt.validate_ms
    if attempt.roster is not None:
        fields["roster"] = attempt.roster
    if attempt.datasets is not None:
        fields["datasets"] = [{"name": each.name, "version": each.version} for each in attempt.datasets]
    if attempt.cost_nano_usd is not None:
        _check_integers(cost_nano_usd=attempt.cost_nano_usd)
        fields["cost_nano_usd"] = attempt.cost_nano_usd
    if attempt.parse_problem is not None:
        fields["parse_problem"] = attempt.parse_problem
    return fields


def _finding(finding: FindingRecord) -> dict[str, object]:
    fields: dict[str, object] = {"code": finding.code, "path": finding.path, "message": finding.message}
    if finding.suggestions is not None:
        fields["suggestions"] = [_fragment("suggestions", each) for each in finding.suggestions]
    return fields


def _brief(brief: BriefRecord) -> dict[str, object]:
    fields: dict[str, object] = {"grounding": brief.grounding}
    for name, count in (("candidates", brief.candidates), ("candidates_total", brief.candidates_total)):
        if count is not None:
            _check_integers(**{name: count})
            fields[name] = count
    if brief.candidates_total_is_floor:
        fields["candidates_total_is_floor"] = True
    if brief.infeasible:
        fields["infeasible"] = True
    if brief.degraded:
        fields["degraded"] = True
    if brief.findings is not None:
        fields["findings"] = [_finding(finding) for finding in brief.findings]
    if brief.roster is not None:
        fields["roster"] = brief.roster
    _check_integers(brief_ms=brief.brief_ms)
    fields["brief_ms"] = brief.brief_ms
    return fields


def _error(error: ErrorRecord) -> dict[str, object]:
    return {"code": error.code, "reason": error.reason, "where": error.where, "message": error.message}


def _check_integers(**values: int) -> None:
    for name, value in values.items():
        if type(value) is not int or not 0 <= value <= INTEGER_MAX:
            raise ValueError(f"{name} is {value!r:.40}: a row holds integers of 0 to 2^63-1")


def _fragment(name: str, text: str) -> orjson.Fragment:
    # Canonical text is taken at its word but for what would harm other rows: a line end inside this one.
    if not (text.startswith("{") and text.endswith("}")) or "\n" in text:
        raise ValueError(f"{name} is not the canonical text of a JSON object: use canonicalize()")
    return orjson.Fragment(replace_surrogates(text))
