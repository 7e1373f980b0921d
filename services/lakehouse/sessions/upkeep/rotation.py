"""Rotating the live file where nothing else does: in a container, beside a publisher."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lakehouse.sessions.store.disk import fsync_folder, open_to_read
from lakehouse.sessions.store.lines import read_lines
from lakehouse.sessions.store.segments import segment_of
from lakehouse.sessions.upkeep.content import timestamp_of
from lakehouse.strict_json.parser import JsonBreach

# Of the file's beginning: what is looked through for a first row.
_LINES_MAX: Final = 100


def rotate_after(log_path: Path, age_s: float, *, now_unix_s: float | None = None) -> Path | None:
    """Rename the live file if its first row ended at least ``age_s`` ago. Return its new name, None where it stays.

    Writers notice by themselves, as with logrotate. Raises OSError.
    """
    now = time.time() if now_unix_s is None else now_unix_s
    try:
        fd = open_to_read(log_path)
    except FileNotFoundError:
        return None
    try:
        if os.fstat(fd).st_size == 0 or now - _first_unix_s(log_path, fd) < age_s:
            return None
    finally:
        os.close(fd)
    name = f"{log_path.name}-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S.%f}Z"
    rotated = log_path.with_name(name)
    if rotated.exists():  # of this microsecond
        return None
    log_path.rename(rotated)
    fsync_folder(log_path.parent)
    return rotated


def _first_unix_s(log_path: Path, fd: int) -> float:
    """When the first row ended that says so; else when the file was last written."""
    segment = segment_of(log_path, fd, "none", live=True)
    for line, _ in zip(read_lines(segment), range(_LINES_MAX), strict=False):
        with suppress(JsonBreach, ValueError, OverflowError):
            timestamp = timestamp_of(line.data)
            if isinstance(timestamp, str):
                return datetime.fromisoformat(timestamp).timestamp()
    return segment.modified_unix_s
