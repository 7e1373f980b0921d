"""Goal: a session does not come to cost more without anybody noticing. No clock is read.

Method: the three services in this process, as ``bootstrap.running`` serves them, and a model endpoint over sockets. The
interpreter tells of every line of ours that it runs and of every Python function that is called, ours or a library's,
while some sessions pass; both are the same in every run but for a few lines of background tasks. The limits lie a
quarter above what was counted when they were set: whoever passes one has either made a session do more, and says so
by raising it, or has made a mistake.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import json
import socket
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from model_endpoint import ModelEndpoint

import chatd.__main__
import iterate.__main__
import validated.__main__
from chatd.config import ChatdConfig
from iterate.config import IterateConfig
from lakehouse.clients import AsyncIterateClient
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.server.bootstrap import running
from lakehouse.validated.v1 import validated_pb2
from validated.config import ValidatedTable

ROOT = Path(__file__).resolve().parent.parent.parent
ROSTER = ROOT / "examples" / "roster" / "workers.csv"
SERVICES = str(ROOT / "services")
# The test's own endpoint, and what depends on how the test run logs and loops.
UNCOUNTED = (str(ROOT / "tests"), "structlog", "asyncio", "logging", "_pytest", "importlib", "rich", "colorama")
SESSIONS = 5
COUNT = 15

# Ungrounded, a session takes two attempts and a brief that reads no roster: for that hop and the facts of suggestions
# the limits rose by 1,100 lines (1,200 traced) and 370 calls (400). Grounded, it takes one attempt, and a brief that
# reads a prompt of 3.7 KB for names and draws fifty candidates: most of the work is validated's.
LINES_MAX = {
    ("ungrounded", "tracing off"): 6100,
    ("ungrounded", "tracing on"): 7000,
    ("grounded", "tracing off"): 18_000,
    ("grounded", "tracing on"): 19_000,
}
CALLS_MAX = {
    ("ungrounded", "tracing off"): 2070,
    ("ungrounded", "tracing on"): 2250,
    ("grounded", "tracing off"): 4_600,
    ("grounded", "tracing on"): 4_900,
}


@dataclass
class Work:
    """Lines of ours and Python calls, in the event loop's thread."""

    lines: Counter[CodeType] = field(default_factory=Counter)
    calls: Counter[CodeType] = field(default_factory=Counter)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        def in_frame(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                self.lines[frame.f_code] += 1
            return in_frame

        def on_call(frame: FrameType, _: str, __: Any) -> Any:
            code = frame.f_code
            self.calls[code] += 1
            return in_frame if code.co_filename.startswith(SERVICES) else None

        before = sys.gettrace()
        sys.settrace(on_call)
        try:
            yield
        finally:
            sys.settrace(before)

    def lines_per_session(self) -> float:
        return self.lines.total() / SESSIONS

    def calls_per_session(self) -> float:
        counted = (
            number for code, number in self.calls.items() if not any(part in code.co_filename for part in UNCOUNTED)
        )
        return sum(counted) / SESSIONS

    def told(self) -> str:
        most = self.lines.most_common(12)
        return "lines a session:\n" + "\n".join(
            f"{number / SESSIONS:8.0f}  {Path(code.co_filename).name} {code.co_qualname}" for code, number in most
        )


def answers() -> list[str]:
    """Return a rejected answer with a phantom, then an accepted one, about 1.5 KB each."""
    with ROSTER.open(encoding="utf-8", newline="") as file:
        workers = [
            {name: row[name] for name in ("worker_id", "name", "role", "city", "state")}
            for row in csv.DictReader(file)
            if (row["role"], row["city"], row["active"]) == ("forklift operator", "Toledo", "true")
        ][:COUNT]
    phantom = {**workers[-1], "worker_id": "W-999999", "name": "Nobody Atall"}
    return [json.dumps({"workers": each}) for each in ([*workers[:-1], phantom], workers)]


def refused_url() -> str:
    """Return an address at which nobody listens: the spans are made and not taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@contextlib.asynccontextmanager
async def sessions(folder: Path, *, grounded: bool, traced: bool) -> AsyncIterator[AsyncIterateClient]:
    def tracing(service: str) -> dict[str, Any]:
        if not traced:
            return {}
        keys = {"public_key": f"pk-work-{service}", "secret_key": "sk"}
        return {"tracing": {"host": refused_url(), **keys, "flush_interval_ms": 60_000, "shutdown_ms": 0}}

    async with contextlib.AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(ModelEndpoint(answers()[grounded:]))
        endpoint.requests = deque(maxlen=1)  # what it was asked is not looked at here
        gate = await stack.enter_async_context(
            running(
                "validated",
                ValidatedTable.model_validate(
                    {"bind": "127.0.0.1:0", "roster": {"path": ROSTER, "poll_ms": 60_000}, **tracing("validated")}
                ),
                validated.__main__.compose,
            )
        )
        provider = {"type": "openai", "base_url": endpoint.base_url, "default_model": "ok"}
        chat = await stack.enter_async_context(
            running(
                "chatd",
                ChatdConfig.model_validate(
                    {
                        "bind": "127.0.0.1:0",
                        "default_provider": "fake",
                        "providers": {"fake": provider},
                        **tracing("chatd"),
                    }
                ),
                chatd.__main__.compose,
            )
        )
        loop = await stack.enter_async_context(
            running(
                "iterate",
                IterateConfig.model_validate(
                    {
                        "bind": "127.0.0.1:0",
                        "chatd": chat.address,
                        "validated": gate.address,
                        "session_log_path": str(folder / "sessions.jsonl"),
                        "grounding": "candidates" if grounded else "none",
                        "brief_ms_max": 60_000,
                        **tracing("iterate"),
                    }
                ),
                iterate.__main__.compose,
            )
        )
        yield await stack.enter_async_context(AsyncIterateClient(loop.address))


REQUEST = iterate_pb2.IterateRequest(
    kind="fill",
    fill=validated_pb2.FillSpec(role="forklift operator", count=COUNT, city="Toledo", state="OH"),
    prompt="Fill 15 forklift operators in Toledo. " * 100,
    max_iterations=2,
)


async def run(client: AsyncIterateClient, times: int, *, attempts: int) -> None:
    for _ in range(times):
        response = await client.iterate(REQUEST, timeout_s=30)
        assert response.WhichOneof("outcome") == "accepted"
        assert len(response.attempts) == attempts


@pytest.mark.parametrize("traced", [False, True], ids=["tracing off", "tracing on"])
@pytest.mark.parametrize("grounded", [False, True], ids=["ungrounded", "grounded"])
async def test_a_session_runs_no_more_lines_and_calls_than_it_did(tmp_path: Path, grounded: bool, traced: bool) -> None:
    case = ("grounded" if grounded else "ungrounded", f"tracing {'on' if traced else 'off'}")
    work, attempts = Work(), 1 if grounded else 2
    async with sessions(tmp_path, grounded=grounded, traced=traced) as client:
        await run(client, 3, attempts=attempts)
        with work.counted():
            await run(client, SESSIONS, attempts=attempts)
    lines, calls = work.lines_per_session(), work.calls_per_session()
    assert LINES_MAX[case] / 2 < lines <= LINES_MAX[case], work.told()
    assert CALLS_MAX[case] / 2 < calls <= CALLS_MAX[case], work.told()


async def test_a_session_leaves_nothing_behind_in_memory(tmp_path: Path) -> None:
    sessions_run = 60
    async with sessions(tmp_path, grounded=False, traced=False) as client:
        await run(client, 20, attempts=2)
        gc.collect()
        before = sys.getallocatedblocks()
        await run(client, sessions_run, attempts=2)
        gc.collect()
        left = (sys.getallocatedblocks() - before) / sessions_run
    # Caches that fill up and counters that outgrow the small integers come to a few blocks; an attempt that is kept
    # would be hundreds.
    assert left < 20, f"{left:.1f} memory blocks a session"
