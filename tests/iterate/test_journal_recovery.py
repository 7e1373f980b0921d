"""A crash after any byte of any write: every session that began has exactly one row after the next sweep.

Processes are simulated in one: the modules that write see an ``os`` that dies in the middle of a chosen call, keeps
the bytes written so far, and closes the dead process's descriptors, which releases its locks as the kernel would. The
writer's thread is not started: its turns are steps of the machine, so that whatever is queued may be queued still when
the process dies. The log's disk may be full at any step; the spill stands on another.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from campaigns import campaign
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import iterate.session_log.journal
import iterate.session_log.log_health
import iterate.session_log.sweep
import lakehouse.sessions.store.append
from iterate.session_log.counts import MinuteWarning, SessionLogCounts
from iterate.session_log.exchange import settle_all
from iterate.session_log.logger import Handover, OpenSession, SessionLogConfig, SessionLogger
from iterate.session_log.sweep import sweep
from iterate.session_log.writer import LogWriter
from lakehouse.sessions.record import PROCESS_DIED, SessionAttemptRecord, SessionRecord, rfc3339
from lakehouse.sessions.row_reading import RowBreach, decode_row

WRITERS = (iterate.session_log.journal, lakehouse.sessions.store.append, iterate.session_log.sweep)


class KilledError(BaseException):
    """The simulated SIGKILL; no `except Exception` may survive it."""


@dataclass
class Doom:
    """Die in the call that comes after ``calls`` more of them, once ``share`` of its bytes are written."""

    calls: int
    share: float


@dataclass
class Process:
    name: str
    doom: Doom | None = None
    dead: bool = False
    full: bool = False
    """The log's disk takes no new bytes, for neither log nor journal; overwriting one works."""
    was_full: bool = False
    descriptors: set[int] = field(default_factory=set)

    def die(self) -> None:
        self.dead = True
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors.clear()


class MortalOs:
    """``os`` for the modules under test; ``current`` is the process that is running."""

    def __init__(self) -> None:
        self.current: Process | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _strike(self) -> float | None:
        process = self.current
        assert process is not None
        if process.dead:
            raise KilledError
        if process.doom is None:
            return None
        if process.doom.calls > 0:
            process.doom.calls -= 1
            return None
        return process.doom.share

    def _fall(self) -> KilledError:
        assert self.current is not None
        self.current.die()
        return KilledError()

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        fd = os.open(path, flags, mode)
        assert self.current is not None
        self.current.descriptors.add(fd)
        return fd

    def close(self, fd: int) -> None:
        assert self.current is not None
        if not self.current.dead:
            self.current.descriptors.discard(fd)
            os.close(fd)

    def _check_room(self, fd: int) -> None:
        """Take the spill for one on another disk."""
        assert self.current is not None
        if self.current.full and Path(f"/proc/self/fd/{fd}").readlink().suffix not in {".spill", ".new"}:
            raise OSError(errno.ENOSPC, "full")

    def write(self, fd: int, data: bytes) -> int:
        share = self._strike()
        self._check_room(fd)
        if share is None:
            return os.write(fd, data)
        os.write(fd, bytes(data)[: int(len(data) * share)])
        raise self._fall()

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        share = self._strike()
        if len(data) > 1:
            self._check_room(fd)
        if share is None:
            return os.pwrite(fd, data, offset)
        os.pwrite(fd, bytes(data)[: int(len(data) * share)], offset)
        raise self._fall()

    def _whole(self, name: str, *arguments: Any) -> None:
        share = self._strike()
        if share is None or share >= 0.5:
            getattr(os, name)(*arguments)
        if share is not None:
            raise self._fall()

    def ftruncate(self, fd: int, size: int) -> None:
        self._whole("ftruncate", fd, size)

    def rename(self, source: str, target: str) -> None:
        self._whole("rename", source, target)

    def unlink(self, path: str) -> None:
        self._whole("unlink", path)


class MortalFcntl:
    """``fcntl`` likewise: a dead process does not run its ``finally``."""

    def __init__(self, mortal: MortalOs) -> None:
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def flock(self, fd: int, operation: int) -> None:
        if self._mortal.current is not None and self._mortal.current.dead:
            raise KilledError
        fcntl.flock(fd, operation)


