"""Goal: whatever the log's disk does, nothing waits for it beyond ``append_wait_ms``, and no answered session is lost.

Method: the modules that write see an ``os`` whose calls stand still or fail as long as the test wants, on every file
but the spill; real services over real sockets where callers are concerned.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import logged_sessions
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from logged_sessions import answered, begun, configured, ended

import chatd.__main__
import iterate.__main__
import iterate.session_log.journal
import iterate.session_log.log_health
import lakehouse.sessions.store.append
import validated.__main__
from chatd.config import ChatdConfig
from iterate.config import IterateConfig
from iterate.recall.id_locks import id_locks_path
from iterate.session_log.logger import SessionLogConfig, SessionLogger, SessionLogUnavailable
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.server.bootstrap import running
from lakehouse.sessions.row_reading import decode_row
from lakehouse.validated.v1 import validated_pb2
from validated.config import ValidatedTable

ROOT = Path(__file__).parents[2]
CALLS = ("open", "stat", "fstat", "pread", "pwrite", "write", "ftruncate", "rename", "unlink")


class Disk:
    """``os`` for the modules under test."""

    def __init__(self) -> None:
        self.moves = threading.Event()
        self.moves.set()
        self.error = 0
        """What each write gets, while not 0; overwriting one byte works."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            if not self._is_spill(arguments[0]):
                self.moves.wait()
                writes = name == "write" or (name == "pwrite" and len(arguments[1]) > 1)
                if self.error and writes:
                    raise OSError(self.error, os.strerror(self.error))
            return real(*arguments, **named)

        return call

    def _is_spill(self, file: str | int) -> bool:
        path = Path(file) if isinstance(file, str) else Path(f"/proc/self/fd/{file}").readlink()
        return path.name.endswith((".spill", ".spill.new"))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.moves.clear()
        try:
            yield
        finally:
            self.moves.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    for module in (lakehouse.sessions.store.append, iterate.session_log.journal):
        monkeypatch.setattr(module, "os", disk)
    monkeypatch.setattr(iterate.session_log.log_health, "_BACKOFF_MAX_S", 0.1)
    yield disk
    disk.moves.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    (tmp_path / "spill").mkdir()
    return tmp_path / "log" / "sessions.jsonl"


def rows(path: Path) -> Counter[str]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    return Counter(decode_row(line).session_id for line in lines)


def spills(path: Path) -> list[Path]:
    return sorted((path.parent.parent / "spill").iterdir())


async def until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


async def recovered(path: Path, **settings: Any) -> dict[str, int]:
    """Return the next start."""
    logger = SessionLogger(configured(path, **settings))
    await logger.start()
    await logger.close()
    return logger.counts()


# With callers.


@contextlib.asynccontextmanager
async def services(path: Path, **settings: Any) -> AsyncIterator[str]:
    async with contextlib.AsyncExitStack() as stack:
        gate = await stack.enter_async_context(
            running(
                "validated",
                ValidatedTable.model_validate(
                    {"bind": "127.0.0.1:0", "roster": {"path": ROOT / "examples" / "roster" / "workers.csv"}}
                ),
                validated.__main__.compose,
            )
        )
        script = path.parent / "script.toml"
        script.write_text('[[replies]]\ncontains = ""\ntext = "{}"\n')
        chat = await stack.enter_async_context(
            running(
                "chatd",
                ChatdConfig.model_validate(
                    {
                        "bind": "127.0.0.1:0",
                        "default_provider": "s",
                        "providers": {"s": {"type": "scripted", "script": script}},
                    }
                ),
                chatd.__main__.compose,
            )
        )
        given = {"bind": "127.0.0.1:0", "chatd": chat.address, "validated": gate.address}
        config = IterateConfig.model_validate(given | {"session_log_path": str(path)} | settings)
        yield (await stack.enter_async_context(running("iterate", config, iterate.__main__.compose))).address


