"""Goal: a session is asked for by whom it may be, costs no more than its caller has left, and says whose it was.

Method: the real iterate between a chatd and a validated of the test's own, over sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from caller_credentials import replace_file, sha256
from fake_hops import FakeChatd, FakeValidated, Served, abort, request, serving

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import STATUS_DETAILS_KEY, Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.server import watched_files
from lakehouse.sessions.record import SessionAttemptRecord, SessionRecord, rfc3339
from lakehouse.sessions.row import encode_row
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.validated.v1 import validated_pb2

TOKEN = "opaque-" + "k" * 40
AS_CALLER = (("authorization", f"Bearer {TOKEN}"),)
REJECTED = validated_pb2.ValidateResponse(
    passed=False, findings=[validated_pb2.Finding(code="X", path="$", message="no")]
)


async def no_brief(_: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
    return validated_pb2.BriefResponse()


@dataclass
class Model(FakeChatd):
    """A chatd whose answers cost ten tokens, and wait until they may go."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    callers: list[str | None] = field(default_factory=list)
    """Whom iterate named on each hop."""

    def __post_init__(self) -> None:
        self.go.set()

    async def Complete(self, request: chatd_pb2.CompleteRequest, context: Any) -> chatd_pb2.CompleteResponse:
        self.callers.append(dict(context.invocation_metadata()).get("x-lakehouse-caller"))
        response = await super().Complete(request, context)
        await self.go.wait()
        response.usage.input_tokens, response.usage.output_tokens = 7, 3
        return response


def policy(folder: Path, text: str) -> dict[str, Any]:
    """Return settings with one caller who may this, beside calling iterate."""
    file = folder / "callers.toml"
    replace_file(
        file, f'[callers.scheduler]\ntokens_sha256 = ["{sha256(TOKEN)}"]\nrpcs = ["Iterate", "StreamIterate"]\n{text}\n'
    )
    return {"callers": {"file": file}}


@contextlib.asynccontextmanager
async def iterate_of(
    folder: Path,
    text: str = 'kinds = ["*"]\nmodels = ["*"]',
    model: Model | None = None,
    verdicts: list[validated_pb2.ValidateResponse] | None = None,
    **more: Any,
) -> AsyncIterator[Served]:
    gate = FakeValidated(no_brief)
    gate.verdicts = verdicts or gate.verdicts
    async with serving(folder, gate, model or Model(), **policy(folder, text), **more) as served:
        yield served


async def asked(served: Served, **fields: Any) -> iterate_pb2.IterateResponse | Fault:
    try:
        return await served.client.iterate(request(**fields), timeout_s=30, metadata=AS_CALLER)
    except Fault as fault:
        return fault


NARROW = """
kinds = ["song"]
models = ["/", "openai/gpt-5", "cheap/*"]
grounding_max = "form"
max_iterations = 2
"""


async def test_what_a_policy_shuts_out_is_no_session_and_costs_nothing(tmp_path: Path) -> None:
    target = chatd_pb2.Target
    refused: dict[str, dict[str, Any]] = {
        "kind": {"kind": "poem"},
        "model": {"provider": "openai", "model": "gpt-6"},
        "escalation": {"escalation": [target(provider="cheap", model="x"), target(provider="openai")]},
        "grounding": {"grounding": iterate_pb2.GROUNDING_CANDIDATES},
        "max_iterations": {"max_iterations": 3},
    }
    async with iterate_of(tmp_path, NARROW) as served:
        for denied, fields in refused.items():
            fault = await asked(served, **fields)
            assert isinstance(fault, Fault), denied
            assert (fault.code, fault.reason) == ("PERMISSION_DENIED", Reason.CALLER_NOT_ALLOWED)
            assert fault.metadata["denied"] == denied
            with pytest.raises(Fault) as caught:
                async for _ in served.client.stream_iterate(request(**fields), timeout_s=30, metadata=AS_CALLER):
                    pass
            assert caught.value.metadata["denied"] == denied
        assert served.chatd.asked == []
        assert served.validated.briefed == []
        assert served.rows() == []


async def test_what_a_request_leaves_open_is_bounded_by_the_policy(tmp_path: Path) -> None:
    async with iterate_of(tmp_path, NARROW, verdicts=[REJECTED]) as served:
        for fields in ({}, {"provider": "cheap", "model": "any"}, {"grounding": iterate_pb2.GROUNDING_FORM}):
            response = await asked(served, **fields)
            assert not isinstance(response, Fault)
            assert len(response.attempts) <= 2
        assert {row["max_iterations"] for row in served.rows()} == {2}
        assert {each.candidates_max for each in served.validated.briefed} == {0}, "the form alone was asked for"


