"""Lines with their places, whatever the file's compression; a damaged file is not taken for a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from session_rows import rows, write_segment

from lakehouse.sessions.store import lines
from lakehouse.sessions.store.lines import Line, SegmentDamagedError, last_lines, read_lines
from lakehouse.sessions.store.segments import open_snapshot

NAMES = ("sessions.jsonl.1", "sessions.jsonl.1.gz", "sessions.jsonl.1.zst")


def read(folder: Path) -> list[Line]:
    with open_snapshot(folder / "sessions.jsonl") as snapshot:
        return [line for segment in snapshot.segments for line in read_lines(segment)]


@pytest.mark.parametrize("name", NAMES)
def test_each_line_has_its_number_and_offset(tmp_path: Path, name: str) -> None:
    write_segment(tmp_path / name, b"one\n\nthree\nfour")

    assert read(tmp_path) == [
        Line(1, 0, b"one", ended=True),
        Line(2, 4, b"", ended=True),
        Line(3, 5, b"three", ended=True),
        Line(4, 11, b"four", ended=False),
    ]


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_cut_file_gives_its_lines_and_then_says_that_it_is_cut(tmp_path: Path, name: str) -> None:
    path = write_segment(tmp_path / name, rows(*range(2000)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    found: list[bytes] = []

    with open_snapshot(tmp_path / "sessions.jsonl") as snapshot, pytest.raises(SegmentDamagedError, match=name):
        found.extend(line.data + b"\n" for line in read_lines(snapshot.segments[0]))

    assert found


def test_files_of_several_frames_are_read_to_their_end(tmp_path: Path) -> None:
    path = tmp_path / NAMES[2]
    path.write_bytes(zstandard.compress(rows(1)) + zstandard.compress(b"") + zstandard.compress(rows(2)))

    assert b"".join(line.data + b"\n" for line in read(tmp_path)) == rows(1, 2)


def test_a_line_longer_than_any_row_is_passed_over_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ROW_BYTES_MAX", 100)
    write_segment(tmp_path / NAMES[0], b"short\n" + b"x" * 1000 + b"\nafter\n")

    found = read(tmp_path)

    assert [(line.number, line.offset, line.data, line.too_long) for line in found] == [
        (1, 0, b"short", False),
        (2, 6, b"", True),
        (3, 1007, b"after", False),
    ]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    parts=st.lists(st.lists(st.sampled_from([b"", b" ", b"a", b"bb", b"c" * 9]), max_size=8), min_size=1, max_size=4),
    ended=st.booleans(),
    count=st.integers(0, 12),
    block=st.sampled_from([1, 3, 7, 1 << 20]),
)
def test_the_last_lines_are_those_of_a_whole_reading(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[bytes]], ended: bool, count: int, block: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    for number, part in enumerate(parts):
        suffix = ("", ".gz", ".zst")[number % 3]
        data = b"\n".join(part) + (b"\n" if ended else b"")
        write_segment(folder / f"sessions.jsonl.{9 - number}{suffix}", data, age_s=1000 - number)
    every = [line for part in parts for line in part if line.strip()]

    with pytest.MonkeyPatch.context() as patch, open_snapshot(folder / "sessions.jsonl") as snapshot:
        patch.setattr(lines, "_BUFFER_BYTES", block)
        assert last_lines(snapshot.segments, count) == every[len(every) - min(count, len(every)) :]
