"""iterate and chatd in processes of their own, between a gate and a model endpoint that stop where a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from aiohttp import web
from fake_hops import PASSED, FakeValidated
from killable import HANG_S, Killable, Template

from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc


class Hold:
    """Where whoever gives what a session asks for waits: ``briefing``, ``asked`` and ``answering`` (half of the answer
    is sent) of the model, ``judging``."""

    def __init__(self) -> None:
        self._step = ""
        self._reached = asyncio.Event()
        self._let = asyncio.Event()

    def at(self, step: str) -> None:
        """Hold there from now on; nowhere for ''."""
        self._let.set()
        self._step, self._reached, self._let = step, asyncio.Event(), asyncio.Event()

    async def reached(self) -> None:
        """Wait until somebody waits there."""
        await asyncio.wait_for(self._reached.wait(), HANG_S)

    async def come_to(self, step: str) -> None:
        if step == self._step:
            self._reached.set()
            await self._let.wait()


class HeldGate(FakeValidated):
    """Lets every artifact pass."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(self._brief, [PASSED])
        self._hold = hold

    async def _brief(self, _: validated_pb2.BriefRequest, __: Any) -> validated_pb2.BriefResponse:
        await self._hold.come_to("briefing")
        return validated_pb2.BriefResponse(instructions="sing", form_schema_json="{}")

    async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> validated_pb2.ValidateResponse:
        await self._hold.come_to("judging")
        return await super().Validate(request, context)


class CountingModel:
    """An OpenAI-compatible endpoint whose every answer is another one, and which knows what it was asked for each
    prompt."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self.answers = 0
        self._asked: dict[str, list[int]] = {}

    def asked(self, prompt: str) -> int:
        """Return how often it was asked with this prompt."""
        return len(self._asked.get(prompt, []))

    def last(self, prompt: str) -> int | None:
        """Return the number of the answer that it gave last, or began to, to this prompt."""
        return max(self._asked.get(prompt, []), default=None)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.answers += 1
        number = self.answers
        answer = json.dumps({"line": number})
        asked = await request.json()
        # The task's turn has the prompt alone in one of its lines.
        for line in {line for each in asked["messages"] for line in each["content"].splitlines()}:
            self._asked.setdefault(line, []).append(number)
        await self._hold.come_to("asked")
        body = json.dumps(
            {
                "id": "c-1",
                "model": asked["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
            }
        ).encode()
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(body))})
        # Whoever asked may be dead by now.
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write(body[:20])
            await self._hold.come_to("answering")
            await response.write(body[20:])
        return response

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Yield its address."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()


@dataclass(kw_only=True)
class HeldStack:
    """All of it, and a client that lives."""

    template: Template
    hold: Hold
    model: CountingModel
    chatd_config: dict[str, Any]
    chatd: Killable
    iterate: Killable
    address: str
    client: AsyncIterateClient
    log_path: Path
    _used: int = field(default=0)

    def new_request(self, **fields: Any) -> iterate_pb2.IterateRequest:
        """Return a session that nobody asked for before."""
        self._used += 1
        name = f"{self.log_path.parent.name}-{self._used}"
        return iterate_pb2.IterateRequest(
            **{"kind": "song", "spec_json": '{"lines": 4}', "prompt": f"Sing {name}", "session_id": name, **fields}
        )

    def billed(self, request: iterate_pb2.IterateRequest) -> int:
        """Return how often the model was asked in the request's sessions."""
        return self.model.asked(request.prompt)

    def rows(self, request: iterate_pb2.IterateRequest) -> list[dict[str, Any]]:
        """Return those of the request's id, as the log has them."""
        if not self.log_path.exists():
            return []
        rows = [json.loads(line) for line in self.log_path.read_text(encoding="utf-8").splitlines()]
        return [row for row in rows if row["session_id"] == request.session_id]

    async def start_chatd(self, step: str = "") -> None:
        """Start it where it was, so that it dies after `step`. The one before must be dead."""
        self.chatd, _ = await self.template.serve("chatd", self.chatd_config, step)

    async def over(self, request: iterate_pb2.IterateRequest) -> None:
        """Wait until no session of this id runs, and the one that did has its row: iterate knows its end before."""
        async with asyncio.timeout(HANG_S):
            while True:
                try:
                    await self.client.get_session(request.session_id, timeout_s=HANG_S)
                except Fault as fault:
                    if fault.reason is Reason.SESSION_NOT_FOUND:
                        return
                    if fault.reason is Reason.SESSION_ID_IN_FLIGHT:
                        await asyncio.sleep(0.01)
                        continue
                break
            while not self.rows(request):
                await asyncio.sleep(0.01)

    async def check_answered_once(self, request: iterate_pb2.IterateRequest) -> iterate_pb2.IterateResponse:
        """Ask again, twice, and look it up. Raises AssertionError where there are two outcomes of this id, or where the
        model was asked though there was one; returns what was answered."""
        had_outcome = any(row["final_verdict"] != "infra_error" for row in self.rows(request))
        billed = self.billed(request)
        first = await self.client.iterate_safely(request, timeout_s=HANG_S, tries=20)
        again = await self.client.iterate(request, timeout_s=HANG_S)
        known = await self.client.get_session(request.session_id, timeout_s=HANG_S)
        rows = self.rows(request)

        assert first.recalled is had_outcome
        assert again.recalled
        assert self.billed(request) == billed + (0 if had_outcome else 1)
        without_mark = [
            iterate_pb2.IterateResponse.FromString(each.SerializeToString()) for each in (first, again, known)
        ]
        for each in without_mark:
            each.ClearField("recalled")
        assert without_mark[0] == without_mark[1] == without_mark[2]
        outcomes = [row for row in rows if row["final_verdict"] != "infra_error"]
        assert [row["artifact"] for row in outcomes] == [json.loads(first.accepted.artifact_json)]
        assert rows[-1] is outcomes[0]
        assert [row.get("try", 1) for row in rows] == list(range(1, len(rows) + 1))
        return first


