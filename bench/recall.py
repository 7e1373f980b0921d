"""A log of a million rows: how long its index takes, how long a recall, and how much memory.

    python -m bench.recall [--rows 1000000] [--row-bytes 1500] [--folder DIR]

Writes the log, has the index made as iterate has it made (a process of its own, of low priority), and then asks
`LogSearch`, as iterate's threads do, for ids that are there and one that is not, from the plain file and from the
same file rotated and compressed, once the indexer has read it. Prints one JSON object. The indexer's seconds of CPU
are what a busy machine cannot change.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import zstandard

from iterate.task import new_session_id
from lakehouse.sessions.index.search import LogSearch, NotSearchedError
from lakehouse.sessions.index.store import index_folder
from lakehouse.sessions.record import SessionAttemptRecord, SessionRecord, rfc3339
from lakehouse.sessions.row import encode_row

LOOKS = 200
_MIB = 1024 * 1024


def write_log(log: Path, rows: int, row_bytes: int) -> list[str]:
    """Write `rows` rows of the last hour; return every thousandth id."""
    now_us = time.time_ns() // 1000
    answer = SessionAttemptRecord(
        iteration=1, provider="openai", model="m", verdict="accepted", input_tokens=900, output_tokens=300, chat_ms=900
    )
    record = SessionRecord(
        session_id="",
        timestamp="",
        trace_id="0" * 31 + "1",
        kind="fill",
        provider="openai",
        model="m",
        prompt="Fill 3 forklift operators in Toledo for Saturday.",
        spec='{"city":"Toledo","count":3,"role":"forklift operator","state":"OH"}',
        max_iterations=3,
        final_verdict="accepted",
        artifact='{"workers":[]}',
        attempts=(answer,),
        duration_ms=1200,
        request_digest="sha256:" + "0" * 32,
    )
    random_text = "".join(random.choices("abcdefghijklmnopqrstuvwxyz ", k=1 << 20))
    filler = max(0, row_bytes - len(encode_row(record)) - 64)
    ids = []
    with log.open("wb", buffering=_MIB) as file:
        for number in range(rows):
            session_id = new_session_id()
            start = random.randrange(len(random_text) - filler)
            file.write(
                encode_row(
                    replace(
                        record,
                        session_id=session_id,
                        timestamp=rfc3339(now_us - (rows - number) * 1000),
                        attempts=(replace(answer, raw=random_text[start : start + filler]),),
                    )
                )
            )
            if number % 1000 == 0:
                ids.append(session_id)
    return ids


@contextmanager
def indexer(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "lakehouse.sessions.index", str(log)], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def status_bytes(process_id: int, key: str) -> int:
    text = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{key}:"))) * 1024


def cpu_s(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds_until_covered(log: Path) -> float:
    started = time.monotonic()
    while True:
        search = LogSearch(str(log))
        try:
            search.last_row("nobody", since_us(), given_up=lambda: True)
        except NotSearchedError:
            time.sleep(0.05)
        else:
            return time.monotonic() - started
        finally:
            search.close()


def since_us() -> int:
    return int((time.time() - 24 * 3600) * 1e6)


def look_ms(log: Path, ids: list[str], looks: int = LOOKS) -> dict[str, float]:
    times = []
    search = LogSearch(str(log))
    for number in range(looks):
        wanted = random.choice(ids) if number % 2 else "no-such-session"
        started = time.perf_counter()
        row = search.last_row(wanted, since_us())
        times.append((time.perf_counter() - started) * 1000)
        if (row is None) == bool(number % 2):
            raise RuntimeError(f"{wanted} was {'not ' if row is None else ''}found")
    search.close()
    times.sort()
    return {
        "median": round(statistics.median(times), 2),
        "p99": round(times[int(0.99 * (looks - 1))], 2),
        "max": round(times[-1], 2),
    }


def compress(log: Path, how: str) -> Path:
    """Rotate and compress, as logrotate does: from standard input."""
    rotated = log.with_name("sessions.jsonl.1")
    target = rotated.with_name(rotated.name + how)
    log.rename(rotated)
    log.touch()
    with rotated.open("rb") as source:
        if how == ".gz":
            with gzip.open(target, "wb", compresslevel=1) as packed:
                shutil.copyfileobj(source, packed, _MIB)
        else:
            with target.open("wb") as raw, zstandard.ZstdCompressor(level=1).stream_writer(raw) as writer:
                shutil.copyfileobj(source, writer, _MIB)
    rotated.unlink()
    return target


def own_memory_mib() -> float:
    return status_bytes(os.getpid(), "VmRSS") / _MIB


def measure(folder: Path, rows: int, row_bytes: int) -> dict[str, object]:
    log = folder / "sessions.jsonl"
    ids = write_log(log, rows, row_bytes)
    found: dict[str, object] = {"rows": rows, "log_mib": round(log.stat().st_size / _MIB)}
    with indexer(log) as process:
        found["index_made_s"] = round(seconds_until_covered(log), 1)
        found["index_made_cpu_s"] = round(cpu_s(process.pid), 1)
        found["indexer_peak_mib"] = round(status_bytes(process.pid, "VmHWM") / _MIB)
        found["index_mib"] = round(sum(each.stat().st_size for each in index_folder(log).iterdir()) / _MIB)
        before = own_memory_mib()
        found["recall_plain_ms"] = look_ms(log, ids)
        found["searcher_grew_mib"] = round(own_memory_mib() - before, 1)
    for how in (".gz", ".zst"):
        shutil.rmtree(index_folder(log))
        with indexer(log):
            seconds_until_covered(log)
            packed = compress(log, how)
            name = how[1:]
            started = time.monotonic()
            found[f"compressed_{name}_covered_s"] = round(seconds_until_covered(log), 2)
            wait_for_lines(log)
            found[f"compressed_{name}_read_s"] = round(time.monotonic() - started, 1)
            found[f"recall_{name}_ms"] = look_ms(log, ids)
        if how == ".gz":
            log.unlink()
            with gzip.open(packed, "rb") as source, log.open("wb") as target:
                shutil.copyfileobj(source, target, _MIB)
            packed.unlink()
    return found


def wait_for_lines(log: Path) -> None:
    """Until the indexer has read the compressed file."""
    from lakehouse.sessions.index.store import RowIndex  # noqa: PLC0415
    from lakehouse.sessions.index.texts import version_of  # noqa: PLC0415
    from lakehouse.sessions.store.log_files import list_log_files  # noqa: PLC0415

    (file,) = (each for each in list_log_files(log).files if not each.live)
    while True:
        index = RowIndex.open_to_read(index_folder(log))
        if index is not None:
            read = index.head_of_compressed(version_of(file)) is not None
            index.close()
            if read:
                return
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-bytes", type=int, default=1500)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="recall-") as folder:
        sys.stdout.write(json.dumps(measure(Path(folder), arguments.rows, arguments.row_bytes), indent=2) + "\n")


if __name__ == "__main__":
    main()
