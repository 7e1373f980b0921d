"""The journal's file, and what a sweep makes of one whose owner is dead."""

from __future__ import annotations

import fcntl
import gzip
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import zstandard

import iterate.session_log.journal
import iterate.session_log.scan
import iterate.session_log.sweep
from iterate.session_log.counts import MinuteWarning, SessionLogCounts
from iterate.session_log.journal import Journal, JournalEntry
from iterate.session_log.journal_reading import read_journal
from iterate.session_log.sweep import sweep
from lakehouse.sessions.record import PROCESS_DIED, SessionAttemptRecord, SessionRecord, rfc3339
from lakehouse.sessions.row import encode_attempt, encode_row
from lakehouse.sessions.row_reading import decode_row
from lakehouse.sessions.store.append import LogFile, LogPosition
from lakehouse.sessions.store.archive import Archive, new_segment
from lakehouse.sessions.store.log_files import FoundFile

BEGUN_UNIX_US = int(time.time() - 60) * 1_000_000
ATTEMPT = SessionAttemptRecord(iteration=1, verdict="rejected", raw="Jos\u00e9\u2028\n", findings=())


def begun(session_id: str = "s1", prompt: str = "p") -> SessionRecord:
    return SessionRecord(
        session_id=session_id,
        timestamp=rfc3339(BEGUN_UNIX_US),
        trace_id="1" * 32,
        kind="fill",
        provider="p",
        model="m",
        prompt=prompt,
        spec='{"big":18446744073709551617}',
        max_iterations=3,
        final_verdict="infra_error",
        error=PROCESS_DIED,
        duration_ms=0,
    )


