"""Which files are the log: one stream of the live file, the rotated ones and Parquet, as it stood at one moment."""

from __future__ import annotations

import fcntl
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from session_rows import rows, session_ids, write_log, write_segment

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.store import segments
from lakehouse.sessions.store.lines import read_lines
from lakehouse.sessions.store.log_files import LogFiles, list_log_files
from lakehouse.sessions.store.segments import SessionLogUnavailableError, open_snapshot

LIVE = Path("sessions.jsonl")


def test_live_rotated_and_compressed_files_are_one_stream(tmp_path: Path) -> None:
    live = write_log(tmp_path)

    assert [name for name in session_ids(live) if name.startswith("session-")] == [
        f"session-{n:04d}" for n in range(50)
    ]
    with open_snapshot(live) as snapshot:
        assert [segment.path.name for segment in snapshot.segments] == [
            "sessions.jsonl-20261101.zst",
            "sessions.jsonl.2.gz",
            "sessions.jsonl.1",
            "sessions.jsonl",
        ]


def test_journals_symlinks_and_folders_are_passed_over(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    (tmp_path / ".sessions.jsonl.0b6c.inflight").write_bytes(rows(2))
    (tmp_path / "sessions.jsonl.1").symlink_to(live)
    (tmp_path / "sessions.jsonl.2").mkdir()

    assert session_ids(live) == ["session-0001"]


def test_a_log_without_a_live_file_is_still_a_log(tmp_path: Path) -> None:
    write_segment(tmp_path / "sessions.jsonl.1", rows(1, 2))

    assert session_ids(tmp_path / LIVE) == ["session-0001", "session-0002"]


def test_no_log_at_all_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SessionLogUnavailableError, match=r"--log or LAKEHOUSE_SESSION_LOG"):
        open_snapshot(tmp_path / LIVE)


def test_a_symlink_is_refused_by_name(tmp_path: Path) -> None:
    target = write_segment(tmp_path / "elsewhere", rows(1))
    (tmp_path / LIVE).symlink_to(target)

    with pytest.raises(SessionLogUnavailableError, match="symbolic link"):
        open_snapshot(tmp_path / LIVE)


def test_a_file_that_is_being_compressed_counts_once(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    write_segment(tmp_path / "sessions.jsonl.1", rows(2, 3))
    partial = write_segment(tmp_path / "sessions.jsonl.1.gz", rows(2, 3))
    partial.write_bytes(partial.read_bytes()[:40])

    with SessionReader(live) as reader:
        assert "is left out" in reader.warnings[0]
    assert session_ids(live) == ["session-0001", "session-0002", "session-0003"]


def test_a_snapshot_outlives_rotation_and_removal(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    write_segment(tmp_path / "sessions.jsonl.1", rows(2))

    with SessionReader(live) as reader:
        (tmp_path / "sessions.jsonl.1").unlink()
        live.rename(tmp_path / "sessions.jsonl.1")
        live.write_bytes(rows(3))

        _, found = reader.query("SELECT session_id FROM sessions ORDER BY 1")
        assert list(found) == [("session-0001",), ("session-0002",)]


def test_a_rotation_between_listing_and_opening_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    calls: list[int] = []

    def rotates_once(log_path: Path) -> LogFiles:
        listing = list_log_files(log_path)
        calls.append(1)
        if len(calls) == 1:
            live.rename(tmp_path / "sessions.jsonl.1")
            live.write_bytes(rows(2))
        return listing

    monkeypatch.setattr(segments, "list_log_files", rotates_once)

    assert session_ids(live) == ["session-0001", "session-0002"]
    assert len(calls) >= 3


def test_a_file_that_a_listing_missed_is_found_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    write_segment(tmp_path / "sessions.jsonl.1", rows(2))
    listings: list[LogFiles] = []

    def misses_one(log_path: Path) -> LogFiles:
        listing = list_log_files(log_path)
        listings.append(listing)
        # What reading a folder while its files are renamed may give.
        return replace(listing, files=listing.files[:1]) if len(listings) == 1 else listing

    monkeypatch.setattr(segments, "list_log_files", misses_one)

    assert session_ids(live) == ["session-0001", "session-0002"]


def test_the_end_of_the_live_file_is_taken_while_no_writer_is_within_a_row(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    fd = os.open(live, os.O_RDWR | os.O_APPEND)
    fcntl.flock(fd, fcntl.LOCK_EX)
    row = rows(2)
    os.write(fd, row[:50])

    def finish() -> None:
        os.write(fd, row[50:])
        os.close(fd)

    finished = threading.Timer(0.1, finish)
    finished.start()

    with open_snapshot(live) as snapshot:
        lines = [line.data + b"\n" for line in read_lines(snapshot.segments[0])]
    finished.join()

    assert snapshot.warnings == ()
    assert b"".join(lines) == rows(1, 2)


def test_a_reader_does_not_wait_for_a_writer_that_hangs(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    fd = os.open(live, os.O_RDWR | os.O_APPEND)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with open_snapshot(live) as snapshot:
            assert not snapshot.segments[0].quiet
    finally:
        os.close(fd)
