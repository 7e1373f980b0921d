"""Goal: a dependency that dies in the middle of a session costs that session, with a reason, and nothing else."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

Request = Callable[..., iterate_pb2.IterateRequest]


@pytest.mark.parametrize(
    ("service", "reason"), [("chatd", "CHATD_UNREACHABLE"), ("validated", "VALIDATED_UNREACHABLE")]
)
async def test_a_killed_service_is_unavailable_with_a_reason_and_back_after_its_restart(
    mortal: Any, make_request: Request, service: str, reason: str
) -> None:
    stack = mortal
    async with AsyncIterateClient(stack.address) as client:
        # The model has been asked and not yet answered: the session is in its middle.
        session = asyncio.create_task(client.iterate(make_request(model="slow"), timeout_s=30))
        await stack.endpoint.asked.wait()
        await stack.stack.stop_service(service, signal.SIGKILL)
        stack.endpoint.release.set()
        with pytest.raises(Fault) as caught:
            await session
        await stack.made_whole()
        rows = stack.rows(caught.value.metadata["session_id"])

    assert (caught.value.code, caught.value.reason, caught.value.where) == ("UNAVAILABLE", reason, service)
    assert [row["error"]["reason"] for row in rows] == [reason]
