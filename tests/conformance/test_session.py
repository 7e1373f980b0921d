"""Goal: a whole session, three processes of ours and a model endpoint that we did not write (LiteLLM's proxy)."""

from __future__ import annotations

from pathlib import Path

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
