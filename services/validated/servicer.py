"""Proto to domain and back: the handler of ``Validate``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
import structlog

from lakehouse.errors import Fault, Reason, Violation, bad_request
from lakehouse.server.call import Call, current_call
from lakehouse.server.specs import KNOWN_KINDS, Spec, read_spec
from lakehouse.strict_json.parser import JsonBreach, JsonValue, read_canonical
from lakehouse.tracing import Span, Tracing
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc
from validated.config import LimitsTable
from validated.datasets.worker import RosterUnavailable, RosterVersion
from validated.findings import Finding, Findings
from validated.kinds.validator import Ground, Validator

_log = structlog.get_logger()
WHERE = "validated"


class _StatedVersion(NamedTuple):
    """The version of a roster as the log and the answer tell it."""

    version: RosterVersion
    fields: dict[str, Any]
    message: validated_pb2.RosterVersion


class ValidateServicer(validated_pb2_grpc.ValidateServiceServicer):
    """ValidateService."""

    def __init__(self, validators: Mapping[str, Validator], tracing: Tracing, limits: LimitsTable) -> None:
        self._validators = validators
        self._tracing = tracing
        self._limits = limits
        self._extra_kinds = frozenset(validators) - frozenset(KNOWN_KINDS)
        self._version: _StatedVersion | None = None

    async def Validate(  # noqa: N802  gRPC's name
        self,
        request: validated_pb2.ValidateRequest,
        context: Any,
    ) -> validated_pb2.ValidateResponse:
        """See validated.proto."""
        call = current_call()
        call.facts["kind"] = request.kind[:64]
        spec = read_spec(request, extra_kinds=self._extra_kinds)
        artifact, text = self._artifact(request.artifact_json)
        span = self._tracing.start_remote(
            "validate", type="guardrail", context=call.trace, session_id=call.session_id or None, input=text
        )
        findings = Findings(self._limits.findings_max)
        try:
            ground = await self._judge(call, spec, artifact, findings)
        except BaseException as error:
            span.end(level="ERROR", status_message=call.fault_of(error).message)
            raise
        version = self._stated(ground.roster) if ground is not None else None
        _note(call, findings, ground, version)
        _end_span(span, findings, ground)
        return _response(text, findings, ground, version)

    def _artifact(self, text: str) -> tuple[JsonValue, str]:
        field = "artifact_json"
        if not text:
            raise bad_request(Violation(field, "an artifact is required"))
        try:
            # What is judged is the canonical text, as it is answered and stored: `1.0` of a caller is `1` there.
            # iterate sends it in that form already.
            return read_canonical(text, bytes_max=self._limits.artifact_bytes_max)
        except JsonBreach as breach:
            raise bad_request(Violation(field, breach.problem)) from None

    async def _judge(self, call: Call, spec: Spec, artifact: JsonValue, findings: Findings) -> Ground | None:
        try:
            async with asyncio.timeout(call.seconds_left()):
                return await self._validators[spec.kind].validate(artifact, spec, findings)
        except TimeoutError:
            raise Fault(Reason.DEADLINE, where=WHERE) from None
        except RosterUnavailable as error:
            _log.warning("roster unavailable", problem=str(error), trace_id=call.trace.trace_id)
            raise Fault(Reason.ROSTER_UNAVAILABLE, where=WHERE) from None

    def _stated(self, version: RosterVersion) -> _StatedVersion:
        """`version` in both its forms. A roster that is loaded names the same one in each of its answers."""
        stated = self._version
        if stated is None or stated.version is not version:
            fields: dict[str, Any] = {
                "source": version.source,
                "version": version.version,
                "row_count": version.row_count,
                "loaded_at": version.loaded_at,
            }
            stated = self._version = _StatedVersion(version, fields, validated_pb2.RosterVersion(**fields))
        return stated


def _note(call: Call, findings: Findings, ground: Ground | None, version: _StatedVersion | None) -> None:
    facts = call.facts
    facts["passed"] = not findings.any
    facts["findings"] = len(findings.kept) + findings.left_out
    if findings.any:
        facts["codes"] = findings.codes()
    if ground is not None and version is not None:
        facts["grounded"] = ground.grounded
        facts["roster"] = version.fields


def _end_span(span: Span, findings: Findings, ground: Ground | None) -> None:
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
        metadata |= {
            "roster_source": ground.roster.source,
            "roster_version": ground.roster.version,
            "roster_row_count": ground.roster.row_count,
            "roster_loaded_at": ground.roster.loaded_at,
        }
    span.end(
        output=orjson.dumps(output).decode(),
        level="" if passed else "WARNING",
        status_message="" if passed else f"{count} finding{'s' * (count != 1)}: {', '.join(findings.codes())}",
        metadata=metadata,
    )


def _finding_json(finding: Finding) -> dict[str, object]:
    stated: dict[str, object] = {"code": finding.code, "path": finding.path, "message": finding.message}
    if finding.suggestions:
        stated["suggestions"] = [{"worker_id": each.worker_id, "name": each.name} for each in finding.suggestions]
    return stated


def _response(
    text: str, findings: Findings, ground: Ground | None, version: _StatedVersion | None
) -> validated_pb2.ValidateResponse:
    response = validated_pb2.ValidateResponse(
        passed=not findings.any,
        findings_left_out=findings.left_out,
        roster=None if version is None else version.message,
        artifact_json=text,
    )
    if ground is not None and ground.grounded is not None:
        response.grounded_in_roster = ground.grounded
    for finding in findings.kept:
        stated = response.findings.add(code=finding.code, path=finding.path, message=finding.message)
        for each in finding.suggestions:
            stated.suggestions.add(worker_id=each.worker_id, name=each.name)
    return response
