from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog

from chatd.__main__ import compose
from chatd.config import ChatdConfig
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncChatClient
from lakehouse.errors import Fault
from lakehouse.server import bootstrap


def _load(name: str) -> ModuleType:
    # Tests are no packages: what they share is loaded by its path, once a run.
    key = f"chatd_tests_{name}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
    return sys.modules[key]


_load("fake_endpoint")
_load("vendor_errors")


@dataclass
class Chatd:
    """A chatd in this process, and what it wrote into its log."""

    client: AsyncChatClient
    address: str
    log: list[Any] = field(default_factory=list)

    @property
    def last_line(self) -> dict[str, Any]:
        """The canonical line of the last RPC."""
        return next(line for line in reversed(self.log) if line["event"] == "rpc")

    async def ask(self, text: str = "Hi.", *, timeout_s: float = 5, metadata: Any = (), **fields: Any) -> Any:
        """Complete, with one user turn where `messages` are not given."""
        return await self.client.complete(_request(text, fields), timeout_s=timeout_s, metadata=metadata)

    async def stream(
        self, text: str = "Hi.", *, timeout_s: float = 5, **fields: Any
    ) -> tuple[list[tuple[str, str]], Any]:
        """StreamComplete: the pieces as (kind, text), and the response, or the Fault that ended it."""
        pieces: list[tuple[str, str]] = []
        try:
            async for event in self.client.stream_complete(_request(text, fields), timeout_s=timeout_s):
                kind = event.WhichOneof("event")
                if kind == "response":
                    return pieces, event.response
                pieces.append((kind, getattr(event, kind)))
        except Fault as fault:
            return pieces, fault
        raise AssertionError("the stream ended without a response")


def _request(text: str, fields: dict[str, Any]) -> chatd_pb2.CompleteRequest:
    fields.setdefault("messages", [chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content=text)])
    return chatd_pb2.CompleteRequest(**fields)


StartChatd = Callable[..., AbstractAsyncContextManager[Chatd]]


@pytest.fixture
def chatd() -> StartChatd:
    """`async with chatd(providers={...}) as running:` a chatd of that configuration."""

    @contextlib.asynccontextmanager
    async def start(**config: Any) -> AsyncIterator[Chatd]:
        config = {"bind": "127.0.0.1:0", "drain_ms": 1000, **config}
        with structlog.testing.capture_logs() as log:
            async with (
                bootstrap.running("chatd", ChatdConfig.model_validate(config), compose) as server,
                AsyncChatClient(server.address) as client,
            ):
                yield Chatd(client, server.address, log)

    return start


@pytest.fixture
def openai_chatd(chatd: StartChatd) -> Callable[..., AbstractAsyncContextManager[tuple[Chatd, Any]]]:
    """Return a chatd with one provider `openai` whose endpoint does what it is told; quick repeats."""
    fakes = _load("fake_endpoint")

    @contextlib.asynccontextmanager
    async def start(
        behaviours: Sequence[Any], *, chatd_table: dict[str, Any] | None = None, **table: Any
    ) -> AsyncIterator[tuple[Chatd, Any]]:
        async with fakes.FakeEndpoint(behaviours) as endpoint:
            provider = {
                "type": "openai",
                "base_url": f"{endpoint.url}/v1",
                "default_model": "fake-1",
                **table,
            }
            provider["retry"] = {"base_ms": 5, **table.get("retry", {})}
            async with chatd(providers={"main": provider}, **(chatd_table or {})) as running:
                yield running, endpoint

    return start
