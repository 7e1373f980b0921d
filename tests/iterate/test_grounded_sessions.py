"""Goal: a session's models get to know what the request, the deployment and validated allow, and its response, events,
row and root say what that was; whatever happens at the brief ends as it should.

Method: the real iterate on port 0, with its log and its traces, between a chatd and a validated that answer what each
test says and remember what they were asked.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_hops import FakeChatd, FakeValidated, Served, abort, request, serving

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault, Reason, Violation
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.trace_context import root_span_id
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.validated.v1 import validated_pb2

NONE, FORM, CANDIDATES = (
    iterate_pb2.GROUNDING_NONE,
    iterate_pb2.GROUNDING_FORM,
    iterate_pb2.GROUNDING_CANDIDATES,
)
FACTS = [{"key": "K-1", "title": "Ännchen"}, {"key": "K-2", "title": "Greensleeves"}, {"key": "K-3", "title": "Trad"}]
FACTS_JSON = json.dumps(FACTS, ensure_ascii=False, separators=(",", ":"))
FORM_SCHEMA = '{"type":"object"}'
CANDIDATES_SCHEMA = '{"enum":[{"key":"K-1"}]}'
NOBODY = validated_pb2.Finding(code="COUNT", path="", message="0 songs qualify, 1 asked for")


def knowledge(asked: validated_pb2.BriefRequest) -> validated_pb2.BriefResponse:
    """Return what validated knows of songs; of candidates only where some were asked for."""
    response = validated_pb2.BriefResponse(instructions="Name one song.", form_schema_json=FORM_SCHEMA, needed=1)
    if asked.candidates_max:
        response.candidates_json = FACTS_JSON
        response.candidates_schema_json = CANDIDATES_SCHEMA
        response.candidates_total = 41
        response.candidates_total_is_floor = True
        response.roster.version = "v7"
    return response


async def knows(asked: validated_pb2.BriefRequest, _: Any) -> validated_pb2.BriefResponse:
    return knowledge(asked)


async def knows_that_none_can_pass(asked: validated_pb2.BriefRequest, _: Any) -> validated_pb2.BriefResponse:
    return validated_pb2.BriefResponse(
        instructions="Name one song.", infeasible=bool(asked.candidates_max), findings=[NOBODY], needed=1
    )


async def hangs(_: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture
def receiver() -> Iterator[TraceReceiver]:
    with TraceReceiver() as started:
        yield started


def texts(asked: chatd_pb2.CompleteRequest) -> str:
    """All that every target gets of a request."""
    return "\n".join([*(each.content for each in asked.messages), asked.response_format.schema_json])


def restricted(asked: chatd_pb2.CompleteRequest) -> str:
    """Return what only those get who may see candidates."""
    parts = [*(each.restricted_content for each in asked.messages), asked.response_format.restricted_schema_json]
    return "\n".join(part for part in parts if part)


async def test_by_default_the_model_gets_form_and_candidates_apart(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows)) as served:
        response = await served.client.iterate(request(session_id="s"), timeout_s=30)

    (briefed,), (asked,), (row,) = served.validated.briefed, served.chatd.asked, served.rows()
    assert (briefed.kind, briefed.spec_json, briefed.prompt) == ("song", '{"lines": 4}', "Sing")
    assert (briefed.candidates_max, briefed.seed) == (50, "s")
    assert "Name one song." in asked.messages[0].content
    assert asked.response_format.type == chatd_pb2.ResponseFormat.TYPE_JSON_SCHEMA
    assert asked.response_format.schema_json == FORM_SCHEMA
    assert asked.response_format.restricted_schema_json == CANDIDATES_SCHEMA
    assert FACTS_JSON in asked.messages[1].restricted_content
    assert asked.messages[1].restricted_content.startswith(asked.messages[1].content)
    assert not any(fact["key"] in texts(asked) for fact in FACTS)
    assert response.brief.grounding == CANDIDATES
    assert (response.brief.candidates, response.brief.candidates_total) == (3, 41)
    assert response.brief.candidates_total_is_floor
    assert response.brief.roster == "v7"
    assert row["prompt"] == "Sing", "what the caller said, whatever the model got"
    brief_ms = row["brief"].pop("brief_ms")
    assert brief_ms == response.brief.brief_ms
    assert row["brief"] == {
        "grounding": "candidates",
        "candidates": 3,
        "candidates_total": 41,
        "candidates_total_is_floor": True,
        "roster": "v7",
    }


async def test_form_is_the_form_and_no_fact(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows)) as served:
        response = await served.client.iterate(request(grounding=FORM), timeout_s=30)

    (briefed,), (asked,), (row,) = served.validated.briefed, served.chatd.asked, served.rows()
    assert briefed.HasField("candidates_max")
    assert briefed.candidates_max == 0
    assert "Name one song." in asked.messages[0].content
    assert asked.response_format.schema_json == FORM_SCHEMA
    assert restricted(asked) == ""
    assert response.brief.grounding == FORM
    assert not response.brief.HasField("candidates")
    assert row["brief"] == {"grounding": "form", "brief_ms": response.brief.brief_ms}


async def test_none_is_the_prompt_and_the_spec_and_the_request_is_checked_all_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows)) as served:
        response = await served.client.iterate(request(grounding=NONE), timeout_s=30)

    (briefed,), (asked,), (row,) = served.validated.briefed, served.chatd.asked, served.rows()
    assert briefed.candidates_max == 0
    assert [message.content for message in asked.messages][1] == 'Sing\n\nWhat is asked for, as JSON:\n{"lines":4}'
    assert "Name one song." not in texts(asked)
    assert asked.response_format == chatd_pb2.ResponseFormat(type=chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT)
    assert restricted(asked) == ""
    assert not response.HasField("brief")
    assert "brief" not in row


@pytest.mark.parametrize(
    ("config", "asked", "given"),
    [
        ({}, None, "candidates"),
        ({"grounding": "form"}, None, "form"),
        ({"grounding": "form"}, CANDIDATES, "candidates"),
        ({"grounding": "none"}, None, None),
        ({"grounding_max": "form"}, None, "form"),
        ({"grounding_max": "form"}, CANDIDATES, "form"),
        ({"grounding_max": "form"}, NONE, None),
        ({"grounding_max": "none"}, CANDIDATES, None),
    ],
)
async def test_the_deployment_has_a_default_and_a_bound(
    tmp_path: Path, config: dict[str, Any], asked: iterate_pb2.Grounding | None, given: str | None
) -> None:
    async with serving(tmp_path, FakeValidated(knows), **config) as served:
        response = await served.client.iterate(request(grounding=asked), timeout_s=30)

    (row,) = served.rows()
    assert row.get("brief", {}).get("grounding") == given
    assert response.HasField("brief") == (given is not None)


async def test_a_grounding_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows)) as served:
        with pytest.raises(Fault) as caught:
            await served.client.iterate(request(grounding=99), timeout_s=30)

    assert [each.field for each in caught.value.violations] == ["grounding"]


async def test_the_prompt_goes_to_the_brief_as_far_as_it_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows)) as served:
        await served.client.iterate(request(prompt="ä" * 100_000), timeout_s=30)

    assert served.validated.briefed[0].prompt == "ä" * 20_000
    assert served.chatd.asked[0].messages[1].content.startswith("ä" * 100_000)


async def test_the_first_event_of_a_stream_is_the_brief_and_of_an_ungrounded_one_it_is_not(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows)) as served:
        streams = [
            [event async for event in served.client.stream_iterate(each, timeout_s=30)]
            for each in (request(), request(grounding=NONE))
        ]

    events = [[event.WhichOneof("event") for event in stream] for stream in streams]
    shown = [[event.candidates_json for event in stream] for stream in streams]
    assert shown == [[FACTS_JSON, *[""] * 4], [""] * 4]
    attempt = ["attempt_started", "model_answered", "attempt_finished", "response"]
    assert events == [["brief", *attempt], attempt]


async def test_the_brief_hangs_under_the_root_which_begins_before_it(tmp_path: Path, receiver: TraceReceiver) -> None:
    async with serving(tmp_path, FakeValidated(knows), receiver=receiver) as served:
        response = await served.client.iterate(request(session_id="s"), timeout_s=30)

    tree = receiver.tree(response.trace_id)
    assert tree is not None
    (root,) = tree.roots
    assert root.span_id == root_span_id(response.trace_id, "s")
    assert served.validated.parents == [f"00-{response.trace_id}-{root.span_id}-01"]
    assert root.attributes["langfuse.observation.metadata.grounding"] == '"candidates"'
    assert root.attributes["langfuse.observation.metadata.candidates"] == "3"


async def test_without_tracing_the_brief_carries_the_callers_span(tmp_path: Path) -> None:
    traced = (("x-lakehouse-trace-id", "5a" * 16), ("traceparent", f"00-{'5a' * 16}-{'1b' * 8}-01"))
    async with serving(tmp_path, FakeValidated(knows)) as served:
        await served.client.iterate(request(), timeout_s=30, metadata=traced)

    assert served.validated.parents == [f"00-{'5a' * 16}-{'1b' * 8}-01"]


@pytest.mark.parametrize("reason", [Reason.BAD_REQUEST, Reason.UNKNOWN_KIND, Reason.KIND_SPEC_MISMATCH])
@pytest.mark.parametrize("grounding", [NONE, FORM, CANDIDATES])
async def test_what_the_brief_refuses_is_no_session(
    tmp_path: Path, receiver: TraceReceiver, reason: Reason, grounding: iterate_pb2.Grounding
) -> None:
    async def refuses(_: validated_pb2.BriefRequest, context: Any) -> Any:
        await abort(context, reason, Violation("spec_json", "no such song"), Violation("kind", "is a tune"))

    async with serving(tmp_path, FakeValidated(refuses), receiver=receiver) as served:
        with pytest.raises(Fault) as caught:
            await served.client.iterate(request(grounding=grounding), timeout_s=30)

    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", reason)
    assert [(each.field, each.description) for each in caught.value.violations] == [
        ("spec_json", "no such song"),
        ("kind", "is a tune"),
    ]
    assert "session_id" not in caught.value.metadata, "nobody holds the id of a session that is none"
    assert (served.rows(), served.chatd.asked, receiver.trees()) == ([], [], [])
    assert len(served.validated.briefed) == 1


async def test_arguments_are_checked_before_the_brief_is_asked(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows)) as served:
        with pytest.raises(Fault) as caught:
            await served.client.iterate(request(prompt="", spec_json='{"a":1,"a":2}'), timeout_s=30)

    assert [each.field for each in caught.value.violations] == ["prompt", "spec_json"]
    assert served.validated.briefed == []


async def test_an_invalid_argument_of_a_later_hop_is_a_session_that_failed(tmp_path: Path) -> None:
    class Refuses(FakeValidated):
        async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> Any:
            await abort(context, Reason.BAD_REQUEST)

    async with serving(tmp_path, Refuses(knows)) as served:
        with pytest.raises(Fault):
            await served.client.iterate(request(), timeout_s=30)

    (row,) = served.rows()
    assert row["error"]["reason"] == "BAD_REQUEST"


@pytest.mark.parametrize("reason", [Reason.VALIDATED_UNREACHABLE, Reason.OVERLOADED, Reason.SHUTTING_DOWN, Reason.BUG])
async def test_what_would_end_the_session_at_the_gate_ends_it_at_the_brief(
    tmp_path: Path, receiver: TraceReceiver, reason: Reason
) -> None:
    async def fails(_: validated_pb2.BriefRequest, context: Any) -> Any:
        await abort(context, reason)

    async with serving(tmp_path, FakeValidated(fails), receiver=receiver) as served:
        with pytest.raises(Fault) as caught:
            await served.client.iterate(request(session_id="s"), timeout_s=30)

    (row,), (tree,) = served.rows(), receiver.trees()
    assert (caught.value.reason, caught.value.where) == (reason, "validated")
    assert caught.value.metadata["session_id"] == "s"
    assert (row["final_verdict"], row["error"]["reason"], row["attempts"]) == ("infra_error", reason, [])
    assert "brief" not in row
    assert [(span.name, span.status_message) for span in tree.roots] == [("iterate.song", Fault(reason).message)]
    assert served.chatd.asked == []


async def test_a_dead_validated_ends_the_session_before_a_model_call(tmp_path: Path) -> None:
    async with serving(tmp_path, None, validated="127.0.0.1:1") as served:
        with pytest.raises(Fault) as caught:
            await served.client.iterate(request(), timeout_s=30)

    (row,) = served.rows()
    assert caught.value.reason is Reason.VALIDATED_UNREACHABLE
    assert row["error"]["reason"] == "VALIDATED_UNREACHABLE"
    assert served.chatd.asked == []


async def test_before_an_older_validated_a_session_runs_as_ungrounded(tmp_path: Path) -> None:
    class Older(FakeValidated):
        async def Brief(self, request: validated_pb2.BriefRequest, context: Any) -> Any:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    async with serving(tmp_path, Older(knows)) as served:
        response = await served.client.iterate(request(grounding=CANDIDATES), timeout_s=30)

    (asked,), (row,) = served.chatd.asked, served.rows()
    assert response.WhichOneof("outcome") == "accepted"
    assert not response.HasField("brief")
    assert "brief" not in row
    assert asked.response_format.type == chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT


def without_candidates(*failures: Any) -> Any:
    """Return a step that fails so where candidates are asked for, and as often as there are failures; then it knows."""
    left = itertools.chain(failures, itertools.repeat(None))

    async def step(asked: validated_pb2.BriefRequest, context: Any) -> Any:
        failure = next(left)
        if failure == "hang":
            await asyncio.Event().wait()
        if isinstance(failure, Reason):
            await abort(context, failure)
        if isinstance(failure, grpc.StatusCode):
            await context.abort(failure, "not ours")
        return knowledge(asked)

    return step


@pytest.mark.parametrize(
    "failure",
    [
        Reason.ROSTER_UNAVAILABLE,
        Reason.DEADLINE,
        "hang",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
    ],
)
async def test_a_pool_that_fails_or_is_slow_degrades_to_the_form(tmp_path: Path, failure: Any) -> None:
    validated = FakeValidated(without_candidates(failure))
    async with serving(tmp_path, validated, brief_ms_max=400) as served:
        response = await served.client.iterate(request(), timeout_s=30)

    (asked,), (row,) = served.chatd.asked, served.rows()
    assert response.WhichOneof("outcome") == "accepted"
    assert [each.candidates_max for each in validated.briefed] == [50, 0]
    assert validated.left_s[1] > 0.02, "a slow pool leaves some time for the form"
    assert asked.response_format.schema_json == FORM_SCHEMA
    assert restricted(asked) == ""
    assert response.brief.degraded
    assert response.brief.brief_ms <= 450
    assert row["brief"] == {"grounding": "candidates", "degraded": True, "brief_ms": response.brief.brief_ms}


@pytest.mark.parametrize("grounding", [FORM, CANDIDATES])
async def test_a_validated_that_says_nothing_in_time_costs_that_time_and_no_session(
    tmp_path: Path, grounding: iterate_pb2.Grounding
) -> None:
    started = time.monotonic()
    async with serving(tmp_path, FakeValidated(hangs), brief_ms_max=200) as served:
        response = await served.client.iterate(request(grounding=grounding), timeout_s=30)

    (asked,) = served.chatd.asked
    assert response.WhichOneof("outcome") == "accepted"
    assert response.brief.degraded
    assert response.brief.grounding == grounding
    assert asked.response_format.type == chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT
    assert time.monotonic() - started < 10


async def test_a_bug_is_no_slow_pool(tmp_path: Path) -> None:
    async def breaks(_: validated_pb2.BriefRequest, __: Any) -> Any:
        raise ZeroDivisionError

    async with serving(tmp_path, FakeValidated(breaks)) as served:
        with pytest.raises(Fault) as caught:
            await served.client.iterate(request(), timeout_s=30)

    assert (caught.value.reason, len(served.validated.briefed)) == (Reason.BUG, 1)


@pytest.mark.parametrize("candidates_json", ["[1]", "{}", "[{", '[{"a":1,"a":2}]'])
async def test_candidates_that_cannot_be_read_are_none(tmp_path: Path, candidates_json: str) -> None:
    async def babbles(asked: validated_pb2.BriefRequest, _: Any) -> validated_pb2.BriefResponse:
        response = knowledge(asked)
        response.candidates_json = candidates_json
        return response

    async with serving(tmp_path, FakeValidated(babbles)) as served:
        response = await served.client.iterate(request(), timeout_s=30)

    assert response.brief.degraded
    assert restricted(served.chatd.asked[0]) == ""
    assert served.chatd.asked[0].response_format.schema_json == FORM_SCHEMA


async def test_candidates_that_leave_no_room_in_the_context_stay_out_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows), context_bytes_max=1024) as served:
        response = await served.client.iterate(request(prompt="Sing " * 180), timeout_s=30)

    assert response.brief.degraded
    assert restricted(served.chatd.asked[0]) == ""


async def test_where_no_answer_can_pass_no_model_is_asked_and_everything_says_so(
    tmp_path: Path, receiver: TraceReceiver
) -> None:
    async with serving(tmp_path, FakeValidated(knows_that_none_can_pass), receiver=receiver) as served:
        events = [event async for event in served.client.stream_iterate(request(), timeout_s=30)]

    response, (row,), (tree,) = events[-1].response, served.rows(), receiver.trees()
    (root,) = tree.roots
    assert served.chatd.asked == []
    assert [event.WhichOneof("event") for event in events] == ["brief", "response"]
    assert events[0].brief.infeasible
    assert [each.message for each in events[0].brief.findings] == [NOBODY.message]
    assert response.max_iter_exhausted.infeasible
    assert not response.attempts
    assert [each.code for each in response.brief.findings] == ["COUNT"]
    assert (row["final_verdict"], row["attempts"], row["brief"]["infeasible"]) == ("max_iter_exhausted", [], True)
    assert row["brief"]["findings"] == [{"code": "COUNT", "path": "", "message": NOBODY.message}]
    output = json.loads(str(root.attributes["langfuse.observation.output"]))
    assert output["infeasible"] is True
    assert output["findings"][0]["message"] == NOBODY.message
    assert "no answer can pass" in root.status_message


async def test_a_deployment_can_ask_a_model_all_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeValidated(knows_that_none_can_pass), on_infeasible="ask") as served:
        response = await served.client.iterate(request(), timeout_s=30)

    assert len(served.chatd.asked) == 1
    assert response.WhichOneof("outcome") == "accepted"
    assert response.brief.infeasible


async def test_who_has_not_looked_for_candidates_does_not_know_that_none_can_pass(tmp_path: Path) -> None:
    async def claims(asked: validated_pb2.BriefRequest, _: Any) -> validated_pb2.BriefResponse:
        return validated_pb2.BriefResponse(infeasible=True, findings=[NOBODY])

    async with serving(tmp_path, FakeValidated(claims)) as served:
        response = await served.client.iterate(request(grounding=FORM), timeout_s=30)

    assert response.WhichOneof("outcome") == "accepted"
    assert not response.brief.infeasible


def rejection() -> validated_pb2.ValidateResponse:
    """Return a song that does not exist; two of the candidates would do, one of whom was not among those of the
    brief."""
    finding = validated_pb2.Finding(
        code="PHANTOM",
        path="/songs/1/key",
        message='"K-9" is no song; did you mean K-4 Volta?',
        unrestricted_message='"K-9" is no song',
        suggestions=[
            validated_pb2.Suggestion(facts_json='{"key":"K-4","title":"Volta"}'),
            validated_pb2.Suggestion(facts_json='{"key":"K-2","title":"Greensleeves"}'),
        ],
    )
    bearer = validated_pb2.Finding(
        code="MISMATCH",
        path="/songs/0/title",
        message="K-1 is Ännchen, not Anna",
        unrestricted_message="K-1 is not Anna",
    )
    return validated_pb2.ValidateResponse(passed=False, findings=[finding, bearer])


async def rejected_twice(tmp_path: Path, grounding: iterate_pb2.Grounding) -> Served:
    artifact = '{"songs":[{"key":"K-1","title":"Ännchen"},{"key":"K-9","title":"Nobody"}]}'
    validated = FakeValidated(knows, [rejection(), rejection(), validated_pb2.ValidateResponse(passed=True)])
    async with serving(tmp_path, validated, FakeChatd([artifact]), on_no_progress="continue") as served:
        await served.client.iterate(request(grounding=grounding), timeout_s=30)
    return served


async def test_feedback_offers_what_was_neither_used_nor_offered_and_only_to_those_who_may_see_it(
    tmp_path: Path,
) -> None:
    served = await rejected_twice(tmp_path, CANDIDATES)

    _, second, third = (asked.messages[-1] for asked in served.chatd.asked)
    assert '"K-9" is no song' in second.content
    assert "K-1 is not Anna" in second.content
    assert not any(word in second.content for word in ("Volta", "K-4", "K-2", "K-3", "Ännchen"))
    assert [each["key"] for each in offers(second)] == ["K-2", "K-3"], "the nearest that the schema has; K-1 was used"
    assert "did you mean" not in second.restricted_content
    assert "K-4" not in second.restricted_content, "a model that is held to the schema cannot name it"
    assert "K-1 is Ännchen, not Anna" in second.restricted_content
    assert not any(key in third.restricted_content for key in ("K-2", "K-3", "K-4"))


def offers(feedback: chatd_pb2.Message) -> list[dict[str, str]]:
    """Return what stands in the list of a feedback's restricted text; empty: it has none."""
    line = next((each for each in feedback.restricted_content.splitlines() if each.startswith("[{")), "[]")
    found: list[dict[str, str]] = json.loads(line)
    return found