async def test_the_caller_stands_in_row_root_log_line_and_hops(tmp_path: Path) -> None:
    model = Model()
    with TraceReceiver() as receiver, structlog.testing.capture_logs() as lines:
        async with iterate_of(tmp_path, model=model, receiver=receiver) as served:
            assert not isinstance(await asked(served), Fault)
            (row,) = served.rows()
        root = receiver.trees()[0].session_root
        assert root is not None
    assert row["caller"] == "scheduler"
    assert root.attributes["user.id"] == "scheduler"
    assert "caller:scheduler" in root.attributes["langfuse.trace.tags"]
    assert [line["caller"] for line in lines if line["event"] == "rpc"] == ["scheduler"]
    assert model.callers == ["scheduler"]


@pytest.mark.parametrize("refusing", ["validated", "chatd"])
@pytest.mark.parametrize("reason", [Reason.CALLER_UNKNOWN, Reason.CALLER_NOT_ALLOWED])
async def test_a_hop_that_does_not_know_iterate_is_no_fault_of_the_caller(
    tmp_path: Path, refusing: str, reason: Reason
) -> None:
    async def refuse(_: object, context: Any) -> Any:
        metadata = {"denied": "rpc"} if reason is Reason.CALLER_NOT_ALLOWED else {}
        status = Fault(reason, metadata=metadata).to_status()
        code = next(each for each in grpc.StatusCode if each.name == Fault(reason).code)
        await context.abort(code, status.message, ((STATUS_DETAILS_KEY, status.SerializeToString()),))

    model, gate = Model(), FakeValidated(refuse if refusing == "validated" else no_brief)
    if refusing == "chatd":
        model.Complete = refuse  # type: ignore[assignment, method-assign]  # a fake of a fake
    with structlog.testing.capture_logs() as lines:
        async with serving(tmp_path, gate, model, **policy(tmp_path, 'kinds = ["*"]\nmodels = ["*"]')) as served:
            fault = await asked(served)
            (row,) = served.rows()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.where) == ("UNAVAILABLE", refusing)
    assert row["error"]["reason"] == fault.reason == f"{refusing.upper()}_UNREACHABLE"
    assert model.asked == []
    assert any(line["event"] == "a service refuses iterate's calls" for line in lines)


async def test_a_kind_that_validated_shuts_out_ends_the_session_before_a_model_is_paid(tmp_path: Path) -> None:
    async def refuse(_: object, context: Any) -> Any:
        await abort(context, Reason.CALLER_NOT_ALLOWED)

    model = Model()
    policies = policy(tmp_path, 'kinds = ["*"]\nmodels = ["*"]')
    async with serving(tmp_path, FakeValidated(refuse), model, **policies) as served:
        fault = await asked(served)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.where) == (Reason.CALLER_NOT_ALLOWED, "validated")
    assert model.asked == []


async def test_without_callers_nobody_is_named(tmp_path: Path) -> None:
    model = Model()
    async with serving(tmp_path, FakeValidated(no_brief), model) as served:
        await served.client.iterate(request(), timeout_s=30, metadata=(("x-lakehouse-caller", "scheduler"), *AS_CALLER))
        (row,) = served.rows()
    assert "caller" not in row
    assert model.callers == [None]


async def test_of_64_calls_at_once_ten_run_and_the_others_hear_when_to_come_again(tmp_path: Path) -> None:
    model = Model()
    model.go.clear()
    async with iterate_of(tmp_path, 'kinds = ["*"]\nmodels = ["*"]\nsessions_in_flight = 10', model) as served:
        calls = [asyncio.create_task(asked(served)) for _ in range(64)]
        while sum(each.done() for each in calls) < 54 or len(model.asked) < 10:
            await asyncio.sleep(0.001)
        model.go.set()
        answers = await asyncio.gather(*calls)
        faults = [each for each in answers if isinstance(each, Fault)]
        assert len(faults) == 54
        for fault in faults:
            assert (fault.code, fault.reason) == ("RESOURCE_EXHAUSTED", Reason.CALLER_QUOTA)
            assert fault.retry_delay_ms == 1000
            assert fault.metadata["limit"] == "sessions_in_flight"
        assert len(served.rows()) == 10, "who is refused leaves no row"
        assert not isinstance(await asked(served), Fault), "what ended has given back"


async def test_64_calls_at_once_on_a_day_of_few_tokens_use_no_more_than_those_that_were_let_in(tmp_path: Path) -> None:
    model = Model()
    text = 'kinds = ["*"]\nmodels = ["*"]\ntokens_per_day = 25\nsession_tokens_reserved = 10'
    async with iterate_of(tmp_path, text, model, verdicts=[REJECTED], on_no_progress="continue") as served:
        await asyncio.gather(*(asked(served, max_iterations=10) for _ in range(64)))
        used = sum(row["input_tokens"] + row["output_tokens"] for row in served.rows())
        # Two fit beside one another, each with one call running when the third brings the day to its end.
        assert 25 <= used <= 40
        assert any(row.get("token_budget_spent") for row in served.rows())
        fault = await asked(served)
        assert isinstance(fault, Fault)
        assert fault.metadata["limit"] == "tokens_per_day"
        assert fault.retry_delay_ms is not None
        assert fault.retry_delay_ms > 1000 or fault.retry_delay_ms <= 86_400_001


