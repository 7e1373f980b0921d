"""A process that dies, a rotation, a restart and a compaction at once: each session has one row, wherever it stands.

Real processes, killed by SIGKILL between the append of a row and its mark in the journal. They are forked from a
server that has imported everything, so that a round costs no start of an interpreter.
"""

from __future__ import annotations

import gzip
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from campaigns import TIMES
from dying_sessions import compact_once, now, run_and_die, sweep_once
from forked_processes import processes, run
from session_rows import record, write_segment

from iterate.session_log.counts import MinuteWarning, SessionLogCounts
from iterate.session_log.journal import Journal
from iterate.session_log.sweep import sweep
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.record import rfc3339
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store import days
from lakehouse.sessions.store.append import LogFile
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.journal import list_journals
from lakehouse.sessions.upkeep.compaction import Step, compact
from lakehouse.sessions.upkeep.merging import MergeStep, merge_days

ROUNDS = 6 * TIMES
SESSIONS = 3


def _rotate(live: Path, name: str) -> None:
    data = live.read_bytes()
    rotated = live.with_name(name)
    live.rename(rotated)
    if rotated.suffix == ".gz":
        rotated.write_bytes(gzip.compress(data))
    elif rotated.suffix == ".zst":
        rotated.write_bytes(zstandard.compress(data))


def _session_ids(live: Path) -> Counter[str]:
    with SessionReader(live) as reader:
        return Counter(str(row[0]) for row in reader.query("SELECT session_id FROM sessions")[1])


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_row_that_is_compacted_while_its_journal_is_swept_stands_once(tmp_path: Path, suffix: str) -> None:
    live = tmp_path / "sessions.jsonl"
    live.touch()
    compacted = 0
    for turn in range(ROUNDS):
        numbers = tuple(range(turn * SESSIONS, (turn + 1) * SESSIONS))
        assert run(run_and_die, str(live), numbers) == -signal.SIGKILL
        _rotate(live, f"sessions.jsonl.{turn + 1}{suffix}")
        barrier = processes().Barrier(2)
        both = [
            processes().Process(target=sweep_once, args=(str(live), barrier)),
            processes().Process(target=compact_once, args=(str(live), barrier, turn % 3 == 2)),
        ]
        for process in both:
            process.start()
        for process in both:
            process.join(60)
            assert process.exitcode in (0, -signal.SIGKILL)
        compacted += bool(Archive(live).committed())
        # What the first sweep had to leave, the next one finds.
        sweep(str(live), counts=SessionLogCounts(), warning=MinuteWarning())
        assert list_journals(live) == []
    list(compact(live, settle_s=0))

    assert compacted
    assert _session_ids(live) == Counter({f"session-{n:04d}": 1 for n in range(ROUNDS * SESSIONS)})


@pytest.mark.parametrize("step", ["claimed", "placed", "committed", "removed"])
def test_a_sweep_finds_a_row_at_every_step_of_a_compaction(tmp_path: Path, step: Step) -> None:
    live = tmp_path / "sessions.jsonl"
    live.touch()
    assert run(run_and_die, str(live), (1, 2)) == -signal.SIGKILL
    _rotate(live, "sessions.jsonl.1")
    [journal] = list_journals(live)
    aside = Path(journal).rename(tmp_path / "aside")
    recovered: list[int] = []

    def on_step(now: Step, _segment: str) -> None:
        if now == step:
            aside.rename(journal)
            recovered.append(sweep(str(live), counts=SessionLogCounts(), warning=MinuteWarning()))

    list(compact(live, settle_s=0, on_step=on_step))

    assert recovered == [0]
    assert list_journals(live) == []
    assert _session_ids(live) == Counter(["session-0001", "session-0002"])