def request(session_id: str) -> iterate_pb2.IterateRequest:
    return iterate_pb2.IterateRequest(
        session_id=session_id,
        kind="json_schema",
        json_schema=validated_pb2.JsonSchemaSpec(schema_json='{"type":"object"}'),
        prompt="p",
    )


async def test_a_frozen_disk_holds_up_no_health_check_and_no_session_beyond_the_wait(path: Path, disk: Disk) -> None:
    wait_s = 0.05
    async with (
        services(path, append_wait_ms=50) as address,
        AsyncIterateClient(address) as client,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await client.iterate(request("before"), timeout_s=10)
        health: Any = health_pb2_grpc.HealthStub(channel)
        unfrozen = time.perf_counter()
        await client.iterate(request("measure"), timeout_s=10)
        unfrozen = time.perf_counter() - unfrozen
        with disk.frozen():
            slowest_check_s = 0.0

            async def check() -> None:
                nonlocal slowest_check_s
                while True:
                    began = time.perf_counter()
                    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                    assert answer.status == health_pb2.HealthCheckResponse.SERVING
                    slowest_check_s = max(slowest_check_s, time.perf_counter() - began)
                    await asyncio.sleep(0.01)

            checks = asyncio.create_task(check())
            for number in range(8):
                began = time.perf_counter()
                response = await client.iterate(request(f"s{number}"), timeout_s=10)
                spent_s = time.perf_counter() - began
                assert response.WhichOneof("outcome") == "accepted"
                # What is left over is for a machine that is busy with something else.
                assert spent_s < unfrozen + 2 * wait_s + 1, "a session waited for the disk"
            checks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await checks
            assert 0 < slowest_check_s < 1, "a health check waited for the disk"
            assert len(rows(path)) == 2, "the disk was not frozen: nothing was shown"
        await until(lambda: len(rows(path)) == 10, "rows are missing after the thaw")
    assert set(rows(path).values()) == {1}
    # The file of the ids' locks, which callers' ids bring, stays.
    assert [each.name for each in path.parent.glob(".*")] == [id_locks_path(str(path)).name]


async def test_strict_refuses_before_the_model_is_asked_while_the_disk_is_frozen(path: Path, disk: Disk) -> None:
    async with (
        services(path, session_log_guarantee="strict", append_wait_ms=50) as address,
        AsyncIterateClient(address) as client,
    ):
        await client.iterate(request("before"), timeout_s=10)
        with disk.frozen(), pytest.raises(Fault) as caught:
            await client.iterate(request("refused"), timeout_s=10)
        assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "SESSION_LOG_UNAVAILABLE")
        await client.iterate(request("after"), timeout_s=10)
    assert rows(path) == Counter({"before": 1, "after": 1}), "a refused session left a row"


