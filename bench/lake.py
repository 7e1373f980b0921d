"""Publishers of one table, killed at random, over an S3 server that loses answers: does each row stand there once?

    python -m bench.lake                                        3 publishers, 60 segments, 25 kills
    python -m bench.lake --segments 12 --kills 4 --lost 0.02    a short one
    python -m bench.lake --catalog postgresql+psycopg://…       another catalog than SQLite
    python -m bench.lake --catalog rest                         Iceberg's own REST catalog, in Java, over a folder; the
                                                                gateway before it loses answers and asks again

Each publisher is a process beside a log of its own, which takes up closed segments, compacts and publishes them, again
and again. The parent closes a segment of each log now and then, kills publishers by SIGKILL at random moments once they
are at work, and starts others in their place. The server (moto) does what it is asked and keeps a share of its answers
to itself. In the end the table is compared with what was written, row by row by key, and figure by figure with the
JSONL of which it was made. Prints one JSON object; exit status 1 if a row is missing, doubled or other, or if the
table's folder holds metadata that could be taken for newer than the table's.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests" / "support")]

from bench.rest_catalog.server import Gateway, rest_catalog  # noqa: E402
from s3_server import BUCKET, LossyS3, lossy_s3  # noqa: E402
from session_rows import record, write_segment  # noqa: E402

from lakehouse.sessions.lake.config import LakeConfig  # noqa: E402
from lakehouse.sessions.lake.publishing import publish  # noqa: E402
from lakehouse.sessions.lake.reading import TableReader  # noqa: E402
from lakehouse.sessions.lake.table import LakeTable  # noqa: E402
from lakehouse.sessions.lake.unreferenced import referenced  # noqa: E402
from lakehouse.sessions.query.reader import SessionReader  # noqa: E402
from lakehouse.sessions.row import encode_row  # noqa: E402
from lakehouse.sessions.upkeep.compaction import compact  # noqa: E402
from lakehouse.sessions.upkeep.merging import merge_days  # noqa: E402

DEADLINE_S = 3_000
AT_WORK = "at work\n"
SQLITE, REST = "sqlite", "rest"
# How long a publisher works before it is killed, at most.
WORKS_S_MAX = 3.0

FIGURES = (
    "SELECT count(*), count(DISTINCT (session_id, try)), sum(input_tokens), sum(output_tokens), sum(duration_ms),"
    " sum(len(attempts)), sum(length(prompt)), sum(length(artifact)), sum(len(list_filter(attempts,"
    " lambda a: a.findings IS NOT NULL))), bit_xor(hash(session_id)), min(timestamp), max(timestamp) FROM sessions"
)


def publisher(log: Path, settings: str) -> None:
    """Publish, as the child, until killed."""
    lake = LakeTable(LakeConfig.model_validate_json(settings))
    sys.stdout.write(AT_WORK)
    sys.stdout.flush()
    while True:
        list(compact(log, settle_s=0))
        list(merge_days(log))
        list(publish(log, lake, segments_a_commit=5))
        time.sleep(0.05)


def segment_of(host: int, number: int, rows: int) -> bytes:
    """Return a closed segment's lines: sessions of three days, some of a second try."""
    first = number * rows
    return b"".join(
        encode_row(
            record(
                first + place, session_id=f"s-{host}-{first + place}", **({"try_number": 2} if place % 50 == 1 else {})
            )
        )
        for place in range(rows)
    )