def ended(session_id: str = "s1", prompt: str = "p", after_ms: int = 2_000) -> SessionRecord:
    return replace(
        begun(session_id, prompt),
        timestamp=rfc3339(BEGUN_UNIX_US + after_ms * 1000),
        final_verdict="accepted",
        error=None,
        attempts=(ATTEMPT,),
        duration_ms=after_ms,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.jsonl"


def begin(journal: Journal, record: SessionRecord, path: Path) -> JournalEntry:
    log = LogFile(path)
    if path.exists():  # as the process whose journal it is has the log open
        assert log.try_lock()
        log.unlock()
    position = log.position()
    log.close()
    return journal.begin(encode_row(record), position)


def append(path: Path, *records: SessionRecord) -> None:
    with path.open("ab") as log:
        log.writelines(encode_row(record) for record in records)


def die(journal: Journal) -> None:
    """Leaves the file as a SIGKILL would, lock released."""
    os.close(journal._fd)
    journal._fd = -1


def run_sweep(path: Path) -> dict[str, int]:
    counts = SessionLogCounts()
    sweep(str(path), counts=counts, warning=MinuteWarning(), synced=False)
    return counts.snapshot()


def read_rows(path: Path) -> list[SessionRecord]:
    return [decode_row(line) for line in path.read_bytes().splitlines() if line]


def journals(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.glob(".*"))


class TestFile:
    def test_it_is_hidden_locked_and_private_to_owner_and_group(self, path: Path) -> None:
        journal = Journal(str(path))
        journal.open()
        file = Path(journal.path)
        assert file.parent == path.parent
        assert file.name.startswith(".sessions.jsonl.")
        assert file.name.endswith(".inflight")
        assert file.stat().st_mode & 0o137 == 0
        with file.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal.close()
        assert not file.exists()

    def test_it_stays_when_a_session_is_left_in_it(self, path: Path) -> None:
        journal = Journal(str(path))
        begin(journal, begun(), path)
        journal.close()
        assert len(journals(path)) == 1

    def test_it_is_emptied_when_no_session_lives(self, path: Path) -> None:
        journal = Journal(str(path))
        for _ in range(50):
            journal.done(begin(journal, begun(prompt="x" * 50_000), path))
            assert Path(journal.path).stat().st_size < iterate.session_log.journal.EMPTY_BYTES_MIN + 60_000
        journal.close()

    def test_it_is_rewritten_with_the_living_sessions_alone(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(iterate.session_log.journal, "DEAD_BYTES_MAX", 100_000)
        journal = Journal(str(path))
        first = begin(journal, begun("first"), path)
        rebuilds: list[int] = []
        rebuild = journal._rebuild

        def count() -> None:
            rebuild()
            rebuilds.append(journal.size_bytes)

        monkeypatch.setattr(journal, "_rebuild", count)
        for number in range(60):
            journal.attempt(first, encode_attempt(replace(ATTEMPT, iteration=number + 1)), unix_us=1)
            entry = begin(journal, begun(f"s{number}", "x" * 10_000), path)
            assert journal.size_bytes < 2 * journal.live_bytes + 120_000
            if number != 40:
                journal.done(entry)
        assert rebuilds, "it was never rewritten"
        assert len(journals(path)) == 1
        contents = read_journal(journal._fd)
        assert [session.begun for session in contents.unfinished.values()] == [
            begun("first"),
            begun("s40", "x" * 10_000),
        ]
        assert [attempt.iteration for attempt in next(iter(contents.unfinished.values())).attempts] == list(
            range(1, 61)
        )
        journal.done(first)  # at its new place
        assert [session.begun for session in read_journal(journal._fd).unfinished.values()] == [
            begun("s40", "x" * 10_000)
        ]
        die(journal)

    def test_an_entry_that_the_disk_cut_short_is_overwritten(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        journal = Journal(str(path))
        begin(journal, begun("first"), path)
        real = os.pwrite

        def half(fd: int, data: bytes, offset: int) -> int:
            real(fd, bytes(data)[: len(data) // 2], offset)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", half)
            with pytest.raises(OSError, match="No space"):
                begin(journal, begun("cut", "x" * 5_000), path)
        begin(journal, begun("second"), path)
        contents = read_journal(journal._fd)
        assert [session.begun for session in contents.unfinished.values()] == [begun("first"), begun("second")]
        assert (contents.lines_skipped, contents.torn) == (0, False)
        die(journal)

    def test_after_an_attempt_that_was_not_written_no_later_one_is(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(str(path))
        entry = begin(journal, begun(), path)
        journal.attempt(entry, encode_attempt(ATTEMPT), unix_us=1)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(OSError, match="full"):
                journal.attempt(entry, encode_attempt(replace(ATTEMPT, iteration=2)), unix_us=2)
        journal.attempt(entry, encode_attempt(replace(ATTEMPT, iteration=3)), unix_us=3)
        assert [each.iteration for each in read_journal(journal._fd).unfinished[1].attempts] == [1]
        die(journal)

    def test_a_journal_that_lost_its_folder_moves_to_the_new_one(self, path: Path) -> None:
        journal = Journal(str(path))
        begin(journal, begun("first"), path)
        Path(journal.path).unlink()
        begin(journal, begun("second"), path)
        die(journal)
        run_sweep(path)
        assert [row.session_id for row in read_rows(path)] == ["first", "second"]


class TestSweep:
    def test_a_session_that_never_ended_gets_a_process_died_row(self, path: Path) -> None:
        journal = Journal(str(path))
        entry = begin(journal, begun(), path)
        journal.attempt(entry, encode_attempt(ATTEMPT), unix_us=BEGUN_UNIX_US + 1_500_999)
        die(journal)
        counts = run_sweep(path)
        assert read_rows(path) == [
            replace(
                begun(),
                timestamp=rfc3339(BEGUN_UNIX_US + 1_500_999),
                duration_ms=1_500,
                attempts=(ATTEMPT,),
                error=PROCESS_DIED,
            )
        ]
        assert (counts["sessions_recovered"], counts["journals_swept"]) == (1, 1)
        assert journals(path) == []

    def test_a_session_whose_row_was_queued_gets_that_row(self, path: Path) -> None:
        journal = Journal(str(path))
        journal.end(begin(journal, begun(), path), encode_row(ended()))
        die(journal)
        run_sweep(path)
        assert path.read_bytes() == encode_row(ended())

    def test_an_end_without_a_beginning_is_enough(self, path: Path) -> None:
        journal = Journal(str(path))
        journal.end(None, encode_row(ended()))
        journal.done(journal.end(None, encode_row(ended("s2"))))
        die(journal)
        run_sweep(path)
        assert read_rows(path) == [ended()]

    @pytest.mark.parametrize("has_end", [True, False])
    @pytest.mark.parametrize("where", ["live", "unended", "renamed", "gz", "zst", "two rotations", "copytruncate"])
    def test_a_row_that_stands_anywhere_in_the_log_is_not_written_again(
        self, path: Path, where: str, has_end: bool
    ) -> None:
        append(path, ended("older", "x" * 500))
        journal = Journal(str(path))
        entry = begin(journal, begun(), path)
        if has_end:
            journal.end(entry, encode_row(ended()))
        append(path, ended())
        rotated = path.with_name("sessions.jsonl.1")
        if where == "unended":
            path.write_bytes(path.read_bytes()[:-1])  # killed before the LF: the next append completes it
        elif where in {"renamed", "two rotations"}:
            path.rename(rotated)
            if where == "two rotations":
                rotated.rename(path.with_name("sessions.jsonl.2"))
                append(rotated, ended("other"))
        elif where == "gz":
            Path(f"{rotated}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        elif where == "zst":
            Path(f"{rotated}.zst").write_bytes(zstandard.compress(path.read_bytes()))
            path.unlink()
        elif where == "copytruncate":
            # Regrown beyond the recorded position, with the row before it: only the file's head tells.
            path.write_bytes(b"")
            append(path, ended(), ended("newer", "y" * 5_000))
        die(journal)
        counts = run_sweep(path)
        assert counts["sessions_recovered"] == 0
        assert not any(name.startswith("sweep_errors") for name in counts)
        assert journals(path) == []

    def test_a_torn_row_does_not_count_as_written(self, path: Path) -> None:
        journal = Journal(str(path))
        journal.end(begin(journal, begun(), path), encode_row(ended()))
        path.write_bytes(encode_row(ended())[:-2])
        die(journal)
        assert run_sweep(path)["sessions_recovered"] == 1
        lines = path.read_bytes().splitlines()
        assert len(lines) == 2, "the torn row swallowed the next one"
        assert decode_row(lines[1]) == ended()

    @pytest.mark.parametrize("began_later_ms", [0, 5_000])
    def test_a_callers_second_try_under_the_same_ids_is_another_session(self, path: Path, began_later_ms: int) -> None:
        journal = Journal(str(path))
        begin(journal, begun(prompt="first" if began_later_ms == 0 else "p"), path)
        retry = ended()
        append(path, replace(retry, timestamp=rfc3339(BEGUN_UNIX_US + (2_000 + began_later_ms) * 1000), attempts=()))
        die(journal)
        assert run_sweep(path)["sessions_recovered"] == 1

    def test_a_living_processs_journal_is_left_alone(self, path: Path) -> None:
        journal = Journal(str(path))
        begin(journal, begun(), path)
        assert run_sweep(path)["journals_swept"] == 0
        assert not path.exists()
        die(journal)

    def test_a_torn_last_line_is_passed_over_and_counted(self, path: Path) -> None:
        journal = Journal(str(path))
        entry = begin(journal, begun(), path)
        journal.end(entry, encode_row(ended()))
        os.ftruncate(journal._fd, journal.size_bytes - 1)
        die(journal)
        counts = run_sweep(path)
        assert (counts["sessions_recovered"], counts["journal_lines_skipped"]) == (1, 1)
        assert read_rows(path) == [begun()]
        assert journals(path) == []

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\n",
            b"B\n",
            b"B 9 x\n",
            b"\0\0\0\0\n",
            b'E 9 {"schema":1}\n',
            b"A 1 12 [1]\n",
            b"\xff\xfe \n",
            b"Z 1 new\n",
        ],
    )
    def test_corrupt_lines_are_skipped_and_the_file_is_kept_for_a_person(self, path: Path, garbage: bytes) -> None:
        journal = Journal(str(path))
        begin(journal, begun("s1"), path)
        os.pwrite(journal._fd, garbage, journal.size_bytes)
        journal._end += len(garbage)
        begin(journal, begun("s2"), path)
        die(journal)
        counts = run_sweep(path)
        assert [row.session_id for row in read_rows(path)] == ["s1", "s2"]
        assert counts["journal_lines_skipped"] == 1
        (left,) = journals(path)
        assert left.endswith(".inflight.unread")
        assert run_sweep(path)["journals_swept"] == 0
        assert len(read_rows(path)) == 2

    def test_the_journal_of_another_log_is_not_touched(self, path: Path) -> None:
        journal = Journal(str(path) + ".b")
        begin(journal, begun(), path)
        die(journal)
        assert run_sweep(path)["journals_swept"] == 0
        assert len(journals(path)) == 1

    def test_a_journal_in_the_making_of_a_dead_process_is_removed(self, path: Path) -> None:
        journal = Journal(str(path))
        Path(journal._new_path).write_bytes(b"B 1 ")
        run_sweep(path)
        assert journals(path) == []

    def test_an_archive_in_the_making_postpones_the_sweep(self, path: Path) -> None:
        journal = Journal(str(path))
        begin(journal, begun(), path)
        die(journal)
        archive = path.with_name("sessions.jsonl.1.gz")
        archive.write_bytes(gzip.compress(encode_row(ended("other")) * 3)[:-20])
        assert run_sweep(path)["sweep_errors:POSTPONED"] == 1
        assert not path.exists()
        archive.write_bytes(gzip.compress(encode_row(ended())))
        assert run_sweep(path)["sessions_recovered"] == 0
        assert journals(path) == []

    def test_half_an_archive_is_searched_again_when_it_is_whole(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(str(path))
        begin(journal, begun(), path)
        die(journal)
        rotated, archive = path.with_name("sessions.jsonl.1"), path.with_name("sessions.jsonl.0.zst")
        packed = zstandard.compress(os.urandom(300_000) + b"\n" + encode_row(ended()))
        append(rotated, ended())
        archive.write_bytes(packed[:200_000])
        real = iterate.session_log.scan._Search._search

        def search(self: iterate.session_log.scan._Search, file: FoundFile) -> None:
            if file.path == rotated and rotated.exists():  # the compressor comes to its end just now
                archive.write_bytes(packed)
                rotated.unlink()
            real(self, file)

        monkeypatch.setattr(iterate.session_log.scan._Search, "_search", search)
        assert run_sweep(path)["sessions_recovered"] == 0
        assert not rotated.exists()

    @pytest.mark.parametrize("name", ["sessions.jsonl.1.gz", "sessions.jsonl.1.zst", "sessions.jsonl.1.xz"])
    @pytest.mark.parametrize("content", ["none", "garbage", "cut"])
    def test_a_file_that_cannot_be_read_leaves_its_journal_however_old_it_is(
        self, path: Path, name: str, content: str
    ) -> None:
        journal = Journal(str(path))
        long_ago = replace(begun(), timestamp=rfc3339(BEGUN_UNIX_US - 86_400_000_000))
        journal.begin(encode_row(long_ago), LogPosition())
        die(journal)
        archive = path.with_name(name)
        rows = encode_row(ended()) * 50
        whole = zstandard.compress(rows) if name.endswith("zst") else gzip.compress(rows)
        archive.write_bytes({"none": b"", "garbage": b"no archive at all", "cut": whole[:-5]}[content])
        os.utime(archive, (time.time() - 7_200,) * 2)
        with structlog.testing.capture_logs() as logs:
            assert run_sweep(path)["sweep_errors:POSTPONED"] == 1
        assert name in logs[0]["detail"]
        assert not path.exists()
        assert len(journals(path)) == 1
        archive.unlink()
        assert run_sweep(path)["sessions_recovered"] == 1
        assert journals(path) == []

    @pytest.mark.parametrize("end_alone", [True, False])
    def test_a_file_from_before_a_session_does_not_hold_it_up(self, path: Path, *, end_alone: bool) -> None:
        journal = Journal(str(path))
        if end_alone:
            journal.end(None, encode_row(ended()))
        else:
            begin(journal, begun(), path)
        die(journal)
        archive = path.with_name("sessions.jsonl.1.gz")
        archive.write_bytes(b"no gzip at all")
        os.utime(archive, (time.time() - 1_200,) * 2)
        assert run_sweep(path)["sessions_recovered"] == 1

    def test_an_unreadable_file_holds_up_the_sessions_alone_that_may_stand_in_it(self, path: Path) -> None:
        early, late = Journal(str(path)), Journal(str(path))
        early.begin(
            encode_row(replace(begun("early"), timestamp=rfc3339(BEGUN_UNIX_US - 7_200_000_000))), LogPosition()
        )
        late.begin(encode_row(begun("late")), LogPosition())
        die(early)
        die(late)
        archive = path.with_name("sessions.jsonl.1.gz")
        archive.write_bytes(b"no gzip at all")
        os.utime(archive, (time.time() - 3_600,) * 2)
        counts = run_sweep(path)
        assert (counts["sessions_recovered"], counts["sweep_errors:POSTPONED"]) == (1, 1)
        assert [row.session_id for row in read_rows(path)] == ["late"]
        assert journals(path) == [Path(early.path).name]

    def test_half_a_compressed_file_beside_its_original_holds_up_nothing(self, path: Path) -> None:
        journal = Journal(str(path))
        begin(journal, begun(), path)
        die(journal)
        rotated = path.with_name("sessions.jsonl.1")
        append(rotated, ended("other"))
        Path(f"{rotated}.gz").write_bytes(gzip.compress(rotated.read_bytes())[:-9])
        assert run_sweep(path)["sessions_recovered"] == 1

    def test_a_row_is_found_in_a_file_that_a_compaction_claimed(self, path: Path) -> None:
        journal = Journal(str(path))
        journal.end(begin(journal, begun(), path), encode_row(ended()))
        die(journal)
        archive = Archive(path)
        archive.claimed.mkdir(parents=True)
        claimed = archive.claimed_path(new_segment(), "gzip")
        claimed.write_bytes(gzip.compress(encode_row(ended())))
        assert run_sweep(path)["sessions_recovered"] == 0
        assert journals(path) == []
        assert not path.exists()

    @pytest.mark.parametrize("name", ["sessions.jsonl.bak", "sessions_old.jsonl", "sessions-copy.jsonl.zst"])
    def test_a_row_in_a_copy_does_not_count_as_written(self, path: Path, name: str) -> None:
        journal = Journal(str(path))
        begin(journal, begun(), path)
        die(journal)
        data = encode_row(ended())
        path.with_name(name).write_bytes(zstandard.compress(data) if name.endswith(".zst") else data)
        assert run_sweep(path)["sessions_recovered"] == 1

    def test_a_journal_that_another_sweeper_finished_before_our_lock_is_left_alone(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(str(path))
        begin(journal, begun(), path)
        die(journal)
        real = fcntl.flock

        def flock(fd: int, operation: int) -> None:
            Path(journal.path).unlink(missing_ok=True)
            real(fd, operation)

        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", flock)
            assert run_sweep(path)["sessions_recovered"] == 0
        assert not path.exists()

    def test_a_locked_log_postpones_the_sweep(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(iterate.session_log.sweep, "LOCK_WAIT_S", 0.02)
        journal = Journal(str(path))
        begin(journal, begun(), path)
        die(journal)
        with path.open("ab") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            assert run_sweep(path)["sweep_errors:POSTPONED"] == 1
        assert run_sweep(path)["sessions_recovered"] == 1
        assert len(read_rows(path)) == 1

    def test_sweepers_at_the_same_time_write_each_row_once(self, path: Path) -> None:
        for _ in range(20):
            journal = Journal(str(path))
            for number in range(3):
                begin(journal, begun(f"{journal.path[-20:-9]}-{number}"), path)
            die(journal)
        sweeper = (
            "import sys; from iterate.session_log.counts import *; from iterate.session_log.sweep import sweep;"
            "sys.stdin.readline();"
            "sweep(sys.argv[1], counts=SessionLogCounts(), warning=MinuteWarning(), synced=False)"
        )
        services = Path(iterate.session_log.sweep.__file__).parent.parent
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", sweeper, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(services)},
            )
            for _ in range(2)
        ]
        threads = [threading.Thread(target=run_sweep, args=(path,)) for _ in range(3)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.close()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [process.wait(30) for process in processes] == [0, 0]
        rows = Counter(row.session_id for row in read_rows(path))
        assert len(rows) == 60
        assert set(rows.values()) == {1}
        assert journals(path) == []
