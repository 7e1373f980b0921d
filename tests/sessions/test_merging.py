"""The many small Parquet files of a day become few; no row is lost or doubled, whoever reads or is killed meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from dying_sessions import upkeep_and_die
from forked_processes import run
from session_rows import HOSTILE_LINES, contents, record, rows, session_ids, write_segment

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store import days
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.days import ArchiveBusyError, Part, StandingFile, reading, segment_files, unread
from lakehouse.sessions.store.parquet_rows import connect_bare, stored_lines, stored_segment_lines
from lakehouse.sessions.store.segments import SessionLogUnavailableError, open_snapshot
from lakehouse.sessions.upkeep import merging
from lakehouse.sessions.upkeep.closing import CompactionRefusedError
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.sessions.upkeep.merging import DAY_FILES_MAX, MergeOutcome, choose, merge_days
from lakehouse.sessions.upkeep.verification import verify_log

MERGE_STEPS = ("written", "verified", "placed", "committed", "removed")


@pytest.fixture(scope="module")
def made_log(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    @cache
    def made(segments: int) -> Path:
        folder = tmp_path_factory.mktemp("made")
        live = write_segment(folder / "sessions.jsonl", rows(99))
        for number in range(segments):
            hostile = HOSTILE_LINES[number % len(HOSTILE_LINES)]
            write_segment(folder / "sessions.jsonl.1", rows(number, number + 10, number + 24, number + 34) + hostile)
            assert [outcome.compacted for outcome in compact(live)] == [True]
        return folder

    return made


@pytest.fixture
def compacted_log(made_log: Callable[[int], Path], tmp_path: Path) -> Callable[[int], Path]:
    """Return what makes a log of one live row and of so many segments compacted one by one, each with rows of two days
    and hostile lines: a copy of one that is made once."""

    def copied(segments: int) -> Path:
        shutil.copytree(made_log(segments), tmp_path, dirs_exist_ok=True)
        return tmp_path / "sessions.jsonl"

    return copied


def parquet_files(live: Path) -> Counter[str]:
    """How many Parquet files stand, by day."""
    return Counter(path.parent.name for path in Archive(live).folder.glob("day=*/*.parquet"))


def lines_by_segment(live: Path) -> dict[str, list[bytes]]:
    """Return the lines of each compacted segment, by its name, found as a publisher would: by manifest, and column."""
    archive = Archive(live)
    connection = connect_bare(live.parent / "spill")
    found: dict[str, list[bytes]] = {}
    for segment in archive.committed():
        lines = found.setdefault(segment, [])
        for path in segment_files(archive, segment):
            if path.name.startswith("merged-"):
                lines += [line for line, _, owner in stored_segment_lines(connection, path) if owner == segment]
            else:
                lines += [line for line, _ in stored_lines(connection, [path])]
        lines.sort()
    connection.close()
    return found


def verified(live: Path) -> bool:
    with open_snapshot(live) as snapshot:
        found = verify_log(snapshot, canonical=False, problems_max=5)
    return not found.unreadable and not found.duplicates


def left_over(live: Path) -> list[str]:
    archive = Archive(live)
    with open_snapshot(live) as snapshot:
        standing = set(snapshot.parquet_files)
    parquet = set(archive.folder.glob("day=*/*"))
    return sorted(map(str, parquet - standing)) + sorted(map(str, archive.building.iterdir()))


def test_merged_files_hold_the_same_rows_and_know_whose_they_are(compacted_log: Callable[[int], Path]) -> None:
    live = compacted_log(6)
    before, owned = contents(live), lines_by_segment(live)

    outcomes = list(merge_days(live))

    assert {outcome.day for outcome in outcomes} == {"2026-11-20", "2026-11-21", "unknown"}
    assert all(outcome.merged and outcome.files >= 2 for outcome in outcomes)
    assert set(parquet_files(live).values()) == {1}
    assert contents(live) == before
    assert lines_by_segment(live) == owned
    assert verified(live)
    assert left_over(live) == []


def test_a_second_merge_has_nothing_to_do(compacted_log: Callable[[int], Path], tmp_path: Path) -> None:
    live = compacted_log(6)
    list(merge_days(live))

    assert list(merge_days(live)) == []
    assert list(merge_days(tmp_path / "no-such.jsonl")) == []


def test_merged_files_are_merged_again_and_keep_their_segments(
    compacted_log: Callable[[int], Path], tmp_path: Path
) -> None:
    live = compacted_log(3)
    list(merge_days(live))
    for number in (5, 6):
        write_segment(tmp_path / "sessions.jsonl.1", rows(number + 40, number))
        list(compact(live))
    before, owned = contents(live), lines_by_segment(live)

    assert all(outcome.merged for outcome in list(merge_days(live)))

    assert contents(live) == before
    assert lines_by_segment(live) == owned
    assert verified(live)
    assert left_over(live) == []


def test_a_large_merged_file_stands_beside_a_small_one(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(99))
    for numbers in (range(8), range(8, 16), [16], [17]):
        write_segment(tmp_path / "sessions.jsonl.1", rows(*numbers))
        list(compact(live))
        list(merge_days(live))
    owned = lines_by_segment(live)

    assert parquet_files(live) == {"day=2026-11-20": 2}
    assert sorted(map(len, owned.values())) == [1, 1, 8, 8]
    assert len(session_ids(live)) == 19
    assert verified(live)


def test_a_hundred_compactions_leave_few_files(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(999))
    written = 0
    for number in range(100):
        ended = (record(2 * number + day, timestamp=f"2026-11-2{day}T10:00:00.000000Z") for day in range(2))
        write_segment(tmp_path / f"sessions.jsonl.{number % 5 + 1}", b"".join(map(encode_row, ended)))
        if number % 5 < 4:
            continue
        assert [outcome.compacted for outcome in compact(live)] == [True] * 5
        written += sum(outcome.lines for outcome in merge_days(live))

    files = parquet_files(live)
    assert len(files) == 2
    assert max(files.values()) <= DAY_FILES_MAX
    # A row is written again a handful of times, not once for each compaction that follows.
    assert written <= 8 * 200
    assert len(session_ids(live)) == 201
    assert verified(live)


@pytest.mark.parametrize(("step", "time"), [*((step, 0) for step in MERGE_STEPS), ("committed", 1), ("removed", 4)])
def test_a_kill_at_any_step_loses_nothing_and_doubles_nothing(
    compacted_log: Callable[[int], Path], step: str, time: int
) -> None:
    live = compacted_log(4)
    before, owned = contents(live), lines_by_segment(live)

    assert run(upkeep_and_die, str(live), True, step, time) == -signal.SIGKILL

    assert contents(live) == before
    assert lines_by_segment(live) == owned
    assert verified(live)
    list(merge_days(live))
    assert contents(live) == before
    assert lines_by_segment(live) == owned
    assert left_over(live) == []


def test_readers_see_each_row_once_at_every_step(compacted_log: Callable[[int], Path]) -> None:
    live = compacted_log(2)
    before = contents(live)
    seen: set[str] = set()

    def look(step: str, _day: str) -> None:
        if step != "removed":  # where a reader waits until the files are gone
            assert contents(live) == before, step
            assert verified(live)
        seen.add(step)

    list(merge_days(live, on_step=look))

    assert seen == set(MERGE_STEPS)


def test_a_reader_at_work_keeps_its_files_through_merge_and_removal(compacted_log: Callable[[int], Path]) -> None:
    live = compacted_log(6)
    ids = session_ids(live)
    small = parquet_files(live)

    with SessionReader(live) as reader:
        assert all(outcome.merged for outcome in merge_days(live))
        assert sum(parquet_files(live).values()) > sum(small.values())
        assert sorted(str(row[0]) for row in reader.query("SELECT session_id FROM sessions")[1]) == ids
        assert session_ids(live) == ids

    assert list(merge_days(live)) == []
    assert set(parquet_files(live).values()) == {1}
    assert session_ids(live) == ids


def test_a_reader_that_begins_between_two_looks_sees_no_row_twice(
    compacted_log: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = compacted_log(3)
    write_segment(tmp_path / "sessions.jsonl.1", rows(70, 71))
    wanted = session_ids(live)
    listed = days.read_archive
    calls: list[int] = []

    def compacts_and_merges_first(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            list(compact(live))
            list(merge_days(live))
        return listed(*arguments)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr("lakehouse.sessions.store.segments.read_archive", compacts_and_merges_first)

    assert session_ids(live) == wanted
    assert len(calls) == 2


def test_a_reader_waits_while_files_are_removed_and_says_so_when_that_hangs(
    compacted_log: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = compacted_log(2)
    monkeypatch.setattr(days, "_LOCK_WAIT_S", 0.02)

    with unread(Archive(live)) as alone:
        assert alone
        with pytest.raises(ArchiveBusyError, match="has been removing files"), reading(Archive(live)):
            raise AssertionError
        with pytest.raises(SessionLogUnavailableError, match="has been removing files"):
            open_snapshot(live)
    with open_snapshot(live), unread(Archive(live)) as alone:
        assert not alone


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: os.truncate(path, 50)])
def test_nothing_is_merged_or_removed_where_a_file_is_damaged(
    compacted_log: Callable[[int], Path], harm: Callable[[Path], None]
) -> None:
    live = compacted_log(4)
    [victim, *_] = sorted(Archive(live).folder.glob("day=2026-11-20/*.parquet"))
    harm(victim)
    files = parquet_files(live)

    [outcome] = merge_days(live)

    assert not outcome.merged
    assert "restore it from a backup" in outcome.reason
    assert parquet_files(live) == files


def test_a_file_whose_content_rotted_is_not_merged(compacted_log: Callable[[int], Path]) -> None:
    live = compacted_log(4)
    for victim in Archive(live).folder.glob("day=2026-11-20/*.parquet"):
        corrupt(victim)

    outcomes: list[MergeOutcome] = list(merge_days(live))

    assert {outcome.day: outcome.merged for outcome in outcomes} == {
        "2026-11-20": False, "2026-11-21": True, "unknown": True,
    }  # fmt: skip
    assert parquet_files(live)["day=2026-11-20"] == 4


def test_a_merged_file_that_does_not_read_back_is_not_committed(
    compacted_log: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = compacted_log(3)
    before, files = contents(live), parquet_files(live)
    read = stored_segment_lines

    def gives_a_row_to_another(*arguments: object) -> Iterator[tuple[bytes, bool, str]]:
        found = list(read(*arguments))  # type: ignore[arg-type]  # passed through
        owners = sorted({segment for _, _, segment in found})
        for place, (line, torn, segment) in enumerate(found):
            yield line, torn, (owners[segment == owners[0]] if place == 0 else segment)

    monkeypatch.setattr(merging, "stored_segment_lines", gives_a_row_to_another)
    outcomes = list(merge_days(live))

    assert [outcome.merged for outcome in outcomes] == [False] * 3
    assert "nothing was removed" in outcomes[0].reason
    monkeypatch.undo()
    assert (contents(live), parquet_files(live)) == (before, files)
    assert all(outcome.merged for outcome in list(merge_days(live)))
    assert contents(live) == before


def test_a_lost_manifest_of_a_day_is_named_and_nothing_is_removed(
    compacted_log: Callable[[int], Path], tmp_path: Path
) -> None:
    live = compacted_log(4)
    list(merge_days(live))
    ids = session_ids(live)
    manifest = Archive(live).day_path("2026-11-20")
    kept = manifest.rename(tmp_path / "kept")

    assert not verified(live)
    assert [outcome.merged for outcome in merge_days(live)] == [False]
    kept.rename(manifest)
    assert session_ids(live) == ids
    assert verified(live)


def test_a_lost_manifest_of_a_segment_is_named(compacted_log: Callable[[int], Path]) -> None:
    live = compacted_log(4)
    list(merge_days(live))
    [manifest, *_] = Archive(live).manifests.glob("*.json")
    manifest.unlink()

    with open_snapshot(live) as snapshot:
        assert any("is missing, and day=" in reason for reason in snapshot.unreadable)


def test_verify_names_the_segment_of_which_a_merged_file_lacks_a_line(
    compacted_log: Callable[[int], Path], tmp_path: Path
) -> None:
    live = compacted_log(3)
    list(merge_days(live))
    [merged] = Archive(live).folder.glob("day=2026-11-20/merged-*.parquet")
    size = merged.stat().st_size
    connection = connect_bare(tmp_path / "spill")
    connection.execute(
        f"COPY (SELECT * REPLACE (replace(line, 'Toledo', 'Toledp') AS line) FROM '{merged}') TO '{merged}.new'"
        " (FORMAT parquet, COMPRESSION zstd)"
    )
    connection.close()
    Path(f"{merged}.new").rename(merged)
    manifest = Archive(live).day_path("2026-11-20")
    manifest.write_bytes(manifest.read_bytes().replace(str(size).encode(), str(merged.stat().st_size).encode()))

    with open_snapshot(live) as snapshot:
        found = verify_log(snapshot, canonical=False, problems_max=5)

    assert found.unreadable == 3
    assert "hold other lines than were compacted" in found.problems[-1].detail


def test_files_of_before_contents_were_noted_are_merged(compacted_log: Callable[[int], Path]) -> None:
    live = compacted_log(3)
    before = contents(live)
    for path in Archive(live).manifests.glob("*.json"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith('      "content"')]
        path.write_text("\n".join(lines).replace(",\n    }", "\n    }") + "\n")
    assert all('"content"' in path.read_text() for path in Archive(live).manifests.glob("*.json"))

    assert all(outcome.merged for outcome in merge_days(live))

    assert contents(live) == before
    assert verified(live)


def test_a_merge_and_a_compaction_do_not_run_at_once(compacted_log: Callable[[int], Path]) -> None:
    live = compacted_log(2)
    running = merge_days(live)
    next(running)

    with pytest.raises(CompactionRefusedError, match="another compaction"):
        list(compact(live))
    list(running)


def standing(size: int, place: int) -> StandingFile:
    path = f"day=2026-11-20/{place:03d}"
    part = Part(segment="s", path=path, lines=size, content="")
    return StandingFile(day="2026-11-20", path=path, size_bytes=size, parts=(part,))


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([], 0),
        ([5], 0),
        ([5, 5], 2),
        ([5, 15], 2),
        ([5, 16], 0),
        ([1, 4, 16, 64], 0),
        ([1, 4, 16, 64, 256], 2),
        ([1, 1, 1, 100], 3),
        ([merging.MERGED_BYTES_MAX] * 9, 0),
        ([5, 5, merging.MERGED_BYTES_MAX], 2),
        ([merging.MERGED_BYTES_MAX // 2] * 5, 2),
        ([1] * 1000, 256),
    ],
)
def test_what_is_merged_next(sizes: list[int], chosen: int) -> None:
    assert len(choose([standing(size, place) for place, size in enumerate(sizes)])) == chosen
