"""Goal: health says whether a service can do its work, by itself and both ways, and never mixes that with its life.

Method: the services themselves on port 0, and the thing that they need taken away and given back. Each row of `TABLE`
is a cause; what it breaks must be SERVING before, NOT_SERVING meanwhile and SERVING after, under every name but
`liveness`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from iterate.__main__ import compose as compose_iterate
from iterate.config import IterateConfig
from lakehouse.server.bootstrap import running
from lakehouse.server.peers import PeerWatch
from lakehouse.server.readiness import Readiness
from validated.__main__ import compose as compose_validated
from validated.config import ValidatedTable

ROSTER = Path(__file__).resolve().parents[2] / "examples" / "roster" / "workers.csv"
ITERATE = "lakehouse.iterate.v1.IterateService"
VALIDATED = "lakehouse.validated.v1.ValidateService"
CHATD = "lakehouse.chatd.v1.ChatService"
AWAY_MS = 300
# A guard against hanging, not a limit: what a change takes is reported as a property of the test.
HANG_S = 40
Status: Any = health_pb2.HealthCheckResponse


async def status_of(address: str, name: str) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    return str(Status.ServingStatus.Name(answer.status))


async def becomes(address: str, name: str, status: str) -> float:
    """Wait until health says so; the seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(HANG_S):
        while await status_of(address, name) != status:
            await asyncio.sleep(0.05)
    return time.monotonic() - began