@pytest.mark.parametrize("step", ["written", "placed", "committed", "removed"])
def test_a_sweep_finds_a_row_at_every_step_of_a_merge(
    tmp_path: Path, step: MergeStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days, "_LOCK_WAIT_S", 0.02)
    live = tmp_path / "sessions.jsonl"
    live.touch()
    assert run(run_and_die, str(live), (1, 2)) == -signal.SIGKILL
    _rotate(live, "sessions.jsonl.1")
    [journal] = list_journals(live)
    aside = Path(journal).rename(tmp_path / "aside")
    list(compact(live, settle_s=0))
    write_segment(tmp_path / "sessions.jsonl.1", encode_row(record(7, timestamp=now())))
    list(compact(live))
    recovered: list[int] = []
    left: list[str] = []

    def on_step(now: MergeStep, _day: str) -> None:
        if now == step and not recovered:
            aside.rename(journal)
            recovered.append(sweep(str(live), counts=SessionLogCounts(), warning=MinuteWarning()))
            left.extend(list_journals(live))

    list(merge_days(live, on_step=on_step))

    assert recovered == [0]
    # While files are being removed nobody reads, and the journal waits for the next sweep.
    assert left == ([journal] if step == "removed" else [])
    assert sweep(str(live), counts=SessionLogCounts(), warning=MinuteWarning()) == 0
    assert list_journals(live) == []
    assert _session_ids(live) == Counter(["session-0001", "session-0002", "session-0007"])


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("moved", ["compressed", "compacted"])
def test_a_clock_that_was_set_back_by_an_hour_hides_no_row(tmp_path: Path, moved: str, ended: bool) -> None:
    live = tmp_path / "sessions.jsonl"
    journal, log = Journal(str(live)), LogFile(str(live))
    journal.open()
    assert log.try_lock()
    begun = record(1, timestamp=rfc3339(int(time.time() + 3600) * 1_000_000))
    row = encode_row(begun)
    entry = journal.begin(encode_row(replace(begun, attempts=(), duration_ms=0)), log.position())
    if ended:
        journal.end(entry, row)
    log.append(row)
    log.close()
    # The owner dies: its file stays, and its lock is free.
    [path] = list_journals(live)
    kept = Path(path).read_bytes()
    journal.done(entry)
    journal.close()

    written = live.stat()
    if moved == "compressed":
        rotated = live.with_name("sessions.jsonl.1.gz")  # another file, with the time of the first, as gzip makes it
        rotated.write_bytes(gzip.compress(live.read_bytes()))
        os.utime(rotated, ns=(written.st_atime_ns, written.st_mtime_ns))
        live.unlink()
    else:
        live.rename(live.with_name("sessions.jsonl.1"))
        list(compact(live, settle_s=0))
    Path(path).write_bytes(kept)

    assert sweep(str(live), counts=SessionLogCounts(), warning=MinuteWarning()) == 0
    assert list_journals(live) == []


def test_a_session_waits_while_the_parquet_that_may_hold_its_row_is_missing(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    live.touch()
    assert run(run_and_die, str(live), (1,)) == -signal.SIGKILL
    _rotate(live, "sessions.jsonl.1")
    [journal] = list_journals(live)
    aside = Path(journal).rename(tmp_path / "aside")
    list(compact(live, settle_s=0))
    aside.rename(journal)
    [parquet] = Archive(live).folder.glob("day=*/*.parquet")
    kept = parquet.rename(tmp_path / "kept")

    assert sweep(str(live), counts=SessionLogCounts(), warning=MinuteWarning()) == 0
    assert list_journals(live) == [journal]
    kept.rename(parquet)
    assert sweep(str(live), counts=SessionLogCounts(), warning=MinuteWarning()) == 0
    assert list_journals(live) == []


def test_parquet_of_before_a_session_began_is_not_read_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = tmp_path / "sessions.jsonl"
    write_segment(tmp_path / "sessions.jsonl.1", encode_row(record(7)))
    list(compact(live))
    [manifest] = Archive(live).manifests.glob("*.json")
    os.utime(manifest, (1e9, 1e9))
    journal = Journal(str(live))
    journal.open()
    journal.begin(encode_row(record(8, timestamp=now())), LogFile(str(live)).position())
    os.close(journal._fd)

    def read(*_: object) -> None:
        raise AssertionError("Parquet was read")

    monkeypatch.setattr("iterate.session_log.scan.lines_of_sessions", read)
    assert sweep(str(live), counts=SessionLogCounts(), warning=MinuteWarning()) == 1
