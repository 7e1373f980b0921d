"""One published table, read by engines that others wrote: do they answer what the JSONL says?

    make engines                                                the engines' environment, .tools/engines (1.6 GB)
    python -m bench.lake_engines                                a folder
    python -m bench.lake_engines --s3                           a bucket (moto, on loopback)
    python -m bench.lake_engines --engines sail,clickhouse      some of them

Three logs are published segment by segment, with rows of every sort, the first by a writer that knew fewer columns.
While a commit of a killed publisher lies in the table's folder, each engine answers the questions of
bench/engines/questions.py and gives all rows. Then the rest is published, `lakehouse sessions erase` erases one caller
from every log and from the table, and they are asked again. Every figure, and the digest of every row with all its
columns, is compared with what Python's JSON reader finds in the JSONL. Prints one JSON object; exit status 1 on any
difference, or where the erased name stands in a file.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests" / "support")]

from all_bytes import files_with  # noqa: E402
from bench.engines import truth  # noqa: E402
from bench.engines.answer import Place  # noqa: E402
from bench.engines.sessions import PLANTED, rotated_file  # noqa: E402
from lake_tables import Killed, segments_of  # noqa: E402
from s3_server import BUCKET, KEYS, LossyS3, lossy_s3  # noqa: E402
from session_rows import write_segment  # noqa: E402

from lakehouse.sessions.lake import columns  # noqa: E402
from lakehouse.sessions.lake.config import LakeConfig  # noqa: E402
from lakehouse.sessions.lake.publishing import publish  # noqa: E402
from lakehouse.sessions.lake.table import LakeTable  # noqa: E402
from lakehouse.sessions.upkeep.compaction import compact  # noqa: E402

PYTHON = ROOT / ".tools" / "engines" / "bin" / "python"
ENGINES = ("pyiceberg_duckdb", "duckdb_extension", "sail", "clickhouse", "daft_ray")
ANSWER_S = 300
FILES = 4
# What a writer of before did not write, in rows and in attempts.
_LATER_COLUMNS = ("cost_nano_usd", "brief", "try", "request_digest")
_LATER_FIELDS = re.compile(
    r", (datasets STRUCT\(name VARCHAR, version VARCHAR\)\[\]|cost_nano_usd BIGINT|parse_problem VARCHAR)"
)


@dataclass(slots=True)
class Ground:
    """The logs and their table."""

    folder: Path
    settings: dict[str, Any]
    s3: dict[str, str]
    logs: list[Path]
    written: list[truth.Written] = field(default_factory=list)

    def lake(self, host: int = 0) -> LakeTable:
        return LakeTable(LakeConfig(**self.settings, host=f"host-{host}"))

    def write(self, host: int, number: int, rows: int, *, is_old: bool = False) -> None:
        """Write a rotated file of a log and compact it."""
        log = self.logs[host]
        data = rotated_file(host, number, rows, is_old=is_old)
        before = segments_of(log)
        write_segment(log.with_name(f"sessions.jsonl.{number + 1}"), data)
        outcomes = list(compact(log, settle_s=0))
        (segment,) = segments_of(log) - before
        if not all(outcome.compacted for outcome in outcomes):
            raise SystemExit(f"not compacted: {outcomes}")
        self.written.append(truth.Written(f"host-{host}", segment, data))

    def publish(self, host: int) -> None:
        left = [batch.reason for batch in publish(self.logs[host], self.lake(host)) if batch.reason]
        if left:
            raise SystemExit(f"not published: {left}")

    def place(self) -> Place:
        table = self.lake().load()
        snapshot = table.current_snapshot()
        if snapshot is None:
            raise SystemExit("the table is empty")
        return Place(
            location=table.location(),
            metadata=table.metadata_location,
            snapshot_id=snapshot.snapshot_id,
            s3=self.s3,
        )

    def erase(self, caller: str) -> None:
        """Erase a caller from each log and from the table, as a person does."""
        for host, log in enumerate(self.logs):
            environ = {
                **os.environ,
                "PYTHONPATH": str(ROOT / "services"),
                "LAKEHOUSE_SESSION_LOG": str(log),
                "LAKE_WAREHOUSE": self.settings["warehouse"],
                "LAKE_CATALOG_URI": self.settings["catalog_uri"],
                "LAKE_PROPERTIES": json.dumps(self.settings["properties"]),
                "LAKE_HOST": f"host-{host}",
            }
            command = [sys.executable, "-m", "lakehouse.cli.main", "sessions", "erase", "--caller", caller, "--yes"]
            ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=ANSWER_S, check=False)
            if ended.returncode != 0:
                raise SystemExit(f"not erased: {ended.stdout}{ended.stderr}")

    def files_that_name(self, name: str) -> list[str]:
        """Return the files of logs and table that hold a text."""
        if not self.s3:
            return files_with(name, self.folder)
        with tempfile.TemporaryDirectory() as copy:
            _copy_bucket(self.s3, Path(copy))
            return files_with(name, self.folder, Path(copy))


@contextmanager
def make_ground(folder: Path, server: LossyS3 | None, *, hosts: int) -> Iterator[Ground]:
    """Yield a ground without rows."""
    logs = []
    for host in range(hosts):
        (folder / f"log-{host}").mkdir()
        logs.append(folder / f"log-{host}" / "sessions.jsonl")
        logs[-1].touch()
    settings = {
        "warehouse": f"s3://{BUCKET}/warehouse" if server is not None else str(folder / "lake"),
        "catalog_uri": f"sqlite:///{folder}/catalog.sqlite?timeout=30",
        "properties": server.properties if server is not None else {},
    }
    s3 = {}
    if server is not None:
        s3 = {
            "endpoint": server.properties["s3.endpoint"],
            "region": server.properties["s3.region"],
            "key": KEYS["AWS_ACCESS_KEY_ID"],
            "secret": KEYS["AWS_SECRET_ACCESS_KEY"],
        }
    yield Ground(folder, settings, s3, logs)


def publish_all_but_one(ground: Ground, *, files: int, rows: int) -> None:
    """Publish each log's files one by one, the first by an old writer; the last is left where a kill leaves it: with
    its metadata written and not committed."""
    with mock.patch.dict(columns._TYPES, _old_types(), clear=True):  # noqa: SLF001  a writer of before
        ground.write(0, 0, rows, is_old=True)
        ground.publish(0)
    for number in range(1, files):
        for host in range(len(ground.logs)):
            ground.write(host, number, rows)
            if (number, host) != (files - 1, len(ground.logs) - 1):
                ground.publish(host)
    with killed_before_its_commit():
        ground.publish(len(ground.logs) - 1)


def _old_types() -> dict[str, str]:
    kept = {name: kind for name, kind in columns._TYPES.items() if name not in _LATER_COLUMNS}  # noqa: SLF001
    return kept | {"attempts": _LATER_FIELDS.sub("", kept["attempts"])}


@contextmanager
def killed_before_its_commit() -> Iterator[None]:
    """Kill whoever commits in the block, once the metadata file is there of which the catalog is to know."""
    from pyiceberg.catalog import MetastoreCatalog  # noqa: PLC0415

    write = MetastoreCatalog._write_metadata  # noqa: SLF001  where a kill comes

    def write_and_die(*arguments: Any, **more: Any) -> None:
        write(*arguments, **more)
        raise Killed

    with mock.patch.object(MetastoreCatalog, "_write_metadata", staticmethod(write_and_die)):
        try:
            yield
        except Killed:
            return
    raise SystemExit("nobody committed")


def ask(engine: str, place: Place) -> dict[str, Any]:
    """Return an engine's answer."""
    ended = subprocess.run(
        [str(PYTHON), "-m", f"bench.engines.{engine}"],
        input=json.dumps(asdict(place)),
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        cwd=ROOT,
        check=False,
    )
    if ended.returncode != 0:
        raise SystemExit(f"{engine} failed:\n{ended.stderr[-3000:]}")
    answered: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answered


