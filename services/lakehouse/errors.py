"""Faults of the system: what crosses a hop as a gRPC status, in both directions.

An outcome (accepted, attempts exhausted, findings) is a response; a ``Fault`` is a status with
``google.rpc.ErrorInfo``. Each reason has one status and one fixed sentence, so that no exception text and no
upstream text can reach a caller, a row or a log reader by this road. Imports protobuf, never grpc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from google.protobuf import duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN: Final = "lakehouse"
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"


class Reason(StrEnum):
    """Why, for machines: ``google.rpc.ErrorInfo.reason`` and the row's ``error.reason``."""

    BAD_REQUEST = "BAD_REQUEST"
    UNKNOWN_KIND = "UNKNOWN_KIND"
    UNKNOWN_PROVIDER = "UNKNOWN_PROVIDER"
    KIND_SPEC_MISMATCH = "KIND_SPEC_MISMATCH"
    CALLER_UNKNOWN = "CALLER_UNKNOWN"
    CALLER_NOT_ALLOWED = "CALLER_NOT_ALLOWED"
    CALLER_QUOTA = "CALLER_QUOTA"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    SESSION_ID_IN_FLIGHT = "SESSION_ID_IN_FLIGHT"
    SESSION_ID_TAKEN = "SESSION_ID_TAKEN"
    PROVIDER_AUTH = "PROVIDER_AUTH"
    PROVIDER_QUOTA = "PROVIDER_QUOTA"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    CONTEXT_TOO_LONG = "CONTEXT_TOO_LONG"
    CONTENT_FILTERED = "CONTENT_FILTERED"
    OVERLOADED = "OVERLOADED"
    PROVIDER_RATE_LIMITED = "PROVIDER_RATE_LIMITED"
    CHATD_UNREACHABLE = "CHATD_UNREACHABLE"
    VALIDATED_UNREACHABLE = "VALIDATED_UNREACHABLE"
    PROVIDER_UNREACHABLE = "PROVIDER_UNREACHABLE"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    ROSTER_UNAVAILABLE = "ROSTER_UNAVAILABLE"
    SESSION_LOG_UNAVAILABLE = "SESSION_LOG_UNAVAILABLE"
    RECALL_NOT_READY = "RECALL_NOT_READY"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    PROVIDER_FAILED = "PROVIDER_FAILED"
    PROVIDER_BAD_ANSWER = "PROVIDER_BAD_ANSWER"
    SESSION_NOT_LOGGED = "SESSION_NOT_LOGGED"
    PROCESS_DIED = "PROCESS_DIED"
    DEADLINE = "DEADLINE"
    PROVIDER_TIMEOUT = "PROVIDER_TIMEOUT"
    CALLER_GONE = "CALLER_GONE"
    BUG = "BUG"


@dataclass(frozen=True, slots=True)
class _Meaning:
    code: str
    sentence: str
    retry_delay_ms: int | None = None


