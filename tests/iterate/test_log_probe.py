"""Goal: under `strict`, a disk that takes nothing is found out without a session, and so is its return."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from iterate.session_log import log_probe
from iterate.session_log.config import SessionLogConfig
from iterate.session_log.log_probe import LogProbe

HANG_S = 30


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_probe, "_EVERY_S", 0.01)


def probe_of(folder: Path) -> LogProbe:
    return LogProbe(SessionLogConfig(session_log_path=str(folder / "sessions.jsonl"), session_log_guarantee="strict"))


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.005)


def test_before_the_first_try_nothing_is_taken_for_granted(tmp_path: Path) -> None:
    assert "not tried yet" in probe_of(tmp_path).problem()


def test_a_log_that_takes_rows_is_no_problem_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    log = tmp_path / "sessions.jsonl"
    log.write_bytes(b"a row\n")
    (tmp_path / ".sessions.jsonl.of-the-dead.probe").touch()
    probe = probe_of(tmp_path)

    with probe.running():
        until(lambda: not probe.problem())

    until(lambda: [each.name for each in tmp_path.iterdir()] == ["sessions.jsonl"])
    assert log.read_bytes() == b"a row\n"


@pytest.mark.parametrize("written", ["nothing", "half"])
def test_a_full_disk_is_a_problem_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    full, write = True, os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if not full or data != log_probe._PROBE:
            return write(descriptor, data)
        if written == "nothing":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", refuse)
    probe = probe_of(tmp_path)
    with probe.running():
        until(lambda: "No space left" in probe.problem())
        full = False
        until(lambda: not probe.problem())


def test_a_disk_that_does_not_answer_is_a_problem_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_probe, "_HANGS_S", 0.1)
    answers = threading.Event()
    answers.set()
    write = os.write

    def hang(descriptor: int, data: bytes) -> int:
        if data == log_probe._PROBE:
            answers.wait(HANG_S)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", hang)
    probe = probe_of(tmp_path)
    with probe.running():
        until(lambda: not probe.problem())
        answers.clear()
        until(lambda: "does not answer" in probe.problem())
        answers.set()
        until(lambda: not probe.problem())


@pytest.mark.parametrize("what", ["a symbolic link", "a folder", "a missing folder"])
def test_a_log_that_cannot_be_one_is_a_problem(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "logs"
    config = SessionLogConfig(session_log_path=str(folder / "sessions.jsonl"), session_log_guarantee="strict")
    if what != "a missing folder":
        folder.mkdir()
    if what == "a symbolic link":
        (folder / "sessions.jsonl").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").touch()
    elif what == "a folder":
        (folder / "sessions.jsonl").mkdir()
    probe = LogProbe(config)

    with probe.running():
        until(lambda: "cannot be written" in probe.problem())
