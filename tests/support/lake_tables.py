"""Logs with compacted segments, and what a table of all replicas holds of them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from session_rows import rows, write_segment

from lakehouse.sessions.lake.config import LakeConfig
from lakehouse.sessions.lake.table import LakeTable
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.upkeep.compaction import compact


class Killed(BaseException):
    """Ends a process's work at once: nothing that waits for an `Exception` sees it, as nothing sees a SIGKILL."""


def lake_at(folder: Path, **settings: Any) -> LakeTable:
    return LakeTable(LakeConfig(**{"warehouse": str(folder), "host": "host-a", **settings}))


def compacted(folder: Path, *segments: bytes) -> Path:
    """Return a log whose segments, one for each text, were compacted one by one."""
    folder.mkdir(exist_ok=True)
    live = folder / "sessions.jsonl"
    live.touch()
    for text in segments:
        write_segment(folder / "sessions.jsonl.1", text)
        assert [outcome.compacted for outcome in compact(live)] == [True]
    return live


def log_of(folder: Path, *numbers: int, each: int = 3) -> Path:
    """Return a log of compacted segments of `each` sessions, one for each number."""
    return compacted(folder, *(rows(*range(number * each, (number + 1) * each)) for number in numbers))


def copy_of(live: Path, folder: Path) -> Path:
    """Return a second log with the same segments, as a volume that was copied has them."""
    shutil.copytree(live.parent, folder)
    return folder / live.name


def session_counts(lake: LakeTable) -> Counter[tuple[str, str]]:
    """Return how often each (host, session) stands in the table."""
    found = lake.load().scan(selected_fields=("host", "session_id")).to_arrow().to_pylist()
    return Counter((str(row["host"]), str(row["session_id"])) for row in found)


def segments_of(live: Path) -> set[str]:
    return set(Archive(live).committed())


def stored_files(folder: Path) -> set[str]:
    """Return the names of all data files and manifests below a warehouse, but those of the table's own metadata."""
    return {path.name for path in folder.rglob("*") if path.suffix in (".parquet", ".avro")}
