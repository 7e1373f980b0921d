"""Two stacks of real processes for the whole folder: one that no test changes, and one whose services tests end."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from model_endpoint import ModelEndpoint

from lakehouse.cli.stack import SERVICES, Stack, free_port_binds, running_stack
from lakehouse.cli.tracing_environ import tracing_environ
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.validated.v1 import validated_pb2

ROOT = Path(__file__).resolve().parent.parent.parent
ROSTER = ROOT / "examples" / "roster" / "workers.csv"


@dataclass
class RunningStack:
    """A stack, what it logs, and where its rows and spans go."""

    stack: Stack
    endpoint: ModelEndpoint
    receiver: TraceReceiver
    log_path: Path
    logs: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.stack.addresses["iterate"]

    def rows(self, session_id: str = "") -> list[dict[str, Any]]:
        if not self.log_path.exists():
            return []
        # The log of all tests is long: only lines that name the session are read.
        lines = self.log_path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if session_id in line]
        return [row for row in rows if not session_id or row["session_id"] == session_id]

    @asynccontextmanager
    async def restarted(self, *services: str, **environ: str) -> AsyncIterator[None]:
        """Run these services, in the order of their starts, with other settings for the time of the block. They have
        ended after it: see `mortal`."""
        stack, before = self.stack, self.stack.environ
        for service in reversed(services):
            await stack.stop_service(service)
        stack.environ = {**before, **environ}
        try:
            for service in services:
                await stack.start_service(service)
            yield
        finally:
            stack.environ = before
            for service in reversed(services):
                await stack.stop_service(service)

    async def made_whole(self) -> None:
        """Start what has ended, until a session is accepted."""
        stack = self.stack
        for service in SERVICES:
            process = stack.processes.get(service)
            if process is None or process.returncode is not None:
                await stack.start_service(service)
        async with asyncio.timeout(60), AsyncIterateClient(self.address) as client:
            # A channel that lost its peer connects again with a backoff of about a second.
            while True:
                try:
                    response = await client.iterate(fill(), timeout_s=10)
                except Fault as fault:
                    assert fault.code == "UNAVAILABLE"
                    await asyncio.sleep(0.1)
                else:
                    assert response.WhichOneof("outcome") == "accepted"
                    return


@dataclass(frozen=True)
class People:
    """Workers of the example roster, and one who is not there."""

    toledo: list[dict[str, str]]

    def answer(self, *indexes: int, phantom: bool = False) -> str:
        workers = [
            {"worker_id": self.toledo[index]["worker_id"], "name": self.toledo[index]["name"]} for index in indexes
        ]
        if phantom:
            workers[-1] = {"worker_id": "W-999999", "name": "Nobody Atall"}
        return json.dumps({"workers": workers}, ensure_ascii=False)


@pytest.fixture(scope="session")
def people() -> People:
    with ROSTER.open(encoding="utf-8", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["role"].lower(), row["city"], row["state"]) == ("forklift operator", "Toledo", "OH")
            and row["active"].lower() == "true"
        ]
    return People(rows)


def fill(prompt: str = "Fill 3 forklift operators in Toledo", **fields: Any) -> iterate_pb2.IterateRequest:
    spec = validated_pb2.FillSpec(role="forklift operator", count=3, city="Toledo", state="OH")
    return iterate_pb2.IterateRequest(**{"kind": "fill", "fill": spec, "prompt": prompt, **fields})


@pytest.fixture(scope="session")
def make_request() -> Callable[..., iterate_pb2.IterateRequest]:
    return fill


StartStack = Callable[..., AbstractAsyncContextManager[RunningStack]]


@pytest.fixture(scope="session")
def start_stack(tmp_path_factory: pytest.TempPathFactory, people: People) -> StartStack:
    @asynccontextmanager
    async def start(**environ: str) -> AsyncIterator[RunningStack]:
        folder = tmp_path_factory.mktemp("stack")
        answers = [people.answer(0, 1, 2, phantom=True), people.answer(0, 1, 2)]
        logs: list[tuple[str, Any]] = []
        async with ModelEndpoint(answers) as endpoint:
            with TraceReceiver() as receiver:
                given = {
                    **free_port_binds(),
                    **tracing_environ(receiver),
                    "VALIDATED_ROSTER__PATH": str(ROSTER),
                    "ITERATE_SESSION_LOG_PATH": str(folder / "sessions.jsonl"),
                    # A busy machine must not degrade what a test looks at.
                    "ITERATE_BRIEF_MS_MAX": "30000",
                    "ITERATE_APPEND_WAIT_MS": "10000",
                    "CHATD_PROVIDERS__FAKE__TYPE": "openai",
                    "CHATD_PROVIDERS__FAKE__BASE_URL": endpoint.base_url,
                    "CHATD_PROVIDERS__FAKE__DEFAULT_MODEL": "ok",
                    "CHATD_PROVIDERS__SCRIPTED__TYPE": "scripted",
                    # One that may not see candidates, on the same endpoint as the one that may.
                    "CHATD_PROVIDERS__AWAY__TYPE": "openai",
                    "CHATD_PROVIDERS__AWAY__BASE_URL": endpoint.base_url,
                    "CHATD_PROVIDERS__AWAY__DEFAULT_MODEL": "away",
                    "CHATD_PROVIDERS__AWAY__MAY_SEE_CANDIDATES": "false",
                    "CHATD_DEFAULT_PROVIDER": "fake",
                    **{key: value.replace("{endpoint}", endpoint.base_url) for key, value in environ.items()},
                }
                async with running_stack(
                    on_log=lambda service, entry: logs.append((service, entry)), environ=given
                ) as stack:
                    yield RunningStack(stack, endpoint, receiver, folder / "sessions.jsonl", logs)

    return start


@pytest.fixture(scope="session")
async def stack(start_stack: StartStack) -> AsyncIterator[RunningStack]:
    async with start_stack() as running:
        yield running


@pytest.fixture(scope="session")
async def _mortal(start_stack: StartStack) -> AsyncIterator[RunningStack]:
    async with start_stack(ITERATE_DRAIN_MS="200") as running:
        yield running


@pytest.fixture
async def mortal(_mortal: RunningStack) -> RunningStack:
    """Return a stack whose services may be stopped and killed, whole at the start of each test, its endpoint as new."""
    await _mortal.made_whole()
    endpoint = _mortal.endpoint
    endpoint.requests.clear()
    endpoint.asked.clear()
    endpoint.release.clear()
    return _mortal


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[AsyncIterateClient]:
    async with AsyncIterateClient(stack.address) as connected:
        yield connected
