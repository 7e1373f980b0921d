"""What reads a part of the log finds what a reading of the whole would: lines from the end, blocks, the newest rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_rows import record, write_segment

from lakehouse.sessions.query import listing
from lakehouse.sessions.query.listing import SessionFilter, list_sessions
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store import lines
from lakehouse.sessions.store.segments import Segment, open_snapshot
from lakehouse.sessions.upkeep.compaction import compact


@settings(deadline=None)
@given(
    text=st.lists(st.sampled_from([b"", b" ", b"a", b"bc", b"d" * 9, b"e" * 40]), max_size=30).map(b"\n".join),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 30)),
)
def test_backwards_and_in_blocks_the_lines_are_the_same(text: bytes, sizes: tuple[int, int]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(lines, "_TAIL_BYTES", sizes[0]),
        patch.object(lines, "_BUFFER_BYTES", sizes[1]),
        patch.object(lines, "ROW_BYTES_MAX", 20),
        open_snapshot(write_segment(Path(folder) / "sessions.jsonl", text)) as snapshot,
    ):
        [segment] = snapshot.segments
        wanted = [line for line in text.split(b"\n") if line.strip() and len(line) <= 20]

        assert list(lines.read_backwards(segment))[::-1] == wanted
        in_blocks = [line for block in lines.read_blocks(segment) for line in block.split(b"\n")]
        assert [line for line in in_blocks if line.strip() and len(line) <= 20] == wanted


def newest(live: Path, limit: int) -> list[str | None]:
    with SessionReader(live) as reader:
        return [session.session_id for session in list_sessions(reader, SessionFilter(), limit=limit)]


@pytest.mark.parametrize("compacted", [False, True])
def test_ls_passes_over_rows_that_a_sweep_appended_late(tmp_path: Path, compacted: bool) -> None:
    recovered = [record(number, session_id=f"late-{number}") for number in range(30)]
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(map(encode_row, recovered)), age_s=0)
    write_segment(tmp_path / "sessions.jsonl.1", b"".join(encode_row(record(number)) for number in range(100, 140)))
    write_segment(tmp_path / "sessions.jsonl.2.gz", b"".join(encode_row(record(number)) for number in range(60, 100)))
    if compacted:
        list(compact(live))

    assert newest(live, 3) == ["session-0139", "session-0138", "session-0137"]
    assert newest(live, 45)[-1] == "session-0095"


def test_ls_leaves_a_file_behind_after_many_rows_that_are_too_old(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(encode_row(record(number)) for number in range(60)))
    read = 0
    backwards = lines.read_backwards

    def counted(segment: Segment) -> Iterator[bytes]:
        nonlocal read
        for line in backwards(segment):
            read += 1
            yield line

    with patch.object(listing, "read_backwards", counted), patch.object(listing, "_OLDER_ROWS", 5):
        assert newest(live, 2) == ["session-0059", "session-0058"]
    assert read == 7
