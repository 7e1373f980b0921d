"""Writers of one session log, killed at random: has every session one row, whole, that says what was answered?

    python bench/session_log_kill.py                        8 processes x 2,000 rows of 1 KB to 1 MB
    python bench/session_log_kill.py --rows 60 --kills 20   a short one

Each process runs sessions through SessionLogger and notes in a file of its own, one ``write`` each, which sessions it
began and which answers it let go. The parent kills processes at random moments and starts others in their place, until
all rows are through. A last process then starts and recovers. Prints one JSON object; exit status 1 if a promise is
broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from iterate.session_log.logger import SessionLogConfig, SessionLogger
from lakehouse.sessions.record import PROCESS_DIED, SessionAttemptRecord, SessionRecord, rfc3339
from lakehouse.sessions.row_reading import RowBreach, decode_row

DEADLINE_S = 1_800


async def run_writer(path: str, notes_path: str, worker: str, rows: int, row_bytes_max: int, seed: int) -> None:
    """Write, as the child, ``rows`` sessions, three at a time."""
    random.seed(seed)
    notes = os.open(notes_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # What is promised holds for what is in the kernel's hands within `append_wait_ms`, and this machine may be busy.
    logger = SessionLogger(
        SessionLogConfig(session_log_path=path, append_wait_ms=10_000, sweep_interval_ms=500, log_drain_ms=60_000)
    )
    await logger.start()
    numbers = iter(range(rows))

    async def run_sessions() -> None:
        for number in numbers:
            session_id = f"{worker}-{number}"
            size = int(1_000 * (row_bytes_max / 1_000) ** random.random())  # log-uniform
            letter = random.choice("abcdefgh")
            begun = SessionRecord(
                session_id=session_id,
                timestamp=rfc3339(time.time_ns() // 1000),
                trace_id="0" * 31 + "1",
                kind="fill",
                provider="p",
                model="m",
                prompt=letter * (size // 2),
                max_iterations=3,
                final_verdict="infra_error",
                error=PROCESS_DIED,
                duration_ms=0,
            )
            session = logger.begin(begun)
            await session.begun()
            os.write(notes, f"B {session_id}\n".encode())
            await asyncio.sleep(0)
            attempt = SessionAttemptRecord(iteration=1, verdict="accepted", raw=letter * (size // 2))
            session.attempt_finished(attempt)
            await asyncio.sleep(0)
            handover = session.hand_over(
                replace(
                    begun,
                    timestamp=rfc3339(time.time_ns() // 1000),
                    final_verdict="accepted",
                    error=None,
                    attempts=(attempt,),
                )
            )
            outcome = await handover.written()
            os.write(notes, f"{'A' if outcome in {'written', 'late'} else 'X'} {session_id} {outcome}\n".encode())

    await asyncio.gather(*(run_sessions() for _ in range(3)))
    if not rows:  # the last one: it stays until it has recovered what the dead left
        await asyncio.to_thread(wait_for_recovery, Path(path).parent)
    await logger.close()


def wait_for_recovery(folder: Path) -> None:
    deadline = time.monotonic() + 300
    while len(list(folder.glob(".*.inflight"))) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)


def start_writer(folder: Path, serial: int, rows: int, row_bytes_max: int, seed: int) -> subprocess.Popen[bytes]:
    worker = f"w{serial}"
    arguments = [str(folder / "sessions.jsonl"), str(folder / f"{worker}.notes"), worker]
    return subprocess.Popen(
        [sys.executable, __file__, "--writer", *arguments, str(rows), str(row_bytes_max), str(seed + serial)],
        stderr=(folder / "stderr").open("ab"),
        stdout=subprocess.DEVNULL,
    )


def run_parent(
    folder: Path,
    *,
    processes: int,
    rows: int,
    row_bytes_max: int,
    kills_max: int,
    kill_every_s: float,
    seed: int,
) -> dict[str, Any]:
    random.seed(seed)
    began_at = time.monotonic()
    serial = kills = rotations = 0
    failed: list[int] = []
    notes_done: dict[str, int] = {}
    left = [rows] * processes  # rows each of the places still has to write
    places: list[tuple[subprocess.Popen[bytes], str] | None] = [None] * processes
    kill_at = began_at + 0.5
    while any(left) or any(places):
        if time.monotonic() - began_at > DEADLINE_S:
            raise SystemExit("the writers did not come to an end")
        for index, place in enumerate(places):
            if place is None and left[index] > 0:
                serial += 1
                process = start_writer(folder, serial, left[index], row_bytes_max, seed)
                places[index] = (process, f"w{serial}")
            elif place is not None and (status := place[0].poll()) is not None:
                notes = folder / f"{place[1]}.notes"
                begun = notes.read_text().count("B ") if notes.exists() else 0
                notes_done[place[1]] = begun
                left[index] = max(0, left[index] - begun)
                if status not in {0, -signal.SIGKILL}:
                    failed.append(status)
                    left[index] = 0
                places[index] = None
        if kills < kills_max and time.monotonic() >= kill_at:
            # Only those that are in the middle of their sessions: most of a process's life here is its start.
            victims = [
                place
                for place in places
                if place is not None and size_of(folder / f"{place[1]}.notes") and place[0].poll() is None
            ]
            if victims:
                random.choice(victims)[0].send_signal(signal.SIGKILL)
                kills += 1
                if kills % 8 == 0:
                    rotations += 1
                    (folder / "sessions.jsonl").rename(folder / f"sessions.jsonl.{rotations}")
            kill_at = time.monotonic() + random.expovariate(1 / kill_every_s)
        time.sleep(0.005)
    last = start_writer(folder, serial + 1, 0, row_bytes_max, seed)
    failed += [status] if (status := last.wait()) else []
    report = check(folder)
    return report | {
        "processes_started": serial,
        "kills": kills,
        "rotations": rotations,
        "failed_processes": failed,
        "seconds": round(time.monotonic() - began_at, 1),
    }


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def read_lines(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.glob("sessions.jsonl*")):
        with path.open("rb") as log:
            yield from log


def check(folder: Path) -> dict[str, Any]:
    """Read notes and log, and count what was promised not to happen."""
    begun: set[str] = set()
    answered: set[str] = set()
    outcomes: Counter[str] = Counter()
    for notes in folder.glob("*.notes"):
        for note in notes.read_text().splitlines():
            letter, session_id, *outcome = note.split()
            begun.add(session_id)
            if letter == "A":
                answered.add(session_id)
            outcomes.update(outcome)
    rows: Counter[str] = Counter()
    verdicts: dict[str, str] = {}
    torn = interleaved = bytes_read = 0
    for line in read_lines(folder):
        bytes_read += len(line)
        try:
            record = decode_row(line)
        except RowBreach as breach:
            if breach.kind == "blank":
                continue
            torn += 1
            # A torn row is the front of one row; a second row's beginning in it is interleaving.
            interleaved += line.count(b'{"schema"') > 1 or not line.startswith(b'{"schema"'[: len(line) - 1])
            continue
        rows[record.session_id] += 1
        verdicts[record.session_id] = record.final_verdict
        letters = {*record.prompt, *(letter for attempt in record.attempts for letter in attempt.raw)}
        interleaved += len(letters) > 1
    recovered = sum(verdict == "infra_error" for verdict in verdicts.values())
    return {
        "sessions_begun": len(begun),
        "sessions_without_row": len(begun - set(rows)),
        "sessions_with_two_rows": sum(count > 1 for count in rows.values()),
        "answers_contradicted": sum(verdicts.get(session_id) != "accepted" for session_id in answered),
        "rows": sum(rows.values()),
        "process_died_rows": recovered,
        "torn_rows": torn,
        "interleaved_rows": interleaved,
        "outcomes": dict(outcomes),
        "journals_left": len(list(folder.glob(".*.inflight*"))),
        "log_bytes": bytes_read,
    }


def is_kept(report: dict[str, Any]) -> bool:
    broken = (
        "sessions_without_row",
        "sessions_with_two_rows",
        "answers_contradicted",
        "interleaved_rows",
        "journals_left",
        "failed_processes",
    )
    return not any(report[name] for name in broken) and report["torn_rows"] <= report["kills"]


def main() -> None:
    if sys.argv[1:2] == ["--writer"]:
        path, notes, worker, rows, row_bytes_max, seed = sys.argv[2:]
        asyncio.run(run_writer(path, notes, worker, int(rows), int(row_bytes_max), int(seed)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2_000, help="rows a process")
    parser.add_argument("--row-bytes-max", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--kill-every-ms", type=int, default=150, help="mean time from kill to kill")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="an empty folder on the file system to try; default: a new one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report = run_parent(
            Path(folder),
            processes=options.processes,
            rows=options.rows,
            row_bytes_max=options.row_bytes_max,
            kills_max=options.kills,
            kill_every_s=options.kill_every_ms / 1000,
            seed=options.seed,
        )
        print(json.dumps(report, indent=1))
        if not is_kept(report):
            print((Path(folder) / "stderr").read_text()[-4_000:], file=sys.stderr)
            raise SystemExit(1)


if __name__ == "__main__":
    main()
