"""What was erased stands nowhere any more, what was not is whole, and a kill at any moment leaves the rest to the next
run."""

from __future__ import annotations

import fcntl
import gzip
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from all_bytes import files_with
from lake_tables import Killed, compacted, copy_of, lake_at, session_counts, stored_files
from pyiceberg.exceptions import CommitFailedException
from session_rows import record, session_ids, write_segment

from lakehouse.sessions.index.store import index_folder
from lakehouse.sessions.lake import table as table_module
from lakehouse.sessions.lake.erasing import Rows, TableErasure, erase_from_table, tombstone
from lakehouse.sessions.lake.errors import PublishRefusedError
from lakehouse.sessions.lake.publications import Publications
from lakehouse.sessions.lake.publishing import publish
from lakehouse.sessions.lake.reading import TableReader
from lakehouse.sessions.lake.table import LakeTable
from lakehouse.sessions.lake.unreferenced import referenced
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store import disk
from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError
from lakehouse.sessions.store.days import hold_archive
from lakehouse.sessions.store.journal import new_journal_path, unread_path
from lakehouse.sessions.store.segments import open_snapshot
from lakehouse.sessions.upkeep import erasing_archive
from lakehouse.sessions.upkeep.closing import CompactionRefusedError
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.sessions.upkeep.erasing import Erasing
from lakehouse.sessions.upkeep.erasure import LogErasure, erase_from_log, erasing_alone
from lakehouse.sessions.upkeep.merging import merge_days
from lakehouse.sessions.upkeep.verification import verify_log

NAME = "Zelda Quirk"
CALLER = "the-agency"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakeTable:
    monkeypatch.setattr(table_module, "_WAIT_S", 0.001)
    return lake_at(tmp_path / "lake")


def dies_before_the_commit(step: str) -> None:
    if step == "written":
        raise Killed


def planted(number: int) -> bytes:
    """Return a row of the caller whose sessions speak of the name."""
    return encode_row(
        record(
            number, caller=CALLER, prompt=f"Who is {NAME}?", artifact=f'{{"name":"{NAME}"}}', session_id=f"z-{number}"
        )
    )


def others(*numbers: int) -> bytes:
    return b"".join(encode_row(record(number, caller="ops" if number % 2 else None)) for number in numbers)


def log_with_the_name_everywhere(folder: Path) -> tuple[Path, list[str]]:
    """Return a log that has the name in every kind of file, and the ids of the sessions that are not its own."""
    pieces = [others(number, number + 100) + planted(number) + others(number + 200) for number in range(6)]
    live = compacted(folder, *pieces[:4])
    assert any(day.merged for day in merge_days(live)), "some of it stands merged"
    write_segment(live.with_name("sessions.jsonl.1"), b"".join(pieces[4:]))
    list(compact(live))
    torn = planted(90)[:-40] + b"\n"
    write_segment(live.with_name("sessions.jsonl.3"), others(20) + torn + planted(90), age_s=9)
    write_segment(live.with_name("sessions.jsonl-20261101.zst"), others(21) + planted(21), age_s=8)
    write_segment(live.with_name("sessions.jsonl.2.gz"), planted(22) + others(22), age_s=7)
    live.write_bytes(
        others(23) + planted(23) + b'{"schema":"other","caller":"%b","text":"%b"}\n' % (CALLER.encode(), NAME.encode())
    )
    archive = Archive(live)
    write_segment(archive.claimed / "20261120T000000Z-0123456789ab.jsonl", others(24) + planted(24))
    index_folder(live).mkdir()
    (index_folder(live) / "rows.sqlite").write_bytes(planted(27))
    (archive.building / "half").mkdir()
    (archive.building / "half" / "staged-2026-11-20.lines").write_bytes(planted(25))
    (archive.folder / "day=2026-11-20" / "20261120T000000Z-0123456789ab-0000.parquet").write_bytes(
        next(archive.folder.glob("day=*/*.parquet")).read_bytes()
    )
    Path(unread_path(new_journal_path(os.fspath(live)))).write_bytes(
        b"B 1 0 0 0 - %bA 1 5 {}\nB 2 0 0 0 - %b?? %b" % (planted(26), others(26), planted(26))
    )
    numbers = [n + more for n in range(6) for more in (0, 100, 200)] + [20, 21, 22, 23, 24]
    return live, sorted(f"session-{number:04d}" for number in numbers)


