"""Goal: whole sessions, three processes of ours and model endpoints that we did not write: LiteLLM's proxy, and the
servers of llama-cpp-python and of llama.cpp itself, with weights of random numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.cli.stack import free_port_binds, running_stack
from lakehouse.clients import AsyncIterateClient
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.validated.v1 import validated_pb2

ROSTER = Path(__file__).resolve().parents[2] / "examples" / "roster" / "workers.csv"


async def test_a_phantom_is_corrected_by_the_second_model(litellm_url: str, tmp_path: Path) -> None:
    log = tmp_path / "sessions.jsonl"
    environ = {
        **free_port_binds(),
        "VALIDATED_ROSTER__PATH": str(ROSTER),
        "ITERATE_SESSION_LOG_PATH": str(log),
        "CHATD_PROVIDERS__LITELLM__TYPE": "openai",
        "CHATD_PROVIDERS__LITELLM__BASE_URL": f"{litellm_url}/v1",
        "CHATD_PROVIDERS__LITELLM__API_KEY": "sk-conformance-1",
    }
    request = iterate_pb2.IterateRequest(
        kind="fill",
        fill=validated_pb2.FillSpec(role="forklift operator", count=1, city="Toledo", state="OH"),
        prompt="Fill 1 forklift operator in Toledo",
        model="mock-phantom",
        escalation=[chatd_pb2.Target(model="mock-grounded")],
    )
    async with (
        running_stack(on_log=lambda *_: None, environ=environ) as stack,
        AsyncIterateClient(stack.addresses["iterate"]) as client,
    ):
        response = await client.iterate(request, timeout_s=60)

    assert [attempt.model for attempt in response.attempts] == ["mock-phantom", "mock-grounded"]
    assert response.attempts[0].findings[0].code == "PHANTOM_WORKER"
    assert response.accepted.artifact_json == '{"workers":[{"name":"Rosa Jackson","worker_id":"W-000209"}]}'
    assert response.input_tokens > 0
    assert '"final_verdict":"accepted"' in log.read_text(encoding="utf-8")


async def test_even_noise_passes_the_gate_at_once_where_the_server_holds_it_to_the_candidates(
    schema_server: tuple[str, str], tmp_path: Path
) -> None:
    url, dialect = schema_server
    lines: list[dict[str, Any]] = []
    environ = {
        **free_port_binds(),
        "VALIDATED_ROSTER__PATH": str(ROSTER),
        "ITERATE_SESSION_LOG_PATH": str(tmp_path / "sessions.jsonl"),
        "ITERATE_CANDIDATES_MAX": "16",
        "CHATD_PROVIDERS__NOISE__TYPE": "openai",
        "CHATD_PROVIDERS__NOISE__BASE_URL": f"{url}/v1",
        "CHATD_PROVIDERS__NOISE__DEFAULT_MODEL": "tiny-random",
        "CHATD_PROVIDERS__NOISE__SCHEMA_DIALECT": dialect,
    }
    # Slots for one and for three; and one list, since more are named than are needed.
    named = "Björn Collins, Minh Núñez or Rosa Jackson"
    tasks = ((1, "Fill 1"), (3, "Fill 3"), (1, f"Fill 1, from {named}"))

    async with (
        running_stack(
            on_log=lambda name, line: lines.append(line) if name == "chatd" and isinstance(line, dict) else None,
            environ=environ,
        ) as stack,
        AsyncIterateClient(stack.addresses["iterate"]) as client,
    ):
        for count, prompt in tasks:
            request = iterate_pb2.IterateRequest(
                kind="fill",
                fill=validated_pb2.FillSpec(role="forklift operator", count=count, city="Toledo", state="OH"),
                prompt=prompt,
                temperature=0.0,
                max_tokens=1000,
                max_iterations=1,
            )
            response = await client.iterate(request, timeout_s=120)

            assert response.HasField("accepted"), response.attempts
            assert len(json.loads(response.accepted.artifact_json)["workers"]) == count
            assert response.brief.candidates == 16
        # Noise has no end of its own: a tenth of the tokens shows as much.
        request.grounding, request.max_tokens = iterate_pb2.GROUNDING_NONE, 100
        ungrounded = await client.iterate(request, timeout_s=120)

    assert not ungrounded.HasField("accepted")
    sent = [line.get("sent_schema") for line in lines if "sent_form" in line]
    assert sent[:3] == ["restricted"] * 3
