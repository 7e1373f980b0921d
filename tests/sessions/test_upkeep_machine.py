"""Rows are appended, files rotated, compacted and merged in any order, and killed at any step: each row stands once."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

import forked_processes
from campaigns import campaign
from dying_sessions import upkeep_and_die
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from session_rows import HOSTILE_LINES, record

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.days import segment_files
from lakehouse.sessions.store.segments import open_snapshot
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.sessions.upkeep.merging import DAY_FILES_MAX, merge_days
from lakehouse.sessions.upkeep.verification import verify_log

_DAYS: Final = st.lists(st.integers(20, 22), min_size=1, max_size=4)
_COMPACT_STEPS = ("claimed", "written", "verified", "placed", "committed", "removed")
_MERGE_STEPS = ("written", "verified", "placed", "committed", "removed")


class Upkeep(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.live = self.folder / "sessions.jsonl"
        self.live.touch()
        self.ids: Counter[str] = Counter()
        self.others = 0
        self.appended = 0
        self.rotations = 0
        self.changed = False

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(days=_DAYS, hostile=st.booleans())
    def append(self, days: list[int], hostile: bool) -> None:
        with self.live.open("ab") as file:
            for day in days:
                row = record(self.appended, timestamp=f"2026-11-{day}T10:00:00.{self.appended:06d}Z")
                file.write(encode_row(row))
                self.ids[row.session_id] += 1
                self.appended += 1
            if hostile:
                file.write(HOSTILE_LINES[0])
                self.others += 1

    @rule(segments=st.lists(_DAYS, min_size=1, max_size=3))
    def append_and_rotate(self, segments: list[list[int]]) -> None:
        for days in segments:
            self.append(days, hostile=len(days) == 2)
            self.rotations += 1
            rotated = self.live.rename(self.live.with_name(f"sessions.jsonl.{self.rotations}"))
            os.utime(rotated, (1e9, 1e9 + self.rotations))
            self.live.touch()

    @rule()
    def compact(self) -> None:
        assert all(outcome.compacted for outcome in compact(self.live))
        self.changed = True

    @rule()
    def merge(self) -> None:
        assert all(outcome.merged for outcome in list(merge_days(self.live)))
        files = Counter(path.parent for path in Archive(self.live).folder.glob("day=*/*.parquet"))
        assert not files or max(files.values()) <= DAY_FILES_MAX
        self.changed = True

    @rule(step=st.sampled_from(_COMPACT_STEPS), time=st.integers(0, 1))
    def compact_and_die(self, step: str, time: int) -> None:
        self._die(False, step, time)

    @rule(step=st.sampled_from(_MERGE_STEPS), time=st.integers(0, 2))
    def merge_and_die(self, step: str, time: int) -> None:
        self._die(True, step, time)

    def _die(self, merges: bool, step: str, time: int) -> None:
        assert forked_processes.run(upkeep_and_die, str(self.live), merges, step, time) in (0, -signal.SIGKILL)
        self.changed = True

    @invariant()
    def each_row_stands_once(self) -> None:
        if not self.changed:
            return
        self.changed = False
        with SessionReader(self.live) as reader:
            assert reader.warnings == ()
            _, found = reader.query("SELECT session_id FROM facts")
            assert Counter(str(row[0]) for row in found) == self.ids
        with open_snapshot(self.live) as snapshot:
            verified = verify_log(snapshot, canonical=True, problems_max=3)
        assert (verified.whole, verified.torn) == (self.appended, self.others)
        assert (verified.unreadable, verified.duplicates, verified.not_canonical) == (0, 0, 0)
        archive = Archive(self.live)
        for segment in archive.committed():
            segment_files(archive, segment)


Upkeep.TestCase.settings = campaign(4, stateful_step_count=12, suppress_health_check=[HealthCheck.too_slow])
TestUpkeep = Upkeep.TestCase
