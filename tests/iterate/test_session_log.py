"""SessionLogger as the loop uses it: begin, attempts, hand-over, close, and its two guarantees."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

import iterate
from iterate.session_log.fsync import FsyncPolicy
from iterate.session_log.journal import Journal
from iterate.session_log.logger import OpenSession, SessionLogConfig, SessionLogger, SessionLogUnavailable
from lakehouse.sessions.record import PROCESS_DIED, BriefRecord, SessionAttemptRecord, SessionRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.row_reading import decode_row
from lakehouse.sessions.store.append import LogFile

ITERATE = str(Path(iterate.__file__).parent)
ATTEMPT = SessionAttemptRecord(iteration=1, provider="scripted", model="m", verdict="accepted", raw="{}")


def begun(session_id: str = "s1", prompt: str = "Fill 3 forklift operators") -> SessionRecord:
    return SessionRecord(
        session_id=session_id,
        timestamp="2026-01-01T00:00:00.000000Z",
        trace_id="1" * 32,
        kind="fill",
        provider="scripted",
        model="m",
        prompt=prompt,
        spec='{"city":"Toledo"}',
        max_iterations=3,
        final_verdict="infra_error",
        error=PROCESS_DIED,
        duration_ms=0,
    )


async def begin(
    logger: SessionLogger, session_id: str = "s1", prompt: str = "Fill 3 forklift operators"
) -> OpenSession:
    session = logger.begin(begun(session_id, prompt))
    await session.begun()
    return session


def ended(session_id: str = "s1", prompt: str = "Fill 3 forklift operators") -> SessionRecord:
    return replace(
        begun(session_id, prompt),
        timestamp="2026-01-01T00:00:00.000001Z",
        final_verdict="accepted",
        error=None,
        artifact='{"workers":["W1"]}',
        grounded_in_roster=True,
        attempts=(ATTEMPT,),
        duration_ms=12,
    )


def read_rows(path: Path) -> list[SessionRecord]:
    return [decode_row(line) for line in path.read_bytes().splitlines() if line]


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.005)


def journals(path: Path) -> list[Path]:
    return sorted(path.parent.glob(".*.inflight*"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.jsonl"


@pytest.mark.parametrize("fsync", ["never", "interval", "row"])
@pytest.mark.parametrize("journal", [True, False])
async def test_a_handed_over_row_is_in_the_log_before_the_answer_leaves(
    path: Path, fsync: FsyncPolicy, *, journal: bool
) -> None:
    logger = SessionLogger(
        SessionLogConfig(session_log_path=str(path), fsync=fsync, journal=journal, append_wait_ms=10_000)
    )
    await logger.start()
    session = await begin(logger)
    session.attempt_finished(ATTEMPT)
    assert await session.hand_over(ended()).written() == "written"
    assert path.read_bytes() == encode_row(ended())
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0
    await logger.close()
    counts = logger.counts()
    assert (counts["rows_written"], counts["rows_late"], counts["sessions_open"]) == (1, 0, 0)
    assert counts["fsyncs"] == (0 if fsync == "never" else 1)
    assert journals(path) == []


async def test_the_event_loops_thread_makes_no_call_that_a_disk_can_hold_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SessionLogConfig(session_log_path=str(path), fsync="row", append_wait_ms=10_000)
    calls: list[str] = []
    for module in (os, fcntl):
        for name in (
            *("open", "stat", "fstat", "lstat", "scandir", "pread", "pwrite", "write", "fsync", "ftruncate"),
            *("flock", "fcntl", "unlink", "rename"),
        ):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, noted(getattr(module, name), threading.get_ident(), calls))
    logger = SessionLogger(config)
    await logger.start()
    for number in range(3):
        session = await begin(logger, f"s{number}")
        session.attempt_finished(ATTEMPT)
        assert await session.hand_over(ended(f"s{number}")).written() == "written"
        await asyncio.to_thread(path.rename, path.with_name(f"sessions.jsonl.{number}"))
        logger.counts()
    await logger.close()
    assert calls == []


def noted(call: Callable[..., object], thread: int, calls: list[str]) -> Callable[..., object]:
    """Return `call`; that `thread` made it for iterate is noted in `calls`, with who asked. A test's own machinery
    may look at files whenever it likes."""

    def wrapper(*arguments: object, **named: object) -> object:
        if threading.get_ident() == thread:
            asking: FrameType | None = sys._getframe(1)
            while asking is not None and not asking.f_code.co_filename.startswith(ITERATE):
                asking = asking.f_back
            if asking is not None:
                calls.append(f"{call.__name__} by {asking.f_code.co_filename}:{asking.f_lineno}")
        return call(*arguments, **named)

    return wrapper


async def test_an_empty_path_disables_the_log(tmp_path: Path) -> None:
    logger = SessionLogger(SessionLogConfig())
    await logger.start()
    session = await begin(logger)
    session.attempt_finished(ATTEMPT)
    assert await session.hand_over(ended()).written() == "disabled"
    await logger.close()
    assert list(tmp_path.iterdir()) == []


async def test_handing_over_twice_writes_one_row(path: Path) -> None:
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path)))
    await logger.start()
    session = await begin(logger)
    assert session.hand_over(ended()) is session.hand_over(replace(ended(), final_verdict="infra_error"))
    await logger.close()
    assert read_rows(path) == [ended()]


async def test_an_answer_waits_at_most_append_wait_ms_and_the_row_follows(path: Path) -> None:
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), append_wait_ms=20))
    await logger.start()
    holder = LogFile(path)
    assert holder.try_lock()
    sessions = [await begin(logger, f"s{n}") for n in range(3)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    handovers = [session.hand_over(ended(f"s{n}")) for n, session in enumerate(sessions)]
    assert loop.time() - began < 0.015, "hand_over waited for the lock"
    assert [await handover.written() for handover in handovers] == ["late"] * 3
    assert loop.time() - began < 1
    assert logger.counts()["rows_late"] == 3
    assert logger.counts()["rows_queued"] == 3
    assert not path.read_bytes()
    next_session = await begin(logger, "s3")
    holder.unlock()
    next_session.hand_over(ended("s3"))  # the lock is free, but rows are queued
    await until(lambda: logger.counts()["rows_queued"] == 0, "the queue was not emptied")
    assert [row.session_id for row in read_rows(path)] == ["s0", "s1", "s2", "s3"], "the order was lost"
    await until(lambda: handovers[2].outcome == "written", "the hand-over was not settled")
    holder.close()
    await logger.close()
    assert journals(path) == []


async def test_cancelling_the_wait_does_not_cut_the_writing_short(path: Path) -> None:
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), append_wait_ms=10_000))
    await logger.start()
    holder = LogFile(path)
    assert holder.try_lock()
    handover = (await begin(logger)).hand_over(ended())
    waits = [asyncio.create_task(handover.written()) for _ in range(2)]
    await asyncio.sleep(0)
    waits[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits[0]
    holder.unlock()
    assert await waits[1] == "written"
    assert read_rows(path) == [ended()]
    holder.close()
    await logger.close()


async def test_a_row_behind_a_queued_one_keeps_its_place(path: Path) -> None:
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), append_wait_ms=10_000))
    await logger.start()
    long = "x" * 300_000
    first = (await begin(logger, "long", long)).hand_over(ended("long", long))
    second = (await begin(logger, "short")).hand_over(ended("short"))
    assert await second.written() == "written"
    assert await first.written() == "written"
    assert [row.session_id for row in read_rows(path)] == ["long", "short"]
    await logger.close()


@pytest.mark.parametrize(("rows_max", "bytes_max"), [(2, 1 << 20), (100, 2 * len(encode_row(ended("s0"))))])
async def test_a_full_queue_drops_the_newest_row_and_counts_it(path: Path, rows_max: int, bytes_max: int) -> None:
    logger = SessionLogger(
        SessionLogConfig(
            session_log_path=str(path), append_wait_ms=500, queue_rows_max=rows_max, queue_bytes_max=bytes_max
        )
    )
    await logger.start()
    holder = LogFile(path)
    assert holder.try_lock()
    handovers = []
    for number in range(4):
        handovers.append((await begin(logger, f"s{number}")).hand_over(ended(f"s{number}")))
        await until(lambda: logger._writer is None or not len(logger._writer._jobs), "the thread takes nothing")
    assert [await handover.written() for handover in handovers] == ["late", "late", "dropped", "dropped"]
    assert logger.counts()["rows_dropped:queue_full"] == 2
    holder.unlock()
    await logger.close()
    assert [row.session_id for row in read_rows(path)] == ["s0", "s1"]
    # What the queue dropped stands in the journal, and the next process finds it there.
    assert len(journals(path)) == 1
    after = SessionLogger(SessionLogConfig(session_log_path=str(path)))
    await after.start()
    await after.close()
    assert [row.session_id for row in read_rows(path)] == ["s0", "s1", "s2", "s3"]
    assert after.counts()["sessions_recovered"] == 2
    holder.close()


async def test_what_close_cannot_write_in_time_is_left_to_the_next_process(path: Path) -> None:
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), append_wait_ms=0, log_drain_ms=30))
    await logger.start()
    holder = LogFile(path)
    assert holder.try_lock()
    handover = (await begin(logger, "queued")).hand_over(ended("queued"))
    await begin(logger, "open")
    await logger.close()
    await until(lambda: handover.outcome == "dropped", "the hand-over was not settled")
    assert logger.counts()["rows_dropped:drain"] == 1
    assert logger.counts()["rows_queued"] == 0
    holder.unlock()
    after = SessionLogger(SessionLogConfig(session_log_path=str(path)))
    await after.start()
    await after.close()
    rows = read_rows(path)
    assert rows[0] == ended("queued")
    assert (rows[1].session_id, rows[1].final_verdict) == ("open", "infra_error")
    assert rows[1].error is not None
    assert rows[1].error.code == "PROCESS_DIED"
    assert rows[1].error.where == "iterate"
    assert len(rows) == 2
    assert journals(path) == []
    holder.close()


async def test_a_row_that_cannot_be_encoded_becomes_a_bug_row(path: Path) -> None:
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path)))
    await logger.start()
    session = await begin(logger)
    assert await session.hand_over(replace(ended(), artifact="[not an object]")).written() == "written"
    await logger.close()
    (row,) = read_rows(path)
    assert (row.final_verdict, row.prompt) == ("infra_error", ended().prompt)
    assert row.error is not None
    assert (row.error.code, row.error.reason) == ("INTERNAL", "BUG")


async def test_the_daemon_of_a_killed_sessions_row_is_who_began_it(path: Path) -> None:
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path)))
    await logger.start()
    blue = replace(begun("a"), daemon="iterate-blue")
    logger.begin(blue).hand_over(replace(ended("a"), daemon="iterate-blue"))
    logger.begin(replace(blue, session_id="b"))
    await logger.close()
    after = SessionLogger(SessionLogConfig(session_log_path=str(path)))
    await after.start()
    await after.close()
    assert [(row.session_id, row.daemon) for row in read_rows(path)] == [("a", "iterate-blue"), ("b", "iterate-blue")]


async def test_a_brief_that_cannot_be_encoded_costs_neither_beginning_nor_row(path: Path) -> None:
    brief = BriefRecord(grounding="candidates", candidates_total=-5, brief_ms=1)
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), append_wait_ms=10_000))
    await logger.start()
    session = logger.begin(replace(begun(), brief=brief))
    await session.begun()
    assert logger.counts()["sessions_unjournaled"] == 0
    assert await session.hand_over(replace(ended(), brief=brief)).written() == "written"
    await logger.close()
    assert read_rows(path) == [ended()]


async def test_where_nothing_of_the_end_can_be_encoded_the_bug_row_goes_without_the_brief(path: Path) -> None:
    brief = BriefRecord(grounding="candidates", candidates_total=-5, brief_ms=1)
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), append_wait_ms=10_000))
    await logger.start()
    session = logger.begin(replace(begun(), brief=brief))
    await session.begun()
    await session.hand_over(replace(ended(), brief=brief, artifact="no JSON")).written()
    await logger.close()
    (row,) = read_rows(path)
    assert row.error is not None
    assert (row.error.reason, row.brief, row.prompt) == ("BUG", None, begun().prompt)


async def test_a_bug_in_the_writer_does_not_end_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iterate.session_log.log_health._BACKOFF_MAX_S", 0.01)
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), append_wait_ms=10_000))
    await logger.start()
    real, struck = LogFile.append, threading.Event()

    def append(self: LogFile, line: bytes) -> None:
        if not struck.is_set():
            struck.set()
            raise RuntimeError("planted")
        real(self, line)

    monkeypatch.setattr(LogFile, "append", append)
    long = "x" * 300_000
    assert await (await begin(logger, "s1", long)).hand_over(ended("s1", long)).written() == "written"
    assert struck.is_set()
    await logger.close()
    assert len(read_rows(path)) == 1


class TestStrict:
    @pytest.fixture
    def config(self, path: Path) -> SessionLogConfig:
        return SessionLogConfig(session_log_path=str(path), session_log_guarantee="strict", append_wait_ms=20)

    async def test_a_session_begins_while_the_log_takes_rows(self, config: SessionLogConfig) -> None:
        logger = SessionLogger(config)
        await logger.start()
        assert logger.strict
        assert await (await begin(logger)).hand_over(ended()).written() == "written"
        await logger.close()

    async def test_no_session_begins_without_a_folder_and_sessions_begin_again_with_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "missing"
        logger = SessionLogger(
            SessionLogConfig(session_log_path=str(folder / "sessions.jsonl"), session_log_guarantee="strict")
        )
        await logger.start()
        with pytest.raises(SessionLogUnavailable):
            await begin(logger)
        folder.mkdir()

        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(SessionLogUnavailable):
                    await begin(logger)
                    break
        await logger.close()

    async def test_a_full_disk_at_the_journal_refuses_the_session(
        self, config: SessionLogConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logger = SessionLogger(config)
        await logger.start()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Journal, "begin", full)
        with pytest.raises(SessionLogUnavailable):
            await begin(logger)
        assert logger.counts()["journal_errors:ENOSPC"] == 1
        await logger.close()

    async def test_a_row_that_is_late_says_so(self, path: Path, config: SessionLogConfig) -> None:
        logger = SessionLogger(config)
        await logger.start()
        session = await begin(logger)
        with path.open("rb") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            assert await session.hand_over(ended()).written() == "late"
        await logger.close()
        assert read_rows(path) == [ended()]

    def test_strict_needs_a_path(self) -> None:
        with pytest.raises(ValueError, match="set session_log_path"):
            SessionLogConfig(session_log_guarantee="strict")


def test_settings_out_of_range_are_all_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"name a file(.|\n)*queue_rows_max(.|\n)*sweep_interval_ms") as raised:
        SessionLogConfig(session_log_path="folder/", queue_rows_max=0, sweep_interval_ms=0)
    assert "append_wait_ms" not in str(raised.value)


async def test_a_failed_fsync_is_not_taken_for_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), fsync="row", append_wait_ms=10_000))
    await logger.start()
    monkeypatch.setattr(os, "fsync", fail)
    assert await (await begin(logger)).hand_over(ended()).written() == "late"
    monkeypatch.undo()
    assert logger.counts()["fsync_errors"] == 1
    await logger.close()
    assert len(read_rows(path)) == 1