def erase(live: Path, erasing: Erasing, lake: LakeTable | None = None) -> tuple[LogErasure, TableErasure | None]:
    publications = Publications(Archive(live))
    with erasing_alone(Archive(live)), publications.locked():
        log = erase_from_log(live, erasing)
        if lake is None:
            return log, None
        rows = Rows(caller=erasing.caller, session_ids=erasing.session_ids, before=erasing.before)
        asked = datetime(2026, 12, 1)  # noqa: DTZ001
        return log, erase_from_table(lake, rows, tombstone(rows, asked), publications.writes())


def problems(live: Path) -> list[str]:
    """Return what `verify` finds; torn lines of another's are none."""
    with open_snapshot(live) as snapshot:
        result = verify_log(snapshot, canonical=False, problems_max=10)
        return [problem.detail for problem in result.problems if problem.kind in ("unreadable", "duplicates")]


def test_a_callers_name_is_in_no_file_of_log_archive_and_table(lake: LakeTable, tmp_path: Path) -> None:
    live, kept = log_with_the_name_everywhere(tmp_path / "log")
    list(publish(live, lake, segments_a_commit=2))
    # And one who is killed before his commit.
    write_segment(live.parent / "sessions.jsonl.4", others(31) + planted(31))
    list(compact(live))
    with pytest.raises(Killed):
        list(publish(live, lake, on_step=dies_before_the_commit))
    assert len(files_with(NAME, tmp_path / "log", tmp_path / "lake")) > 12

    log, table = erase(live, Erasing(caller=CALLER), lake)

    assert files_with(NAME, tmp_path / "log", tmp_path / "lake") == []
    assert files_with(CALLER, tmp_path / "log", tmp_path / "lake") == []
    assert session_ids(live) == sorted([*kept, "session-0031"])
    assert problems(live) == []
    assert table is not None
    assert (table.rows, table.not_reached) == (6, [])
    assert set(log.found.traces) == {f"z-{number}" for number in (*range(6), 21, 22, 23, 24, 31, 90)}
    assert log.in_lines.torn == 4


@pytest.mark.parametrize(
    ("which", "lost"),
    [
        (1, OSError("the answer was lost")),
        (1, CommitFailedException("a conflict, with oneself")),
        (2, OSError("the answer was lost")),
    ],
    ids=["the rows, lost", "the rows, asked again", "the snapshots, lost"],
)
def test_a_commit_that_landed_and_was_not_heard_of_is_counted_once_and_leaves_nothing(
    lake: LakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int, lost: Exception
) -> None:
    live = compacted(tmp_path / "log", others(0) + planted(1) + planted(2), others(3))
    list(publish(live, lake, segments_a_commit=1))
    snapshots = len(lake.load().metadata.snapshots)
    catalog = lake._connected()
    commit = catalog.commit_table
    answers: list[Any] = []

    def losing(*args: Any, **kwargs: Any) -> Any:
        answers.append(commit(*args, **kwargs))
        if len(answers) == which:
            raise lost
        return answers[-1]

    monkeypatch.setattr(catalog, "commit_table", losing)

    _, table = erase(live, Erasing(caller=CALLER), lake)

    assert table is not None
    assert (table.rows, table.snapshots_expired, table.not_reached) == (2, snapshots, [])
    assert table.traces == {f"z-{number}": {record(number).trace_id} for number in (1, 2)}
    assert files_with(NAME, tmp_path / "log", tmp_path / "lake") == []
    assert stored_files(tmp_path / "lake") <= {each.rpartition("/")[2] for each in referenced(lake.load())}
    assert sum(session_counts(lake).values()) == 2


@pytest.fixture(scope="module")
def made_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    live = compacted(
        tmp_path_factory.mktemp("small") / "log", others(0) + planted(1), planted(2) + others(2), others(3) + planted(4)
    )
    list(merge_days(live))
    write_segment(live.with_name("sessions.jsonl.1"), others(5) + planted(6))
    list(compact(live))
    live.write_bytes(others(7) + planted(8))
    return live


