"""Proto to domain and back: the handlers of ``Brief``, ``Validate`` and ``ListKinds``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from lakehouse.errors import Fault, Reason, Violation, bad_request
from lakehouse.server.call import Call, current_call
from lakehouse.server.callers.policy import check_kind
from lakehouse.strict_json.parser import JsonBreach, JsonValue, read_canonical
from lakehouse.tracing import Span, Tracing
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc
from validated.answers import (
    StatedVersions,
    brief_asked,
    brief_ended,
    brief_facts,
    brief_response,
    validate_ended,
    validate_facts,
    validate_response,
)
from validated.config import LimitsTable
from validated.datasets.worker import RosterUnavailable
from validated.findings import Findings
from validated.kinds.candidates import CANDIDATES_DEFAULT, CANDIDATES_MAX
from validated.kinds.declared.registry import Kinds
from validated.kinds.spec import Spec, read_spec
from validated.kinds.validator import PROMPT_CHARS_MAX, Brief, Task, Validator

_log = structlog.get_logger()
WHERE = "validated"
_SEED_CHARS_MAX: Final = 200

T = TypeVar("T")


class ValidateServicer(validated_pb2_grpc.ValidateServiceServicer):
    """ValidateService."""

    def __init__(self, kinds: Kinds, tracing: Tracing, limits: LimitsTable) -> None:
        self._kinds = kinds
        self._tracing = tracing
        self._limits = limits
        self._versions = StatedVersions()

    async def Brief(  # noqa: N802  gRPC's name
        self,
        request: validated_pb2.BriefRequest,
        context: Any,
    ) -> validated_pb2.BriefResponse:
        """See validated.proto."""
        call, spec, validator = self._asked(request)
        task = self._task(request)
        asked = brief_asked(spec, task) if self._tracing.enabled else ""
        span = self._tracing.start_remote(
            "brief", type="retriever", context=call.trace, session_id=call.session_id or None, input=asked
        )
        # An older validator says nothing before the answer.
        make = getattr(validator, "brief", None)
        brief = Brief() if make is None else await self._bounded(call, span, partial(make, spec, task), refuses=True)
        version = self._versions.stated(brief.roster)
        call.facts.update(brief_facts(brief, version))
        brief_ended(span, brief)
        return brief_response(brief, version)

    async def Validate(  # noqa: N802  gRPC's name
        self,
        request: validated_pb2.ValidateRequest,
        context: Any,
    ) -> validated_pb2.ValidateResponse:
        """See validated.proto."""
        call, spec, validator = self._asked(request)
        artifact, text = self._artifact(request.artifact_json)
        span = self._tracing.start_remote(
            "validate", type="guardrail", context=call.trace, session_id=call.session_id or None, input=text
        )
        findings = Findings(self._limits.findings_max)
        ground = await self._bounded(call, span, partial(validator.validate, artifact, spec, findings))
        version = self._versions.stated(ground.roster) if ground is not None else None
        call.facts.update(validate_facts(findings, ground, version))
        validate_ended(span, findings, ground)
        return validate_response(text, findings, ground, version)

    async def ListKinds(  # noqa: N802  gRPC's name
        self,
        request: validated_pb2.ListKindsRequest,
        context: Any,
    ) -> validated_pb2.ListKindsResponse:
        """See validated.proto."""
        validators = self._kinds.current
        kinds = [_kind(name, validators[name]) for name in sorted(validators)]
        return validated_pb2.ListKindsResponse(kinds=kinds)

    def _asked(
        self, request: validated_pb2.BriefRequest | validated_pb2.ValidateRequest
    ) -> tuple[Call, Spec, Validator]:
        """Who asks, for what, and who answers: pinned for the call, whatever is reloaded meanwhile. Raises Fault."""
        call = current_call()
        call.facts["kind"] = request.kind[:64]
        check_kind(call.caller, request.kind)
        validators = self._kinds.current
        spec = read_spec(request, validators)
        return call, spec, validators[spec.kind]

    def _task(self, request: validated_pb2.BriefRequest) -> Task:
        violations = []
        wanted = request.candidates_max if request.HasField("candidates_max") else CANDIDATES_DEFAULT
        if not 0 <= wanted <= CANDIDATES_MAX:
            violations.append(Violation("candidates_max", f"must be from 0 to {CANDIDATES_MAX}, is {wanted}"))
        if len(request.seed) > _SEED_CHARS_MAX:
            text = f"at most {_SEED_CHARS_MAX} characters, has {len(request.seed)}"
            violations.append(Violation("seed", text))
        size, size_max = len(request.prompt.encode()), self._limits.prompt_bytes_max
        if size > size_max:
            violations.append(Violation("prompt", f"at most {size_max} bytes of UTF-8, has {size}"))
        if violations:
            raise bad_request(*violations)
        return Task(request.prompt[:PROMPT_CHARS_MAX], wanted, request.seed)

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

    async def _bounded(self, call: Call, span: Span, work: Callable[[], Awaitable[T]], *, refuses: bool = False) -> T:
        """Return what a kind answers, in the time that the caller gives; `span` ends where it does not. With `refuses`
        a request that cannot be used begins no session, and its span is left out: a tree without a top."""
        try:
            try:
                async with asyncio.timeout(call.seconds_left()):
                    return await work()
            except TimeoutError:
                raise Fault(Reason.DEADLINE, where=WHERE) from None
            except RosterUnavailable as error:
                _log.warning("roster unavailable", problem=str(error), trace_id=call.trace.trace_id)
                raise Fault(Reason.ROSTER_UNAVAILABLE, where=WHERE) from None
        except BaseException as error:
            fault = call.fault_of(error)
            if not (refuses and fault.reason is Reason.BAD_REQUEST):
                span.end(level="ERROR", status_message=fault.message)
            raise


def _kind(name: str, validator: Validator) -> validated_pb2.Kind:
    return validated_pb2.Kind(
        name=name,
        description=getattr(validator, "description", ""),
        spec_schema_json=getattr(validator, "spec_schema_json", ""),
        has_candidates=getattr(validator, "has_candidates", False),
    )
