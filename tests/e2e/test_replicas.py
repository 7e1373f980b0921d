"""Goal: replicas come and go under load, and every call that fails for it may be repeated, and succeeds then.

Method: several processes of a service on one port of different loopback addresses, behind one name of a name server of
our own, as behind a headless service.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from name_server import NameServer
from replicas import Load, Replicas

from lakehouse.clients import AsyncIterateClient
from lakehouse.iterate.v1 import iterate_pb2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is loopback there")

Request = Callable[..., iterate_pb2.IterateRequest]
ROSTER = Path(__file__).resolve().parents[2] / "examples" / "roster" / "workers.csv"
NAME = "replicas.test"
# What a connection lives for here; in earnest it is minutes.
AGE = {"CONNECTION_AGE_MS": "500"}


def settings(**given: str) -> dict[str, str]:
    return {f"{service}_{key}": value for service in ("CHATD", "VALIDATED", "ITERATE") for key, value in given.items()}


@asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[tuple[NameServer, Replicas, Replicas, Replicas]]:
    """One chatd, one validated and one iterate, each behind the name; the iterate's caller uses it as well."""
    environ = settings(**AGE, DRAIN_MS="10000", DRAIN_DELAY_MS="200")
    chatd, validated = Replicas("chatd", environ), Replicas("validated", environ)
    environ["VALIDATED_ROSTER__PATH"] = str(ROSTER)
    async with NameServer(["127.0.0.2"]) as names:
        environ["ITERATE_CHATD"] = f"dns://127.0.0.1:{names.port}/{NAME}:{chatd.port}"
        environ["ITERATE_VALIDATED"] = f"dns://127.0.0.1:{names.port}/{NAME}:{validated.port}"
        environ["ITERATE_SESSION_LOG_PATH"] = str(folder / "sessions.jsonl")
        iterate = Replicas("iterate", environ)
        try:
            await asyncio.gather(chatd.start("127.0.0.2"), validated.start("127.0.0.2"))
            await iterate.start("127.0.0.2")
            yield names, chatd, validated, iterate
        finally:
            for each in (iterate, chatd, validated):
                await each.stop_all()


async def test_new_replicas_get_calls_without_one_that_fails_and_where_old_ones_go_what_fails_may_be_repeated(
    tmp_path: Path, make_request: Request
) -> None:
    async with replicated(tmp_path) as (names, chatd, validated, iterate):
        target = f"dns://127.0.0.1:{names.port}/{NAME}:{iterate.port}"
        async with AsyncIterateClient(target) as client, Load(client, make_request).running() as load:
            await load.more()
            await asyncio.gather(*(service.start("127.0.0.3") for service in (chatd, validated, iterate)))
            names.addresses.append("127.0.0.3")
            for service in (chatd, validated, iterate):
                await load.until(lambda service=service: service.calls.get("127.0.0.3", 0) >= 20)  # type: ignore[misc]
            shared = dict(chatd.calls)
            await load.more()
            assert chatd.calls["127.0.0.2"] > shared["127.0.0.2"], "the old one goes on"
            assert load.failed == []
            assert load.repeated == []

            for service in (chatd, validated, iterate):
                await service.stop("127.0.0.2")
                await load.more()
            names.addresses.remove("127.0.0.2")
            await load.more()

    assert load.failed == []
    assert {fault.code for fault in load.repeated} <= {"UNAVAILABLE"}
    assert all(fault.retry_delay_ms or fault.reason is None for fault in load.repeated)