# The delays are what a caller should wait at least; where the fault knows better (a Retry-After), it says so itself.
_MEANINGS: Final[Mapping[Reason, _Meaning]] = {
    Reason.BAD_REQUEST: _Meaning("INVALID_ARGUMENT", "The request has fields that cannot be used; see the violations."),
    Reason.UNKNOWN_KIND: _Meaning("INVALID_ARGUMENT", "No validator is known for this kind."),
    Reason.UNKNOWN_PROVIDER: _Meaning("INVALID_ARGUMENT", "No provider or route of this name is configured in chatd."),
    Reason.KIND_SPEC_MISMATCH: _Meaning(
        "INVALID_ARGUMENT", "The spec that was set is not the one that this kind takes."
    ),
    Reason.CALLER_UNKNOWN: _Meaning("UNAUTHENTICATED", "The caller is not known here: send a valid credential."),
    Reason.CALLER_NOT_ALLOWED: _Meaning("PERMISSION_DENIED", "The caller is known and is not allowed to ask for this."),
    Reason.CALLER_QUOTA: _Meaning("RESOURCE_EXHAUSTED", "The caller has used what it is allowed to for now.", 1000),
    Reason.SESSION_NOT_FOUND: _Meaning("NOT_FOUND", "No session of this id is known here."),
    Reason.SESSION_ID_IN_FLIGHT: _Meaning("ALREADY_EXISTS", "A session with this id is running now.", 1000),
    Reason.SESSION_ID_TAKEN: _Meaning(
        "ALREADY_EXISTS", "This id is another request's: a session was asked for with it, and not by this request."
    ),
    Reason.PROVIDER_AUTH: _Meaning("FAILED_PRECONDITION", "The model endpoint refused chatd's credentials."),
    Reason.PROVIDER_QUOTA: _Meaning("FAILED_PRECONDITION", "The account at the model endpoint has no quota left."),
    Reason.MODEL_NOT_FOUND: _Meaning("FAILED_PRECONDITION", "The model endpoint does not know this model."),
    Reason.CONTEXT_TOO_LONG: _Meaning("FAILED_PRECONDITION", "The conversation is longer than the model takes."),
    Reason.CONTENT_FILTERED: _Meaning("FAILED_PRECONDITION", "The model endpoint's content filter refused."),
    Reason.OVERLOADED: _Meaning("RESOURCE_EXHAUSTED", "The service is at its concurrency limit.", 500),
    Reason.PROVIDER_RATE_LIMITED: _Meaning("RESOURCE_EXHAUSTED", "The model endpoint limits the rate of calls.", 2000),
    Reason.CHATD_UNREACHABLE: _Meaning("UNAVAILABLE", "chatd cannot be reached.", 1000),
    Reason.VALIDATED_UNREACHABLE: _Meaning("UNAVAILABLE", "validated cannot be reached.", 1000),
    Reason.PROVIDER_UNREACHABLE: _Meaning("UNAVAILABLE", "The model endpoint cannot be reached.", 1000),
    Reason.CIRCUIT_OPEN: _Meaning("UNAVAILABLE", "The model endpoint failed too often and is being left alone.", 5000),
    Reason.ROSTER_UNAVAILABLE: _Meaning("UNAVAILABLE", "The ground-truth roster cannot be read.", 2000),
    Reason.SESSION_LOG_UNAVAILABLE: _Meaning("UNAVAILABLE", "The session log does not take this session's row.", 2000),
    Reason.RECALL_NOT_READY: _Meaning(
        "UNAVAILABLE", "It is not known yet whether a session of this id was answered before.", 1000
    ),
    Reason.SHUTTING_DOWN: _Meaning("UNAVAILABLE", "The service is shutting down.", 1000),
    Reason.PROVIDER_FAILED: _Meaning("ABORTED", "The model endpoint failed; the call may have been billed."),
    Reason.PROVIDER_BAD_ANSWER: _Meaning("ABORTED", "The model endpoint's answer could not be read; it may be billed."),
    Reason.SESSION_NOT_LOGGED: _Meaning(
        "ABORTED", "The session ended, but its row was not logged in time; its model calls may have been billed."
    ),
    Reason.PROCESS_DIED: _Meaning("ABORTED", "The process that ran this session ended before the session did."),
    Reason.DEADLINE: _Meaning("DEADLINE_EXCEEDED", "The time for this request ran out."),
    Reason.PROVIDER_TIMEOUT: _Meaning("DEADLINE_EXCEEDED", "The model endpoint did not answer in time."),
    Reason.CALLER_GONE: _Meaning("CANCELLED", "The caller went away."),
    Reason.BUG: _Meaning("INTERNAL", "The service met a bug in itself; its log has the details."),
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One argument that cannot be used: ``google.rpc.BadRequest.FieldViolation``."""

    field: str
    """Path of proto field names, ``fill.count``."""
    description: str
    """What is wrong and what would be right. Our own words; quotes of input are short and printable."""


@dataclass(slots=True, eq=False)
class Fault(Exception):  # noqa: N818  the contract's word: outcomes are responses, faults are statuses
    """A fault of the system. Raise it with a reason; the interceptor turns it into a status.

    On the client side, ``reason`` is None where a status came without our ``ErrorInfo`` (nobody listening, a proxy, the
    C core's own size limit); ``code`` and ``message`` are then gRPC's.
    """

    reason: Reason | None
    where: str = ""
    """The service in which it arose. Empty: the service that raises it."""
    violations: tuple[Violation, ...] = ()
    retry_delay_ms: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Further facts for ErrorInfo.metadata, such as session_id and trace_id."""
    code: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        if self.reason is not None:
            meaning = _MEANINGS[self.reason]
            self.code = meaning.code
            self.message = meaning.sentence
            if self.retry_delay_ms is None:
                self.retry_delay_ms = meaning.retry_delay_ms
        Exception.__init__(self, str(self))

    def __str__(self) -> str:
        lines = [f"{self.code} {self.reason or ''}".rstrip() + f": {self.message}"]
        lines += [f"  {violation.field}: {violation.description}" for violation in self.violations]
        return "\n".join(lines)

    def to_status(self, **metadata: str) -> status_pb2.Status:
        """Return the status that crosses the wire; `metadata` joins the fault's own in ErrorInfo (empty values left
        out)."""
        facts = {**self.metadata, "where": self.where, **metadata}
        info = error_details_pb2.ErrorInfo(
            reason=self.reason or "",
            domain=DOMAIN,
            metadata={key: value for key, value in facts.items() if value},
        )
        status = status_pb2.Status(code=code_pb2.Code.Value(self.code), message=self._status_message())
        status.details.add().Pack(info)
        if self.violations:
            violations = [
                error_details_pb2.BadRequest.FieldViolation(field=each.field, description=each.description)
                for each in self.violations
            ]
            status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
        if self.retry_delay_ms is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(self.retry_delay_ms)
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        return status

    def _status_message(self) -> str:
        # grpcurl and plain clients show the message alone: the violations have to be readable there.
        if not self.violations:
            return self.message
        return self.message + " " + "; ".join(f"{each.field}: {each.description}" for each in self.violations[:8])


def bad_request(*violations: Violation) -> Fault:
    """INVALID_ARGUMENT with its violations."""
    return Fault(Reason.BAD_REQUEST, violations=violations)


class RpcError(Protocol):
    """What ``grpc.Call`` errors and ``grpc.aio.AioRpcError`` have in common."""

    def code(self) -> object: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def from_rpc_error(
    error: RpcError, *, where: str, unreachable: Reason | None = None, cancelled_here: bool = False
) -> Fault:
    """Return the fault that a failed call stands for.

    `where` names the called service, for statuses that do not say; `unreachable` is the reason of an UNAVAILABLE that
    carries no ErrorInfo of ours, which is what gRPC gives when nobody listens. A CANCELLED without ErrorInfo counts as
    one unless the call was `cancelled_here`: so the C core of a server that stops ends the calls that it had received
    and nobody had taken up.
    """
    code = str(getattr(error.code(), "name", "UNKNOWN"))
    details = (error.details() or "")[:500]
    status = _status_of(error)
    if status is not None:
        fault = _from_status(status, where)
        if fault is not None:
            return fault
    if code == "CANCELLED" and not cancelled_here:
        code, details = "UNAVAILABLE", "The server cancelled the call; it may be shutting down."
    if code == "UNAVAILABLE" and unreachable is not None:
        return Fault(unreachable, where=where)
    if code == "DEADLINE_EXCEEDED":
        return Fault(Reason.DEADLINE, where=where)
    return Fault(None, where=where, code=code, message=details)


def _status_of(error: RpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except message.DecodeError:
                return None
    return None


def _from_status(status: status_pb2.Status, where: str) -> Fault | None:
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    found = False
    retry_delay_ms = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            found = detail.Unpack(info)
        elif detail.Is(request.DESCRIPTOR):
            detail.Unpack(request)
        elif detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            retry_delay_ms = retry.retry_delay.ToMilliseconds()
    if not found or info.domain != DOMAIN or info.reason not in Reason.__members__:
        return None
    facts = dict(info.metadata)
    return Fault(
        Reason(info.reason),
        where=facts.pop("where", where),
        violations=tuple(Violation(each.field, each.description) for each in request.field_violations),
        retry_delay_ms=retry_delay_ms,
        metadata=facts,
    )
