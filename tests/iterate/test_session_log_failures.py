"""Disks, folders and permissions fail under load: no request fails or waits, and rows flow again afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import structlog

import iterate.session_log.log_health
from iterate.session_log.logger import SessionLogConfig, SessionLogger
from lakehouse.sessions.record import PROCESS_DIED, SessionAttemptRecord, SessionRecord, rfc3339
from lakehouse.sessions.row_reading import RowBreach, decode_row

NOBODY = 65534
Log = MutableMapping[str, Any]
APPEND_WAIT_MS = 20


class Load:
    """Sessions without a pause; every call's time is taken."""

    def __init__(self, logger: SessionLogger) -> None:
        self.logger = logger
        self.begun = 0
        self.outcomes: Counter[str] = Counter()
        self.call_s_max = 0.0
        self.wait_s_max = 0.0
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run()) for _ in range(4)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _run(self) -> None:
        while not self._stop:
            await self._session()
            await asyncio.sleep(0.001)

    async def _session(self) -> None:
        self.begun += 1
        session_id, prompt = f"s{self.begun}", "p" * (500 if self.begun % 5 else 20_000)
        attempt = SessionAttemptRecord(iteration=1, verdict="accepted", raw="{}")
        t0 = time.perf_counter()
        begun = SessionRecord(
            session_id=session_id,
            timestamp=rfc3339(time.time_ns() // 1000),
            trace_id="1" * 32,
            kind="fill",
            provider="p",
            model="m",
            prompt=prompt,
            max_iterations=1,
            final_verdict="infra_error",
            error=PROCESS_DIED,
            duration_ms=0,
        )
        session = self.logger.begin(begun)
        t1 = time.perf_counter()
        await session.begun()
        self.wait_s_max = max(self.wait_s_max, time.perf_counter() - t1)
        t2 = time.perf_counter()
        session.attempt_finished(attempt)
        handover = session.hand_over(
            replace(
                begun,
                timestamp=rfc3339(time.time_ns() // 1000),
                final_verdict="accepted",
                error=None,
                attempts=(attempt,),
            )
        )
        t3 = time.perf_counter()
        self.outcomes[await handover.written()] += 1
        self.call_s_max = max(self.call_s_max, t1 - t0 + t3 - t2)
        self.wait_s_max = max(self.wait_s_max, time.perf_counter() - t3)

    async def more(self, sessions: int) -> None:
        target = self.begun + sessions
        await until(lambda: self.begun >= target, "the load stands still")

    async def written_more(self, rows: int) -> None:
        target = self.logger.counts()["rows_written"] + rows
        await until(lambda: self.logger.counts()["rows_written"] >= target, "no rows flow")


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def loaded(path: Path) -> AsyncIterator[tuple[Load, list[Log]]]:
    """Run a load on a fresh logger, and afterwards check what holds whatever happened to the disk."""
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), append_wait_ms=APPEND_WAIT_MS))
    with structlog.testing.capture_logs() as logs:
        await logger.start()
        async with Load(logger) as load:
            await load.written_more(20)
            yield load, logs
        await logger.close()
    assert logger.counts()["rows_queued"] == 0
    # Nothing waits for the disk: what did would stand still until it is mended. The bounds leave room for a machine
    # that is busy with something else.
    assert load.call_s_max < 2
    assert load.wait_s_max < APPEND_WAIT_MS / 1000 + 2
    assert set(load.outcomes) <= {"written", "late"}
    assert logger.counts()["rows_written"] == load.begun


def read_log(folder: Path) -> tuple[Counter[str], int]:
    return read_lines(b"".join(file.read_bytes() for file in sorted(folder.glob("sessions.jsonl*"))))


def read_lines(data: bytes) -> tuple[Counter[str], int]:
    rows: Counter[str] = Counter()
    bad = 0
    for line in data.split(b"\n"):
        try:
            rows[decode_row(line).session_id] += 1
        except RowBreach as breach:
            bad += breach.kind != "blank"
    return rows, bad


def assert_all_there(folder: Path, load: Load) -> None:
    rows, bad = read_log(folder)
    assert bad == 0
    assert rows == Counter({f"s{number}": 1 for number in range(1, load.begun + 1)})


