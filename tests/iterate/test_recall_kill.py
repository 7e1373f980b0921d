"""Goal: whatever step iterate is killed at, the repeated call gets the one outcome there is, and a session that left a
row with an outcome is never billed again.

Method: the real iterate in a process of its own, killed by SIGKILL right after a step of its only session; then the
same call to another iterate on the same log. chatd is a fake that counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import dying_iterate
import grpc.aio
import pytest
from fake_hops import PASSED, FakeChatd, FakeValidated, request, serving

import iterate.session
from lakehouse.chatd.v1 import chatd_pb2_grpc
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

SERVICES = str(Path(iterate.session.__file__).parents[1])
# From here on the session's own end stands in the kernel's hands.
ENDED = ("end noted", "row appended", "row marked", "answer made")
BEFORE_THE_MODEL = ("claimed", "briefed", "begun", "ids sent")


async def brief(_: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
    return validated_pb2.BriefResponse(instructions="sing", form_schema_json="{}")


async def run_and_be_killed(config: dict[str, Any], step: str, asked: Any) -> Fault:
    """Ask an iterate that dies at this step; returns what its caller saw."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(dying_iterate.__file__),
        json.dumps(config),
        step,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": SERVICES},
    )
    try:
        assert process.stdout is not None
        address = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
        async with AsyncIterateClient(address) as client:
            with pytest.raises(Fault) as caught:
                await client.iterate(asked, timeout_s=30)
        assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL, "it was not killed: nothing was shown"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return caught.value


@pytest.mark.parametrize("step", list(dying_iterate.STEPS))
async def test_a_repeated_call_after_a_kill_is_billed_again_only_where_no_outcome_stood(
    tmp_path: Path, step: str
) -> None:
    chatd, asked = FakeChatd(answers=['{"line":1}', '{"line":2}']), request(session_id="order-1")
    server = grpc.aio.server()
    chatd_pb2_grpc.add_ChatServiceServicer_to_server(chatd, server)
    validated_pb2_grpc.add_ValidateServiceServicer_to_server(FakeValidated(brief, [PASSED]), server)
    hops = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    config = {
        "bind": "127.0.0.1:0",
        "chatd": hops,
        "validated": hops,
        "session_log_path": str(tmp_path / "sessions.jsonl"),
        # What a killed process promises holds for what the kernel had in time, and this machine may be busy.
        "append_wait_ms": 10_000,
    }
    try:
        fault = await run_and_be_killed(config, step, asked)
    finally:
        await server.stop(0)

    billed = len(chatd.asked)
    async with serving(tmp_path, FakeValidated(brief, [PASSED]), chatd, append_wait_ms=10_000) as alive:
        first = await alive.client.iterate(asked, timeout_s=30)
        again = await alive.client.iterate(asked, timeout_s=30)
        known = await alive.client.get_session("order-1", timeout_s=30)
        rows = alive.rows()

    assert fault.code == "UNAVAILABLE", "which iterate_safely repeats"
    assert billed == (0 if step in BEFORE_THE_MODEL else 1)
    assert first.recalled is (step in ENDED)
    assert len(chatd.asked) == (1 if step in ENDED or step in BEFORE_THE_MODEL else 2)
    assert again.recalled
    for response in (first, again, known):
        response.ClearField("recalled")
    assert first == again == known
    outcomes = [row for row in rows if row["final_verdict"] != "infra_error"]
    assert [json.dumps(row["artifact"]) for row in outcomes] == [json.dumps(json.loads(first.accepted.artifact_json))]
    assert [row.get("try", 1) for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1] is outcomes[0]
    assert [row["error"]["reason"] for row in rows[:-1]] == ["PROCESS_DIED"] * (len(rows) - 1)
