"""Goal: a fault survives a hop whole, and nothing but fixed sentences travels.

Method: through a real status and back, for every reason.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lakehouse.errors import STATUS_DETAILS_KEY, Fault, Reason, Violation, bad_request, from_rpc_error

CONTRACT = {
    "INVALID_ARGUMENT": {"BAD_REQUEST", "UNKNOWN_KIND", "UNKNOWN_PROVIDER", "KIND_SPEC_MISMATCH"},
    "ALREADY_EXISTS": {"SESSION_ID_IN_FLIGHT", "SESSION_ID_TAKEN"},
    "NOT_FOUND": {"SESSION_NOT_FOUND"},
    "FAILED_PRECONDITION": {
        "PROVIDER_AUTH",
        "PROVIDER_QUOTA",
        "MODEL_NOT_FOUND",
        "CONTEXT_TOO_LONG",
        "CONTENT_FILTERED",
    },
    "UNAUTHENTICATED": {"CALLER_UNKNOWN"},
    "PERMISSION_DENIED": {"CALLER_NOT_ALLOWED"},
    "RESOURCE_EXHAUSTED": {"OVERLOADED", "PROVIDER_RATE_LIMITED", "CALLER_QUOTA"},
    "UNAVAILABLE": {
        "CHATD_UNREACHABLE",
        "VALIDATED_UNREACHABLE",
        "PROVIDER_UNREACHABLE",
        "CIRCUIT_OPEN",
        "ROSTER_UNAVAILABLE",
        "SESSION_LOG_UNAVAILABLE",
        "RECALL_NOT_READY",
        "SHUTTING_DOWN",
    },
    "ABORTED": {"PROVIDER_FAILED", "PROVIDER_BAD_ANSWER", "SESSION_NOT_LOGGED", "PROCESS_DIED"},
    "DEADLINE_EXCEEDED": {"DEADLINE", "PROVIDER_TIMEOUT"},
    "CANCELLED": {"CALLER_GONE"},
    "INTERNAL": {"BUG"},
}


def rpc_error(code: grpc.StatusCode, status: status_pb2.Status | None = None) -> Any:
    trailing = () if status is None else ((STATUS_DETAILS_KEY, status.SerializeToString()),)
    return SimpleNamespace(code=lambda: code, details=lambda: "from the core", trailing_metadata=lambda: trailing)


def test_the_reasons_and_their_statuses_are_those_of_the_contract() -> None:
    found: dict[str, set[str]] = {}
    for reason in Reason:
        found.setdefault(Fault(reason).code, set()).add(str(reason))

    assert found == CONTRACT


@pytest.mark.parametrize("reason", list(Reason))
def test_a_fault_comes_back_from_its_status_as_it_was(reason: Reason) -> None:
    fault = Fault(reason, where="chatd", violations=(Violation("a.b", "is wrong"),))

    status = fault.to_status(session_id="s-1", trace_id="")
    back = from_rpc_error(rpc_error(grpc.StatusCode[fault.code], status), where="elsewhere")

    assert (back.reason, back.code, back.message, back.where) == (reason, fault.code, fault.message, "chatd")
    assert back.violations == fault.violations
    assert back.retry_delay_ms == fault.retry_delay_ms
    assert back.metadata == {"session_id": "s-1"}


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_where_waiting_helps_the_status_says_how_long(code: str) -> None:
    for name in CONTRACT[code]:
        details = Fault(Reason(name)).to_status().details
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in details if detail.Is(retry.DESCRIPTOR)), name
        assert retry.retry_delay.ToMilliseconds() > 0, name


def test_violations_can_be_read_in_the_plain_message_too() -> None:
    status = bad_request(Violation("prompt", "is empty")).to_status()

    assert status.code == code_pb2.INVALID_ARGUMENT
    assert "prompt: is empty" in status.message


@pytest.mark.parametrize(
    ("code", "unreachable", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.CHATD_UNREACHABLE, Reason.CHATD_UNREACHABLE),
        (grpc.StatusCode.UNAVAILABLE, None, None),
        (grpc.StatusCode.DEADLINE_EXCEEDED, None, Reason.DEADLINE),
        (grpc.StatusCode.UNIMPLEMENTED, Reason.CHATD_UNREACHABLE, None),
    ],
)
def test_a_status_that_is_not_ours_is_read_by_its_code(
    code: grpc.StatusCode, unreachable: Reason | None, reason: Reason | None
) -> None:
    fault = from_rpc_error(rpc_error(code), where="chatd", unreachable=unreachable)

    assert fault.reason is reason
    assert fault.code == code.name


@pytest.mark.parametrize(
    ("unreachable", "cancelled_here", "code", "reason"),
    [
        (Reason.CHATD_UNREACHABLE, False, "UNAVAILABLE", Reason.CHATD_UNREACHABLE),
        (None, False, "UNAVAILABLE", None),
        (Reason.CHATD_UNREACHABLE, True, "CANCELLED", None),
    ],
)
def test_a_call_that_nobody_here_cancelled_met_a_server_that_stops(
    unreachable: Reason | None, *, cancelled_here: bool, code: str, reason: Reason | None
) -> None:
    error = rpc_error(grpc.StatusCode.CANCELLED)

    fault = from_rpc_error(error, where="chatd", unreachable=unreachable, cancelled_here=cancelled_here)

    assert (fault.code, fault.reason) == (code, reason)


@pytest.mark.parametrize("details", [b"\xff\xff\xff", b""])
def test_broken_or_foreign_status_details_are_no_crash(details: bytes) -> None:
    error = rpc_error(grpc.StatusCode.UNAVAILABLE)
    error.trailing_metadata = lambda: ((STATUS_DETAILS_KEY, details),)

    assert from_rpc_error(error, where="chatd", unreachable=Reason.CHATD_UNREACHABLE).reason is Reason.CHATD_UNREACHABLE