async def test_without_a_schema_of_candidates_the_nearest_of_all_come_first(tmp_path: Path) -> None:
    served = await rejected_twice(tmp_path, FORM)

    assert [each["key"] for each in offers(served.chatd.asked[1].messages[-1])] == ["K-4", "K-2"]


async def test_without_grounding_findings_are_said_in_their_own_words_and_names_stay_apart(tmp_path: Path) -> None:
    served = await rejected_twice(tmp_path, NONE)

    second = served.chatd.asked[1].messages[-1]
    assert "did you mean K-4 Volta?" in second.restricted_content
    assert "K-1 is Ännchen, not Anna" in second.restricted_content
    assert not any(word in second.content for word in ("Volta", "K-4", "Ännchen"))


async def test_an_answer_that_may_repeat_facts_goes_back_as_restricted(tmp_path: Path) -> None:
    validated = FakeValidated(knows, [rejection(), validated_pb2.ValidateResponse(passed=True)])
    async with serving(tmp_path, validated, FakeChatd(['{"title":"Ännchen"}'], shows=True)) as served:
        await served.client.iterate(request(), timeout_s=30)

    _, _, answer, feedback = served.chatd.asked[1].messages
    assert (answer.role, answer.content) == (chatd_pb2.ROLE_ASSISTANT, "")
    assert answer.restricted_content == '{"title":"Ännchen"}'
    assert feedback.content == ""
    assert "PHANTOM" in feedback.restricted_content


