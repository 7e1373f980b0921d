"""Logs with sessions of every sort and the table that they are published to, as bench/lake_engines.py wants them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from all_bytes import files_with
from bench.engines import truth
from bench.engines.answer import Place
from bench.engines.sessions import rotated_file
from lake_tables import Killed, segments_of
from s3_server import BUCKET, KEYS, LossyS3
from session_rows import write_segment

from lakehouse.sessions.lake import columns
from lakehouse.sessions.lake.config import LakeConfig
from lakehouse.sessions.lake.publishing import publish
from lakehouse.sessions.lake.reading import table_state
from lakehouse.sessions.lake.table import LakeTable
from lakehouse.sessions.upkeep.compaction import compact

ROOT = Path(__file__).resolve().parents[2]
ERASURE_S = 300
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
        state = table_state(self.lake())
        if state.snapshot_id is None:
            raise SystemExit("the table is empty")
        return Place(
            location=state.location,
            metadata=state.metadata,
            snapshot_id=state.snapshot_id,
            catalog_uri=self.settings["catalog_uri"],
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
            ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=ERASURE_S, check=False)
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
        columns.arrow_schema.cache_clear()
        ground.write(0, 0, rows, is_old=True)
        ground.publish(0)
    columns.arrow_schema.cache_clear()
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
