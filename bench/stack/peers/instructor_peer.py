"""The job with instructor: a response model whose validator asks the gate, and two attempts.

python -m bench.stack.peers.instructor_peer BASE_URL on|off
"""

from __future__ import annotations

import sys
from typing import Any

import instructor
import openai
import uvloop
from bench.stack import job
from bench.stack.closed_loop import Session, obey
from bench.stack.peers.check import Fill, confirm, feedback, findings
from pydantic import model_validator


class CheckedFill(Fill):
    """The artifact, which is none until it has passed the gate."""

    @model_validator(mode="after")
    def _grounded(self) -> CheckedFill:
        found = findings(self)
        if found:
            raise ValueError(feedback(found))
        return self


async def main(base_url: str, traced: str) -> None:
    """Serve commands."""
    if traced == "on":
        # Here, since the import alone wraps every client of the openai package.
        import langfuse.openai  # noqa: F401, PLC0415
        from langfuse import observe  # noqa: PLC0415
    clients = {
        latency_ms: instructor.from_openai(
            openai.AsyncOpenAI(base_url=f"{base_url}/{latency_ms}/v1"), mode=instructor.Mode.JSON
        )
        for latency_ms in job.LATENCIES_MS
    }

    def make_session(command: dict[str, Any]) -> Session:
        client = clients[command["latency_ms"]]

        async def fill() -> CheckedFill:
            answer: CheckedFill = await client.chat.completions.create(
                model=job.MODEL,
                response_model=CheckedFill,
                messages=[{"role": "user", "content": job.prompt()}],
                max_retries=2,
            )
            return answer

        # The session's root span, so that its attempts are one trace.
        run = observe(name="fill")(fill) if traced == "on" else fill

        async def session() -> None:
            confirm(await run())

        return session

    await obey(make_session)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
