"""What reading a session log of 300,000 rows costs, as JSONL, compacted, and merged: time, CPU and peak memory of each
command.

    python bench/session_reading.py [--rows 300000] [--long-rows 12] [--files 100] [--folder DIR]

Writes rotated files and a live one (1.3 KB a row, 90 days, four kinds and models, some rows of 10 MB among them), runs
the commands as a user would, each in its own process, compacts each file into Parquet of its own, runs them again, lets
`compact` merge the days, and runs them again. Needs about twice the log's size on disk in ``--folder`` (default: a
temporary one, removed afterwards).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lakehouse.sessions.record import ErrorRecord, FindingRecord, SessionAttemptRecord, SessionRecord
from lakehouse.sessions.row import encode_row

DAYS = 90
GROUPS = 30
GROUP_ROWS = 100
START = datetime(2026, 8, 1, tzinfo=UTC)

KINDS = (
    ("fill", "openai", "gpt-5-mini", 0.34),
    ("fill", "anthropic", "claude-haiku-4", 0.22),
    ("email", "openai", "gpt-5-mini", 0.10),
    ("json_schema", "local", "qwen3-8b", 0.28),
)
ERRORS = (
    ErrorRecord("UNAVAILABLE", "PROVIDER_UNREACHABLE", "chatd", "The model endpoint cannot be reached."),
    ErrorRecord("DEADLINE_EXCEEDED", "DEADLINE", "iterate", "The deadline passed before the session ended."),
    ErrorRecord("PROCESS_DIED", "PROCESS_DIED", "iterate", "The process that ran this session ended before it did."),
)
WORKERS = ",".join(f'{{"name":"Worker {n} of Toledo","worker_id":"W-{n:04d}"}}' for n in range(5))
ARTIFACT = f'{{"note":"forklift, Saturday, early shift","workers":[{WORKERS}]}}'
PHANTOM = FindingRecord("PHANTOM_WORKER", "/workers/0/worker_id", "W-9999 is not in the roster of 2026-11-24")
PROMPT = "Fill 5 forklift operators in Toledo for Saturday, early shift, licence needed, nearest first. "
LONG = "word " * 2_000_000
# What the command does before it merges.
COMPACT_ALONE = "import sys; from lakehouse.sessions.upkeep.compaction import compact; list(compact(sys.argv[1]))"


def records(count: int, seed: int = 7) -> Iterator[SessionRecord]:
    """Sessions in the order of their ends; the rates drift over the days, so that charts have a shape."""
    rng = random.Random(seed)
    step = timedelta(days=DAYS) / count
    for number in range(count):
        moment = START + step * number
        age = number / count
        kind, provider, model, failure = rng.choices(KINDS, (5, 3, 2, 1))[0]
        failure *= 1.1 - 0.7 * age
        attempts = []
        verdict = "max_iter_exhausted"
        error = None
        if rng.random() < 0.015:
            verdict, error = "infra_error", rng.choices(ERRORS, (4, 2, 1))[0]
        for turn in range(1, 4):
            good = rng.random() > failure
            attempts.append(
                SessionAttemptRecord(
                    iteration=turn,
                    provider=provider,
                    model=model,
                    verdict="infra_error" if error else "accepted" if good else "rejected",
                    span_id=f"{rng.getrandbits(64):016x}",
                    raw="" if error else ARTIFACT,
                    findings=None if error else () if good else (PHANTOM,) if kind != "json_schema" else (),
                    error=error,
                    input_tokens=rng.randrange(300, 900),
                    output_tokens=rng.randrange(80, 300),
                    chat_ms=rng.randrange(400, 3000),
                    validate_ms=rng.randrange(1, 9),
                    roster="2026-11-24",
                )
            )
            if error or good:
                verdict = verdict if error else "accepted"
                break
        yield SessionRecord(
            session_id=f"{number:08x}-0000-7000-8000-{rng.getrandbits(48):012x}",
            timestamp=moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z",
            trace_id=f"{rng.getrandbits(128):032x}",
            kind=kind,
            provider=provider,
            model=model,
            prompt=PROMPT,
            spec='{"city":"Toledo","count":5,"role":"forklift operator"}',
            max_iterations=3,
            final_verdict=verdict,  # type: ignore[arg-type]  # one of three literals, chosen above
            error=error,
            artifact=None if error else ARTIFACT,
            grounded_in_roster=None if error else verdict == "accepted",
            attempts=tuple(attempts),
            duration_ms=sum(attempt.chat_ms for attempt in attempts),
        )


def patterns() -> list[list[tuple[bytes, ...]]]:
    """Rows cut where the id, the timestamp and the trace id stand, in groups by age."""
    groups: list[list[tuple[bytes, ...]]] = [[] for _ in range(GROUPS)]
    for number, record in enumerate(records(GROUPS * GROUP_ROWS)):
        row = encode_row(replace(record, session_id="%ID", timestamp="%TIME", trace_id="%TRACE"))
        head, rest = row.split(b"%ID", 1)
        between, rest = rest.split(b"%TIME", 1)
        groups[number // GROUP_ROWS].append((head, between, *rest.split(b"%TRACE", 1)))
    return groups


def session_id(number: int) -> str:
    return f"{number:08x}-0000-7000-8000-{number * 7919 % 2**48:012x}"


def write_log(folder: Path, count: int, long_rows: int, files: int) -> Path:
    """Rotated files, each last written when its last row ended, and the live one. Returns the live path."""
    live = folder / "sessions.jsonl"
    groups = patterns()
    long_text = b'"prompt":"' + LONG.encode()
    long_every = count // long_rows if long_rows else count + 1
    step = timedelta(days=DAYS) / count
    number = 0
    for left in range(files, -1, -1):
        path = live.with_name(f"{live.name}.{left}") if left else live
        moment = START
        with path.open("wb") as file:
            while number < count * (files + 1 - left) // (files + 1):
                moment = START + step * number
                head, between, middle, end = groups[GROUPS * number // count][number % GROUP_ROWS]
                ended = f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z".encode()
                identifier = session_id(number).encode()
                row = b"".join((head, identifier, between, ended, middle, b"%032x" % (number + 1), end))
                number += 1
                file.write(row if number % long_every else row.replace(b'"prompt":"', long_text, 1))
        if left:
            os.utime(path, (moment.timestamp(), moment.timestamp()))
    return live


def run(*command: str) -> tuple[float, float, float]:
    """Run a Python process and return its wall time and its CPU time in s, and its peak memory in MiB."""
    started = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    pid = os.posix_spawn(
        sys.executable, [sys.executable, *command], dict(os.environ), file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)]
    )
    _, status, usage = os.wait4(pid, 0)
    os.close(null)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def show(name: str, phase: str, *command: str) -> None:
    seconds, cpu_s, memory_mib = run(*command)
    load = os.getloadavg()[0]
    print(
        f"{name:<12}{phase:<12}{seconds:8.2f} s {cpu_s:8.2f} s CPU {memory_mib:6.0f} MiB   load {load:.1f}", flush=True
    )


def size_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def measure(folder: Path, count: int, long_rows: int, files: int) -> None:
    started = time.perf_counter()
    live = write_log(folder, count, long_rows, files)
    seconds = time.perf_counter() - started
    print(f"{count} rows written in {seconds:.1f} s, {size_mib(folder):.0f} MiB, {os.cpu_count()} cores")
    log = ("--log", str(live))
    cli = ("-m", "lakehouse.cli.main", "sessions")
    commands = {
        "stats": ("stats", *log, "--json"),
        "ls": ("ls", *log),
        "show": ("show", *log, session_id(count // 2)),
        "sql prompt": ("sql", *log, "SELECT count(*) FROM sessions WHERE prompt LIKE '%Toledo%'"),
        "verify": ("verify", *log),
    }
    for phase in ("JSONL", "compacted", "merged"):
        if phase == "compacted":
            show("compact", "", "-c", COMPACT_ALONE, str(live))
        elif phase == "merged":
            show("merge", "", *cli, "compact", "--recall-hours", "0", *log)
        if phase != "JSONL":
            parquet = sum(1 for _ in folder.glob("*.parquet/day=*/*.parquet"))
            print(f"{'':<24}{parquet} Parquet files, {size_mib(folder):.0f} MiB on disk")
        for name, arguments in commands.items():
            show(name, phase, *cli, *arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--long-rows", type=int, default=12, help="of 10 MB")
    parser.add_argument("--files", type=int, default=100, help="rotated ones")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        measure(arguments.folder, arguments.rows, arguments.long_rows, arguments.files)
        return
    with tempfile.TemporaryDirectory(prefix="session-reading-") as folder:
        measure(Path(folder), arguments.rows, arguments.long_rows, arguments.files)


if __name__ == "__main__":
    main()
