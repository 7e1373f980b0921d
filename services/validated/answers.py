"""What is said of a brief and of a verdict: in the answer, on the span, in the log line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from lakehouse.tracing import Span
from lakehouse.validated.v1 import validated_pb2
from validated.datasets.worker import RosterVersion
from validated.findings import Finding, Findings
from validated.kinds.candidates import candidates_json
from validated.kinds.spec import Spec
from validated.kinds.validator import Brief, DatasetVersion, Ground, Task

# Of the candidates so many stand on a span: the answer has them all.
_CANDIDATES_SHOWN_MAX: Final = 200


class StatedVersion(NamedTuple):
    """The version of a roster as the log and the answer say it."""

    version: RosterVersion
    fields: dict[str, Any]
    message: validated_pb2.RosterVersion


class StatedVersions:
    """Versions in both their forms. A roster that is loaded names the same one in each of its answers."""

    def __init__(self) -> None:
        self._last: StatedVersion | None = None

    def stated(self, version: RosterVersion | None) -> StatedVersion | None:
        """`version` in both its forms; None for none."""
        last = self._last
        if version is None or (last is not None and last.version is version):
            return None if version is None else last
        fields: dict[str, Any] = {
            "source": version.source,
            "version": version.version,
            "row_count": version.row_count,
            "loaded_at": version.loaded_at,
        }
        self._last = StatedVersion(version, fields, validated_pb2.RosterVersion(**fields))
        return self._last


def brief_asked(spec: Spec, task: Task) -> str:
    """Return what the retriever's input says."""
    asked: dict[str, object] = {"kind": spec.kind, "candidates_max": task.candidates_max, "prompt": task.prompt}
    if spec.text is not None:
        asked["spec"] = orjson.Fragment(spec.text)
    return orjson.dumps(asked).decode()


def brief_facts(brief: Brief, version: StatedVersion | None) -> dict[str, object]:
    """Return what the log line of Brief says."""
    facts: dict[str, object] = {"candidates": len(brief.candidates)}
    if version is not None:
        facts |= {
            "candidates_total": brief.candidates_total,
            "candidates_total_is_floor": brief.candidates_total_is_floor,
            "roster": version.fields,
        }
    facts |= _datasets_said(brief.datasets)
    if brief.infeasible:
        facts |= {"infeasible": True, "codes": [finding.code for finding in brief.findings]}
    return facts


def brief_ended(span: Span, brief: Brief) -> None:
    """End the retriever. Candidates are named by their ids, under the name by which an operator masks those."""
    if not span.recording:
        span.end()
        return
    shown = brief.candidates[:_CANDIDATES_SHOWN_MAX]
    output = {
        "instructions": brief.instructions,
        "needed": brief.needed,
        "candidates": [{"worker_id": facts["worker_id"]} for facts in shown if "worker_id" in facts],
        "candidates_count": len(brief.candidates),
        "candidates_total": brief.candidates_total,
        "candidates_total_is_floor": brief.candidates_total_is_floor,
        "has_candidates_schema": bool(brief.candidates_schema_json),
        "infeasible": brief.infeasible,
        "findings": [_finding_json(finding) for finding in brief.findings],
    }
    metadata: dict[str, str | int | bool] = {
        "candidates": len(brief.candidates),
        "candidates_total": brief.candidates_total,
        "infeasible": brief.infeasible,
    }
    metadata |= _metadata(brief.roster, brief.datasets)
    span.end(output=orjson.dumps(output).decode(), metadata=metadata)


def brief_response(brief: Brief, version: StatedVersion | None) -> validated_pb2.BriefResponse:
    """Return the answer of Brief."""
    return validated_pb2.BriefResponse(
        instructions=brief.instructions,
        form_schema_json=brief.form_schema_json,
        candidates_schema_json=brief.candidates_schema_json,
        candidates_json=brief.candidates_json or candidates_json(brief.candidates),
        candidates_total=brief.candidates_total,
        candidates_total_is_floor=brief.candidates_total_is_floor,
        datasets=_datasets(brief.datasets),
        needed=brief.needed,
        infeasible=brief.infeasible,
        findings=[_finding(finding) for finding in brief.findings],
        roster=None if version is None else version.message,
    )


