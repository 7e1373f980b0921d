"""Goal: a session that its caller gave an id is billed once: a repeated call is answered from the row, or waits.

Method: the real iterate, its log and a fake chatd that counts what it is asked; a second iterate on the same log where
two processes matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from caller_credentials import replace_file, sha256
from fake_hops import PASSED, FakeChatd, FakeValidated, Served, abort, request, serving
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from session_rows import FULL, no_row_gets_into

from iterate.recall.id_locks import IdLocks
from iterate.response import response_of
from iterate.session_log.journal import Journal
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.sessions.record import PROCESS_DIED, SessionRecord, rfc3339
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.row_reading import decode_row
from lakehouse.sessions.store.append import LogPosition
from lakehouse.trace_context import SESSION_ID_HEADER, TRACE_ID_HEADER, trace_metadata
from lakehouse.validated.v1 import validated_pb2
from lakehouse.wall_clock import ClockAnchor

REJECTED = validated_pb2.ValidateResponse(
    artifact_json='{"a":1}',
    findings=[
        validated_pb2.Finding(
            code="C",
            path="/a",
            message="no, W-1",
            unrestricted_message="no",
            suggestions=[
                validated_pb2.Suggestion(worker_id="W-1", name="Anna", facts_json='{"name":"Anna","worker_id":"W-1"}'),
                validated_pb2.Suggestion(facts_json='{"sku":"S-1"}'),
                validated_pb2.Suggestion(worker_id="W-2", name="Of an older validated"),
            ],
        )
    ],
    grounded_in_roster=False,
)


@dataclass
class HeldChatd(FakeChatd):
    """Answers as FakeChatd, once it is let; fails with `fault` as long as there is one."""

    let: asyncio.Event = field(default_factory=asyncio.Event)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0
    fault: Reason | None = None

    async def Complete(self, request: chatd_pb2.CompleteRequest, context: Any) -> chatd_pb2.CompleteResponse:
        self.was_asked.set()
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fault is not None:
            self.asked.append(request)
            await abort(context, self.fault)
        return await super().Complete(request, context)


async def brief(_: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
    return validated_pb2.BriefResponse(instructions="sing", form_schema_json="{}", candidates_total=0)


def gate(*verdicts: validated_pb2.ValidateResponse) -> FakeValidated:
    return FakeValidated(brief, list(verdicts) or [PASSED])


@contextlib.asynccontextmanager
async def served(folder: Path, chatd: FakeChatd | None = None, **config: Any) -> AsyncIterator[Served]:
    async with serving(folder, gate(), chatd, **config) as running:
        yield running


def unmarked(response: iterate_pb2.IterateResponse) -> iterate_pb2.IterateResponse:
    copy = iterate_pb2.IterateResponse()
    copy.CopyFrom(response)
    copy.ClearField("recalled")
    return copy


def set_paths(message: Message) -> set[str]:
    """Every field that is set anywhere in a message, by its path."""
    found: set[str] = set()
    for descriptor, value in message.ListFields():
        found.add(descriptor.full_name)
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if descriptor.is_repeated else (value,):
                found |= set_paths(each)
    return found


def all_paths(descriptor: Any) -> set[str]:
    found: set[str] = set()
    for each in descriptor.fields:
        found.add(each.full_name)
        if each.message_type is not None:
            found |= all_paths(each.message_type)
    return found


def streamed(asked: iterate_pb2.IterateRequest) -> iterate_pb2.StreamIterateRequest:
    return iterate_pb2.StreamIterateRequest(request=asked)


async def fault_of(call: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        await call
    return caught.value


async def test_a_repeated_call_is_answered_from_the_row_unbilled_and_equal_but_for_recalled(tmp_path: Path) -> None:
    async with serving(tmp_path, gate(REJECTED, PASSED)) as running:
        asked = request(session_id="order-1")
        first = await running.client.iterate(asked, timeout_s=10)
        second = await running.client.iterate(asked, timeout_s=10)
        row = await running.client.get_session("order-1", timeout_s=10)

        assert (first.recalled, second.recalled, row.recalled) == (False, True, True)
        assert unmarked(second) == first == unmarked(row)
        assert len(running.chatd.asked) == 2, "two attempts of one session"
        assert len(running.rows()) == 1
        assert running.rows()[0]["request_digest"].startswith("sha256:")


def test_every_field_of_a_response_comes_back_out_of_the_row() -> None:
    finding = FULL.attempts[0].findings
    assert finding is not None
    facts = ('{"name":"Anna","worker_id":"W-1"}',)
    said = (replace(finding[0], suggestions=facts),)
    attempt = replace(FULL.attempts[0], findings=said, error=None)
    assert FULL.brief is not None
    outcome = replace(
        FULL,
        final_verdict="max_iter_exhausted",
        error=None,
        attempts=(attempt,),
        token_budget_spent=True,
        no_progress=True,
        grounded_in_roster=True,
        brief=replace(
            FULL.brief,
            candidates=1,
            candidates_total=2,
            candidates_total_is_floor=True,
            infeasible=True,
            degraded=True,
            findings=said,
            roster="v",
        ),
    )
    made = [outcome, replace(outcome, final_verdict="accepted"), replace(outcome, attempts=())]

    back = [response_of(decode_row(encode_row(each)), recalled=True) for each in made]

    assert [unmarked(each) for each in back] == [unmarked(response_of(each, recalled=False)) for each in made]
    wanted = all_paths(iterate_pb2.IterateResponse.DESCRIPTOR)
    # What is of Validate's own answers alone.
    wanted.discard("lakehouse.validated.v1.Finding.unrestricted_message")
    assert set().union(*map(set_paths, back)) == wanted


async def test_a_stream_s_recall_sends_its_last_event_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        asked = request(session_id="s")
        events = [each async for each in running.client.stream_iterate(asked, timeout_s=10)]
        again = [each async for each in running.client.stream_iterate(asked, timeout_s=10)]

        assert len(events) > 1
        assert [each.WhichOneof("event") for each in again] == ["response"]
        assert again[0].response.recalled
        assert unmarked(again[0].response) == events[-1].response


async def test_the_initial_metadata_of_a_recall_names_the_first_session_s_trace(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        asked = request(session_id="s")
        first = await running.client.iterate(asked, metadata=trace_metadata("order 1"), timeout_s=10)
        call = iterate_pb2_grpc.IterateServiceStub(running.client.channel).Iterate(
            asked, metadata=trace_metadata("order 2"), timeout=10
        )
        metadata = dict(await call.initial_metadata())
        again = await call

        assert metadata[TRACE_ID_HEADER] == again.trace_id == first.trace_id
        assert metadata[SESSION_ID_HEADER] == "s"


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "Sing louder"},
        {"max_iterations": 3},
        {"grounding": iterate_pb2.GROUNDING_CANDIDATES},
        {"temperature": 0.0},
    ],
    ids=str,
)
async def test_another_request_under_a_used_id_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    async with served(tmp_path) as running:
        await running.client.iterate(request(session_id="s"), timeout_s=10)
        fault = await fault_of(running.client.iterate(request(session_id="s", **other), timeout_s=10))

        assert (fault.reason, fault.code) == (Reason.SESSION_ID_TAKEN, "ALREADY_EXISTS")
        assert len(running.chatd.asked) == 1


async def test_fields_that_this_version_does_not_know_make_no_other_request(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        asked = request(session_id="s")
        await running.client.iterate(asked, timeout_s=10)
        newer = iterate_pb2.IterateRequest.FromString(asked.SerializeToString() + b"\xa2\x7d\x03new")

        assert (await running.client.iterate(newer, timeout_s=10)).recalled


async def test_a_row_without_a_digest_takes_its_id(tmp_path: Path) -> None:
    log = tmp_path / "sessions.jsonl"
    log.write_bytes(encode_row(replace(row_of("old"), request_digest=None)))
    async with served(tmp_path) as running:
        fault = await fault_of(running.client.iterate(request(session_id="old"), timeout_s=10))
        found = await running.client.get_session("old", timeout_s=10)

        assert fault.reason is Reason.SESSION_ID_TAKEN
        assert found.WhichOneof("outcome") == "accepted"
        assert running.chatd.asked == []


# Of 0.1, whose rows have no try and no digest: one that was accepted and one that was not.
OF_0_1 = (
    b'{"schema":"session.iterate.v1","session_id":"%s","timestamp":"%s","daemon":"iterate","trace_id":'
    b'"0af7651916cd43dd8448eb211c80319c","kind":"song","provider":"","model":"","prompt":"Sing","spec":{"lines":4},'
    b'"max_iterations":3,"iterations":%d,%s,"input_tokens":0,"output_tokens":0,"duration_ms":1}\n'
)
ACCEPTED_BY_0_1 = (
    b'"final_verdict":"accepted","artifact":{"a":1},"attempts":[{"iteration":1,"provider":"p","model":"m",'
    b'"verdict":"accepted","raw":"{\\"a\\":1}","findings":[],"input_tokens":0,"output_tokens":0,"chat_ms":1,'
    b'"validate_ms":1}]'
)
DIED_IN_0_1 = (
    b'"final_verdict":"infra_error","error":{"code":"PROCESS_DIED","reason":"PROCESS_DIED","where":"iterate",'
    b'"message":"The process that ran this session died."},"attempts":[]'
)


def of_0_1(session_id: str, *, accepted: bool) -> bytes:
    end = ACCEPTED_BY_0_1 if accepted else DIED_IN_0_1
    ended = rfc3339(ClockAnchor.now().unix_ns // 1000).encode()
    return OF_0_1 % (session_id.encode(), ended, int(accepted), end)


@pytest.mark.parametrize("place", ["log", "rotated", "journal"])
async def test_an_id_of_a_log_of_0_1_is_taken_however_it_ended_and_its_row_is_found(tmp_path: Path, place: str) -> None:
    rows = [of_0_1("accepted", accepted=True), of_0_1("died", accepted=False)]
    log = tmp_path / "sessions.jsonl"
    if place == "journal":
        journal = Journal(str(log))
        journal.open()
        for row, died in zip(rows, [of_0_1("accepted", accepted=False), rows[1]], strict=True):
            entry = journal.begin(died, LogPosition())
            if row is not died:
                journal.end(entry, row)
        journal._live[0] = entry
        journal.close()  # as a process of 0.1 that was killed leaves it
        log.touch()
    else:
        log.with_name("sessions.jsonl.1" if place == "rotated" else log.name).write_bytes(b"".join(rows))
    async with served(tmp_path) as running:
        for session_id in ("accepted", "died"):
            fault = await fault_of(running.client.iterate(request(session_id=session_id), timeout_s=10))
            assert fault.reason is Reason.SESSION_ID_TAKEN
        found = await running.client.get_session("accepted", timeout_s=10)
        of_the_dead = await fault_of(running.client.get_session("died", timeout_s=10))
        new = await running.client.iterate(request(session_id="new"), timeout_s=10)

    assert found.accepted.artifact_json == '{"a":1}'
    assert of_the_dead.reason is Reason.PROCESS_DIED
    assert not new.recalled
    assert len(running.chatd.asked) == 1


async def test_an_id_that_ended_as_infra_error_is_run_again_as_the_next_try(tmp_path: Path) -> None:
    chatd = HeldChatd()
    chatd.let.set()
    async with served(tmp_path, chatd) as running:
        asked = request(session_id="s")
        for _ in range(2):
            chatd.fault = Reason.PROVIDER_FAILED
            assert (await fault_of(running.client.iterate(asked, timeout_s=10))).reason is Reason.PROVIDER_FAILED
        recorded = await fault_of(running.client.get_session("s", timeout_s=10))
        chatd.fault = None
        answer = await running.client.iterate(asked, timeout_s=10)
        again = await running.client.iterate(asked, timeout_s=10)

        assert [(row["final_verdict"], row.get("try")) for row in running.rows()] == [
            ("infra_error", None),
            ("infra_error", 2),
            ("accepted", 3),
        ]
        assert not answer.recalled
        assert unmarked(again) == answer
        assert len(chatd.asked) == 3
        assert (recorded.reason, recorded.where) == (Reason.PROVIDER_FAILED, "validated"), "as the fake signs"
        assert recorded.metadata["session_id"] == "s"


async def test_a_second_call_waits_with_the_first_which_may_leave(tmp_path: Path) -> None:
    chatd = HeldChatd()
    async with served(tmp_path, chatd) as running:
        asked = request(session_id="s")
        stub = iterate_pb2_grpc.IterateServiceStub(running.client.channel)
        first = stub.StreamIterate(streamed(asked), timeout=10)
        await first.initial_metadata()
        await chatd.was_asked.wait()
        second = stub.StreamIterate(streamed(asked), timeout=10)
        assert dict(await second.initial_metadata())[SESSION_ID_HEADER] == "s", "it waits with the first"
        first.cancel()
        await fault_of(running.client.get_session("behind-the-cancellation", timeout_s=10))
        chatd.let.set()
        (answer,) = [each.response async for each in second]

        assert answer.WhichOneof("outcome") == "accepted"
        assert answer.recalled
        assert (len(chatd.asked), chatd.cancelled) == (1, 0)
        assert [row["final_verdict"] for row in running.rows()] == ["accepted"]


async def test_the_session_is_cancelled_when_its_last_caller_leaves_and_leaves_its_row(tmp_path: Path) -> None:
    chatd = HeldChatd()
    async with served(tmp_path, chatd) as running:
        asked = request(session_id="s")
        stub = iterate_pb2_grpc.IterateServiceStub(running.client.channel)
        first, second = (stub.StreamIterate(streamed(asked), timeout=10) for _ in range(2))
        await first.initial_metadata()
        await second.initial_metadata()
        await chatd.was_asked.wait()
        first.cancel()
        second.cancel()
        chatd.let.set()
        again = await running.client.iterate(asked, timeout_s=10)

        assert again.WhichOneof("outcome") == "accepted"
        (gone, answered) = running.rows()
        assert (gone["final_verdict"], gone["error"]["reason"]) == ("infra_error", "CALLER_GONE")
        assert (answered["final_verdict"], answered["try"]) == ("accepted", 2)


async def test_a_waiting_call_ends_at_its_own_deadline_and_the_session_goes_on(tmp_path: Path) -> None:
    chatd = HeldChatd()
    async with served(tmp_path, chatd) as running:
        asked = request(session_id="s")
        first = asyncio.create_task(running.client.iterate(asked, timeout_s=10))
        await chatd.was_asked.wait()
        fault = await fault_of(running.client.iterate(asked, timeout_s=0.2))
        chatd.let.set()

        assert fault.reason is Reason.DEADLINE
        assert (await first).WhichOneof("outcome") == "accepted"


async def test_a_session_of_another_process_is_in_flight_and_answered_there_afterwards(tmp_path: Path) -> None:
    chatd = HeldChatd()
    async with served(tmp_path, chatd) as one, served(tmp_path) as other:
        asked = request(session_id="s")
        first = asyncio.create_task(one.client.iterate(asked, timeout_s=10))
        await chatd.was_asked.wait()
        fault = await fault_of(other.client.iterate(asked, timeout_s=10))
        looked = await fault_of(other.client.get_session("s", timeout_s=10))
        own = await fault_of(one.client.get_session("s", timeout_s=10))
        chatd.let.set()
        answer = await first
        again = await other.client.iterate(asked, timeout_s=10)

        assert fault.reason is looked.reason is own.reason is Reason.SESSION_ID_IN_FLIGHT
        assert fault.retry_delay_ms is not None
        assert unmarked(again) == answer
        assert other.chatd.asked == []


async def test_two_processes_that_are_asked_at_once_run_one_session(tmp_path: Path) -> None:
    async with served(tmp_path) as one, served(tmp_path) as other:
        for number in range(8):
            asked = request(session_id=f"s-{number}")
            calls = (each.client.iterate(asked, timeout_s=10) for each in (one, other))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {each.reason for each in answers if isinstance(each, Fault)} <= {Reason.SESSION_ID_IN_FLIGHT}
        assert len(one.chatd.asked) + len(other.chatd.asked) == 8
        assert len(one.rows()) == 8


async def test_a_row_that_is_queued_keeps_its_id_for_the_process_that_has_it(tmp_path: Path) -> None:
    async with served(tmp_path) as one, served(tmp_path) as other:
        asked = request(session_id="s")
        with no_row_gets_into(tmp_path / "sessions.jsonl"):
            first = await one.client.iterate(asked, timeout_s=10)
            own = await one.client.iterate(asked, timeout_s=10)
            found = await one.client.get_session("s", timeout_s=10)
            fault = await fault_of(other.client.iterate(asked, timeout_s=10))
            assert one.rows() == []
        async with asyncio.timeout(10):
            while not one.rows():
                await asyncio.sleep(0.01)
        again = await other.client.iterate(asked, timeout_s=10)

        assert fault.reason is Reason.SESSION_ID_IN_FLIGHT
        assert unmarked(own) == unmarked(found) == unmarked(again) == first
        assert len(one.chatd.asked) + len(other.chatd.asked) == 1
        assert len(one.rows()) == 1


def row_of(session_id: str, **fields: Any) -> SessionRecord:
    """Return a row of a session that ended just now."""
    return replace(
        SessionRecord(
            session_id=session_id,
            timestamp=rfc3339(ClockAnchor.now().unix_ns // 1000),
            trace_id="0af7651916cd43dd8448eb211c80319c",
            kind="song",
            provider="",
            model="",
            prompt="Sing",
            max_iterations=3,
            final_verdict="accepted",
            artifact="{}",
            duration_ms=1,
        ),
        **fields,
    )


async def digest_of(folder: Path, asked: iterate_pb2.IterateRequest) -> str:
    """Return what iterate writes for this request."""
    folder.mkdir()
    async with served(folder) as running:
        await running.client.iterate(asked, timeout_s=10)
        return str(running.rows()[0]["request_digest"])


@pytest.mark.parametrize("place", ["journal", "spill"])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "begun"])
async def test_what_a_dead_process_owes_is_settled_before_its_id_is_used_again(
    tmp_path: Path, place: str, ended: bool
) -> None:
    asked = request(session_id="s")
    digest = await digest_of(tmp_path / "other", asked)
    spill_dir = tmp_path / "spill"
    spill_dir.mkdir()
    log = str(tmp_path / "sessions.jsonl")
    # No sweep but the one at the start and those on demand.
    async with served(tmp_path, spill_dir=str(spill_dir), sweep_interval_ms=3_600_000) as running:
        journal = Journal(log, spill_dir=str(spill_dir) if place == "spill" else "")
        journal.open()
        row = row_of("s", request_digest=digest)
        begun = replace(row, final_verdict="infra_error", error=PROCESS_DIED, artifact=None, duration_ms=0)
        entry = journal.begin(encode_row(begun), LogPosition())
        if ended:
            journal.end(entry, encode_row(row))
        alive = await fault_of(running.client.iterate(asked, timeout_s=0.6))
        journal._live.clear()  # its owner dies: the file stays, the lock goes
        journal._live[0] = entry
        journal.close()
        answer = await running.client.iterate(asked, timeout_s=10)

        assert alive.reason in (Reason.SESSION_ID_IN_FLIGHT, Reason.DEADLINE)
        assert answer.recalled is ended
        assert len(running.chatd.asked) == (0 if ended else 1)
        rows = [(each["final_verdict"], each.get("try")) for each in running.rows()]
        assert rows == ([("accepted", None)] if ended else [("infra_error", None), ("accepted", 2)])


async def test_a_log_that_cannot_be_read_whole_refuses_a_caller_s_id_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "sessions.jsonl.1.xz").write_bytes(b"rows that nobody reads")
    async with served(tmp_path, recall_wait_ms=100) as running:
        fault = await fault_of(running.client.iterate(request(session_id="s"), timeout_s=10))
        sought = await fault_of(running.client.get_session("s", timeout_s=10))
        answer = await running.client.iterate(request(), timeout_s=10)

        assert fault.reason is sought.reason is Reason.RECALL_NOT_READY
        assert fault.retry_delay_ms is not None
        assert not answer.recalled
        assert len(running.chatd.asked) == 1


async def test_with_recall_off_an_id_may_be_used_again_and_no_session_is_known(tmp_path: Path) -> None:
    async with served(tmp_path, recall_hours=0) as running:
        asked = request(session_id="s")
        answers = [await running.client.iterate(asked, timeout_s=10) for _ in range(2)]
        fault = await fault_of(running.client.get_session("s", timeout_s=10))

        assert [each.recalled for each in answers] == [False, False]
        assert len(running.chatd.asked) == 2
        assert (fault.reason, fault.code) == (Reason.SESSION_NOT_FOUND, "NOT_FOUND")


async def test_sessions_whose_id_is_made_here_are_found_and_bring_no_lock_and_no_digest(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        answer = await running.client.iterate(request(), timeout_s=10)
        found = await running.client.get_session(answer.session_id, timeout_s=10)
        missing = await fault_of(running.client.get_session("nobody-s", timeout_s=10))
        invalid = await fault_of(running.client.get_session("no id", timeout_s=10))

        assert unmarked(found) == answer
        assert missing.reason is Reason.SESSION_NOT_FOUND
        assert invalid.violations[0].field == "session_id"
        assert "request_digest" not in running.rows()[0]
        assert not (tmp_path / ".sessions.jsonl.ids").exists()


async def test_a_killed_session_s_status_is_aborted_with_process_died(tmp_path: Path) -> None:
    log = tmp_path / "sessions.jsonl"
    log.write_bytes(encode_row(row_of("s", final_verdict="infra_error", error=PROCESS_DIED, artifact=None)))
    async with served(tmp_path) as running:
        fault = await fault_of(running.client.get_session("s", timeout_s=10))

        assert (fault.reason, fault.code) == (Reason.PROCESS_DIED, "ABORTED")
        assert fault.message == PROCESS_DIED.message
        assert fault.metadata["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


async def test_a_session_that_ended_before_recall_hours_is_not_known(tmp_path: Path) -> None:
    old = rfc3339(ClockAnchor.now().unix_ns // 1000 - 3 * 3_600_000_000)
    (tmp_path / "sessions.jsonl").write_bytes(encode_row(row_of("s", timestamp=old)))
    async with served(tmp_path, recall_hours=2) as running:
        assert (await fault_of(running.client.get_session("s", timeout_s=10))).reason is Reason.SESSION_NOT_FOUND
        assert not (await running.client.iterate(request(session_id="s"), timeout_s=10)).recalled


def test_two_holders_exclude_one_another_by_id_and_a_hold_counts(tmp_path: Path) -> None:
    one, other = IdLocks(str(tmp_path / "log")), IdLocks(str(tmp_path / "log"))
    assert one.try_lock("a")
    assert one.try_lock("a")
    assert not other.try_lock("a")
    assert other.try_lock("b")
    one.unlock("a")
    assert not other.try_lock("a")
    one.unlock("a")
    assert other.try_lock("a")
    assert not one.try_lock("a")
    other.close()
    assert one.try_lock("a")
    (tmp_path / ".log.ids").unlink()
    assert one.try_lock("c")
    assert not other.try_lock("a"), "a hold is taken along to the new file"
    one.close()
    other.close()


async def test_the_answer_of_a_row_that_is_not_written_yet_comes_from_memory(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        log = tmp_path / "sessions.jsonl"
        log.unlink()
        log.mkdir()  # no row can be appended
        asked = request(session_id="s")
        first = await running.client.iterate(asked, timeout_s=10)
        second = await running.client.iterate(asked, timeout_s=10)
        log.rmdir()
        async with asyncio.timeout(10):
            while not running.rows():
                await asyncio.sleep(0.02)
        third = await running.client.iterate(asked, timeout_s=10)

        assert unmarked(second) == unmarked(third) == first
        assert (second.recalled, len(running.chatd.asked)) == (True, 1)
        assert json.loads(log.read_text())["session_id"] == "s"
        assert isinstance(running.client.channel, grpc.aio.Channel)


@contextlib.asynccontextmanager
async def with_callers(
    folder: Path, chatd: FakeChatd | None = None, more: str = ""
) -> AsyncIterator[tuple[Served, Any, Any]]:
    """Serve two callers, who may all but for `more`; gives what each sends along."""
    tokens = {name: f"opaque-{name}-" + "k" * 40 for name in ("anna", "ben")}
    tables = [
        f'[callers.{name}]\ntokens_sha256 = ["{sha256(token)}"]\nkinds = ["*"]\nmodels = ["*"]\n{more}\n'
        f"rpcs = {['Iterate', 'StreamIterate'] if name == 'ben' and 'no get' in more else ['*']}\n"
        for name, token in tokens.items()
    ]
    file = folder / "callers.toml"
    replace_file(file, "\n".join(tables).replace("# no get", ""))
    async with served(folder, chatd, callers={"file": file}) as running:
        anna, ben = ((("authorization", f"Bearer {token}"),) for token in tokens.values())
        yield running, anna, ben


async def test_an_id_is_its_caller_s_running_and_ended(tmp_path: Path) -> None:
    chatd = HeldChatd()
    async with with_callers(tmp_path, chatd) as (running, anna, ben):
        client, asked = running.client, request(session_id="s")
        first = asyncio.create_task(client.iterate(asked, metadata=anna, timeout_s=10))
        await chatd.was_asked.wait()
        while_it_runs = await fault_of(client.iterate(asked, metadata=ben, timeout_s=10))
        looked_at = await fault_of(client.get_session("s", metadata=ben, timeout_s=10))
        own = await fault_of(client.get_session("s", metadata=anna, timeout_s=10))
        chatd.let.set()
        answer = await first
        afterwards = await fault_of(client.iterate(asked, metadata=ben, timeout_s=10))
        hidden = await fault_of(client.get_session("s", metadata=ben, timeout_s=10))

        assert while_it_runs.reason is afterwards.reason is Reason.SESSION_ID_TAKEN
        assert looked_at.reason is hidden.reason is Reason.SESSION_NOT_FOUND
        assert (hidden.message, hidden.metadata.keys()) == (looked_at.message, looked_at.metadata.keys())
        assert own.reason is Reason.SESSION_ID_IN_FLIGHT
        assert unmarked(await client.get_session("s", metadata=anna, timeout_s=10)) == answer
        assert running.rows()[0]["caller"] == "anna"


async def test_a_recall_costs_nothing_of_a_budget_and_get_session_is_an_rpc_of_the_policy(tmp_path: Path) -> None:
    async with with_callers(tmp_path, more="sessions_per_minute = 1  # no get") as (running, anna, ben):
        client, asked = running.client, request(session_id="s")
        await client.iterate(asked, metadata=anna, timeout_s=10)
        for _ in range(3):
            assert (await client.iterate(asked, metadata=anna, timeout_s=10)).recalled
        spent = await fault_of(client.iterate(request(session_id="other"), metadata=anna, timeout_s=10))
        denied = await fault_of(client.get_session("s", metadata=ben, timeout_s=10))

        assert spent.reason is Reason.CALLER_QUOTA
        assert denied.reason is Reason.CALLER_NOT_ALLOWED
        assert (await client.get_session("s", metadata=anna, timeout_s=10)).recalled
