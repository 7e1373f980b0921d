"""Following the live file: each row once, across rotation and truncation, never half a row."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_rows import rows, write_segment

from lakehouse.sessions.query import follow
from lakehouse.sessions.query.follow import LogFollower
from lakehouse.sessions.store.segments import open_snapshot


def polled(follower: LogFollower) -> bytes:
    return b"".join(line + b"\n" for line in follower.poll())


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_it_starts_behind_the_snapshot(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1, 2))
    with open_snapshot(live) as snapshot:
        follower = LogFollower(live, after=snapshot.segments[0])
    with follower:
        assert polled(follower) == b""
        append(live, rows(3))
        assert polled(follower) == rows(3)
        assert polled(follower) == b""


def test_half_a_row_waits_for_its_other_half(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", b"")
    with LogFollower(live) as follower:
        append(live, rows(1)[:100])
        assert polled(follower) == b""
        append(live, rows(1)[100:])
        assert polled(follower) == rows(1)


def test_rotation_by_rename_loses_no_row(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1))
    with LogFollower(live) as follower:
        assert polled(follower) == rows(1)
        append(live, rows(2))
        live.rename(tmp_path / "sessions.jsonl.1")
        assert polled(follower) == rows(2)
        live.write_bytes(rows(3))
        assert polled(follower) == rows(3)


def test_a_writer_within_a_row_of_the_rotated_file_is_waited_for(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1))
    fd = os.open(live, os.O_RDWR | os.O_APPEND)
    with LogFollower(live) as follower:
        assert polled(follower) == rows(1)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, rows(2)[:80])
        live.rename(tmp_path / "sessions.jsonl.1")
        live.write_bytes(rows(3))
        assert polled(follower) == b""
        os.write(fd, rows(2)[80:])
        os.close(fd)
        assert polled(follower) == rows(2, 3)


def test_copytruncate_starts_again_from_the_beginning(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1, 2))
    with LogFollower(live) as follower:
        assert polled(follower) == rows(1, 2)
        live.write_bytes(rows(3))
        assert polled(follower) == rows(3)


def test_a_log_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    with LogFollower(live) as follower:
        assert polled(follower) == b""
        live.write_bytes(rows(1))
        assert polled(follower) == rows(1)


def test_a_line_longer_than_any_row_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "ROW_BYTES_MAX", 5000)
    monkeypatch.setattr(follow, "_PIECE_BYTES", 1000)
    live = write_segment(tmp_path / "sessions.jsonl", rows(1) + b"x" * 20_000 + b"\n" + rows(2))
    with LogFollower(live) as follower:
        assert polled(follower) == rows(1, 2)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    steps=st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(["rotate", "poll"])), max_size=25),
    piece=st.sampled_from([1, 4, 1 << 20]),
)
def test_whatever_is_appended_is_given_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | str], piece: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    live = write_segment(folder / "sessions.jsonl", b"")
    files = [b""]
    found: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch, LogFollower(live) as follower:
        patch.setattr(follow, "_PIECE_BYTES", piece)
        for step in steps:
            if isinstance(step, bytes):
                append(live, step)
                files[-1] += step
            elif step == "poll":
                found += follower.poll()
            else:
                found += follower.poll()
                live.rename(folder / f"sessions.jsonl.{len(files)}")
                live.write_bytes(b"")
                files.append(b"")
        append(live, b"\n")
        found += follower.poll()

    assert found == [line for data in files for line in data.split(b"\n") if line.strip()]
