"""Goal: the main job, whole: three processes, real sockets, a real HTTP endpoint, the row and the tree.

Method: one stack; each test runs sessions through the client that other teams use.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.strict_json.parser import canonicalize
from lakehouse.trace_context import SESSION_ID_HEADER, TRACE_ID_HEADER, trace_metadata

Request = Callable[..., iterate_pb2.IterateRequest]
ACCEPTED, REJECTED = iterate_pb2.VERDICT_ACCEPTED, iterate_pb2.VERDICT_REJECTED


async def test_a_phantom_is_named_fed_back_and_corrected(
    stack: Any, client: AsyncIterateClient, make_request: Request, people: Any
) -> None:
    response = await client.iterate(make_request(), timeout_s=30)

    assert [attempt.verdict for attempt in response.attempts] == [REJECTED, ACCEPTED]
    finding = response.attempts[0].findings[0]
    assert (finding.code, finding.path) == ("PHANTOM_WORKER", "/workers/2/worker_id")
    assert "W-999999" in finding.message
    assert response.WhichOneof("outcome") == "accepted"
    assert response.accepted.artifact_json == canonicalize(people.answer(0, 1, 2))
    assert response.grounded_in_roster is True
    second = stack.endpoint.requests[-1]["messages"]
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert "PHANTOM_WORKER" in second[-1]["content"]
    assert second[2]["content"] == response.attempts[0].raw


async def test_the_row_says_what_the_answer_said(stack: Any, client: AsyncIterateClient, make_request: Request) -> None:
    response = await client.iterate(make_request(), timeout_s=30)

    (row,) = stack.rows(response.session_id)
    assert row["final_verdict"] == "accepted"
    assert row["trace_id"] == response.trace_id
    assert [attempt["verdict"] for attempt in row["attempts"]] == ["rejected", "accepted"]
    assert [attempt["span_id"] for attempt in row["attempts"]] == [each.span_id for each in response.attempts]
    assert row["grounded_in_roster"] is True
    assert row["attempts"][1]["roster"] == response.attempts[1].roster
    assert (row["input_tokens"], row["output_tokens"]) == (22, 14)


async def test_a_stream_tells_each_thing_in_order_and_ends_with_the_same_response(
    client: AsyncIterateClient, make_request: Request
) -> None:
    events = [event async for event in client.stream_iterate(make_request(), timeout_s=30)]

    assert [event.WhichOneof("event") for event in events] == [
        "brief",
        *("attempt_started", "model_answered", "attempt_finished") * 2,
        "response",
    ]
    assert events[-1].response.WhichOneof("outcome") == "accepted"
    assert events[0].brief == events[-1].response.brief
    assert events[3].attempt_finished == events[-1].response.attempts[0]


async def test_ids_are_answered_in_the_initial_metadata(stack: Any, make_request: Request) -> None:
    async with grpc.aio.insecure_channel(stack.address) as channel:
        call = iterate_pb2_grpc.IterateServiceStub(channel).Iterate(
            make_request(session_id="given-1"), metadata=trace_metadata("order 4711"), timeout=30
        )
        metadata = dict(await call.initial_metadata())
        response = await call

    assert metadata[SESSION_ID_HEADER] == response.session_id == "given-1"
    assert metadata[TRACE_ID_HEADER] == response.trace_id
    (row,) = stack.rows("given-1")
    assert row["caller_trace"] == "order 4711"


async def test_attempts_that_run_out_are_an_honest_failure(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    response = await client.iterate(make_request(max_iterations=1), timeout_s=30)

    assert response.WhichOneof("outcome") == "max_iter_exhausted"
    assert "W-999999" in response.max_iter_exhausted.artifact_json
    assert response.grounded_in_roster is False
    (row,) = stack.rows(response.session_id)
    assert (row["final_verdict"], row["grounded_in_roster"]) == ("max_iter_exhausted", False)


async def test_session_ids_sort_by_time(client: AsyncIterateClient, make_request: Request) -> None:
    ids = [(await client.iterate(make_request(max_iterations=1), timeout_s=30)).session_id for _ in range(3)]

    assert ids == sorted(ids)
    assert {uuid.UUID(each).version for each in ids} == {7}


async def test_an_id_is_its_request_s_while_it_runs_and_after_it_failed_and_a_second_call_waits_with_the_first(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    stack.endpoint.asked.clear()
    request = make_request(session_id="twice", model="hang")
    first = asyncio.create_task(client.iterate(request, timeout_s=30))
    await stack.endpoint.asked.wait()
    asked = len(stack.endpoint.requests)
    second = asyncio.create_task(client.iterate(request, timeout_s=30))
    await asyncio.sleep(0)
    # Sent behind the second call, and refused: so that one waits with the first by now.
    with pytest.raises(Fault) as running:
        await client.iterate(make_request(session_id="twice"), timeout_s=30)
    stack.endpoint.release.set()
    failed = await asyncio.gather(first, second, return_exceptions=True)
    stack.endpoint.release.clear()
    with pytest.raises(Fault) as over:
        await client.iterate(make_request(session_id="twice"), timeout_s=30)

    assert running.value.reason is over.value.reason is Reason.SESSION_ID_TAKEN
    assert {str(each) for each in failed} == {str(Fault(Reason.PROVIDER_FAILED))}
    assert len(stack.endpoint.requests) == asked, "the second call asked no model"
    assert len(stack.rows("twice")) == 1


async def test_the_scripted_model_calls_itself_scripted_wherever_it_shows(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    ungrounded = make_request(provider="scripted", grounding=iterate_pb2.GROUNDING_NONE)
    response = await client.iterate(ungrounded, timeout_s=30)

    assert response.WhichOneof("outcome") == "accepted"
    assert len(response.attempts) == 2
    assert {attempt.model for attempt in response.attempts} == {"scripted"}
    (row,) = stack.rows(response.session_id)
    assert {attempt["model"] for attempt in row["attempts"]} == {"scripted"}
