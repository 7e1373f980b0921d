"""The job with LiteLLM's proxy and a loop over it with the openai client. The proxy traces, the loop does not.

python -m bench.stack.peers.litellm_peer BASE_URL on|off
"""

from __future__ import annotations

import sys
import uuid
from typing import Any

import openai
import uvloop
from bench.stack import job
from bench.stack.closed_loop import Session, obey
from bench.stack.peers.check import Fill, confirm, feedback, findings
from pydantic import ValidationError

_SYSTEM = (
    "You fill staffing requests. Answer with exactly one JSON object and nothing else: "
    '{"workers": [{"worker_id": "…", "name": "…"}, …]}'
)


async def fill(client: openai.AsyncOpenAI, model: str) -> Fill | None:
    """Ask at most twice; None where neither answer passed."""
    messages: list[Any] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": job.prompt()}]
    trace_id = uuid.uuid4().hex
    for attempt in (1, 2):
        answer = await client.chat.completions.create(
            model=model,
            messages=messages,
            response_format={"type": "json_object"},
            # LiteLLM's Langfuse integrations join the calls of a session by it.
            extra_body={
                "metadata": {"trace_id": trace_id, "session_id": trace_id, "generation_name": f"chat-{attempt}"}
            },
        )
        text = answer.choices[0].message.content or ""
        try:
            artifact = Fill.model_validate_json(text)
            found = findings(artifact)
            if not found:
                return artifact
            problem = feedback(found)
        except ValidationError as error:
            problem = str(error)
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": problem}]
    return None


async def main(base_url: str, _: str) -> None:
    """Serve commands."""
    client = openai.AsyncOpenAI(base_url=base_url)

    def make_session(command: dict[str, Any]) -> Session:
        async def session() -> None:
            confirm(await fill(client, f"fake{command['latency_ms']}"))

        return session

    await obey(make_session)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