def compare(answered: dict[str, Any], rows: list[truth.Row]) -> list[str]:
    """Return in what an answer differs from the JSONL."""
    differences = [
        f"{name}: {answered['figures'].get(name)} and not {expected}"
        for name, expected in truth.figures(rows).items()
        if answered["figures"].get(name) != expected
    ]
    expected = truth.digests(rows, null_lists=answered["null_lists"])
    found = {key: sorted(digests) for key, digests in answered["rows"].items()}
    differences += [
        f"row {key}: {len(found.get(key, []))} in the table, {len(expected.get(key, []))} written"
        for key in sorted(expected.keys() | found.keys())
        if found.get(key) != sorted(expected.get(key, []))
    ]
    return differences


def ask_all(engines: Sequence[str], ground: Ground, rows: list[truth.Row], found: dict[str, Any], stage: str) -> None:
    """Ask each engine and note what differs."""
    place = ground.place()
    for engine in engines:
        began = time.monotonic()
        answered = ask(engine, place)
        differences = compare(answered, rows)
        noted = found.setdefault(engine, {"engine": answered["engine"], "null_lists": answered["null_lists"]})
        noted[stage] = {
            "rows": sum(map(len, answered["rows"].values())),
            "figures": len(answered["figures"]),
            "seconds": round(time.monotonic() - began, 1),
            "differences": differences[:10],
        }