async def test_the_row_holds_what_a_finding_suggests(tmp_path: Path) -> None:
    served = await rejected_twice(tmp_path, CANDIDATES)

    first = served.rows()[0]["attempts"][0]["findings"]
    assert first[0]["suggestions"] == [{"key": "K-4", "title": "Volta"}, {"key": "K-2", "title": "Greensleeves"}]
    assert "suggestions" not in first[1]


async def test_suggestions_that_are_no_object_do_not_reach_the_row(tmp_path: Path) -> None:
    odd = ["[1]", "{", '{"a":\n1}', ""]
    finding = validated_pb2.Finding(
        code="C", path="", message="m", suggestions=[validated_pb2.Suggestion(facts_json=each) for each in odd]
    )
    validated = FakeValidated(knows, [validated_pb2.ValidateResponse(passed=False, findings=[finding])])
    async with serving(tmp_path, validated) as served:
        await served.client.iterate(request(max_iterations=2), timeout_s=30)

    (row,) = served.rows()
    assert [attempt["findings"][0]["suggestions"] for attempt in row["attempts"]] == [[{"a": 1}], [{"a": 1}]]


async def test_an_answer_that_came_again_ends_the_session_and_everything_says_so(
    tmp_path: Path, receiver: TraceReceiver
) -> None:
    validated = FakeValidated(knows, [rejection()])
    async with serving(tmp_path, validated, receiver=receiver, on_no_progress="stop") as served:
        response = await served.client.iterate(request(max_iterations=5), timeout_s=30)

    (row,), (tree,) = served.rows(), receiver.trees()
    assert len(response.attempts) == 2
    assert response.max_iter_exhausted.no_progress
    assert not response.max_iter_exhausted.infeasible
    assert row["no_progress"] is True
    assert json.loads(str(tree.roots[0].attributes["langfuse.observation.output"]))["no_progress"] is True


