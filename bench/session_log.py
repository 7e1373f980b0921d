"""What the session log costs: in the thread that answers requests, and in rows per second.

    python bench/session_log.py [--sessions 2000] [--rounds 7] [--folder DIR]

Request path: begin, two attempts and hand-over of one session (4 KB prompt, answers of 1.5 KB), with the making of its
two records, timed in the event loop's thread, with the journal on and off and for each fsync policy; the variants take
turns round by round, and the medians over rounds are printed. Throughput: the same rows through SessionLogger and
through a bare ``os.write`` loop of the same bytes, taking turns as well.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import uvloop

from iterate.session_log.fsync import FsyncPolicy
from iterate.session_log.logger import SessionLogConfig, SessionLogger
from lakehouse.sessions.record import PROCESS_DIED, FindingRecord, SessionAttemptRecord, SessionRecord, rfc3339
from lakehouse.sessions.row import encode_row

PROMPT = "Fill 3 forklift operators in Toledo for Saturday. " * 82  # 4.1 KB
RAW = '{"workers":["W-1041","W-1042"],"note":"\u00e9"}' * 37  # 1.5 KB
SPEC = '{"city":"Toledo","date":"2026-01-03","headcount":3,"role":"forklift operator"}'
FINDING = FindingRecord(code="UNKNOWN_WORKER", path="/workers/1", message="No such worker stands in the roster.")


def begun(number: int, prompt: str) -> SessionRecord:
    return SessionRecord(
        session_id=f"01890000-0000-7000-8000-{number:012d}",
        timestamp=rfc3339(time.time_ns() // 1000),
        trace_id=f"{number:032x}",
        kind="fill",
        provider="openai",
        model="gpt",
        prompt=prompt,
        spec=SPEC,
        max_iterations=3,
        final_verdict="infra_error",
        error=PROCESS_DIED,
        duration_ms=0,
    )


def attempts(raw: str) -> tuple[SessionAttemptRecord, ...]:
    first = SessionAttemptRecord(
        iteration=1,
        provider="openai",
        model="gpt",
        verdict="rejected",
        span_id="1" * 16,
        raw=raw,
        findings=(FINDING,),
        input_tokens=900,
        output_tokens=200,
        chat_ms=800,
        validate_ms=2,
        roster="sha256:0011",
    )
    second = SessionAttemptRecord(
        iteration=2,
        provider="openai",
        model="gpt",
        verdict="accepted",
        span_id="2" * 16,
        raw=raw,
        findings=(),
        input_tokens=1_300,
        output_tokens=200,
        chat_ms=900,
        validate_ms=2,
        roster="sha256:0011",
    )
    return (first, second)


def ended(session: SessionRecord, tries: tuple[SessionAttemptRecord, ...]) -> SessionRecord:
    return replace(
        session,
        timestamp=rfc3339(time.time_ns() // 1000),
        final_verdict="accepted",
        error=None,
        artifact='{"workers":["W-1041","W-1042"]}',
        grounded_in_roster=True,
        attempts=tries,
        duration_ms=1_704,
    )


async def time_sessions(config: SessionLogConfig, sessions: int, prompt: str, raw: str) -> tuple[list[float], int]:
    """Return the microseconds that each session kept the event loop, and how many rows were late."""
    logger = SessionLogger(config)
    await logger.start()
    tries = attempts(raw)
    spent_us = []
    for number in range(sessions):
        t0 = time.perf_counter()
        session = begun(number, prompt)
        opened = logger.begin(session)
        spent_s = time.perf_counter() - t0
        await opened.begun()
        t0 = time.perf_counter()
        for attempt in tries:
            opened.attempt_finished(attempt)
        handover = opened.hand_over(ended(session, tries))
        spent_us.append((spent_s + time.perf_counter() - t0) * 1e6)
        await handover.written()
    await logger.close()
    return spent_us, logger.counts()["rows_late"]


def remove(path: str) -> None:
    Path(path).unlink()


async def compare_request_path(folder: Path, sessions: int, rounds: int) -> None:
    policies: tuple[FsyncPolicy, ...] = get_args(FsyncPolicy)
    variants = [(journal, fsync) for fsync in policies for journal in (True, False)]
    results: dict[tuple[bool, FsyncPolicy], list[tuple[float, float, int]]] = {variant: [] for variant in variants}
    for number in range(rounds):
        for journal, fsync in variants if number % 2 else variants[::-1]:
            config = SessionLogConfig(
                session_log_path=str(folder / f"path-{number}-{journal}-{fsync}.jsonl"),
                journal=journal,
                fsync=fsync,
            )
            count = sessions if fsync != "row" else sessions // 10
            spent_us, late = await time_sessions(config, count, PROMPT, RAW)
            spent_us.sort()
            p50, p99 = spent_us[len(spent_us) // 2], spent_us[len(spent_us) * 99 // 100]
            results[journal, fsync].append((p50, p99, late * 1_000 // count))
            remove(config.session_log_path)
    print("request path: begin + 2 attempts + hand_over, us in the event loop's thread (medians over rounds)")
    print(f"{'journal':>8} {'fsync':>9} {'p50':>8} {'p99':>8} {'late/1000':>10}")
    for (journal, fsync), measured in results.items():
        p50, p99, late = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{'on' if journal else 'off':>8} {fsync:>9} {p50:8.1f} {p99:8.1f} {late:10.0f}")
    print("\na session with a 1 MiB prompt and two answers of 256 KiB, ms in the event loop's thread:")
    for journal in (True, False):
        config = SessionLogConfig(session_log_path=str(folder / f"big-{journal}.jsonl"), journal=journal)
        spent_us, _ = await time_sessions(config, 30, "x" * 1_048_576, "y" * 262_144)
        print(f"  journal {'on ' if journal else 'off'} p50 {statistics.median(spent_us) / 1000:.2f}")
        remove(config.session_log_path)


def write_bare(path: Path, lines: list[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    for line in lines:
        os.write(fd, line)
    os.close(fd)


async def write_logged(path: Path, rows: list[SessionRecord], sessions: list[SessionRecord], *, journal: bool) -> None:
    logger = SessionLogger(SessionLogConfig(session_log_path=str(path), journal=journal, fsync="never"))
    await logger.start()
    for session, row in zip(sessions, rows, strict=True):
        opened = logger.begin(session)
        await opened.begun()
        for attempt in row.attempts:
            opened.attempt_finished(attempt)
        await opened.hand_over(row).written()
    await logger.close()


async def compare_throughput(folder: Path, count: int, rounds: int) -> None:
    sessions = [begun(number, PROMPT) for number in range(count)]
    rows = [ended(session, attempts(RAW)) for session in sessions]
    lines = [encode_row(row) for row in rows]

    async def bare(path: Path) -> None:
        write_bare(path, lines)

    async def encoded(path: Path) -> None:
        write_bare(path, [encode_row(row) for row in rows])

    async def rows_alone(path: Path) -> None:
        await write_logged(path, rows, sessions, journal=False)

    async def with_journal(path: Path) -> None:
        await write_logged(path, rows, sessions, journal=True)

    ways: dict[str, Callable[[Path], Awaitable[None]]] = {
        "os.write loop": bare,
        "encode, os.write loop": encoded,
        "SessionLogger, no journal": rows_alone,
        "SessionLogger": with_journal,
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, write in ways.items():
            path = folder / f"speed-{number}.jsonl"
            t0 = time.perf_counter()
            await write(path)
            speeds[name].append(count / (time.perf_counter() - t0))
            assert path.read_bytes() == b"".join(lines), "not the same bytes"
            path.unlink()
    best = statistics.median(speeds["os.write loop"])
    print(f"\nrows per second, one process, {len(lines[0])} bytes a row, the same bytes on disk (medians over rounds)")
    for name, measured in speeds.items():
        speed = statistics.median(measured)
        print(f"{name:>26} {speed:10,.0f}  {speed / best:6.1%} of the bare loop")


async def main(folder: Path, sessions: int, rounds: int) -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}\n")
    await compare_request_path(folder, sessions, rounds)
    await compare_throughput(folder, sessions, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        uvloop.run(main(Path(temporary), options.sessions, options.rounds))
