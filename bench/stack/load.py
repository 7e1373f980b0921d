"""The caller of the gRPC stacks, ours and the floor: one process, one channel a target.

python -m bench.stack.load
"""

from __future__ import annotations

from lakehouse.server.grpc_switches import set_grpc_switches

if __name__ == "__main__":
    set_grpc_switches()  # before the imports below bring grpc

from pathlib import Path
from typing import Any

import grpc.aio
import uvloop
from bench.stack import job
from bench.stack.closed_loop import Session, obey

from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.validated.v1 import validated_pb2

TIMEOUT_S = 60


def request(
    latency_ms: int, grounding: str = "NONE", prompt_bytes: int = job.PROMPT_BYTES
) -> iterate_pb2.IterateRequest:
    """Return the job as a request, by default as the peers do it: told nothing. The provider is the fake model with
    that latency."""
    return iterate_pb2.IterateRequest(
        kind="fill",
        fill=validated_pb2.FillSpec(role=job.ROLE, count=job.COUNT, city=job.CITY, state=job.STATE),
        prompt=job.prompt(prompt_bytes),
        provider=f"fake{latency_ms}",
        max_iterations=2,
        grounding=f"GROUNDING_{grounding}",
    )


class Callers:
    """A stub for each target that was named so far."""

    def __init__(self) -> None:
        self._stubs: dict[str, Any] = {}

    def session(self, command: dict[str, Any]) -> Session:
        """One session of the command's target: asked, answered, and looked at."""
        target = command["target"]
        stub = self._stubs.get(target)
        if stub is None:
            channel = _channel(target, command)
            stub = self._stubs[target] = iterate_pb2_grpc.IterateServiceStub(channel)
        prompt_bytes = command.get("prompt_bytes", job.PROMPT_BYTES)
        message = request(command["latency_ms"], command.get("grounding", "NONE"), prompt_bytes)
        attempts = command.get("attempts", 2)
        metadata = (("authorization", f"Bearer {command['token']}"),) if "token" in command else ()

        async def session() -> None:
            response = await stub.Iterate(message, timeout=TIMEOUT_S, metadata=metadata)
            if response.WhichOneof("outcome") != "accepted" or len(response.attempts) != attempts:
                raise AssertionError(f"not the job: {str(response)[:300]}")

        return session


def _channel(target: str, command: dict[str, Any]) -> grpc.aio.Channel:
    options = (("grpc.enable_retries", 0),)
    if "tls" not in command:
        return grpc.aio.insecure_channel(target, options)
    ca, key, certificate = (Path(file).read_bytes() for file in command["tls"])
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca, key, certificate), options)


async def main() -> None:
    """Serve commands."""
    await obey(Callers().session)


if __name__ == "__main__":
    uvloop.run(main())