def validate_facts(findings: Findings, ground: Ground | None, version: StatedVersion | None) -> dict[str, object]:
    """Return what the log line of Validate says."""
    facts: dict[str, object] = {
        "passed": not findings.any,
        "findings": len(findings.kept) + findings.left_out,
    }
    if findings.any:
        facts["codes"] = findings.codes()
    if ground is not None:
        facts["grounded"] = ground.grounded
        facts |= _datasets_said(ground.datasets)
    if version is not None:
        facts["roster"] = version.fields
    return facts


def validate_ended(span: Span, findings: Findings, ground: Ground | None) -> None:
    """End the guardrail."""
    if not span.recording:
        span.end()
        return
    passed = not findings.any
    count = len(findings.kept) + findings.left_out
    output = {
        "passed": passed,
        "findings": [_finding_json(finding) for finding in findings.kept],
        "findings_left_out": findings.left_out,
    }
    metadata: dict[str, str | int | bool] = {"findings": count}
    if ground is not None:
        output["grounded_in_roster"] = ground.grounded
        metadata |= _metadata(ground.roster, ground.datasets)
    span.end(
        output=orjson.dumps(output).decode(),
        level="" if passed else "WARNING",
        status_message="" if passed else f"{count} finding{'s' * (count != 1)}: {', '.join(findings.codes())}",
        metadata=metadata,
    )


def _finding_json(finding: Finding) -> dict[str, object]:
    stated: dict[str, object] = {"code": finding.code, "path": finding.path, "message": finding.message}
    if finding.suggestions:
        stated["suggestions"] = [
            {"worker_id": each.worker_id, "name": each.name} if each.worker_id else orjson.Fragment(each.facts_json)
            for each in finding.suggestions
        ]
    return stated


def validate_response(
    text: str, findings: Findings, ground: Ground | None, version: StatedVersion | None
) -> validated_pb2.ValidateResponse:
    """Return the answer of Validate."""
    response = validated_pb2.ValidateResponse(
        passed=not findings.any,
        findings_left_out=findings.left_out,
        roster=None if version is None else version.message,
        artifact_json=text,
        datasets=_datasets(ground.datasets) if ground is not None else (),
    )
    if ground is not None and ground.grounded is not None:
        response.grounded_in_roster = ground.grounded
    for finding in findings.kept:
        response.findings.append(_finding(finding))
    return response


def _finding(finding: Finding) -> validated_pb2.Finding:
    stated = validated_pb2.Finding(
        code=finding.code,
        path=finding.path,
        message=finding.message,
        unrestricted_message=finding.unrestricted_message,
    )
    for each in finding.suggestions:
        stated.suggestions.add(worker_id=each.worker_id, name=each.name, facts_json=each.facts_json)
    return stated


def _metadata(roster: RosterVersion | None, datasets: Sequence[DatasetVersion]) -> dict[str, str | int | bool]:
    metadata: dict[str, str | int | bool] = {f"dataset_{each.name}_version": each.version for each in datasets}
    if roster is not None:
        metadata |= {
            "roster_source": roster.source,
            "roster_version": roster.version,
            "roster_row_count": roster.row_count,
            "roster_loaded_at": roster.loaded_at,
        }
    return metadata


def _datasets(datasets: Sequence[DatasetVersion]) -> list[validated_pb2.DatasetVersion]:
    return [validated_pb2.DatasetVersion(name=each.name, version=each.version) for each in datasets]


def _datasets_said(datasets: Sequence[DatasetVersion]) -> dict[str, object]:
    return {"datasets": {each.name: each.version for each in datasets}} if datasets else {}
