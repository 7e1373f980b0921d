"""The job with pydantic-ai: an agent whose output validator asks the gate and sends the findings back.

python -m bench.stack.peers.pydantic_ai_peer BASE_URL on|off
"""

from __future__ import annotations

import sys
from typing import Any

import uvloop
from bench.stack import job
from bench.stack.closed_loop import Session, obey
from bench.stack.peers.check import Fill, confirm, feedback, findings
from pydantic_ai import Agent, ModelRetry, PromptedOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def agent(base_url: str) -> Agent[None, Fill]:
    """Return an agent on one endpoint."""
    model = OpenAIChatModel(job.MODEL, provider=OpenAIProvider(base_url=base_url))
    made: Agent[None, Fill] = Agent(model, output_type=PromptedOutput(Fill), retries=1)

    @made.output_validator
    async def grounded(artifact: Fill) -> Fill:
        found = findings(artifact)
        if found:
            raise ModelRetry(feedback(found))
        return artifact

    return made


async def main(base_url: str, traced: str) -> None:
    """Serve commands."""
    if traced == "on":
        from langfuse import get_client  # noqa: PLC0415  nothing of it where tracing is off

        get_client()
        Agent.instrument_all()
    agents = {latency_ms: agent(f"{base_url}/{latency_ms}/v1") for latency_ms in job.LATENCIES_MS}

    def make_session(command: dict[str, Any]) -> Session:
        filler = agents[command["latency_ms"]]

        async def session() -> None:
            confirm((await filler.run(job.prompt())).output)

        return session

    await obey(make_session)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