class Publishers:
    """The processes, one for each log."""

    def __init__(self, logs: list[Path], settings: list[str]) -> None:
        self._commands = [
            [sys.executable, "-m", "bench.lake", "--publisher", str(log), "--settings", each]
            for log, each in zip(logs, settings, strict=True)
        ]
        self._running: list[subprocess.Popen[str]] = [self._start(place) for place in range(len(logs))]

    def _start(self, place: int) -> subprocess.Popen[str]:
        return subprocess.Popen(self._commands[place], stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def wait_at_work(self, place: int) -> None:
        stream: IO[str] | None = self._running[place].stdout
        if stream is None or stream.readline() != AT_WORK:
            raise SystemExit(f"publisher {place} ended by itself: {self._running[place].wait()}")

    def kill(self, place: int) -> None:
        """Kill one that is at work, and start another."""
        self.end(place)
        self._running[place] = self._start(place)

    def end(self, place: int) -> None:
        self._running[place].send_signal(signal.SIGKILL)
        self._running[place].wait()

    def check_alive(self) -> None:
        for place, process in enumerate(self._running):
            if process.poll() is not None:
                raise SystemExit(f"publisher {place} ended by itself: {process.returncode}")

    def end_all(self) -> None:
        for place in range(len(self._running)):
            self.end(place)


def table_settings(catalog: str, folder: Path, server: LossyS3 | Gateway) -> dict[str, Any]:
    """Return where the table is: in the server's bucket, or in a folder behind its REST catalog."""
    if isinstance(server, Gateway):
        return {"warehouse": str(folder / "lake"), "catalog_uri": server.uri}
    return {
        "warehouse": f"s3://{BUCKET}/warehouse",
        "catalog_uri": f"sqlite:///{folder}/catalog.sqlite?timeout=60" if catalog == SQLITE else catalog,
        "properties": server.properties,
    }


def run(arguments: argparse.Namespace, folder: Path, server: LossyS3 | Gateway) -> dict[str, Any]:
    random.seed(arguments.seed)
    logs = []
    for host in range(arguments.publishers):
        (folder / f"log-{host}").mkdir()
        logs.append(folder / f"log-{host}" / "sessions.jsonl")
        logs[-1].touch()
    of_table = table_settings(arguments.catalog, folder, server)
    settings = [json.dumps({**of_table, "host": f"host-{host}"}) for host in range(arguments.publishers)]
    publishers = Publishers(logs, settings)
    written: list[bytes] = []
    killed = 0
    began = time.monotonic()
    try:
        for place in range(arguments.publishers):
            publishers.wait_at_work(place)
        while time.monotonic() - began < DEADLINE_S:
            publishers.check_alive()
            if len(written) < arguments.segments:
                host = len(written) % arguments.publishers
                data = segment_of(host, len(written), arguments.rows)
                made = logs[host].parent / f".{len(written)}"
                write_segment(made, data)
                made.rename(logs[host].with_name(f"sessions.jsonl.{len(written)}"))
                written.append(data)
            if killed < arguments.kills and random.random() < 0.5 * arguments.kills / arguments.segments:
                place = random.randrange(arguments.publishers)
                time.sleep(random.random() * WORKS_S_MAX)
                publishers.kill(place)
                killed += 1
                publishers.wait_at_work(place)
            if len(written) == arguments.segments and killed == arguments.kills and all_published(logs):
                break
            time.sleep(0.1)
        else:
            raise SystemExit("not ended in time")
    finally:
        publishers.end_all()
    return compare(folder, settings[0], written, server) | {
        "catalog": arguments.catalog.partition(":")[0],
        "publishers": arguments.publishers,
        "segments": len(written),
        "sigkills": killed,
        "answers": server.answers,
        "answers_lost": server.lost,
        "asked_again_by_the_gateway": server.asked_again if isinstance(server, Gateway) else 0,
        "seconds": round(time.monotonic() - began),
    }


def all_published(logs: list[Path]) -> bool:
    """Whether no closed segment is left, and all compacted ones are marked."""
    for log in logs:
        archive = log.with_suffix(".parquet")
        if any(log.parent.glob("sessions.jsonl.[0-9]*")) or any((archive / "_claimed").glob("*")):
            return False
        marked = {path.stem for path in (archive / "_published").glob("2*.json")}
        if marked != {path.stem for path in (archive / "_segments").glob("*.json")}:
            return False
    return True


def compare(folder: Path, settings: str, written: list[bytes], server: LossyS3 | Gateway) -> dict[str, Any]:
    server.is_lossy = False
    (folder / "all").mkdir()
    everything = folder / "all" / "sessions.jsonl"
    everything.write_bytes(b"".join(written))
    lake = LakeTable(LakeConfig.model_validate_json(settings))
    with SessionReader(everything) as of_log, TableReader(lake) as of_table:
        wanted = next(of_log.query(FIGURES)[1])
        found = next(of_table.query(FIGURES)[1])
        keys = Counter(of_table.query("SELECT host, session_id, try FROM sessions")[1])
    table = lake.load()
    named = {location.rpartition("/")[2] for location in referenced(table)}
    unnamed = {path.rpartition("/")[2] for path in _files(folder, server)} - named
    number = table.metadata_location.rpartition("/")[2].partition("-")[0]
    newer = [name for name in unnamed if name.endswith(".metadata.json") and name.partition("-")[0] >= number]
    rows = sum(data.count(b"\n") for data in written)
    return {
        "rows_written": rows,
        "rows_in_table": sum(keys.values()),
        "distinct_keys_in_table": len(keys),
        "figures_equal": wanted == found,
        "snapshots": len(table.metadata.snapshots),
        "files_that_nobody_names": sum(name.endswith((".parquet", ".avro")) for name in unnamed),
        "metadata_that_nobody_names_and_looks_newest": len(newer),
        "passed": rows == sum(keys.values()) == len(keys) and wanted == found and not newer,
    }


def _files(folder: Path, server: LossyS3 | Gateway) -> list[str]:
    """Return all that stands in the warehouse."""
    from pyarrow.fs import FileSelector, S3FileSystem  # noqa: PLC0415

    if isinstance(server, Gateway):
        return [str(path) for path in (folder / "lake").rglob("*") if path.is_file()]
    system = S3FileSystem(endpoint_override=f"127.0.0.1:{server.port}", scheme="http", region="us-east-1")
    return [found.path for found in system.get_file_info(FileSelector(BUCKET, recursive=True)) if found.is_file]


def started(arguments: argparse.Namespace, folder: Path) -> AbstractContextManager[LossyS3 | Gateway]:
    """Return the server that loses answers."""
    if arguments.catalog == REST:
        return rest_catalog(folder, lost_share=arguments.lost, seed=arguments.seed)
    return lossy_s3(lost_share=arguments.lost, seed=arguments.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--publishers", type=int, default=3)
    parser.add_argument("--segments", type=int, default=60)
    parser.add_argument("--rows", type=int, default=200, help="of a segment")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--lost", type=float, default=0.05, help="share of answers that are lost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--catalog", default=SQLITE, help=f"{SQLITE}, {REST}, or a URI of SQLAlchemy")
    parser.add_argument("--publisher", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--settings", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publisher is not None:
        publisher(arguments.publisher, arguments.settings)
        return
    with tempfile.TemporaryDirectory() as folder, started(arguments, Path(folder)) as server:
        result = run(arguments, Path(folder), server)
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    main()