async def test_who_is_refused_at_the_beginning_does_not_learn_an_id(path: Path, disk: Disk) -> None:
    async with (
        services(path, session_log_guarantee="strict", append_wait_ms=50) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = channel.unary_unary(
            "/lakehouse.iterate.v1.IterateService/Iterate",
            request_serializer=iterate_pb2.IterateRequest.SerializeToString,
            response_deserializer=iterate_pb2.IterateResponse.FromString,
        )
        with disk.frozen():
            asked = call(request(""), timeout=10)
            assert await asked.code() == grpc.StatusCode.UNAVAILABLE
            told = [*(await asked.initial_metadata()), *(await asked.trailing_metadata())]
        assert "session" not in str([(name, value) for name, value in told if "session-id" in name])
        assert b"session_id" not in b"".join(value for _, value in told if isinstance(value, bytes))


async def test_strict_answers_aborted_where_a_model_was_asked_and_the_row_is_late(path: Path, disk: Disk) -> None:
    logger = SessionLogger(configured(path, session_log_guarantee="strict", append_wait_ms=50))
    await logger.start()
    session = logger.begin(begun("s"))
    await session.begun()
    with disk.frozen():
        assert await session.hand_over(ended(session)).written() == "late"
    await logger.close()
    assert rows(path) == Counter({"s": 1})


def test_strict_waits_a_second_unless_it_is_configured() -> None:
    strict: dict[str, Any] = {"session_log_path": "/x/y", "session_log_guarantee": "strict"}
    assert SessionLogConfig.model_validate(strict).append_wait_ms == 1_000
    assert SessionLogConfig.model_validate({**strict, "append_wait_ms": 20}).append_wait_ms == 20
    assert SessionLogConfig.model_validate({"session_log_path": "/x/y"}).append_wait_ms == 20
    with pytest.raises(ValueError, match="no session begins in time"):
        SessionLogConfig.model_validate({**strict, "append_wait_ms": 0})


# The spill.


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
async def test_what_the_disk_refuses_is_spilled_before_the_answer_and_is_in_the_log_after_the_next_start(
    path: Path, disk: Disk, error: int
) -> None:
    logger = SessionLogger(configured(path, append_wait_ms=5_000))
    await logger.start()
    assert await answered(logger, "before") == "written"
    disk.error = error
    assert [await answered(logger, f"s{number}") for number in range(10)] == ["spilled"] * 10
    (spill,) = spills(path)
    assert stat.S_IMODE(spill.stat().st_mode) == 0o600
    await logger.close()
    assert logger.counts()["rows_lost"] == 0
    assert len(rows(path)) == 1
    disk.error = 0
    counts = await recovered(path)
    assert counts["sessions_recovered"] == 10
    assert rows(path) == Counter({"before": 1, **{f"s{number}": 1 for number in range(10)}})
    assert spills(path) == []
    assert list(path.parent.glob(".*")) == []


async def test_a_removed_folder_costs_no_row_either(path: Path) -> None:
    logger = SessionLogger(configured(path, append_wait_ms=5_000))
    await logger.start()
    shutil.rmtree(path.parent)
    assert await answered(logger, "s") == "spilled"
    await logger.close()
    path.parent.mkdir()
    await recovered(path)
    assert rows(path) == Counter({"s": 1})


async def test_what_the_log_alone_refuses_is_spilled_too(path: Path) -> None:
    logger = SessionLogger(configured(path, append_wait_ms=5_000))
    await logger.start()
    path.unlink()
    path.mkdir()
    assert await answered(logger, "s") == "spilled"
    await logger.close()
    path.rmdir()
    await recovered(path)
    assert rows(path) == Counter({"s": 1})


async def test_spilled_rows_are_in_the_log_once_the_disk_takes_them_again(path: Path, disk: Disk) -> None:
    logger = SessionLogger(configured(path, append_wait_ms=5_000))
    await logger.start()
    disk.error = errno.ENOSPC
    assert [await answered(logger, f"s{number}") for number in range(200)] == ["spilled"] * 200
    assert logger.counts()["rows_queued"] == 0, "what is spilled is held in memory"
    disk.error = 0
    await until(lambda: len(rows(path)) == 200, "the spill was not read back")
    await logger.close()
    assert spills(path) == []
    await recovered(path)
    assert set(rows(path).values()) == {1}


@pytest.mark.parametrize("thaws", ["in the drain", "after it"])
async def test_what_a_hung_thread_holds_at_the_end_is_spilled_in_its_place_and_not_doubled(
    path: Path, disk: Disk, thaws: str
) -> None:
    logger = SessionLogger(configured(path, append_wait_ms=50, log_drain_ms=50))
    await logger.start()
    disk.moves.clear()  # the thread hangs in a write, and the process is to end
    outcomes = await asyncio.gather(*(answered(logger, f"s{number}") for number in range(5)))
    assert set(outcomes) == {"late"}
    await logger.close()
    counts = logger.counts()
    assert (counts["rows_spilled"], counts["rows_lost"]) == (5, 0)
    assert logger._writer is not None
    if thaws == "in the drain":
        logger._writer._drain_until += 10
    disk.moves.set()
    await until(lambda: logger._writer is None or not logger._writer._thread.is_alive(), "the thread did not end")
    for file in (logger._files.spill, logger._files.journal):
        assert file is not None
        file.close()
    await recovered(path)
    assert rows(path) == Counter({f"s{number}": 1 for number in range(5)})
    assert spills(path) == []


async def test_what_nothing_takes_is_an_error_line_with_the_number(path: Path, disk: Disk) -> None:
    logger = SessionLogger(configured(path, spill_dir="", append_wait_ms=50, log_drain_ms=50))
    await logger.start()
    disk.error = errno.ENOSPC
    with structlog.testing.capture_logs() as logs:
        for number in range(3):
            await answered(logger, f"s{number}")
        await logger.close()
    assert [(line["log_level"], line["rows"]) for line in logs if line["event"] == "session_log_rows_lost"] == [
        ("error", 3)
    ]


async def test_a_symlink_in_the_spills_place_is_never_written_through(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = path.parent / "precious"
    precious.write_bytes(b"precious")
    logger = SessionLogger(configured(path, append_wait_ms=5_000))
    await logger.start()
    spill = logger._files.spill
    assert spill is not None
    Path(spill.path).symlink_to(precious)
    Path(spill.path + ".new").symlink_to(precious)
    disk.error = errno.ENOSPC
    assert await answered(logger, "s") == "spilled"
    await logger.close()
    assert precious.read_bytes() == b"precious"
    assert not Path(spill.path).is_symlink()


async def test_the_spill_of_another_log_is_not_touched(path: Path, disk: Disk) -> None:
    logger = SessionLogger(configured(path, append_wait_ms=5_000))
    await logger.start()
    disk.error = errno.ENOSPC
    await answered(logger, "s")
    await logger.close()
    disk.error = 0
    other = path.with_name("other.jsonl")
    assert (await recovered(other))["sessions_recovered"] == 0
    assert len(spills(path)) == 1


async def test_strict_refuses_while_the_disk_refuses_even_with_a_spill(path: Path, disk: Disk) -> None:
    logger = SessionLogger(configured(path, session_log_guarantee="strict"))
    await logger.start()
    disk.error = errno.ENOSPC
    session = logger.begin(begun("s"))
    with contextlib.suppress(SessionLogUnavailable):  # its beginning is spilled, and the log is not known to fail yet
        await session.begun()
        assert await session.hand_over(ended(session)).written() == "spilled"
    with pytest.raises(SessionLogUnavailable):
        await logger.begin(begun("s2")).begun()
    await logger.close()


# Real processes on a real disk that is full.


def wait_for_notes(notes: Path, word: str, number: int) -> None:
    deadline = time.monotonic() + 30
    while not notes.exists() or sum(word in line for line in notes.read_text().splitlines()) < number:
        assert time.monotonic() < deadline, f"no {number} sessions were answered {word}"
        time.sleep(0.01)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_answered_session_is_without_a_row_after_a_full_disk_and_a_kill(
    tmp_path: Path, full_disk: Path, number: signal.Signals
) -> None:
    path, spill, notes = full_disk / "sessions.jsonl", tmp_path / "spill", tmp_path / "notes"
    spill.mkdir()

    def noted() -> list[list[str]]:
        return [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []

    for turn in range(3):
        answers = len(noted()) + 20
        child = subprocess.Popen(
            [sys.executable, logged_sessions.__file__, str(path), str(notes), str(spill)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "services")},
        )
        wait_for_notes(notes, "", answers)
        if turn == 0:  # the disk fills up under the sessions
            with (full_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
        wait_for_notes(notes, "spilled", notes.read_text().count("spilled") + 50)
        child.send_signal(number)
        assert child.wait(30) in {0, -signal.SIGKILL}
    assert {outcome for _, outcome in noted()} <= {"written", "spilled", "late"}
    (full_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(full_disk)], check=True)
    asyncio.run(recovered(path, spill_dir=str(spill)))
    written = rows(path)
    assert {session_id for session_id, _ in noted()} <= set(written), "an answered session has no row"
    assert set(written.values()) == {1}
    assert list(spill.iterdir()) == []
