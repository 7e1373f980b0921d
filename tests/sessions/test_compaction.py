"""Compaction loses no line and doubles none, whenever it is killed; and leaves alone what it must."""

from __future__ import annotations

import fcntl
import gzip
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dying_sessions import upkeep_and_die
from forked_processes import run
from session_rows import HOSTILE_LINES, contents, record, rows, session_ids, stored_lines_of, write_log, write_segment

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.journal import new_journal_path
from lakehouse.sessions.store.parquet_rows import connect_bare, stored_lines
from lakehouse.sessions.store.segments import SessionLogUnavailableError, open_snapshot
from lakehouse.sessions.upkeep import closing, compaction, parquet_writer
from lakehouse.sessions.upkeep.closing import CompactionRefusedError
from lakehouse.sessions.upkeep.compaction import SegmentOutcome, compact

STEPS = ("claimed", "written", "verified", "placed", "committed", "removed")


def dies_at(live: Path, step: str, segment: int) -> int | None:
    """Return how a compaction ended that dies by SIGKILL right after the step of the given segment, from 0, that comes
    to it."""
    return run(upkeep_and_die, str(live), False, step, segment)


def archived_lines(live: Path) -> list[bytes]:
    """Return the bytes of every line in Parquet that a manifest names."""
    with open_snapshot(live) as snapshot:
        connection = connect_bare(live.parent / "spill")
        lines = sorted(line for line, _ in stored_lines(connection, snapshot.parquet_files))
        connection.close()
    return lines


def left_over(live: Path) -> list[str]:
    """Return what stands in the archive besides Parquet that a manifest names, manifests and the lock."""
    archive = Archive(live)
    with open_snapshot(live) as snapshot:
        named = set(snapshot.parquet_files)
    found = {path for path in archive.folder.rglob("*") if path.is_file()}
    return sorted(
        str(p) for p in found - named - {archive.lock} if p.parent != archive.manifests or p.suffix != ".json"
    )