@pytest.fixture
def small(made_small: Path, tmp_path: Path) -> Path:
    """Return a log with two merged segments, one of its own, and rows beside them."""
    return copy_of(made_small, tmp_path / "log")


def test_what_is_erased_is_not_published_again_by_a_log_that_still_has_it(
    small: Path, lake: LakeTable, tmp_path: Path
) -> None:
    other = copy_of(small, tmp_path / "other")
    list(publish(small, lake))

    erase(small, Erasing(caller=CALLER), lake)
    list(publish(other, lake_at(tmp_path / "other-lake")))  # a table of its own knows of nothing
    for segment in Archive(other).committed():
        Publications(Archive(other)).unmark(segment)
    write_segment(other.with_name("sessions.jsonl.1"), planted(30) + others(31))
    list(compact(other))
    list(publish(other, lake))

    assert files_with(NAME, tmp_path / "lake") == []
    assert set(session_counts(lake).values()) == {1}
    assert ("host-a", "session-0031") in session_counts(lake)


def test_a_session_that_ends_after_the_erasure_is_published(small: Path, lake: LakeTable) -> None:
    list(publish(small, lake))
    erase(small, Erasing(caller=CALLER), lake)
    later = record(40, caller=CALLER, session_id="came-back", timestamp="2026-12-02T00:00:00.000000Z")
    write_segment(small.with_name("sessions.jsonl.1"), encode_row(later))
    list(compact(small))

    list(publish(small, lake))

    assert ("host-a", "came-back") in session_counts(lake)


@pytest.mark.parametrize(
    ("erasing", "gone"),
    [
        (Erasing(session_ids=("z-2", "z-8")), {"z-2", "z-8"}),
        (Erasing(caller=CALLER, before=datetime(2026, 11, 20, 3)), {"z-1", "z-2"}),  # noqa: DTZ001
        (Erasing(before=datetime(2026, 11, 20, 2)), {"session-0000", "z-1"}),  # noqa: DTZ001
        (Erasing(caller="nobody"), set()),
    ],
    ids=["sessions", "caller and moment", "moment", "nobody"],
)
def test_what_goes_fits_all_of_what_is_given(small: Path, lake: LakeTable, erasing: Erasing, gone: set[str]) -> None:
    list(publish(small, lake))
    before, in_table = set(session_ids(small)), {session_id for _, session_id in session_counts(lake)}

    erase(small, erasing, lake)

    assert before - set(session_ids(small)) == gone
    assert {session_id for _, session_id in session_counts(lake)} == in_table - gone
    assert problems(small) == []


def test_nothing_is_touched_where_only_what_would_go_is_shown(small: Path) -> None:
    before = {path: path.read_bytes() for path in small.parent.rglob("*") if path.is_file()}

    with erasing_alone(Archive(small)):
        log = erase_from_log(small, Erasing(caller=CALLER), dry_run=True)

    assert {path: path.read_bytes() for path in small.parent.rglob("*") if path.is_file()} == before
    assert len(log.found.traces) == 5
    assert "sessions.jsonl" in log.files


