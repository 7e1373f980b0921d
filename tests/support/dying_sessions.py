"""Processes that die with a row that stands and is not marked, sweep, and compact: as a test forks them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier

from session_rows import record

from iterate.session_log.counts import MinuteWarning, SessionLogCounts
from iterate.session_log.journal import Journal
from iterate.session_log.sweep import sweep
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.append import LogFile
from lakehouse.sessions.upkeep.closing import CompactionRefusedError
from lakehouse.sessions.upkeep.compaction import Step, compact
from lakehouse.sessions.upkeep.merging import merge_days


def run_and_die(log_path: str, numbers: tuple[int, ...]) -> None:
    """Sessions whose rows stand in the log and are not marked; then SIGKILL."""
    journal, log = Journal(log_path), LogFile(log_path)
    journal.open()
    for number in numbers:
        ended = record(number, timestamp=now())
        row = encode_row(ended)
        entry = journal.begin(encode_row(replace(ended, attempts=(), duration_ms=0)), log.position())
        journal.end(entry, row)
        while not log.try_lock():
            time.sleep(0.001)
        log.append(row)
        log.unlock()
    os.kill(os.getpid(), signal.SIGKILL)


def sweep_once(log_path: str, barrier: Barrier) -> None:
    barrier.wait(30)
    sweep(log_path, counts=SessionLogCounts(), warning=MinuteWarning())


def compact_once(log_path: str, barrier: Barrier, dies: bool) -> None:
    def on_step(step: Step, _segment: str) -> None:
        if dies and step == "committed":
            os.kill(os.getpid(), signal.SIGKILL)

    barrier.wait(30)
    try:
        list(compact(log_path, settle_s=0, on_step=on_step))
    except CompactionRefusedError:
        return  # the sweep had not begun


def upkeep_and_die(log_path: str, merges: bool, step: str, time_of_it: int) -> None:
    """Compact, or merge, and die by SIGKILL right after a step, at the given time that it comes, counted from 0;
    ends as usual where it does not come so often."""
    left = time_of_it

    def on_step(now: str, _what: str) -> None:
        nonlocal left
        if now == step:
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    list(merge_days(log_path, on_step=on_step) if merges else compact(log_path, settle_s=0, on_step=on_step))


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