async def fail_and_recover(
    load: Load,
    logs: list[Log],
    *,
    cause: str,
    break_it: Callable[[], object],
    mend_it: Callable[[], object],
) -> None:
    break_it()
    await until(lambda: load.logger.counts().get(f"append_errors:{cause}", 0) >= 2, f"no {cause} was counted")
    await load.more(40)
    assert load.logger.counts()["rows_queued"] > 0
    warnings = [log for log in logs if log["event"] == "session_log_unavailable"]
    assert [log["cause"] for log in warnings] == [cause], "one warning a minute is due"
    mend_it()
    await until(lambda: load.logger.counts()["rows_queued"] == 0, "the queue was not emptied")
    await load.written_more(20)
    assert any(log["event"] == "session_log_recovered" for log in logs)


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterate.session_log.log_health, "_BACKOFF_MAX_S", 0.2)


async def test_a_removed_folder_holds_up_no_session(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    async with loaded(folder / "sessions.jsonl") as (load, logs):
        # Rows are written until the moment of the removal: the open file shows them all.
        with (folder / "sessions.jsonl").open("rb") as removed:
            await fail_and_recover(
                load, logs, cause="ENOENT", break_it=lambda: shutil.rmtree(folder), mend_it=folder.mkdir
            )
            await until(lambda: list(folder.glob(".*.inflight")), "no journal stands in the new folder")
            before, torn = read_lines(removed.read())
    rows, bad = read_log(folder)
    assert torn + bad == 0
    # What was in the folder went with it; what came after is all there, once.
    assert rows + before == Counter({f"s{number}": 1 for number in range(1, load.begun + 1)})


async def test_a_symlink_in_the_logs_place_is_never_written_through(tmp_path: Path) -> None:
    path, target = tmp_path / "sessions.jsonl", tmp_path / "elsewhere"
    target.write_bytes(b"precious\n")
    async with loaded(path) as (load, logs):

        def put_in_place() -> None:
            path.rename(tmp_path / "sessions.jsonl.1")
            path.symlink_to(target)

        await fail_and_recover(load, logs, cause="ELOOP", break_it=put_in_place, mend_it=path.unlink)
    assert target.read_bytes() == b"precious\n"
    assert_all_there(tmp_path, load)


@contextlib.contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """Yield a folder of a user whom mode bits bind; the process is that user meanwhile, where it is root."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        folder.chmod(0o700)
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


async def test_a_revoked_permission_holds_up_no_session() -> None:
    with unprivileged_folder() as folder:
        async with loaded(folder / "sessions.jsonl") as (load, logs):
            await fail_and_recover(
                load,
                logs,
                cause="EACCES",
                break_it=lambda: folder.chmod(0),
                mend_it=lambda: folder.chmod(0o700),
            )
        assert_all_there(folder, load)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_holds_up_no_session_and_leaves_no_torn_row(small_disk: Path) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    async with loaded(small_disk / "sessions.jsonl") as (load, logs):
        await fail_and_recover(load, logs, cause="ENOSPC", break_it=fill, mend_it=filler.unlink)
        assert load.logger.counts()["journal_errors:ENOSPC"] > 0
    assert_all_there(small_disk, load)


async def test_rotation_by_rename_loses_and_tears_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    async with loaded(path) as (load, _):
        for number in range(5):
            await asyncio.to_thread(path.rename, tmp_path / f"sessions.jsonl.{number}")
            await load.written_more(15)
    assert len(list(tmp_path.glob("sessions.jsonl*"))) == 6
    assert_all_there(tmp_path, load)


async def test_copytruncate_leaves_whole_rows_and_no_zeros(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"

    def copytruncate(number: int) -> None:
        shutil.copyfile(path, tmp_path / f"sessions.jsonl.{number}")
        os.truncate(path, 0)

    async with loaded(path) as (load, _):
        for number in range(5):
            await asyncio.to_thread(copytruncate, number)
            await load.written_more(15)
    rows, bad = read_log(tmp_path)
    assert set(rows.values()) == {1}
    # The copy may end within a row, and what is written between copy and truncation is lost: logrotate's promise.
    assert bad <= 5
    assert len(rows) >= load.begun - 5 * 10
    assert b"\0" not in path.read_bytes()


async def test_a_fifo_in_the_logs_place_does_not_hang_the_service(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    async with loaded(path) as (load, logs):

        def put_in_place() -> None:
            path.rename(tmp_path / "sessions.jsonl.1")
            os.mkfifo(path)

        await fail_and_recover(load, logs, cause="EINVAL", break_it=put_in_place, mend_it=path.unlink)
    assert_all_there(tmp_path, load)


async def test_a_folder_that_was_never_there_is_found_when_it_comes(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    logger = SessionLogger(SessionLogConfig(session_log_path=str(folder / "sessions.jsonl"), append_wait_ms=0))
    await logger.start()
    async with Load(logger) as load:
        await load.more(20)
        folder.mkdir()
        await load.written_more(20)
    await logger.close()
    assert_all_there(folder, load)
