"""Goal: whatever step iterate is killed at, the repeated call gets the one outcome there is, and a session that left a
row with an outcome is never billed again.

Method: the real iterate in a process of its own, killed by SIGKILL right after a step of its only session; then the
same call to another iterate on the same log, which ran all the while, and to one that starts then. chatd is a fake that
counts.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from caller_credentials import replace_file, sha256
from fake_hops import PASSED, FakeChatd, FakeValidated, Served, request, serving
from killable import HANG_S, STEPS, Template, template

from lakehouse.chatd.v1 import chatd_pb2_grpc
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

# From here on the session's own end stands in the kernel's hands.
ENDED = ("end noted", "row appended", "row marked", "answer made", "row spilled")
BEFORE_THE_MODEL = ("claimed", "briefed", "begun", "ids sent")
OF_A_LOG_THAT_TAKES_ROWS = [step for step in STEPS["iterate"] if step != "row spilled"]
# What a killed process promises holds for what the kernel had in time, and this machine may be busy.
PATIENT = {"append_wait_ms": 10_000, "brief_ms_max": 30_000, "validate_ms_max": 30_000}


@pytest.fixture(scope="module")
async def forks() -> AsyncIterator[Template]:
    async with template("iterate") as made:
        yield made


async def brief(_: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
    return validated_pb2.BriefResponse(instructions="sing", form_schema_json="{}")


def gate() -> FakeValidated:
    return FakeValidated(brief, [PASSED])


def another_each_time() -> FakeChatd:
    return FakeChatd(answers=[f'{{"line":{number}}}' for number in range(1, 9)])


@contextlib.asynccontextmanager
async def hops(chatd: FakeChatd) -> AsyncIterator[str]:
    """Yield the address of both."""
    server = grpc.aio.server()
    chatd_pb2_grpc.add_ChatServiceServicer_to_server(chatd, server)
    validated_pb2_grpc.add_ValidateServiceServicer_to_server(gate(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(0)


async def run_and_be_killed(
    forks: Template,
    folder: Path,
    chatd: FakeChatd,
    step: str,
    asked: iterate_pb2.IterateRequest,
    metadata: tuple[tuple[str, str], ...] = (),
    *,
    refused: bool = False,
    **config: Any,
) -> Fault:
    """Ask an iterate that dies at this step; returns what its caller saw. `refused`: the log takes no row, nor will it
    before its folder is gone."""
    async with hops(chatd) as address:
        table = {
            "bind": "127.0.0.1:0",
            "chatd": address,
            "validated": address,
            "session_log_path": str(folder / "sessions.jsonl"),
            **PATIENT,
            **config,
        }
        killable, served_at = await forks.serve("iterate", table, step)
        try:
            if refused:
                (folder / "sessions.jsonl").unlink()
                (folder / "sessions.jsonl").mkdir()
            async with AsyncIterateClient(served_at) as client:
                with pytest.raises(Fault) as caught:
                    await client.iterate(asked, metadata=metadata, timeout_s=HANG_S)
            await killable.was_killed()
        finally:
            await killable.kill()
    return caught.value


@contextlib.asynccontextmanager
async def alive(folder: Path, chatd: FakeChatd, **config: Any) -> AsyncIterator[Served]:
    """Serve another iterate on the log, which sweeps at its start and when it is asked for an id alone."""
    async with serving(folder, gate(), chatd, sweep_interval_ms=3_600_000, **{**PATIENT, **config}) as served:
        yield served


def without_mark(response: iterate_pb2.IterateResponse) -> iterate_pb2.IterateResponse:
    copy = iterate_pb2.IterateResponse.FromString(response.SerializeToString())
    copy.ClearField("recalled")
    return copy


def check_one_outcome(rows: list[dict[str, Any]], *answers: iterate_pb2.IterateResponse) -> None:
    assert [without_mark(each) for each in answers] == [without_mark(answers[0])] * len(answers)
    outcomes = [row for row in rows if row["final_verdict"] != "infra_error"]
    assert [row["artifact"] for row in outcomes] == [json.loads(answers[0].accepted.artifact_json)]
    assert [row.get("try", 1) for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1] is outcomes[0]
    assert [row["error"]["reason"] for row in rows[:-1]] == ["PROCESS_DIED"] * (len(rows) - 1)


@pytest.mark.parametrize("step", OF_A_LOG_THAT_TAKES_ROWS)
async def test_a_repeated_call_after_a_kill_is_billed_again_only_where_no_outcome_stood(
    tmp_path: Path, forks: Template, step: str
) -> None:
    chatd, asked = another_each_time(), request(session_id="order-1")
    async with alive(tmp_path, chatd) as sibling:
        fault = await run_and_be_killed(forks, tmp_path, chatd, step, asked)
        billed = len(chatd.asked)
        first = await sibling.client.iterate(asked, timeout_s=HANG_S)
        async with alive(tmp_path, chatd) as later:
            again = await later.client.iterate(asked, timeout_s=HANG_S)
            known = await sibling.client.get_session("order-1", timeout_s=HANG_S)
            rows = sibling.rows()

    assert fault.code == "UNAVAILABLE", "which iterate_safely repeats"
    assert billed == (0 if step in BEFORE_THE_MODEL else 1)
    assert first.recalled is (step in ENDED)
    assert again.recalled
    assert len(chatd.asked) == (1 if step in ENDED or step in BEFORE_THE_MODEL else 2)
    check_one_outcome(rows, first, again, known)


@pytest.mark.parametrize("step", [each for each in OF_A_LOG_THAT_TAKES_ROWS if each not in BEFORE_THE_MODEL])
async def test_what_a_killed_iterate_left_is_found_by_one_that_starts_then(
    tmp_path: Path, forks: Template, step: str
) -> None:
    chatd, asked = another_each_time(), request(session_id="order-1")
    await run_and_be_killed(forks, tmp_path, chatd, step, asked)
    async with alive(tmp_path, chatd) as later:
        first = await later.client.iterate(asked, timeout_s=HANG_S)
        rows = later.rows()

    assert first.recalled is (step in ENDED)
    assert len(chatd.asked) == (1 if step in ENDED else 2)
    check_one_outcome(rows, first)


@pytest.mark.parametrize("step", ["end noted", "row spilled"])
async def test_an_outcome_that_the_log_refused_is_answered_from_the_dead_journal_or_the_spill(
    tmp_path: Path, forks: Template, step: str
) -> None:
    log, spill = tmp_path / "sessions.jsonl", tmp_path / "spill"
    spill.mkdir()
    chatd, asked = another_each_time(), request(session_id="order-1")
    async with alive(tmp_path, chatd, spill_dir=str(spill), recall_wait_ms=500) as sibling:
        await run_and_be_killed(forks, tmp_path, chatd, step, asked, refused=True, spill_dir=str(spill))
        spilled = sum(each.stat().st_size for each in spill.iterdir())
        with pytest.raises(Fault) as refused:
            await sibling.client.iterate(asked, timeout_s=HANG_S)
        log.rmdir()
        first = await sibling.client.iterate(asked, timeout_s=HANG_S)
        again = await sibling.client.iterate(asked, timeout_s=HANG_S)
        rows = sibling.rows()

    assert bool(spilled) is (step == "row spilled")
    assert refused.value.reason is Reason.RECALL_NOT_READY
    assert first.recalled
    assert len(chatd.asked) == 1
    check_one_outcome(rows, first, again)


@pytest.mark.parametrize("step", ["begun", "model answered", "end noted"])
async def test_what_a_killed_iterate_left_of_an_id_is_its_callers_and_its_requests(
    tmp_path: Path, forks: Template, step: str
) -> None:
    tokens = {name: f"opaque-{name}-" + "k" * 40 for name in ("anna", "ben")}
    tables = [
        f'[callers.{name}]\ntokens_sha256 = ["{sha256(token)}"]\nkinds = ["*"]\nmodels = ["*"]\nrpcs = ["*"]\n'
        for name, token in tokens.items()
    ]
    replace_file(tmp_path / "callers.toml", "\n".join(tables))
    callers = {"file": str(tmp_path / "callers.toml")}
    anna, ben = ((("authorization", f"Bearer {token}"),) for token in tokens.values())
    chatd, asked = another_each_time(), request(session_id="order-1")
    await run_and_be_killed(forks, tmp_path, chatd, step, asked, anna, callers=callers)
    billed = len(chatd.asked)
    async with alive(tmp_path, chatd, callers=callers) as later:
        for metadata, other in ((ben, asked), (anna, request(session_id="order-1", prompt="Sing louder"))):
            with pytest.raises(Fault) as taken:
                await later.client.iterate(other, metadata=metadata, timeout_s=HANG_S)
            assert taken.value.reason is Reason.SESSION_ID_TAKEN
        with pytest.raises(Fault) as hidden:
            await later.client.get_session("order-1", metadata=ben, timeout_s=HANG_S)
        not_billed = len(chatd.asked)
        first = await later.client.iterate(asked, metadata=anna, timeout_s=HANG_S)
        rows = later.rows()

    assert hidden.value.reason is Reason.SESSION_NOT_FOUND
    assert not_billed == billed
    assert first.recalled is (step in ENDED)
    assert {row["caller"] for row in rows} == {"anna"}
    check_one_outcome(rows, first)
