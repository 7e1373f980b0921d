"""Goal: a grounded session, whole: who gets to see candidates, what happens where nobody qualifies, and that every end
of a brief leaves what it should.

Method: the three real services; for the ends of a brief, iterate before a validated of the test's own that never
answers.
"""

from __future__ import annotations

import asyncio
import csv
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from fake_hops import FakeValidated

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.trace_context import trace_metadata
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

Request = Callable[..., iterate_pb2.IterateRequest]
ROSTER = Path(__file__).resolve().parent.parent.parent / "examples" / "roster" / "workers.csv"


@pytest.fixture(scope="module")
def names() -> set[str]:
    with ROSTER.open(encoding="utf-8", newline="") as file:
        return {row["name"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def phones() -> set[str]:
    with ROSTER.open(encoding="utf-8", newline="") as file:
        return {row["phone"] for row in csv.DictReader(file) if row["phone"]}


@contextmanager
def answering(stack: Any, *answers: list[dict[str, str]]) -> Iterator[None]:
    """Let the endpoint answer so, attempt by attempt, with nothing asked before."""
    endpoint = stack.endpoint
    before = endpoint.answers[:]
    endpoint.requests.clear()
    endpoint.answers[:] = [json.dumps({"workers": workers}) for workers in answers]
    try:
        yield
    finally:
        endpoint.answers[:] = before


def sent_to(stack: Any, model: str) -> list[str]:
    """Return the bodies of the requests that a model got, as text."""
    return [json.dumps(each, ensure_ascii=False) for each in stack.endpoint.requests if each["model"] == model]


async def test_a_model_that_takes_of_the_candidates_is_accepted_at_once(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    response = await client.iterate(make_request(provider="scripted"), timeout_s=30)

    assert response.WhichOneof("outcome") == "accepted"
    assert len(response.attempts) == 1
    assert response.grounded_in_roster
    assert response.brief.candidates == 50
    (row,) = stack.rows(response.session_id)
    assert row["brief"]["candidates_total"] == response.brief.candidates_total


@pytest.mark.parametrize("grounding", [iterate_pb2.GROUNDING_FORM, iterate_pb2.GROUNDING_CANDIDATES])
async def test_what_a_feedback_offers_can_be_copied_and_is_of_the_candidates_of_the_session(
    stack: Any, client: AsyncIterateClient, make_request: Request, people: Any, grounding: iterate_pb2.Grounding
) -> None:
    bearer = people.toledo[7]
    strangers = [
        {"worker_id": "W-999999", "name": "Nobody Atall"},
        {"worker_id": bearer["worker_id"], "name": "Not His Name"},
        {"worker_id": "W-999998", "name": "Nobody Either"},
    ]
    with answering(stack, strangers):
        await client.iterate(make_request(grounding=grounding, max_iterations=2), timeout_s=30)
        second = stack.endpoint.requests[1]
        feedback = second["messages"][-1]["content"]
        offers = json.loads(next(line for line in feedback.splitlines() if line.startswith("[{")))
    with answering(stack, offers[:3]):
        response = await client.iterate(make_request(grounding=grounding, max_iterations=1), timeout_s=30)

    assert [finding.message for finding in response.attempts[0].findings] == []
    assert response.WhichOneof("outcome") == "accepted"
    assert f'{bearer["worker_id"]} is "{bearer["name"]}" in the roster' in feedback
    assert "did you mean" not in feedback
    if grounding == iterate_pb2.GROUNDING_CANDIDATES:
        opening = second["messages"][1]["content"]
        assert [each for each in offers if each["worker_id"] not in opening] == []


async def test_another_id_gets_other_candidates_and_the_same_one_the_same_answer(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    stack.endpoint.requests.clear()
    answers = [
        await client.iterate(make_request(session_id=session_id, max_iterations=1), timeout_s=30)
        for session_id in ("same", "same", "other")
    ]

    first, third = (each["messages"][1]["content"] for each in stack.endpoint.requests)
    assert first != third
    assert [answer.recalled for answer in answers] == [False, True, False]
    assert answers[0].brief == answers[1].brief


async def test_whom_the_prompt_names_comes_first(
    stack: Any, client: AsyncIterateClient, make_request: Request, people: Any
) -> None:
    stack.endpoint.requests.clear()
    named = people.toledo[-1]
    await client.iterate(make_request(f"Fill 3 in Toledo, among them {named['name']}", max_iterations=1), timeout_s=30)

    facts = json.loads(stack.endpoint.requests[0]["messages"][1]["content"].rpartition("\n")[2])
    assert facts[0]["name"] == named["name"]


async def test_who_may_not_see_candidates_gets_no_name_of_the_roster_in_any_attempt(
    stack: Any, client: AsyncIterateClient, make_request: Request, people: Any, names: set[str]
) -> None:
    real = people.toledo[7]["worker_id"]
    # Another stranger each time: an answer that comes again would end the session.
    strangers = [
        [
            {"worker_id": f"W-99999{number}", "name": "Nobody Atall"},
            {"worker_id": real, "name": "Not His Name"},
            {"worker_id": real, "name": "Not His Name"},
        ]
        for number in (7, 8, 9)
    ]
    with answering(stack, *strangers):
        for grounding in (iterate_pb2.GROUNDING_NONE, iterate_pb2.GROUNDING_FORM, iterate_pb2.GROUNDING_CANDIDATES):
            stack.endpoint.requests.clear()
            response = await client.iterate(make_request(provider="away", grounding=grounding), timeout_s=30)
            bodies = sent_to(stack, "away")

            assert len(bodies) == len(response.attempts) == 3
            assert any(finding.suggestions for finding in response.attempts[0].findings), "there is something to hide"
            assert [name for name in names if any(name in body for body in bodies)] == []
            assert "NAME_MISMATCH" in bodies[-1]


async def test_an_answer_of_who_may_see_does_not_go_to_who_may_not(
    stack: Any, client: AsyncIterateClient, make_request: Request, names: set[str]
) -> None:
    stack.endpoint.requests.clear()
    request = make_request(escalation=[chatd_pb2.Target(provider="away")], max_iterations=2)
    response = await client.iterate(request, timeout_s=30)
    (seen,), (unseen,) = sent_to(stack, "ok"), sent_to(stack, "away")

    assert [attempt.provider for attempt in response.attempts] == ["fake", "away"]
    assert any(name in seen for name in names), "the first one may see"
    assert any(name in response.attempts[0].raw for name in names), "and answers with what it saw"
    assert [name for name in names if name in unseen] == []
    assert "W-999999" not in unseen


async def test_no_phone_number_goes_to_any_model(
    stack: Any, client: AsyncIterateClient, make_request: Request, phones: set[str]
) -> None:
    stack.endpoint.requests.clear()
    await client.iterate(make_request(), timeout_s=30)

    bodies = sent_to(stack, "ok")
    assert len(bodies) == 2
    assert len(phones) > 100
    assert [phone for phone in phones if any(phone in body for body in bodies)] == []


async def test_where_too_few_qualify_no_model_is_asked_and_one_row_says_why(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    stack.endpoint.requests.clear()
    spec = validated_pb2.FillSpec(role="forklift operator", count=900, city="Toledo", state="OH")
    response = await client.iterate(make_request(fill=spec), timeout_s=30)

    (row,) = stack.rows(response.session_id)
    tree = await asyncio.to_thread(
        stack.receiver.wait_for,
        lambda receiver: (found := receiver.tree(response.trace_id)) and len(found.spans) == 2 and found,
        15,
    )
    assert stack.endpoint.requests == []
    assert response.max_iter_exhausted.infeasible
    assert str(response.brief.candidates_total) in response.brief.findings[0].message
    assert (row["final_verdict"], row["attempts"]) == ("max_iter_exhausted", [])
    assert row["brief"]["infeasible"] is True
    assert row["brief"]["findings"][0]["code"] == response.brief.findings[0].code
    assert [span.name for span in tree.spans] == ["iterate.fill", "brief"]


async def test_a_schema_that_is_none_is_refused_before_a_model_is_asked(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    stack.endpoint.requests.clear()
    rows = len(stack.rows())
    for grounding in (iterate_pb2.GROUNDING_NONE, iterate_pb2.GROUNDING_CANDIDATES):
        request = iterate_pb2.IterateRequest(
            kind="json_schema",
            json_schema=validated_pb2.JsonSchemaSpec(schema_json='{"type": "objekt"}'),
            prompt="p",
            grounding=grounding,
        )
        with pytest.raises(Fault) as caught:
            await client.iterate(request, timeout_s=30, metadata=trace_metadata("7c" * 16))

        assert caught.value.reason is Reason.BAD_REQUEST
        assert [each.field for each in caught.value.violations] == ["json_schema.schema_json"]

    assert (len(stack.rows()), stack.endpoint.requests) == (rows, [])
    # What validated says of a later session has everything before it behind it.
    later = await client.iterate(make_request(), timeout_s=30)
    await asyncio.to_thread(
        stack.receiver.wait_for,
        lambda receiver: (found := receiver.tree(later.trace_id)) and "brief" in [span.name for span in found.spans],
        15,
    )
    assert stack.receiver.tree("7c" * 16) is None


@pytest.mark.parametrize("schema", ["true", "{}", '{"type":"object"}'])
async def test_whatever_schema_is_accepted_makes_a_session(stack: Any, client: AsyncIterateClient, schema: str) -> None:
    request = iterate_pb2.IterateRequest(
        kind="json_schema",
        json_schema=validated_pb2.JsonSchemaSpec(schema_json=schema),
        prompt="p",
        max_iterations=1,
    )
    response = await client.iterate(request, timeout_s=30)

    assert response.WhichOneof("outcome") == "accepted"
    assert not response.brief.degraded


@asynccontextmanager
async def silent_validated(stack: Any) -> AsyncIterator[asyncio.Event]:
    """Let the stack's iterate ask a validated that never answers; give the event that it was asked for a Brief."""
    asked = asyncio.Event()

    class Silent(FakeValidated):
        async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> Any:
            await asyncio.Event().wait()

    async def never(_: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    server = grpc.aio.server()
    validated_pb2_grpc.add_ValidateServiceServicer_to_server(Silent(never), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    addresses = stack.stack.addresses
    before, addresses["validated"] = addresses["validated"], address
    try:
        async with stack.restarted("iterate", ITERATE_BRIEF_MS_MAX="60000"):
            yield asked
    finally:
        addresses["validated"] = before
        await server.stop(0)


def tops(stack: Any, trace_id: str) -> list[str]:
    tree = stack.receiver.tree(trace_id)
    return [] if tree is None else [span.name for span in tree.spans]


async def test_a_kill_during_the_brief_leaves_no_row_and_every_other_end_leaves_one(
    mortal: Any, make_request: Request
) -> None:
    stack = mortal
    rows_before = len(stack.rows())
    async with (
        silent_validated(stack) as asked,
        AsyncIterateClient(stack.address) as client,
    ):

        async def begun(
            client: AsyncIterateClient, session_id: str, trace_id: str, timeout_s: float = 30
        ) -> asyncio.Task[Any]:
            asked.clear()
            request = make_request(session_id=f"brief-{session_id}")
            call = client.iterate(request, timeout_s=timeout_s, metadata=trace_metadata(trace_id))
            session = asyncio.create_task(call)
            await asyncio.wait_for(asked.wait(), 15)
            return session

        async def root(trace_id: str) -> list[str]:
            await asyncio.to_thread(stack.receiver.wait_for, lambda _: "iterate.fill" in tops(stack, trace_id), 15)
            return tops(stack, trace_id)

        cancelled = await begun(client, "cancelled", "c1" * 16)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        late = await begun(client, "late", "d1" * 16, timeout_s=3)
        with pytest.raises(Fault) as deadline:
            await late
        roots = [await root("c1" * 16)]
        assert "attempt-1" in await root("d1" * 16), "a third of its time went to the brief, the rest was the model's"
        killed = await begun(client, "killed", "e1" * 16)
        await stack.stack.stop_service("iterate", signal.SIGKILL)
        await asyncio.gather(killed, return_exceptions=True)
        await stack.stack.start_service("iterate")

        async with AsyncIterateClient(stack.address) as again:
            drained = await begun(again, "drained", "f1" * 16)
            await stack.stack.stop_service("iterate", signal.SIGTERM)
            with pytest.raises(Fault) as drain:
                await drained
        rows = stack.rows()[rows_before:]
        found = {row["session_id"].removeprefix("brief-"): row for row in rows}
        roots.append(await root("f1" * 16))

    reasons = {session_id: row["error"]["reason"] for session_id, row in found.items()}
    assert reasons == {"cancelled": "CALLER_GONE", "late": "DEADLINE", "drained": "SHUTTING_DOWN"}
    assert len(stack.rows()) == rows_before + 3
    late_row = found.pop("late")
    assert (late_row["brief"]["degraded"], len(late_row["attempts"])) == (True, 1)
    assert all(row["attempts"] == [] and "brief" not in row for row in found.values())
    assert (deadline.value.reason, deadline.value.where) == (Reason.DEADLINE, "validated")
    assert drain.value.reason is Reason.SHUTTING_DOWN
    assert roots == [["iterate.fill"]] * 2
    assert tops(stack, "e1" * 16) == [], "what leaves no row leaves no root"


async def test_a_dead_validated_ends_a_session_at_its_brief_with_a_row_and_a_root(
    mortal: Any, make_request: Request
) -> None:
    stack = mortal
    async with AsyncIterateClient(stack.address) as client:
        await stack.stack.stop_service("validated", signal.SIGKILL)
        with pytest.raises(Fault) as caught:
            await client.iterate(make_request(session_id="dead"), timeout_s=30, metadata=trace_metadata("a1" * 16))
        await asyncio.to_thread(stack.receiver.wait_for, lambda _: tops(stack, "a1" * 16), 15)
        (row,) = stack.rows("dead")
        asked = list(stack.endpoint.requests)

    assert caught.value.reason is Reason.VALIDATED_UNREACHABLE
    assert (row["session_id"], row["error"]["reason"]) == ("dead", "VALIDATED_UNREACHABLE")
    assert tops(stack, "a1" * 16) == ["iterate.fill"]
    assert asked == []


async def test_a_roster_that_cannot_be_read_degrades_to_the_form(
    mortal: Any, make_request: Request, tmp_path: Path
) -> None:
    stack = mortal
    nowhere = {"VALIDATED_ROSTER__PATH": str(tmp_path / "no-such-roster.csv")}
    async with stack.restarted("validated", "iterate", **nowhere):
        async with AsyncIterateClient(stack.address) as client:
            with pytest.raises(Fault) as caught:
                await client.iterate(make_request(session_id="blind"), timeout_s=30)
        (row,) = stack.rows("blind")
        (asked,) = stack.endpoint.requests

    # The gate cannot judge without it: that is what ends the session, and not the brief.
    assert caught.value.reason is Reason.ROSTER_UNAVAILABLE
    assert [attempt["verdict"] for attempt in row["attempts"]] == ["infra_error"]
    assert row["brief"].pop("brief_ms") < 1000
    assert row["brief"] == {"grounding": "candidates", "degraded": True}
    assert "W-0" not in json.dumps(asked)