def kills(monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    """Die at the given time, from 0, that a file comes into place or goes. Return how often that was reached."""
    times = [0]

    def die(act: Any) -> Any:
        def acting(*args: Any, **kwargs: Any) -> Any:
            times[0] += 1
            if times[0] > at:
                raise Killed
            return act(*args, **kwargs)

        return acting

    monkeypatch.setattr(erasing_archive, "replace_file", die(disk.replace_file))
    monkeypatch.setattr(Path, "rename", die(Path.rename))
    monkeypatch.setattr(Path, "unlink", die(Path.unlink))
    return times


def test_a_kill_at_any_moment_is_made_good_by_the_same_erasure(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [each for each in session_ids(small) if each.startswith("session")]
    for at in range(100):
        live = copy_of(small, tmp_path / f"run-{at}")
        with monkeypatch.context() as patched:
            kills(patched, at)
            try:
                erase(live, Erasing(caller=CALLER))
            except Killed:
                ended = False
            else:
                ended = True
        assert set(kept) <= set(session_ids(live)), "a kill loses nothing that stays"

        erase(live, Erasing(caller=CALLER))

        assert files_with(NAME, live.parent) == []
        assert session_ids(live) == kept
        assert problems(live) == []
        if ended:
            break
    assert at > 8


def test_an_interrupted_erasure_is_ended_before_anything_else(
    small: Path, lake: LakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        kills(patched, 3)
        with pytest.raises(Killed):
            erase(small, Erasing(caller=CALLER))

    with pytest.raises(CompactionRefusedError, match="was interrupted"):
        list(compact(small))
    with pytest.raises(PublishRefusedError, match="was interrupted"):
        list(publish(small, lake))


def test_a_running_iterate_is_not_erased_beneath(small: Path) -> None:
    journal = Path(new_journal_path(os.fspath(small)))
    journal.write_bytes(b"B 1 ")
    with journal.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(PublishRefusedError, match="stop it first"):
            erase(small, Erasing(caller=CALLER))
    with pytest.raises(PublishRefusedError, match="could not be settled"):
        erase(small, Erasing(caller=CALLER))


def test_who_reads_the_archive_is_waited_for_and_then_left_in_peace(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sessions.upkeep.erasure._WAIT_S", 0.02)
    fd = hold_archive(Archive(small))
    assert fd is not None
    try:
        with pytest.raises(PublishRefusedError, match="somebody reads"):
            erase(small, Erasing(caller=CALLER))
    finally:
        os.close(fd)


def test_an_archive_that_is_not_whole_is_not_touched(small: Path) -> None:
    next(Archive(small).folder.glob("day=*/*.parquet")).write_bytes(b"PAR1")
    before = small.read_bytes()

    with pytest.raises(ArchiveDamagedError):
        erase(small, Erasing(caller=CALLER))

    assert small.read_bytes() == before


def test_copies_and_files_that_are_not_read_are_said(small: Path) -> None:
    small.with_name("sessions.jsonl.bak").write_bytes(planted(1))
    small.with_name("sessions.jsonl.9.xz").write_bytes(b"xz")
    small.with_name("sessions.jsonl.8.gz").write_bytes(gzip.compress(planted(1))[:-9])

    log, _ = erase(small, Erasing(caller=CALLER))

    said = " ".join(log.not_reached)
    assert "sessions.jsonl.bak" in said
    assert "sessions.jsonl.9.xz" in said
    assert "sessions.jsonl.8.gz is damaged" in said


def test_a_file_keeps_its_mode_its_time_and_its_compression(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    live.touch()
    rotated = write_segment(tmp_path / "sessions.jsonl.1.zst", others(0) + planted(1))
    rotated.chmod(0o600)
    before = rotated.stat()

    erase(live, Erasing(caller=CALLER))

    after = rotated.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(rotated.read_bytes()) == others(0)


def test_a_tag_that_keeps_a_snapshot_is_said(small: Path, lake: LakeTable) -> None:
    list(publish(small, lake))
    table = lake.load()
    snapshot = table.current_snapshot()
    assert snapshot is not None
    table.manage_snapshots().create_tag(snapshot.snapshot_id, "before-the-move").commit()

    _, erased = erase(small, Erasing(caller=CALLER), lake)

    assert erased is not None
    assert ["before-the-move" in said for said in erased.not_reached] == [True]


def test_a_null_list_of_a_row_that_stays_is_still_null(lake: LakeTable, tmp_path: Path) -> None:
    live = compacted(tmp_path / "log", others(0) + planted(1))
    list(publish(live, lake))

    erase(live, Erasing(caller=CALLER), lake)

    with TableReader(lake) as reader:
        [(datasets,)] = reader.query("SELECT attempts[1].datasets FROM sessions")[1]
    assert datasets is None


def test_nothing_given_is_nothing_to_erase() -> None:
    with pytest.raises(ValueError, match="say what to erase"):
        Erasing()


@pytest.fixture(autouse=True)
def _in_another_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
