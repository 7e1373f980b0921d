"""A crash after any byte of any write: every session that began has exactly one row after the next sweep.

Processes are simulated in one: the modules that write see an ``os`` that dies in the middle of a chosen call, keeps
the bytes written so far, and closes the dead process's descriptors, which releases its locks as the kernel would.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import iterate.session_log.journal
import iterate.session_log.sweep
import lakehouse.sessions.store.append
from iterate.session_log.counts import MinuteWarning, SessionLogCounts
from iterate.session_log.logger import OpenSession, SessionLogConfig, SessionLogger
from iterate.session_log.sweep import sweep
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
    """The disk takes no new bytes for the journal; overwriting one works."""
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

    def write(self, fd: int, data: bytes) -> int:
        share = self._strike()
        if share is None:
            return os.write(fd, data)
        os.write(fd, bytes(data)[: int(len(data) * share)])
        raise self._fall()

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        share = self._strike()
        assert self.current is not None
        if self.current.full and len(data) > 1:
            os.pwrite(fd, bytes(data)[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "full")
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
    attempts_offered: int = 0
    record: SessionRecord | None = None
    handed_over: bool = False
    started: float = field(default_factory=time.monotonic)


DOOMS = st.builds(Doom, st.integers(0, 5), st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.999, 1.0]))


class Crashes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "sessions.jsonl"
        self.os = MortalOs()
        self.patch = pytest.MonkeyPatch()
        for module in WRITERS:
            self.patch.setattr(module, "os", self.os)
            self.patch.setattr(module, "fcntl", MortalFcntl(self.os))
        self.patch.setattr(iterate.session_log.journal, "EMPTY_BYTES_MIN", 1_500)
        self.patch.setattr(iterate.session_log.journal, "DEAD_BYTES_MAX", 600)
        self.patch.setattr(iterate.session_log.journal, "RETRY_S", 0.0)
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
            self.loggers[name] = (Process(name), SessionLogger(SessionLogConfig(session_log_path=str(self.path))))

    @precondition(lambda self: self.living())
    @rule(data=st.data(), doom=st.none() | DOOMS, prompt_size=st.sampled_from([1, 300, 3_000]), reused=st.booleans())
    def begin(self, data: st.DataObject, doom: Doom | None, prompt_size: int, reused: bool) -> None:
        process, logger = data.draw(st.sampled_from(self.living()))
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

        def run() -> None:
            session.open = logger.begin(begun)

        self.run(process, doom, run)

    @precondition(lambda self: self.open_sessions())
    @rule(data=st.data(), doom=st.none() | DOOMS, size=st.integers(0, 2_000))
    def finish_attempt(self, data: st.DataObject, doom: Doom | None, size: int) -> None:
        session = data.draw(st.sampled_from(self.open_sessions()))
        attempt = SessionAttemptRecord(iteration=session.attempts_offered + 1, verdict="rejected", raw="\u2028" * size)
        session.attempts_offered += 1

        def run() -> None:
            assert session.open is not None
            session.open.attempt_finished(attempt)
            session.attempts.append(attempt)

        self.run(session.process, doom, run)

    @precondition(lambda self: self.open_sessions())
    @rule(data=st.data(), doom=st.none() | DOOMS, trouble=st.sampled_from(["", "", "locked", "full"]))
    def hand_over(self, data: st.DataObject, doom: Doom | None, trouble: str) -> None:
        session = data.draw(st.sampled_from(self.open_sessions()))
        session.record = replace(
            session.begun,
            timestamp=rfc3339(time.time_ns() // 1000),
            final_verdict="accepted",
            error=None,
            artifact='{"workers":[]}',
            attempts=tuple(session.attempts),
            duration_ms=int((time.monotonic() - session.started) * 1000),
        )

        def run() -> None:
            assert session.open is not None
            assert session.record is not None
            handover = session.open.hand_over(session.record)
            # With the journal full and the row queued there is nothing that could survive.
            session.handed_over = trouble != "full" or handover.outcome == "written"

        session.process.full = trouble == "full"
        if trouble == "locked":  # the row is queued, and no thread runs here that would write it
            holder = lakehouse.sessions.store.append.LogFile(self.path)
            self.os.current = Process("holder")
            assert holder.try_lock()
            self.run(session.process, doom, run)
            self.os.current = Process("holder")
            holder.unlock()
            holder.close()
        else:
            self.run(session.process, doom, run)
        session.process.full = False

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        process, _ = data.draw(st.sampled_from(self.living()))
        process.die()
        self.kills += 1

    @rule(doom=st.none() | DOOMS)
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

    def living(self) -> list[tuple[Process, SessionLogger]]:
        return [(process, logger) for process, logger in self.loggers.values() if not process.dead]

    def open_sessions(self) -> list[Simulated]:
        return [
            session
            for session in self.sessions
            if session.open is not None and session.record is None and not session.process.dead
        ]

    def run(self, process: Process, doom: Doom | None, action: Any) -> None:
        self.os.current = process
        process.doom = replace(doom) if doom is not None else None
        try:
            action()
        except KilledError:
            self.kills += 1
        finally:
            process.doom = None
            self.os.current = None

    def sweep_once(self) -> None:
        counts = SessionLogCounts()
        sweep(str(self.path), counts=counts, warning=MinuteWarning(), synced=False)
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
        rows, torn = self.read_log()
        assert torn <= self.kills
        assert set(Counter(row.spec for row in rows).values()) <= {1}, "a session has two rows"
        row_of = {row.spec: row for row in rows}
        for session in self.sessions:
            row = row_of.get(session.begun.spec)
            if session.open is not None:
                assert row is not None, "a session that began has no row"
            if row is None:
                continue
            assert row.prompt == session.begun.prompt
            if session.handed_over:
                assert row == session.record, "the log contradicts an answer"
            elif row != session.record:
                assert row.final_verdict == "infra_error"
                assert row.error == PROCESS_DIED
                # An attempt whose entry the kill cut short may be missing or, when it cut the return, be there.
                assert row.attempts[: len(session.attempts)] == tuple(session.attempts)
                assert len(row.attempts) <= session.attempts_offered

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
        settings=settings(
            derandomize=True,
            max_examples=120,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.generate],  # shrinking takes minutes and is worth them by hand only
            suppress_health_check=list(HealthCheck),
        ),
    )
