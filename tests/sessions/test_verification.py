"""`verify` counts what readers pass over in silence, and says where it stands."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from session_rows import HOSTILE_LINES, record, rows, write_log, write_segment

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.parquet_rows import connect_bare
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.sessions.upkeep.verification import Verification, verify_log


def verified(live: Path, *, canonical: bool = False, problems_max: int = 100) -> Verification:
    with SessionReader(live) as reader:
        return verify_log(reader.snapshot, canonical=canonical, problems_max=problems_max)


def counts(found: Verification) -> tuple[int, int, int, int, int]:
    return found.whole, found.torn, found.foreign, found.invalid, found.duplicates


def test_a_clean_log_passes(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1, 2) + b"\n" + rows(3))

    found = verified(live, canonical=True)

    assert (counts(found), found.not_canonical, found.passed) == ((3, 0, 0, 0, 0), 0, True)
    assert found.problems == []


def test_each_sort_of_line_is_counted_and_placed(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    rotated = live.with_name("sessions.jsonl.1").read_bytes()

    found = verified(live)

    assert counts(found) == (50, 7, 1, 3, 0)
    assert not found.passed
    for problem in found.problems:
        assert problem.path.endswith("sessions.jsonl.1")
        assert problem.offset is not None
        start = rotated.rindex(b"\n", 0, problem.offset) + 1
        assert start == problem.offset
        assert rotated[:start].count(b"\n") == problem.line - 1


def test_the_counts_are_the_same_after_compaction(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    before = counts(verified(live))

    assert all(outcome.compacted for outcome in compact(live))

    assert counts(verified(live)) == before


def test_foreign_rows_alone_do_not_fail_the_log(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1) + b'{"schema":"session.other.v1"}\n')

    assert verified(live).passed


@pytest.mark.parametrize("compacted", [False, True])
def test_a_session_with_two_rows_in_two_files_is_a_duplicate(tmp_path: Path, compacted: bool) -> None:
    live = tmp_path / "sessions.jsonl"
    write_segment(live.with_name("sessions.jsonl.1"), rows(1, 2, 3))
    if compacted:
        list(compact(live))
    live.write_bytes(rows(2) + encode_row(record(3, duration_ms=1)) + rows(4, 4, 4))

    found = verified(live)

    assert (found.whole, found.duplicates, found.passed) == (8, 4, False)
    assert len([problem for problem in found.problems if problem.kind == "duplicate"]) == 4


def test_places_are_named_up_to_the_bound_and_counts_are_of_all(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", b"{torn\n" * 50 + rows(1))

    found = verified(live, problems_max=3)

    assert (found.torn, [problem.offset for problem in found.problems]) == (50, [0, 6, 12])


def test_another_spelling_of_a_row_is_found_only_when_asked(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1) + rows(2).replace(b'","', b'", "', 1))

    assert verified(live).passed
    found = verified(live, canonical=True)
    assert (found.not_canonical, found.passed, found.problems[0].line) == (1, False, 2)


def test_a_cut_archive_fails_the_log(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1))
    (tmp_path / "sessions.jsonl.1.gz").write_bytes(gzip.compress(rows(2, 3))[:-20])

    found = verified(live)

    assert (found.whole, found.unreadable, found.passed) == (1, 1, False)
    assert "damaged" in found.problems[0].detail


def test_parquet_that_was_altered_fails_the_log(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    write_segment(live.with_name("sessions.jsonl.1"), rows(1, 2))
    list(compact(live))
    path = next((tmp_path / "sessions.parquet").glob("day=*/*.parquet"))
    assert verified(live).passed
    size = path.stat().st_size
    shutil.copy(path, tmp_path / "kept")
    connection = connect_bare(tmp_path / "spill")
    connection.execute(
        f"COPY (SELECT * REPLACE (replace(line, 'Toledo', 'Toledp') AS line) FROM read_parquet('{tmp_path / 'kept'}'))"
        f" TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
    )
    manifest = next((tmp_path / "sessions.parquet" / "_segments").iterdir())
    manifest.write_text(manifest.read_text().replace(str(size), str(path.stat().st_size)))

    found = verified(live)

    assert (found.unreadable, found.passed) == (1, False)
    assert "other lines than were compacted" in found.problems[0].detail


def test_every_hostile_line_is_counted_once(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(HOSTILE_LINES))
    blank = sum(not line.strip() for line in HOSTILE_LINES)

    assert sum(counts(verified(live))) == len(HOSTILE_LINES) - blank


def test_the_same_id_with_another_try_is_no_fault(tmp_path: Path) -> None:
    tried = encode_row(record(1)) + encode_row(record(1, try_number=2)) + encode_row(record(1, try_number=3))
    live = write_segment(tmp_path / "sessions.jsonl", tried)

    found = verified(live)

    assert (found.whole, found.duplicates, found.reused, found.passed) == (3, 0, 0, True)


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(
    ("later", "recall_hours", "duplicates", "reused"),
    [
        ("2026-11-21T06:00:00.000000Z", 24.0, 1, 0),
        ("2026-11-21T06:00:00.000001Z", 24.0, 0, 1),
        ("2026-11-21T06:00:00.000000Z", 23.0, 0, 1),
        ("2026-11-21T07:00:00.000000Z", 26.0, 1, 0),
        ("2026-11-20T06:00:00.000000Z", 0.0, 1, 0),
        ("soon", 0.0, 1, 0),
    ],
)
def test_a_pair_further_apart_than_recall_hours_is_reused(
    tmp_path: Path, compacted: bool, later: str, recall_hours: float, duplicates: int, reused: int
) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", b"")
    pair = [record(1, timestamp=moment) for moment in (later, "2026-11-20T06:00:00.000000Z")]
    write_segment(tmp_path / "sessions.jsonl.1", b"".join(map(encode_row, pair)))
    if compacted:
        list(compact(live))

    with SessionReader(live) as reader:
        found = verify_log(reader.snapshot, canonical=False, problems_max=9, recall_hours=recall_hours)

    assert (found.whole, found.duplicates, found.reused) == (2, duplicates, reused)
    assert found.passed == (not duplicates)
    assert [problem.kind for problem in found.problems] == ["reused" if reused else "duplicate"]


def test_each_row_is_compared_with_the_one_before_it(tmp_path: Path) -> None:
    days = [f"2026-11-{day:02d}T00:00:00.000000Z" for day in (1, 3, 3, 5)]
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(encode_row(record(1, timestamp=day)) for day in days))

    found = verified(live)

    assert (found.whole, found.duplicates, found.reused) == (4, 1, 2)


def test_ids_with_equal_keys_are_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.sessions.upkeep.verification._key", lambda _row: 7)
    live = write_segment(tmp_path / "sessions.jsonl", rows(1, 2, 3, 3))

    found = verified(live)

    assert (found.whole, found.duplicates) == (4, 1)