def chatd_table(model_address: str) -> dict[str, Any]:
    """Return the settings of a chatd that asks this endpoint."""
    provider = {"type": "openai", "base_url": model_address, "default_model": "m"}
    return {"bind": "127.0.0.1:0", "providers": {"fake": provider}}


def iterate_table(*, chatd: str, validated: str, log_path: Path) -> dict[str, Any]:
    """Return the settings of an iterate whose waits a busy machine does not end."""
    return {
        "bind": "127.0.0.1:0",
        "chatd": chatd,
        "validated": validated,
        "session_log_path": str(log_path),
        "brief_ms_max": HANG_S * 1000,
        "validate_ms_max": HANG_S * 1000,
        "append_wait_ms": 10_000,
    }


@contextlib.asynccontextmanager
async def held_stack(template: Template, folder: Path) -> AsyncIterator[HeldStack]:
    """Yield it, with the log in `folder`."""
    hold = Hold()
    model = CountingModel(hold)
    server = grpc.aio.server()
    validated_pb2_grpc.add_ValidateServiceServicer_to_server(HeldGate(hold), server)
    gate_address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    killables: list[Killable] = []
    try:
        async with model.served() as model_address:
            chatd_config = chatd_table(model_address)
            chatd, chatd_config["bind"] = await template.serve("chatd", chatd_config)
            log_path = folder / "sessions.jsonl"
            config = iterate_table(chatd=chatd_config["bind"], validated=gate_address, log_path=log_path)
            iterate, address = await template.serve("iterate", config)
            async with AsyncIterateClient(address) as client:
                stack = HeldStack(
                    template=template,
                    hold=hold,
                    model=model,
                    chatd_config=chatd_config,
                    chatd=chatd,
                    iterate=iterate,
                    address=address,
                    client=client,
                    log_path=log_path,
                )
                killables.append(iterate)
                yield stack
                killables.append(stack.chatd)
    finally:
        hold.at("")
        for each in killables:
            await each.kill()
        await server.stop(0)
