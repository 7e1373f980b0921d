"""Goal: several iterates behind one name share the load, one is killed, and the rows of all tell every session once.

Method: real processes on addresses of loopback, each with a log of its own, behind a name server of our own, as with a
StatefulSet and its headless service.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from name_server import NameServer
from replicas import Load, Replicas

from lakehouse.clients import AsyncIterateClient
from lakehouse.iterate.v1 import iterate_pb2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is loopback there")

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
SERVICES = "127.0.0.5"
# So many sessions run at any time.
WORKERS = 9


@asynccontextmanager
async def three_iterates(folder: Path) -> AsyncIterator[tuple[Replicas, Callable[[str], Path], str]]:
    """Start them; give the iterates, where each has its log, and the target that leads to them."""

    def log_of(host: str) -> Path:
        (folder / host).mkdir(exist_ok=True)
        return folder / host / "sessions.jsonl"

    script = (ROOT / "examples" / "scripts" / "fill_demo.toml").read_text(encoding="utf-8")
    slow = folder / "slow.toml"
    slow.write_text(script.replace("delay_ms = 40", "delay_ms = 200"), encoding="utf-8")
    environ = {
        "CHATD_DEFAULT_PROVIDER": "slow",
        "CHATD_PROVIDERS__SLOW__TYPE": "scripted",
        "CHATD_PROVIDERS__SLOW__SCRIPT": str(slow),
        "VALIDATED_ROSTER__PATH": str(ROOT / "examples" / "roster" / "workers.csv"),
        "ITERATE_BRIEF_MS_MAX": "30000",
    }
    chatd, validated = Replicas("chatd", environ), Replicas("validated", environ)
    environ["ITERATE_CHATD"] = f"{SERVICES}:{chatd.port}"
    environ["ITERATE_VALIDATED"] = f"{SERVICES}:{validated.port}"
    iterates = Replicas("iterate", environ)
    async with NameServer(HOSTS) as names:
        try:
            await asyncio.gather(chatd.start(SERVICES), validated.start(SERVICES))
            await asyncio.gather(*(iterates.start(host, ITERATE_SESSION_LOG_PATH=str(log_of(host))) for host in HOSTS))
            yield iterates, log_of, f"dns://127.0.0.1:{names.port}/iterate.test:{iterates.port}"
        finally:
            await asyncio.gather(*(each.stop_all() for each in (iterates, chatd, validated)))


def rows_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


async def test_three_share_the_load_one_is_killed_and_their_rows_tell_every_session_once(
    tmp_path: Path, make_request: Callable[..., iterate_pb2.IterateRequest]
) -> None:
    numbers = itertools.count()

    def next_request() -> iterate_pb2.IterateRequest:
        return make_request(session_id=f"s-{next(numbers):05d}")

    killed = HOSTS[1]
    async with three_iterates(tmp_path) as (iterates, log_of, target):
        async with AsyncIterateClient(target) as client, Load(client, next_request, workers=WORKERS).running() as load:
            await load.until(lambda: all(iterates.calls.get(host, 0) >= 5 for host in HOSTS))
            spread = dict(iterates.calls)
            await iterates.stacks.pop(killed).stop_service("iterate", signal.SIGKILL)
            await load.more(20)
            # It comes again, on the same volume.
            await iterates.start(killed, ITERATE_SESSION_LOG_PATH=str(log_of(killed)))
            before = iterates.calls.get(killed, 0)
            await load.until(lambda: iterates.calls[killed] >= before + 5)
        await iterates.stop_all()
        rows = {host: rows_of(log_of(host)) for host in HOSTS}

    assert load.failed == []
    assert max(spread.values()) <= 2 * min(spread.values()) + WORKERS, spread
    keys = Counter((host, row["session_id"], row.get("try", 1)) for host in HOSTS for row in rows[host])
    assert set(keys.values()) == {1}
    by_id = [(host, row) for host in HOSTS for row in rows[host]]
    accepted = Counter(row["session_id"] for _, row in by_id if row["final_verdict"] == "accepted")
    answered = [response.session_id for response in load.answered]
    # Each answer has its row, and a session that somebody began and nobody answered has one as well.
    assert Counter(answered) - accepted == Counter()
    died = [(host, row) for host, row in by_id if row["final_verdict"] != "accepted"]
    assert died
    assert {(host, row["error"]["code"]) for host, row in died} == {(killed, "PROCESS_DIED")}
    # They were asked for again elsewhere, under the same id.
    assert {row["session_id"] for _, row in died} <= set(answered)
    assert {row["session_id"] for _, row in by_id} == set(answered)