async def test_a_spent_token_budget_stands_in_the_row(tmp_path: Path) -> None:
    class Chatty(FakeChatd):
        async def Complete(self, request: chatd_pb2.CompleteRequest, context: Any) -> chatd_pb2.CompleteResponse:
            usage = chatd_pb2.Usage(input_tokens=9, output_tokens=9)
            return chatd_pb2.CompleteResponse(text="{}", provider="p", model="m", usage=usage)

    validated = FakeValidated(knows, [rejection()])
    async with serving(tmp_path, validated, Chatty(), session_tokens_max=10) as served:
        response = await served.client.iterate(request(), timeout_s=30)

    (row,) = served.rows()
    assert response.max_iter_exhausted.token_budget_spent
    assert row["token_budget_spent"] is True


async def test_the_datasets_that_decided_are_in_the_attempt_and_in_the_row(tmp_path: Path) -> None:
    decided = validated_pb2.DatasetVersion(name="catalogue", version="sha256:1")
    verdict = validated_pb2.ValidateResponse(passed=True, artifact_json="{}", datasets=[decided])
    async with serving(tmp_path, FakeValidated(knows, [verdict])) as served:
        response = await served.client.iterate(request(grounding=FORM), timeout_s=20)
        (row,) = served.rows()
    assert list(response.attempts[0].datasets) == [decided]
    assert row["attempts"][0]["datasets"] == [{"name": "catalogue", "version": "sha256:1"}]


