"""What the root's and the attempts' spans say: their inputs and outputs, as JSON text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import orjson

from iterate.task import ModelTarget
from lakehouse.sessions.record import ErrorRecord, SessionAttemptRecord, SessionRecord


def request_text(record: SessionRecord) -> str:
    """Input of the root: the request."""
    request = {
        "kind": record.kind,
        "provider": record.provider,
        "model": record.model,
        "max_iterations": record.max_iterations,
        "prompt": record.prompt,
    }
    return _with_json(request, spec=record.spec)


def outcome_text(record: SessionRecord) -> str:
    """Output of the root: how the session ended."""
    outcome = {"final_verdict": record.final_verdict, "iterations": record.iterations, **_error(record.error)}
    if record.is_infeasible:
        found = record.brief.findings if record.brief is not None else None
        outcome |= {"infeasible": True, "findings": [dataclasses.asdict(each) for each in found or ()]}
    if record.no_progress:
        outcome["no_progress"] = True
    if record.token_budget_spent:
        outcome["token_budget_spent"] = True
    return _with_json(outcome, artifact=record.artifact)


def attempt_input(iteration: int, target: ModelTarget, prompt: str) -> str:
    """Input of an attempt; `prompt` is what the model is asked to answer in it."""
    return _json({"iteration": iteration, "model": target.model, "provider": target.provider, "prompt": prompt})


def attempt_output(record: SessionAttemptRecord) -> str:
    """Output of an attempt."""
    return _json({"verdict": record.verdict, "raw": record.raw, **_error(record.error)})


def _error(error: ErrorRecord | None) -> dict[str, object]:
    return {} if error is None else {"error": dataclasses.asdict(error)}


def _json(value: Mapping[str, object]) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _with_json(value: Mapping[str, object], **texts: str | None) -> str:
    """`value` as JSON with further members that are JSON text already: they are not read a second time."""
    members = "".join(f',"{name}":{given}' for name, given in texts.items() if given is not None)
    return f"{_json(value)[:-1]}{members}}}"