async def test_who_leaves_the_callers_file_and_comes_back_has_no_second_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_files, "_POLL_S", 0.01)
    text = 'kinds = ["*"]\nmodels = ["*"]\ntokens_per_day = 10\nsession_tokens_reserved = 1'
    async with iterate_of(tmp_path, text) as served:
        assert not isinstance(await asked(served), Fault)
        whole = (tmp_path / "callers.toml").read_text()
        for version in ("[callers.other]", whole):
            replace_file(tmp_path / "callers.toml", version)
            while (await asked(served)).reason is not (  # type: ignore[union-attr]
                Reason.CALLER_QUOTA if version is whole else Reason.CALLER_UNKNOWN
            ):
                await asyncio.sleep(0.01)


async def test_a_session_that_ends_badly_gives_its_place_back(tmp_path: Path) -> None:
    model = Model()
    model.go.clear()
    async with iterate_of(tmp_path, 'kinds = ["*"]\nmodels = ["*"]\nsessions_in_flight = 1', model) as served:
        for _ in range(3):
            call = asyncio.create_task(asked(served))
            while len(model.asked) == len(served.rows()):
                await asyncio.sleep(0.001)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            rows = len(served.rows())
            while len(served.rows()) == rows:
                await asyncio.sleep(0.001)
        model.go.set()
        answer = await asked(served)
        while isinstance(answer, Fault):
            assert answer.reason is Reason.CALLER_QUOTA
            answer = await asked(served)
        assert [row["final_verdict"] for row in served.rows()] == ["infra_error"] * 3 + ["accepted"]


async def test_a_restart_in_the_middle_of_the_day_remembers_what_was_used(tmp_path: Path) -> None:
    text = 'kinds = ["*"]\nmodels = ["*"]\ntokens_per_day = 20\nsession_tokens_reserved = 1'
    for _ in range(2):
        async with iterate_of(tmp_path, text) as served:
            assert not isinstance(await asked(served), Fault)
    async with iterate_of(tmp_path, text) as served:
        fault = await asked(served)
        assert isinstance(fault, Fault)
        assert fault.metadata["limit"] == "tokens_per_day"
        assert len(served.rows()) == 2


def row_of(caller: str | None, session_id: str, unix_s: float, tokens: int = 10, cost: int = 5) -> bytes:
    attempt = SessionAttemptRecord(
        iteration=1,
        provider="p",
        model="m",
        verdict="accepted",
        raw="{}",
        input_tokens=tokens,
        output_tokens=0,
        chat_ms=1,
        validate_ms=1,
        cost_nano_usd=cost,
    )
    record = SessionRecord(
        session_id=session_id,
        timestamp=rfc3339(int(unix_s * 1e6)),
        daemon="iterate",
        trace_id="0" * 31 + "1",
        kind="song",
        provider="",
        model="",
        prompt="p",
        max_iterations=1,
        final_verdict="accepted",
        attempts=(attempt,),
        duration_ms=1,
        caller=caller,
    )
    return encode_row(record)


async def test_of_the_log_the_rows_of_today_count_once_each_wherever_they_stand(tmp_path: Path) -> None:
    import gzip
    import time

    from iterate.day_use import DayUse
    from lakehouse.server.callers.budgets import DAY_S, Budgets, Spent

    now_s = time.time() // DAY_S * DAY_S + DAY_S / 2
    log = tmp_path / "sessions.jsonl"
    yesterday = [row_of("a", f"old-{number}", now_s - DAY_S) for number in range(5)]
    log.write_bytes(
        b"".join(
            [
                *yesterday,
                row_of("a", "one", now_s),
                b"{torn\n",
                row_of("b", "two", now_s),
                row_of(None, "x", now_s),
                row_of("a", "ahead", now_s + DAY_S),
            ]
        )
    )
    (tmp_path / "sessions.jsonl.1.gz").write_bytes(
        gzip.compress(b"".join([*yesterday, row_of("a", "three", now_s), row_of("a", "one", now_s)]))
    )
    budgets = Budgets(now_s=lambda: now_s)
    async with DayUse(budgets, str(log), now_s=lambda: now_s).restored():
        assert not budgets.restoring
        assert budgets.spent_today("a") == Spent(20, 10)
        assert budgets.spent_today("b") == Spent(10, 5)


async def test_a_log_that_cannot_be_read_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    from iterate.day_use import DayUse
    from lakehouse.server.callers.budgets import Budgets

    for log, event in (
        (tmp_path / "none.jsonl", "no use of today in the session log"),
        (tmp_path, "no use of today in the session log"),
    ):
        budgets = Budgets()
        with structlog.testing.capture_logs() as lines:
            async with DayUse(budgets, str(log)).restored():
                assert not budgets.restoring
        assert event in {line["event"] for line in lines}