def answers(**fields: Any) -> Any:
    """Return a step that knows, but for `fields`; those of candidates only where some were asked for."""

    async def step(asked: validated_pb2.BriefRequest, _: Any) -> validated_pb2.BriefResponse:
        response = knowledge(asked)
        response.MergeFrom(validated_pb2.BriefResponse(**fields))
        return response

    return step


@pytest.mark.parametrize("schema", ["true", "false"])
async def test_a_schema_that_is_no_object_is_no_form_and_the_session_runs(tmp_path: Path, schema: str) -> None:
    step = answers(form_schema_json=schema, candidates_schema_json=schema)
    async with serving(tmp_path, FakeValidated(step)) as served:
        response = await served.client.iterate(request(), timeout_s=30)

    assert response.WhichOneof("outcome") == "accepted"
    assert served.chatd.asked[0].response_format == chatd_pb2.ResponseFormat(
        type=chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT
    )
    assert not response.brief.degraded, "a schema that says nothing of the form is nothing amiss"
    assert response.brief.candidates == 3


@pytest.mark.parametrize("schema", ["true", "false"])
async def test_a_restricted_schema_that_is_no_object_leaves_the_form(tmp_path: Path, schema: str) -> None:
    async with serving(tmp_path, FakeValidated(answers(candidates_schema_json=schema))) as served:
        await served.client.iterate(request(), timeout_s=30)

    asked = served.chatd.asked[0].response_format
    assert (asked.schema_json, asked.restricted_schema_json) == (FORM_SCHEMA, "")