@dataclass
class Simulated:
    """A session as the test knows it."""

    begun: SessionRecord
    process: Process
    open: OpenSession | None = None
    attempts: list[SessionAttemptRecord] = field(default_factory=list)
    attempts_written: int = 0
    """At least so many of them stand."""
    record: SessionRecord | None = None
    handover: Handover | None = None
    rescued: bool = False
    started: float = field(default_factory=time.monotonic)


STEPS = st.sampled_from(["queued", "done", "done", "locked", "full"])
DOOMS = st.builds(Doom, st.integers(0, 5), st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.999, 1.0]))


MAYBE_DOOMED = st.none() | st.none() | DOOMS


class Crashes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "log" / "sessions.jsonl"
        self.spill_dir = Path(self.folder.name) / "spill"
        self.path.parent.mkdir()
        self.spill_dir.mkdir()
        self.os = MortalOs()
        self.patch = pytest.MonkeyPatch()
        for module in WRITERS:
            self.patch.setattr(module, "os", self.os)
            self.patch.setattr(module, "fcntl", MortalFcntl(self.os))
        self.patch.setattr(iterate.session_log.journal, "EMPTY_BYTES_MIN", 1_500)
        self.patch.setattr(iterate.session_log.journal, "DEAD_BYTES_MAX", 600)
        self.patch.setattr(iterate.session_log.journal, "RETRY_S", 0.0)
        self.patch.setattr(iterate.session_log.log_health, "_BACKOFF_MAX_S", 0.0)
        self.patch.setattr(iterate.session_log.log_health, "_BACKOFF_MIN_S", 0.0)
        self.patch.setattr(iterate.session_log.log_health, "_LOCK_STEP_MIN_S", 0.0)
        self.loggers: dict[str, tuple[Process, SessionLogger]] = {}
        self.sessions: list[Simulated] = []
        self.started = 0
        self.kills = 0
        self.rotations = 0

    def teardown(self) -> None:
        try:
            self.check()
        finally:
            for process, _ in self.loggers.values():
                if not process.dead:
                    process.die()
            self.patch.undo()
            self.folder.cleanup()

    # What a process does. Each may be struck down in any of its writes.

    @initialize()
    def first(self) -> None:
        self.start()

    @rule()
    def start(self) -> None:
        if len(self.living()) < 3:
            self.started += 1
            name = f"p{self.started}"
            config = SessionLogConfig(
                session_log_path=str(self.path),
                spill_dir=str(self.spill_dir),
                fsync="never",
                queue_rows_max=10_000,
            )
            logger = SessionLogger(config)
            self.writer_of(logger)._report = settle_all
            self.loggers[name] = (Process(name), logger)

    @precondition(lambda self: self.living())
    @rule(
        data=st.data(),
        doom=MAYBE_DOOMED,
        prompt_size=st.sampled_from([1, 300, 3_000]),
        reused=st.booleans(),
        step=STEPS,
    )
    def begin(self, data: st.DataObject, doom: Doom | None, prompt_size: int, reused: bool, step: str) -> None:
        self.begin_session(*data.draw(st.sampled_from(self.living())), doom, prompt_size, step, reused=reused)

    def begin_session(
        self,
        process: Process,
        logger: SessionLogger,
        doom: Doom | None,
        prompt_size: int,
        step: str,
        *,
        reused: bool = False,
    ) -> None:
        # A caller may send both ids of an earlier session again, as after a process died.
        number = 0 if reused else len(self.sessions) + 1
        begun = SessionRecord(
            session_id=f"s{number}",
            timestamp=rfc3339(time.time_ns() // 1000),
            trace_id=f"{number:032x}",
            kind="fill",
            provider="p",
            model="m",
            prompt="é\n" * prompt_size,
            spec=f'{{"number":{len(self.sessions)}}}',  # one for each session, for this test
            max_iterations=3,
            final_verdict="infra_error",
            error=PROCESS_DIED,
            duration_ms=0,
        )
        session = Simulated(begun, process)
        self.sessions.append(session)

        session.open = logger.begin(begun)
        self.turn(process, logger, doom, step)

    @precondition(lambda self: self.open_sessions())
    @rule(data=st.data(), doom=MAYBE_DOOMED, size=st.integers(0, 2_000), step=STEPS)
    def finish_attempt(self, data: st.DataObject, doom: Doom | None, size: int, step: str) -> None:
        session = data.draw(st.sampled_from(self.open_sessions()))
        attempt = SessionAttemptRecord(iteration=len(session.attempts) + 1, verdict="rejected", raw="\u2028" * size)
        assert session.open is not None
        session.attempts.append(attempt)
        session.open.attempt_finished(attempt)
        self.turn(session.process, self.loggers[session.process.name][1], doom, step)

    @precondition(lambda self: self.open_sessions())
    @rule(data=st.data(), doom=MAYBE_DOOMED)
    def hand_over_on_a_full_disk(self, data: st.DataObject, doom: Doom | None) -> None:
        self.hand_over(data.draw(st.sampled_from(self.open_sessions())), doom, "full")

    @precondition(lambda self: self.open_sessions())
    @rule(data=st.data(), doom=MAYBE_DOOMED, step=STEPS)
    def hand_over_somehow(self, data: st.DataObject, doom: Doom | None, step: str) -> None:
        self.hand_over(data.draw(st.sampled_from(self.open_sessions())), doom, step)

    def hand_over(self, session: Simulated, doom: Doom | None, step: str) -> None:
        session.record = replace(
            session.begun,
            timestamp=rfc3339(time.time_ns() // 1000),
            final_verdict="accepted",
            error=None,
            artifact='{"workers":[]}',
            attempts=tuple(session.attempts),
            duration_ms=int((time.monotonic() - session.started) * 1000),
        )
        assert session.open is not None
        session.handover = session.open.hand_over(session.record)
        self.turn(session.process, self.loggers[session.process.name][1], doom, step)

    @precondition(lambda self: self.living())
    @rule(data=st.data(), doom=MAYBE_DOOMED, step=STEPS)
    def go_on(self, data: st.DataObject, doom: Doom | None, step: str) -> None:
        process, logger = data.draw(st.sampled_from(self.living()))
        self.turn(process, logger, doom, step)

    @precondition(lambda self: self.living())
    @rule(
        data=st.data(), doom=MAYBE_DOOMED, how=st.sampled_from(["SIGKILL", "SIGTERM", "SIGTERM, full", "SIGTERM, hung"])
    )
    def end_process(self, data: st.DataObject, doom: Doom | None, how: str) -> None:
        """SIGTERM: the drain is over, and what is left is spilled; by another thread, where the writer's hangs in the
        log's disk."""
        self.end(*data.draw(st.sampled_from(self.living())), doom, how)

    def end(self, process: Process, logger: SessionLogger, doom: Doom | None, how: str) -> None:
        writer = self.writer_of(logger)
        process.full = how in {"SIGTERM, full", "SIGTERM, hung"}  # not a byte gets there
        waiting = [
            session
            for session in self.sessions
            if session.process is process and session.handover is not None and session.handover.outcome is None
        ]
        if how == "SIGTERM, hung":
            if self.run(process, doom, writer.rescue):
                for session in waiting:
                    session.rescued = True
        elif how != "SIGKILL":
            self.run(process, doom, writer._finish)
        if not process.dead:
            process.die()
            self.kills += 1

    @rule(doom=MAYBE_DOOMED)
    def sweep(self, doom: Doom | None) -> None:
        self.run(Process("sweeper"), doom, self.sweep_once)

    @precondition(lambda self: self.path.exists())
    @rule(how=st.sampled_from(["plain", "gz", "zst"]))
    def rotate(self, how: str) -> None:
        self.rotations += 1
        target = self.path.with_name(f"sessions.jsonl.{self.rotations}")
        self.path.rename(target)
        if how != "plain":
            data = target.read_bytes()
            packed = gzip.compress(data) if how == "gz" else zstandard.compress(data)
            target.with_name(f"{target.name}.{how}").write_bytes(packed)
            target.unlink()

    # Machinery.

    def turn(self, process: Process, logger: SessionLogger, doom: Doom | None, step: str) -> None:
        if step == "queued":
            return
        process.full = step == "full"
        holder = None
        if step == "locked":
            holder = lakehouse.sessions.store.append.LogFile(self.path)
            self.os.current = Process("holder")
            assert holder.try_lock()
        if self.run(process, doom, self.writer_of(logger).turn):
            for session in self.sessions:
                if session.process is process and not process.was_full:
                    session.attempts_written = len(session.attempts)
        if holder is not None:
            self.os.current = Process("holder")
            holder.unlock()
            holder.close()
            self.os.current = None

    def writer_of(self, logger: SessionLogger) -> LogWriter:
        assert logger._writer is not None
        return logger._writer

    def living(self) -> list[tuple[Process, SessionLogger]]:
        return [(process, logger) for process, logger in self.loggers.values() if not process.dead]

    def open_sessions(self) -> list[Simulated]:
        return [
            session
            for session in self.sessions
            if session.open is not None and session.record is None and not session.process.dead
        ]

    def run(self, process: Process, doom: Doom | None, action: Callable[[], object]) -> bool:
        """Return False where it was struck down."""
        self.os.current = process
        process.doom = replace(doom) if doom is not None else None
        process.was_full |= process.full
        try:
            action()
        except KilledError:
            self.kills += 1
            return False
        else:
            return True
        finally:
            process.doom = None
            self.os.current = None

    def sweep_once(self) -> None:
        counts = SessionLogCounts()
        sweep(str(self.path), spill_dir=str(self.spill_dir), counts=counts, warning=MinuteWarning(), synced=False)
        errors = {key: n for key, n in counts.snapshot().items() if key.startswith("sweep_errors")}
        assert not errors
        assert counts.snapshot()["journal_lines_skipped"] <= self.kills

    def check(self) -> None:
        for process, _ in self.living():
            process.die()
            self.kills += 1
        self.run(Process("last sweeper"), None, self.sweep_once)
        self.run(Process("one more"), None, self.sweep_once)
        assert [path.name for path in self.path.parent.iterdir() if path.name.startswith(".")] == []
        assert list(self.spill_dir.iterdir()) == []
        rows, torn = self.read_log()
        assert torn <= self.kills
        assert set(Counter(row.spec for row in rows).values()) <= {1}, "a session has two rows"
        row_of = {row.spec: row for row in rows}
        for session in self.sessions:
            row = row_of.get(session.begun.spec)
            assert session.open is not None
            in_flight = session.open._session
            assert in_flight is not None
            if in_flight.begun.outcome == "journaled":
                assert row is not None, "a session that began has no row"
            outcome = session.handover.outcome if session.handover is not None else None
            if outcome in {"written", "spilled"} or session.rescued:
                assert row == session.record, "the log contradicts an answer"
            elif row is not None and row != session.record:
                assert row.prompt == session.begun.prompt
                assert row.final_verdict == "infra_error"
                assert row.error == PROCESS_DIED
                assert row.attempts == tuple(session.attempts[: len(row.attempts)])
                assert len(row.attempts) >= session.attempts_written

    def read_log(self) -> tuple[list[SessionRecord], int]:
        rows, torn = [], 0
        for path in self.path.parent.glob("sessions.jsonl*"):
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            elif path.suffix == ".zst":
                data = zstandard.decompress(data)
            for line in data.split(b"\n"):
                try:
                    rows.append(decode_row(line))
                except RowBreach as breach:
                    torn += breach.kind != "blank"
        return rows, torn


def test_a_crash_after_any_byte_leaves_one_row_for_every_session() -> None:
    run_state_machine_as_test(
        Crashes,
        settings=campaign(
            50,
            stateful_step_count=40,
            phases=[Phase.generate],  # shrinking takes minutes and is worth them by hand only
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGTERM, full", "SIGTERM, hung"])
@pytest.mark.parametrize("step", ["queued", "done", "locked", "full"])
@pytest.mark.parametrize("begin_step", ["done", "full"])
def test_a_crash_at_each_call_of_an_end_leaves_its_row(begin_step: str, step: str, how: str) -> None:
    for struck in ("at the hand-over", "at the end of the process"):
        for calls in range(8):
            for share in (0.0, 0.5, 1.0):
                machine = Crashes()
                try:
                    machine.start()
                    ((process, logger),) = machine.living()
                    machine.begin_session(process, logger, None, 1, "done")
                    machine.begin_session(process, logger, None, 1, begin_step)
                    doom = Doom(calls, share)
                    machine.hand_over(machine.sessions[1], doom if struck == "at the hand-over" else None, step)
                    if machine.living():
                        machine.end(process, logger, doom if struck == "at the end of the process" else None, how)
                finally:
                    machine.teardown()