def run(arguments: argparse.Namespace, folder: Path, server: LossyS3 | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with make_ground(folder, server, hosts=arguments.hosts) as ground:
        publish_all_but_one(ground, files=arguments.files, rows=arguments.rows)
        committed = [row for written in ground.written[:-1] for row in written.rows()]
        ask_all(arguments.engines, ground, committed, found, "published")
        ground.publish(arguments.hosts - 1)
        everything = [row for written in ground.written for row in written.rows()]
        planted = [row for row in everything if row.get("caller") == PLANTED]
        named_before = len(ground.files_that_name(PLANTED))
        ground.erase(PLANTED)
        kept = [row for row in everything if row.get("caller") != PLANTED]
        ask_all(arguments.engines, ground, kept, found, "erased")
        named = ground.files_that_name(PLANTED)
    differences = [
        each for engine in found.values() for stage in ("published", "erased") for each in engine[stage]["differences"]
    ]
    return {
        "storage": "S3 (moto)" if server is not None else "folder",
        "rows_written": len(everything),
        "rows_erased": len(planted),
        "files_that_named_them": named_before,
        "files_that_name_them": named,
        "engines": found,
        "passed": not differences and not named and named_before > 0 and len(planted) > 0,
    }


def _copy_bucket(s3: dict[str, str], folder: Path) -> None:
    from pyarrow.fs import FileSelector, LocalFileSystem, S3FileSystem, copy_files  # noqa: PLC0415

    system = S3FileSystem(
        endpoint_override=s3["endpoint"].removeprefix("http://"),
        scheme="http",
        region=s3["region"],
        access_key=s3["key"],
        secret_key=s3["secret"],
    )
    copy_files(BUCKET, str(folder), source_filesystem=system, destination_filesystem=LocalFileSystem())
    if not any(system.get_file_info(FileSelector(BUCKET))):
        raise SystemExit("the bucket is empty")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--s3", action="store_true", help="the table in a bucket (moto)")
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--files", type=int, default=FILES, help="rotated files of each log")
    parser.add_argument("--rows", type=int, default=500, help="of a file")
    parser.add_argument(
        "--engines", type=lambda text: text.split(","), default=list(ENGINES), help=f"of {','.join(ENGINES)}"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.engines) - set(ENGINES):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    if not PYTHON.exists():
        parser.error("the engines are not installed: make engines")
    with (
        tempfile.TemporaryDirectory() as folder,
        lossy_s3(lost_share=0) if arguments.s3 else nullcontext() as server,
    ):
        result = run(arguments, Path(folder), server)
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    main()
