"""chatd and validated that answer what a test says, over real sockets, before the real iterate."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from iterate.__main__ import compose
from iterate.config import IterateConfig
from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import STATUS_DETAILS_KEY, Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.server.bootstrap import running
from lakehouse.trace_context import SESSION_ID_HEADER
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

BriefStep = Callable[[validated_pb2.BriefRequest, Any], Awaitable[validated_pb2.BriefResponse]]
PASSED = validated_pb2.ValidateResponse(passed=True, artifact_json="{}")


@dataclass
class FakeValidated(validated_pb2_grpc.ValidateServiceServicer):
    """Answers Brief by `step`, and Validate with `verdicts`, the last of them for all that follow."""

    step: BriefStep
    verdicts: list[validated_pb2.ValidateResponse] = field(default_factory=lambda: [PASSED])
    briefed: list[validated_pb2.BriefRequest] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    """The `traceparent` of each Brief."""
    left_s: list[float] = field(default_factory=list)
    """What each Brief had left of its time."""
    judged: list[validated_pb2.ValidateRequest] = field(default_factory=list)

    async def Brief(self, request: validated_pb2.BriefRequest, context: Any) -> validated_pb2.BriefResponse:
        self.briefed.append(request)
        self.left_s.append(context.time_remaining())
        self.parents.append(dict(context.invocation_metadata()).get("traceparent", ""))
        return await self.step(request, context)

    async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> validated_pb2.ValidateResponse:
        self.judged.append(request)
        return self.verdicts[min(len(self.judged), len(self.verdicts)) - 1]

    async def ListKinds(self, request: validated_pb2.ListKindsRequest, context: Any) -> Any:
        raise NotImplementedError


@dataclass
class FakeChatd(chatd_pb2_grpc.ChatServiceServicer):
    """Answers with `answers`, the last of them for all that follow."""

    answers: list[str] = field(default_factory=lambda: ["{}"])
    shows: bool = False
    """Whether its models see what is restricted."""
    asked: list[chatd_pb2.CompleteRequest] = field(default_factory=list)

    async def Complete(self, request: chatd_pb2.CompleteRequest, context: Any) -> chatd_pb2.CompleteResponse:
        self.asked.append(request)
        text = self.answers[min(len(self.asked), len(self.answers)) - 1]
        sent = chatd_pb2.SentFormat(restricted_content=self.shows)
        return chatd_pb2.CompleteResponse(text=text, provider="p", model="m", sent=sent)

    async def StreamComplete(  # type: ignore[override]  # aio takes a coroutine, the stub's types do not
        self, request: chatd_pb2.StreamCompleteRequest, context: Any
    ) -> None:
        raise NotImplementedError


@dataclass
class Served:
    """An iterate between the two, and where its rows go."""

    client: AsyncIterateClient
    validated: FakeValidated
    chatd: FakeChatd
    log_path: Path

    def rows(self) -> list[dict[str, Any]]:
        if not self.log_path.exists():
            return []
        return [json.loads(line) for line in self.log_path.read_text(encoding="utf-8").splitlines()]


async def abort(context: Any, reason: Reason, *violations: Any) -> None:
    """End a call as a service of ours would."""
    fault = Fault(reason, where="validated", violations=violations)
    status = fault.to_status(session_id=dict(context.invocation_metadata())[SESSION_ID_HEADER])
    code = next(each for each in grpc.StatusCode if each.name == fault.code)
    await context.abort(code, status.message, ((STATUS_DETAILS_KEY, status.SerializeToString()),))


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    gate: FakeValidated | None,
    chatd: FakeChatd | None = None,
    receiver: TraceReceiver | None = None,
    **config: Any,
) -> AsyncIterator[Served]:
    """Yield the three; with `gate` None it is one that does not know Brief, nor anything else."""
    chatd = chatd or FakeChatd()
    server = grpc.aio.server()
    chatd_pb2_grpc.add_ChatServiceServicer_to_server(chatd, server)
    if gate is not None:
        validated_pb2_grpc.add_ValidateServiceServicer_to_server(gate, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    if receiver is not None:
        keys = {"public_key": f"pk-{uuid.uuid4()}", "secret_key": "sk"}
        config["tracing"] = {"host": receiver.url, "flush_interval_ms": 20, **keys}
    table = {
        "bind": "127.0.0.1:0",
        "chatd": address,
        "validated": address,
        "session_log_path": str(folder / "sessions.jsonl"),
        "drain_ms": 10,
        **config,
    }
    await server.start()
    try:
        async with (
            running("iterate", IterateConfig.model_validate(table), compose) as served,
            AsyncIterateClient(served.address) as client,
        ):
            nobody = FakeValidated(_never)
            yield Served(client, gate or nobody, chatd, folder / "sessions.jsonl")
    finally:
        await server.stop(0)


async def _never(_: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
    raise AssertionError("nobody asks")


def request(**fields: Any) -> iterate_pb2.IterateRequest:
    """Return a session of the kind of the fakes."""
    return iterate_pb2.IterateRequest(**{"kind": "song", "spec_json": '{"lines": 4}', "prompt": "Sing", **fields})
