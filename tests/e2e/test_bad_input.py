"""Goal: bad requests and misbehaving models give a clear status within the deadline, one row where a session was, and
a process that lives.

Method: every request to the real stack; after each, a plain session must succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.validated.v1 import validated_pb2

Request = Callable[..., iterate_pb2.IterateRequest]


async def refused(client: AsyncIterateClient, request: iterate_pb2.IterateRequest, timeout_s: float = 20) -> Fault:
    with pytest.raises(Fault) as caught:
        await client.iterate(request, timeout_s=timeout_s)
    return caught.value


async def assert_alive(client: AsyncIterateClient, request: iterate_pb2.IterateRequest) -> None:
    assert (await client.iterate(request, timeout_s=30)).WhichOneof("outcome") == "accepted"


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"prompt": ""}, Reason.BAD_REQUEST, "prompt"),
        ({"prompt": " \n\t"}, Reason.BAD_REQUEST, "prompt"),
        ({"prompt": "x" * (1024 * 1024 + 1)}, Reason.BAD_REQUEST, "prompt"),
        ({"max_iterations": 0}, Reason.BAD_REQUEST, "max_iterations"),
        ({"max_iterations": -1}, Reason.BAD_REQUEST, "max_iterations"),
        ({"max_iterations": 1_000_000}, Reason.BAD_REQUEST, "max_iterations"),
        ({"session_id": "no spaces"}, Reason.BAD_REQUEST, "session_id"),
        ({"session_id": "x" * 129}, Reason.BAD_REQUEST, "session_id"),
        ({"temperature": 2.5}, Reason.BAD_REQUEST, "temperature"),
        ({"temperature": float("nan")}, Reason.BAD_REQUEST, "temperature"),
        ({"max_tokens": 0}, Reason.BAD_REQUEST, "max_tokens"),
        ({"escalation": [chatd_pb2.Target()] * 11}, Reason.BAD_REQUEST, "escalation"),
        ({"kind": "no-such-kind"}, Reason.UNKNOWN_KIND, "kind"),
        ({"kind": ""}, Reason.UNKNOWN_KIND, "kind"),
        ({"kind": "email"}, Reason.KIND_SPEC_MISMATCH, "email"),
        ({"fill": validated_pb2.FillSpec(role="", count=0)}, Reason.BAD_REQUEST, "fill.role"),
    ],
)
async def test_arguments_that_cannot_be_used_are_named_and_make_no_session(
    stack: Any, client: AsyncIterateClient, make_request: Request, fields: Any, reason: Reason, field: str
) -> None:
    rows, asked = len(stack.rows()), len(stack.endpoint.requests)

    fault = await refused(client, make_request(**fields))

    assert (fault.code, fault.reason) == ("INVALID_ARGUMENT", reason)
    assert field in [violation.field for violation in fault.violations]
    assert all(violation.description for violation in fault.violations)
    assert len(stack.rows()) == rows
    assert len(stack.endpoint.requests) == asked, "no model call is spent on it"


async def test_all_violations_are_told_at_once(client: AsyncIterateClient, make_request: Request) -> None:
    fault = await refused(client, make_request(prompt="", max_iterations=0, session_id="!"))

    assert [violation.field for violation in fault.violations] == ["prompt", "max_iterations", "session_id"]


async def test_a_message_of_five_megabytes_is_refused_and_the_process_lives(
    client: AsyncIterateClient, make_request: Request
) -> None:
    fault = await refused(client, make_request(prompt="x" * 5_000_000))

    assert fault.code == "RESOURCE_EXHAUSTED"
    await assert_alive(client, make_request())


@pytest.mark.parametrize(
    ("model", "code", "reasons"),
    [
        ("http-401", "FAILED_PRECONDITION", {"PROVIDER_AUTH"}),
        ("http-404", "FAILED_PRECONDITION", {"MODEL_NOT_FOUND"}),
        ("http-429", "RESOURCE_EXHAUSTED", {"PROVIDER_RATE_LIMITED"}),
        ("http-500", "ABORTED", {"PROVIDER_FAILED"}),
        ("nothing", "ABORTED", {"PROVIDER_FAILED"}),
        ("half-body", "ABORTED", {"PROVIDER_FAILED", "PROVIDER_BAD_ANSWER"}),
        ("broken-utf8", "ABORTED", {"PROVIDER_BAD_ANSWER"}),
    ],
)
async def test_a_misbehaving_model_is_one_documented_status_and_one_row(
    stack: Any, client: AsyncIterateClient, make_request: Request, model: str, code: str, reasons: set[str]
) -> None:
    fault = await refused(client, make_request(model=model))

    assert fault.code == code
    assert fault.reason in reasons
    assert fault.where == "chatd"
    assert "upstream secret" not in str(fault)
    (row,) = stack.rows(fault.metadata["session_id"])
    assert row["final_verdict"] == "infra_error"
    assert row["error"] == {"code": code, "reason": fault.reason, "where": "chatd", "message": fault.message}
    assert [attempt["verdict"] for attempt in row["attempts"]] == ["infra_error"]
    await assert_alive(client, make_request())


async def test_a_model_that_hangs_ends_at_the_deadline_with_a_status_that_names_the_hop(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    fault = await refused(client, make_request(model="hang", session_id="hangs"), timeout_s=1.5)

    assert fault.code == "DEADLINE_EXCEEDED"
    assert fault.where == "chatd"
    (row,) = stack.rows("hangs")
    assert row["error"]["code"] == "DEADLINE_EXCEEDED"
    await assert_alive(client, make_request())


async def test_json_nested_a_hundred_thousand_deep_is_an_unparsable_attempt(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    response = await client.iterate(make_request(model="deep", max_iterations=2), timeout_s=30)

    assert response.WhichOneof("outcome") == "max_iter_exhausted"
    assert {attempt.verdict for attempt in response.attempts} == {iterate_pb2.VERDICT_UNPARSABLE}
    assert response.attempts[0].raw_truncated
    # A row of this size goes through the writer's thread, and may follow the answer after `append_wait_ms`.
    async with asyncio.timeout(10):
        while not (rows := stack.rows(response.session_id)):
            await asyncio.sleep(0.02)
    assert "findings" not in rows[0]["attempts"][0]


async def test_an_unknown_provider_is_refused_by_chatd_and_is_an_infra_error_row(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    fault = await refused(client, make_request(provider="no-such-provider"))

    assert (fault.code, fault.reason, fault.where) == ("INVALID_ARGUMENT", Reason.UNKNOWN_PROVIDER, "chatd")
    assert [violation.field for violation in fault.violations] == ["provider"]
    (row,) = stack.rows(fault.metadata["session_id"])
    assert row["final_verdict"] == "infra_error"
