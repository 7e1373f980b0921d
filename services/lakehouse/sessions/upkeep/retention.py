"""Days that are older than rows are kept: out of the log's Parquet files, as a whole."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from lakehouse.sessions.store.archive import RETENTION, UNKNOWN_DAY, Archive
from lakehouse.sessions.store.days import read_archive
from lakehouse.sessions.upkeep.erasing_archive import ArchiveEraser
from lakehouse.sessions.upkeep.erasure import erasing_alone


def first_kept_day(retention_days: float, *, now: datetime | None = None) -> date:
    """Return the first day (UTC) of which any row may be younger than so many days."""
    return ((now or datetime.now(UTC)) - timedelta(days=retention_days)).date()


def drop_days(log_path: str | os.PathLike[str], before: date) -> int:
    """Remove the compacted rows of days before this one. Return how many lines went; rows without a day stay.

    Raises:
        PublishRefusedError: somebody reads the archive all the time.
        CompactionRefusedError: a compaction runs.
        ArchiveDamagedError: a manifest or a Parquet file is missing: nothing was changed.
        OSError, duckdb.Error: run again when that is mended.
    """
    archive = Archive(Path(log_path))
    if not archive.manifests.is_dir() or not _days(archive, before):
        return 0
    with erasing_alone(archive, retention=True), ArchiveEraser(archive, purpose=RETENTION) as eraser:
        gone = eraser.drop(_days(archive, before))
        eraser.finish()
    return gone


def _days(archive: Archive, before: date) -> set[str]:
    view = read_archive(archive, archive.committed())
    return {file.day for file in view.files if file.day != UNKNOWN_DAY and file.day < before.isoformat()}
