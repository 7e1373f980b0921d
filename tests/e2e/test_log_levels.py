"""Goal: who reads warnings alone sees every session that failed, with its reason, and no session that did not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

Request = Callable[..., iterate_pb2.IterateRequest]


def rpc_lines(stack: Any, since: int) -> list[dict[str, Any]]:
    """Return iterate's lines of RPCs among those that came after the first `since` of all."""
    return [entry for name, entry in stack.logs[since:] if name == "iterate" and entry.get("event") == "rpc"]


async def test_a_failed_session_is_a_warning_with_session_and_reason_and_an_outcome_or_a_refused_request_is_none(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    # Another test's last line may wait for company: this session's comes behind it.
    await client.iterate(make_request(session_id="before-the-levels"), timeout_s=30)
    async with asyncio.timeout(10):
        while not any(line.get("session_id") == "before-the-levels" for line in rpc_lines(stack, 0)):
            await asyncio.sleep(0.02)
    since = len(stack.logs)
    failed = make_request(provider="nobody", session_id="asked-for-nobody")
    refused = make_request(max_iterations=99, session_id="refused-unasked")
    exhausted = make_request(max_iterations=1, session_id="attempts-exhausted")
    with pytest.raises(Fault, match="no provider or route"):
        await client.iterate(failed, timeout_s=10)
    with pytest.raises(Fault, match="max_iterations"):
        await client.iterate(refused, timeout_s=10)
    assert (await client.iterate(exhausted, timeout_s=10)).WhichOneof("outcome") == "max_iter_exhausted"
    async with asyncio.timeout(10):
        while len(rpc_lines(stack, since)) < 3:
            await asyncio.sleep(0.05)
    levels = {line.get("reason", ""): (line["level"], line["session_id"]) for line in rpc_lines(stack, since)}
    assert levels == {
        "UNKNOWN_PROVIDER": ("warning", "asked-for-nobody"),
        "BAD_REQUEST": ("info", ""),
        "": ("info", "attempts-exhausted"),
    }