TOO_LONG_SCHEMA = json.dumps({"description": "x" * 256 * 1024})
LONG_WHEN_CANONICAL = '{"enum":[' + ",".join(["1e20"] * 20_000) + "]}"
DEEP = "[" * 200 + "]" * 200
UNUSABLE: list[tuple[str, dict[str, Any]]] = [
    ("candidates_total", {"candidates_total": -5}),
    ("candidates_total", {"candidates_total": -5, "infeasible": True, "findings": [NOBODY]}),
    *(
        (name, {name: text})
        for name in ("form_schema_json", "candidates_schema_json")
        for text in ('{"', "[]", "1", '{"a":1,"a":2}', TOO_LONG_SCHEMA, LONG_WHEN_CANONICAL, f'{{"a":{DEEP}}}')
    ),
    *(("candidates_json", {"candidates_json": text}) for text in ("[{", "{}", "[1]", f'[{{"a":{DEEP}}}]')),
    ("instructions", {"instructions": "x" * 2_000_000}),
    ("instructions", {"instructions": "x" * 5_000_000}),
    ("findings", {"infeasible": True, "findings": [validated_pb2.Finding(code="C", message="x" * 100_000)]}),
    ("roster", {"roster": validated_pb2.RosterVersion(version="x" * 100_000)}),
]