def test_every_line_but_blank_ones_survives_to_the_byte(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    plain = live.with_name("sessions.jsonl.1")
    wanted = sorted(stored_lines_of([plain]) + [row for row in rows(*range(20)).split(b"\n") if row])

    outcomes = list(compact(live))

    assert [(o.source, o.compacted) for o in outcomes] == [
        ("sessions.jsonl-20261101.zst", True),
        ("sessions.jsonl.2.gz", True),
        ("sessions.jsonl.1", True),
    ]
    assert archived_lines(live) == wanted
    assert left_over(live) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sessions.jsonl", "sessions.parquet"]


def test_the_live_file_is_never_touched(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    before = live.stat()

    list(compact(live, settle_s=0))

    after = live.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def test_rows_are_partitioned_by_the_utc_day_of_their_end(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    shifted = b'{"schema":"other","timestamp":"2026-11-20T23:30:00-05:00"}\n'
    write_segment(
        tmp_path / "sessions.jsonl.1", rows(1, 2, 30) + shifted + b'{"timestamp":"2026-13-01T00:00:00Z"}\n{"torn'
    )

    list(compact(live))

    days = {
        path.name: sum(1 for _ in stored_lines(connect_bare(tmp_path / "spill"), path.iterdir()))
        for path in (tmp_path / "sessions.parquet").glob("day=*")
    }
    assert days == {"day=2026-11-20": 2, "day=2026-11-21": 2, "day=unknown": 2}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_loses_nothing_and_doubles_nothing(tmp_path: Path, step: str) -> None:
    live = write_log(tmp_path)
    before = contents(live)
    source = stored_lines_of([live.with_name("sessions.jsonl.1")])
    wanted = sorted(source + [row for row in rows(*range(20)).split(b"\n") if row])

    assert dies_at(live, step, 1) == -signal.SIGKILL

    assert contents(live) == before
    assert all(outcome.compacted for outcome in compact(live))
    assert contents(live) == before
    assert archived_lines(live) == wanted
    assert left_over(live) == []


def test_a_second_kill_while_the_first_is_mended_loses_nothing(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    before = contents(live)

    for step in ("placed", "claimed", "committed", "verified"):
        assert dies_at(live, step, 0) == -signal.SIGKILL
        assert contents(live) == before

    assert all(outcome.compacted for outcome in compact(live))
    assert contents(live) == before
    assert left_over(live) == []


def test_what_a_run_with_other_settings_left_is_cleared(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    assert dies_at(live, "placed", 0) == -signal.SIGKILL
    [placed, *_] = (tmp_path / "sessions.parquet").glob("day=*/*-0000.parquet")
    placed.with_name(placed.name.replace("-0000.", "-0007.")).write_bytes(placed.read_bytes())
    (tmp_path / "sessions.parquet" / "_building" / "older").mkdir()
    (tmp_path / "sessions.parquet" / "_building" / "older" / "staged.ndjson").write_bytes(b"{}")

    list(compact(live))

    assert left_over(live) == []


def test_readers_see_each_row_once_at_every_step(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    before = contents(live)
    ids = {"ids": session_ids(live)}
    seen: list[str] = []

    def look(step: str, _segment: str) -> None:
        found = contents(live) if step in ("placed", "committed") else {"ids": session_ids(live)}
        assert found in (before, ids), step
        seen.append(step)

    list(compact(live, on_step=look))

    assert seen == list(STEPS) * 3


def test_parquet_that_does_not_read_back_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = write_log(tmp_path)
    before = contents(live)
    read = stored_lines

    def corrupt(*arguments: object) -> Iterator[tuple[bytes, bool]]:
        for number, (line, torn) in enumerate(read(*arguments)):  # type: ignore[arg-type]  # passed through
            yield (line.replace(b"Toledo", b"Toledp") if number == 3 else line), torn

    monkeypatch.setattr(parquet_writer, "stored_lines", corrupt)
    outcomes = list(compact(live))

    assert not any(outcome.compacted for outcome in outcomes)
    assert "nothing was removed" in outcomes[0].reason
    monkeypatch.undo()
    assert contents(live) == before
    assert all(outcome.compacted for outcome in compact(live))


def test_rows_that_need_more_memory_are_left_and_the_option_is_named(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(9))
    write_segment(tmp_path / "sessions.jsonl.1", rows(1), age_s=3700)
    write_segment(tmp_path / "sessions.jsonl.2", encode_row(record(2, prompt="ab " * 15_000_000)))

    outcomes = list(compact(live, memory_bytes=1))

    assert [outcome.compacted for outcome in outcomes] == [True, False]
    assert "larger --memory" in outcomes[1].reason
    assert session_ids(live) == ["session-0001", "session-0002", "session-0009"]


def test_a_lost_row_is_noticed_before_anything_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = write_log(tmp_path)
    add = parquet_writer.ParquetWriter.add

    def forgets(self: parquet_writer.ParquetWriter, line: bytes) -> None:
        if b"session-0005" not in line:
            add(self, line)

    monkeypatch.setattr(parquet_writer.ParquetWriter, "add", forgets)
    outcomes = list(compact(live))

    assert [outcome.compacted for outcome in outcomes] == [False, True, True]
    monkeypatch.undo()
    assert "session-0005" in " ".join(contents(live)["facts"])


def test_a_file_is_compacted_only_after_its_last_writer_let_go(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(9))
    rotated = write_segment(tmp_path / "sessions.jsonl.1", rows(1))
    fd = os.open(rotated, os.O_RDWR | os.O_APPEND)
    fcntl.flock(fd, fcntl.LOCK_EX)
    claimed = threading.Event()
    outcomes: list[SegmentOutcome] = []
    worker = threading.Thread(
        target=lambda: outcomes.extend(compact(live, settle_s=0, on_step=lambda *_: claimed.set()))
    )
    worker.start()
    assert claimed.wait(10)

    os.write(fd, rows(2))
    os.close(fd)
    worker.join(20)

    assert [outcome.lines for outcome in outcomes] == [2]
    assert len(contents(live)["facts"]) == 3


def test_a_writer_that_never_lets_go_leaves_the_file_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "_LOCK_WAIT_S", 0.05)
    live = write_segment(tmp_path / "sessions.jsonl", rows(9))
    rotated = write_segment(tmp_path / "sessions.jsonl.1", rows(1))
    fd = os.open(rotated, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)

    outcomes = list(compact(live))
    os.close(fd)

    assert "held its lock" in outcomes[0].reason
    assert len(contents(live)["facts"]) == 2
    assert [outcome.compacted for outcome in compact(live)] == [True]


def test_a_file_written_just_now_is_left_for_the_next_run(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(9))
    rotated = write_segment(tmp_path / "sessions.jsonl.1", rows(1), age_s=5)

    outcomes = list(compact(live))

    assert "run again in" in outcomes[0].reason
    assert rotated.exists()


def test_a_file_that_is_being_compressed_is_left(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(9))
    rotated = write_segment(tmp_path / "sessions.jsonl.1", rows(1))
    write_segment(tmp_path / "sessions.jsonl.1.gz", rows(1)[:20])

    outcomes = list(compact(live))

    assert "compressed" in outcomes[0].reason
    assert rotated.exists()


def test_a_damaged_archive_is_left_where_it_stands(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(9))
    rotated = tmp_path / "sessions.jsonl.1.gz"
    write_segment(rotated, b"")
    rotated.write_bytes(gzip.compress(rows(1, 2))[:-9])
    os.utime(rotated, (1e9, 1e9))

    outcomes = list(compact(live))

    assert "damaged" in outcomes[0].reason
    assert rotated.exists()


def test_the_same_bytes_are_not_compacted_twice(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(9))
    write_segment(tmp_path / "sessions.jsonl.1", rows(1, 2))
    list(compact(live))
    write_segment(tmp_path / "sessions.jsonl.2.gz", rows(1, 2))

    outcomes = list(compact(live))

    assert "compacted before" in outcomes[0].reason


def test_sessions_of_a_dead_process_are_settled_first(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    journal = Path(new_journal_path(str(live)))
    journal.write_bytes(b"B 1 0 0 0 - {}\n")

    with pytest.raises(CompactionRefusedError, match="start iterate"):
        list(compact(live))
    with journal.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert all(outcome.compacted for outcome in compact(live))


def test_two_compactions_do_not_run_at_once(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    first = compact(live)
    next(first)

    with pytest.raises(CompactionRefusedError, match="another compaction"):
        list(compact(live))

    assert all(outcome.compacted for outcome in first)


def test_a_segment_larger_than_what_is_staged_becomes_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_writer, "STAGED_BYTES_MAX", 10_000)
    live = tmp_path / "sessions.jsonl"
    write_segment(tmp_path / "sessions.jsonl.1", rows(*range(40)) + b"".join(HOSTILE_LINES))
    before = contents(live)

    list(compact(live))

    assert len(list((tmp_path / "sessions.parquet").glob("day=*/*.parquet"))) > 3
    assert contents(live) == before


def test_an_empty_rotated_file_goes_without_parquet(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(9))
    write_segment(tmp_path / "sessions.jsonl.1", b"\n\n")
    write_segment(tmp_path / "sessions.jsonl.2", b"")

    assert [(o.compacted, o.lines) for o in compact(live)] == [(True, 0), (True, 0)]
    assert len(contents(live)["facts"]) == 1


def test_a_missing_parquet_file_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    list(compact(live))
    gone = next((tmp_path / "sessions.parquet").glob("day=2026-11-20/*.parquet"))
    gone.unlink()

    with SessionReader(live) as reader:
        assert any("is missing" in warning for warning in reader.warnings)
        _, found = reader.query("SELECT count(*) FROM sessions")
        assert next(found)[0] > 0


def test_files_are_made_for_the_group_alone(tmp_path: Path) -> None:
    live = write_log(tmp_path)

    list(compact(live))

    files = [path for path in (tmp_path / "sessions.parquet").rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o640"}
    assert compaction.SETTLE_S == 60


def test_more_rotated_files_than_readers_open_are_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.sessions.store.segments.SEGMENTS_MAX", 5)
    live = write_segment(tmp_path / "sessions.jsonl", rows(99))
    for number in range(8):
        write_segment(tmp_path / f"sessions.jsonl.{number + 1}", rows(number))
    with pytest.raises(SessionLogUnavailableError, match="run `lakehouse sessions compact`"):
        SessionReader(live)

    assert all(outcome.compacted for outcome in compact(live))

    assert len(session_ids(live)) == 9