class Peer:
    """A chatd or validated as far as health goes, on a port that it keeps."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._server: grpc.aio.Server | None = None
        self._servicer = health.aio.HealthServicer()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._servicer = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.say(Status.SERVING)
        await self._server.start()

    async def say(self, status: Any) -> None:
        await self._servicer.set(self.name, status)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)


@dataclass
class Scene:
    """A service that runs, and the two things that a row does to what it needs."""

    address: str
    name: str
    take: Callable[[], Any]
    give_back: Callable[[], Any]


Row = Callable[[Path], contextlib.AbstractAsyncContextManager[Scene]]


@contextlib.asynccontextmanager
async def validated_with_a_roster_that_is_too_old(folder: Path) -> AsyncIterator[Scene]:
    # A roster that was loaded stays loaded, whatever becomes of its file: what can be taken away is its youth.
    path = folder / "workers.csv"
    shutil.copy(ROSTER, path)
    table = ValidatedTable.model_validate(
        {
            "bind": "127.0.0.1:0",
            "roster": {"path": path, "poll_ms": 50, "max_age_s": 3600, "max_age_action": "close"},
        }
    )
    async with running("validated", table, compose_validated) as server:
        yield Scene(server.address, VALIDATED, lambda: os.utime(path, (time.time() - 7200,) * 2), path.touch)


@contextlib.asynccontextmanager
async def an_iterate(folder: Path, **config: Any) -> AsyncIterator[tuple[str, Peer, Peer]]:
    chatd, validated = Peer(CHATD), Peer(VALIDATED)
    await chatd.start()
    await validated.start()
    table = IterateConfig.model_validate(
        {
            "bind": "127.0.0.1:0",
            "chatd": chatd.address,
            "validated": validated.address,
            "peer_away_ms": AWAY_MS,
            "drain_ms": 10,
            **config,
        }
    )
    try:
        async with running("iterate", table, compose_iterate) as server:
            yield server.address, chatd, validated
    finally:
        await chatd.stop()
        await validated.stop()


@contextlib.asynccontextmanager
async def iterate_with_a_strict_log_whose_folder_goes(folder: Path) -> AsyncIterator[Scene]:
    logs, away = folder / "logs", folder / "away"
    logs.mkdir()
    strict = {"session_log_path": str(logs / "sessions.jsonl"), "session_log_guarantee": "strict"}
    async with an_iterate(folder, **strict) as (address, _, _):
        yield Scene(address, ITERATE, lambda: logs.rename(away), lambda: away.rename(logs))


@contextlib.asynccontextmanager
async def iterate_with_a_strict_log_that_becomes_a_folder(folder: Path) -> AsyncIterator[Scene]:
    log = folder / "sessions.jsonl"
    strict = {"session_log_path": str(log), "session_log_guarantee": "strict"}

    def take() -> None:
        log.unlink(missing_ok=True)
        log.mkdir()

    async with an_iterate(folder, **strict) as (address, _, _):
        yield Scene(address, ITERATE, take, log.rmdir)


@contextlib.asynccontextmanager
async def iterate_without_chatd(folder: Path) -> AsyncIterator[Scene]:
    async with an_iterate(folder) as (address, chatd, _):
        yield Scene(address, ITERATE, chatd.stop, chatd.start)


@contextlib.asynccontextmanager
async def iterate_without_validated(folder: Path) -> AsyncIterator[Scene]:
    async with an_iterate(folder) as (address, _, validated):
        yield Scene(address, ITERATE, validated.stop, validated.start)


@contextlib.asynccontextmanager
async def iterate_with_a_validated_that_is_not_ready(folder: Path) -> AsyncIterator[Scene]:
    async with an_iterate(folder) as (address, _, validated):
        yield Scene(
            address,
            ITERATE,
            lambda: validated.say(Status.NOT_SERVING),
            lambda: validated.say(Status.SERVING),
        )


TABLE: Sequence[Row] = (
    validated_with_a_roster_that_is_too_old,
    iterate_with_a_strict_log_whose_folder_goes,
    iterate_with_a_strict_log_that_becomes_a_folder,
    iterate_without_chatd,
    iterate_without_validated,
    iterate_with_a_validated_that_is_not_ready,
)


async def done(what: Any) -> None:
    if asyncio.iscoroutine(what):
        await what


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.__name__)
async def test_what_a_service_needs_decides_what_its_health_says_both_ways(
    row: Row, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with row(tmp_path) as scene:
        await becomes(scene.address, scene.name, "SERVING")

        await done(scene.take())
        record_property("seconds_to_not_serving", round(await becomes(scene.address, scene.name, "NOT_SERVING"), 2))
        assert await status_of(scene.address, "") == "NOT_SERVING"
        assert await status_of(scene.address, "liveness") == "SERVING"

        await done(scene.give_back())
        record_property("seconds_to_serving", round(await becomes(scene.address, scene.name, "SERVING"), 2))
        assert await status_of(scene.address, "") == "SERVING"


@pytest.mark.parametrize("there", ["nothing", "a file that is no roster"])
async def test_a_validated_that_never_had_a_roster_is_not_ready_until_one_comes(tmp_path: Path, there: str) -> None:
    path = tmp_path / "workers.csv"
    if there != "nothing":
        path.write_text("nothing,of,ours\n1,2,3\n")
    table = ValidatedTable.model_validate({"bind": "127.0.0.1:0", "roster": {"path": path, "poll_ms": 50}})

    async with running("validated", table, compose_validated) as server:
        before = [await status_of(server.address, name) for name in ("", VALIDATED, "liveness")]
        causes = server.readiness.causes
        shutil.copy(ROSTER, tmp_path / "new.csv")
        (tmp_path / "new.csv").rename(path)
        await becomes(server.address, VALIDATED, "SERVING")

    assert before == ["NOT_SERVING", "NOT_SERVING", "SERVING"]
    assert len(causes) == 1
    assert str(path) in causes[0]


async def test_an_iterate_that_has_not_reached_its_two_yet_is_never_ready_on_credit() -> None:
    table = IterateConfig.model_validate(
        {"bind": "127.0.0.1:0", "chatd": "127.0.0.1:1", "validated": "127.0.0.1:1", "peer_away_ms": 86_400_000}
    )
    async with running("iterate", table, compose_iterate) as server:
        statuses = [await status_of(server.address, name) for name in ("", ITERATE, "liveness")]
        causes = server.readiness.causes

    assert statuses == ["NOT_SERVING", "NOT_SERVING", "SERVING"]
    assert [cause.split()[0] for cause in causes] == ["chatd", "validated"]


async def test_a_best_effort_log_that_cannot_be_written_takes_nothing_from_service(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing" / "sessions.jsonl")
    async with an_iterate(tmp_path, session_log_path=missing) as (address, _, _):
        await becomes(address, ITERATE, "SERVING")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_flap_shorter_than_the_grace_is_no_cause() -> None:
    clock, peer = Clock(), Peer(CHATD)
    await peer.start()
    async with (
        grpc.aio.insecure_channel(peer.address, (("grpc.initial_reconnect_backoff_ms", 100),)) as channel,
        PeerWatch("chatd", CHATD, lambda: channel, grace_s=5, monotonic=clock).open() as watch,
    ):
        assert watch.cause() == ""
        await peer.say(Status.NOT_SERVING)
        async with asyncio.timeout(HANG_S):
            while not watch._trouble:
                await asyncio.sleep(0.01)
        clock.now += 4.9
        within = watch.cause()
        clock.now += 0.2
        beyond = watch.cause()
        await peer.say(Status.SERVING)
        async with asyncio.timeout(HANG_S):
            while watch.cause():
                await asyncio.sleep(0.01)
    await peer.stop()

    assert within == ""
    assert beyond == "chatd says NOT_SERVING"


@pytest.mark.parametrize("knows_health", [True, False])
async def test_a_peer_that_does_not_speak_of_this_name_is_judged_by_being_reachable(knows_health: bool) -> None:
    server = grpc.aio.server()
    if knows_health:
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        PeerWatch("chatd", CHATD, lambda: channel, grace_s=0).open() as watch,
    ):
        async with asyncio.timeout(HANG_S):
            while watch.cause():
                await asyncio.sleep(0.01)
    await server.stop(None)


async def test_each_change_is_one_log_line_with_its_cause_and_a_bug_in_looking_counts_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[tuple[str, Any]] = []

    class Log:
        def warning(self, event: str, **fields: Any) -> None:
            lines.append((event, fields.get("causes")))

        info = exception = warning

    monkeypatch.setattr("lakehouse.server.readiness._log", Log())
    monkeypatch.setattr("lakehouse.server.readiness._POLL_S", 0.001)
    causes: list[str] | None = []

    def ask() -> list[str]:
        if causes is None:
            raise ValueError("bug")
        return causes

    readiness = Readiness(health.aio.HealthServicer(), ["x"], ask)
    await readiness.open()
    async with readiness.followed(), asyncio.timeout(HANG_S):
        for next_causes, seen in ((["a"], 1), (["a", "b"], 2), ([], 3), (None, 5), ([], 6)):
            causes = next_causes
            while len(lines) < seen:
                await asyncio.sleep(0.001)

    assert [line for line in lines if line[0] != "readiness bug"] == [
        ("not ready", ("a",)),
        ("not ready", ("a", "b")),
        ("ready", None),
        ("not ready", ("what it needs could not be looked at",)),
        ("ready", None),
    ]