@pytest.mark.parametrize(("name", "fields"), UNUSABLE)
async def test_what_cannot_be_used_of_a_brief_is_left_out_and_leaves_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, fields: dict[str, Any]
) -> None:
    async with serving(tmp_path, FakeValidated(answers(**fields))) as served:
        response = await served.client.iterate(request(), timeout_s=30)

    (asked,), (row,) = served.chatd.asked, served.rows()
    assert response.WhichOneof("outcome") == "accepted"
    assert (row["final_verdict"], row["brief"]["degraded"], response.brief.degraded) == ("accepted", True, True)
    assert not row["brief"].keys() & {"candidates", "candidates_total", "infeasible", "findings"}
    assert restricted(asked) == ""
    assert asked.response_format.schema_json == ("" if name == "form_schema_json" else FORM_SCHEMA)
    assert ("Name one song." in asked.messages[0].content) == (name != "instructions")
    warnings = [line for line in "".join(capsys.readouterr()).splitlines() if "brief_unusable" in line]
    assert len(warnings) == 1
    assert name in warnings[0]


async def test_what_nobody_asked_for_is_not_passed_on(tmp_path: Path) -> None:
    async def says_too_much(_: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
        return knowledge(validated_pb2.BriefRequest(candidates_max=50))

    async with serving(tmp_path, FakeValidated(says_too_much)) as served:
        response = await served.client.iterate(request(grounding=FORM), timeout_s=30)

    assert restricted(served.chatd.asked[0]) == ""
    assert not response.brief.degraded


@pytest.mark.parametrize("grounding", [NONE, FORM, CANDIDATES])
async def test_a_brief_that_hangs_leaves_the_model_most_of_a_short_deadline(
    tmp_path: Path, grounding: iterate_pb2.Grounding
) -> None:
    async with serving(tmp_path, FakeValidated(hangs), brief_ms_max=60_000) as served:
        response = await served.client.iterate(request(grounding=grounding), timeout_s=3)

    assert response.WhichOneof("outcome") == "accepted"
    assert len(served.chatd.asked) == 1
    assert response.brief.degraded == (grounding != NONE)
    assert response.brief.brief_ms < 2000


@pytest.mark.parametrize(
    ("attempt", "field", "named"),
    [
        (1, "target.provider", "provider"),
        (1, "target.model", "model"),
        (1, "fallbacks[0].provider", "escalation[0].provider"),
        (1, "fallbacks[1].model", "escalation[1].model"),
        (2, "target.provider", "escalation[0].provider"),
        (2, "fallbacks[0].provider", "escalation[1].provider"),
        (3, "target.model", "escalation[1].model"),
        (4, "target.provider", "escalation[1].provider"),
        (1, "messages", "messages"),
    ],
)
async def test_a_target_that_chatd_refuses_is_named_as_the_request_names_it(
    tmp_path: Path, attempt: int, field: str, named: str
) -> None:
    class Refuses(FakeChatd):
        async def Complete(self, request: chatd_pb2.CompleteRequest, context: Any) -> chatd_pb2.CompleteResponse:
            if request.attempt == attempt:
                await abort(context, Reason.UNKNOWN_PROVIDER, Violation(field, "is not configured"))
            return await super().Complete(request, context)

    escalation = [chatd_pb2.Target(provider=each) for each in "ab"]
    validated = FakeValidated(knows, [validated_pb2.ValidateResponse(passed=False, findings=[NOBODY])])
    async with serving(tmp_path, validated, Refuses(), on_no_progress="continue") as served:
        with pytest.raises(Fault) as caught:
            await served.client.iterate(request(escalation=escalation, max_iterations=4), timeout_s=30)

    assert caught.value.reason is Reason.UNKNOWN_PROVIDER
    assert [(each.field, each.description) for each in caught.value.violations] == [(named, "is not configured")]
