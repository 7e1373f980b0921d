"""The append rules that Python, Go and Rust producers share, on one file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lakehouse.sessions.store.append import LogFile, LogPosition


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.jsonl"


def append(log: LogFile, line: bytes) -> None:
    assert log.try_lock()
    try:
        log.append(line)
    finally:
        log.unlock()


def test_a_torn_last_line_does_not_swallow_the_next_row(path: Path) -> None:
    path.write_bytes(b'{"a":1}\n{"b":')
    log = LogFile(path)
    append(log, b'{"c":3}\n')
    append(log, b'{"d":4}\n')
    log.close()
    assert path.read_bytes() == b'{"a":1}\n{"b":\n{"c":3}\n{"d":4}\n'


def test_two_descriptors_exclude_one_another_and_trying_never_waits(path: Path) -> None:
    first, second = LogFile(path), LogFile(path)
    assert first.try_lock()
    assert not second.try_lock()
    first.unlock()
    assert second.try_lock()
    second.unlock()
    first.close()
    second.close()


def test_the_next_row_after_a_rename_goes_to_the_new_file(path: Path) -> None:
    log = LogFile(path)
    append(log, b"1\n")
    path.rename(path.with_name("sessions.jsonl.1"))
    append(log, b"2\n")
    assert path.read_bytes() == b"2\n"
    assert path.with_name("sessions.jsonl.1").read_bytes() == b"1\n"
    # The rotated file is still owed its fsync, and comes before the new one.
    descriptors = log.take_unsynced()
    assert [os.fstat(fd).st_ino for fd in descriptors] == [
        path.with_name("sessions.jsonl.1").stat().st_ino,
        path.stat().st_ino,
    ]
    assert not log.needs_sync
    for fd in descriptors:
        os.close(fd)
    log.close()


def test_a_line_cut_short_by_a_full_disk_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(path)
    append(log, b"first\n")
    real = os.write

    def short(fd: int, data: bytes) -> int:
        if len(data) < 6:
            raise OSError(28, "No space left on device")
        return real(fd, bytes(data)[:6])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(OSError, match="No space"):
            append(log, b"second\n")
    assert path.read_bytes() == b"first\n"
    append(log, b"third\n")
    assert path.read_bytes() == b"first\nthird\n"
    log.close()


def test_taking_back_never_grows_a_file_that_was_truncated_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogFile(path)
    append(log, b"a long first line\n")
    real = os.write

    def truncated(fd: int, data: bytes) -> int:
        if len(data) == 7:
            os.truncate(path, 0)  # copytruncate, which takes no lock
            return real(fd, bytes(data)[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", truncated)
        with pytest.raises(OSError, match="No space"):
            append(log, b"second\n")
    assert path.read_bytes() == b"sec"
    append(log, b"third\n")
    assert path.read_bytes() == b"sec\nthird\n"
    log.close()


def test_the_position_says_where_later_rows_stand(path: Path) -> None:
    log = LogFile(path)
    assert log.position() == LogPosition()
    append(log, b"x" * 199 + b"\n")
    found = path.stat()
    position = log.position()
    assert (position.device, position.inode, position.size) == (found.st_dev, found.st_ino, 200)
    assert position.head != "-"
    path.rename(path.with_name("sessions.jsonl.1"))
    path.write_bytes(b"")
    assert log.position().head == "-", "the head of one file was given for another"
    log.close()


def test_a_folder_in_the_logs_place_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        LogFile(path).try_lock()


def test_a_new_file_is_closed_to_others(path: Path) -> None:
    previous = os.umask(0)
    try:
        append(log := LogFile(path), b"1\n")
    finally:
        os.umask(previous)
    log.close()
    assert path.stat().st_mode & 0o777 == 0o640
