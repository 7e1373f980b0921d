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
from lakehouse.sessions.query.listing import find_rows, list_sessions
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter
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


def test_ls_leaves_files_behind_after_much_that_is_too_old_and_says_so(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(encode_row(record(number)) for number in range(60)))
    write_segment(tmp_path / "sessions.jsonl.1", encode_row(record(99)), age_s=-3600)
    read = 0
    backwards = lines.read_backwards

    def counted(segment: Segment) -> Iterator[bytes]:
        nonlocal read
        for line in backwards(segment):
            read += 1
            yield line

    older_bytes = 5 * len(encode_row(record(9)))
    with patch.object(listing, "read_backwards", counted), patch.object(listing, "_OLDER_BYTES_MAX", older_bytes):
        with SessionReader(live) as reader:
            found = [session.session_id for session in list_sessions(reader, SessionFilter(), limit=2)]
            assert "older rows were found there" in reader.warnings[0]
        assert found == ["session-0059", "session-0058"]
    assert read == 8


def test_ls_reads_a_file_to_its_end_where_that_is_not_much(tmp_path: Path) -> None:
    late = [record(number) for number in (70, 71, *range(60))]
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(map(encode_row, late)))

    assert newest(live, 3) == ["session-0071", "session-0070", "session-0059"]
    with SessionReader(live) as reader:
        list_sessions(reader, SessionFilter(), limit=3)
        assert reader.warnings == ()


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("a/b", rb'"a\/b"'),
        ("plain-1", rb'"pl\u0061in-1"'),
        ("caf\u00e9", rb'"caf\u00E9"'),
        ("\U0001f69c", rb'"\ud83d\ude9c"'),
        ("tab\t", rb'"tab\u0009"'),
        ("\ufffd", rb'"\udc00"'),
    ],
)
def test_an_id_is_found_however_it_is_spelled(tmp_path: Path, identifier: str, text: bytes) -> None:
    line = encode_row(record(1)).replace(b'"session-0001"', text)
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(record(2)) + line)

    with SessionReader(live) as reader:
        assert [found + b"\n" for found in find_rows(reader, identifier)] == [line]
