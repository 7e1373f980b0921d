"""When a rotated file may be compacted: no writer is left, no compressor at work, no dead session without its row."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lakehouse.sessions.store.archive import FILE_MODE, Archive
from lakehouse.sessions.store.lines import SegmentDamagedError, read_lines
from lakehouse.sessions.store.segments import Segment, compression_of, identity_of

_LOCK_WAIT_S: Final = 10.0
_LOCK_STEP_S: Final = 0.01


class CompactionRefusedError(Exception):
    """Nothing was touched; the message says why and what to do."""


class SegmentRefusedError(Exception):
    """One segment stays as it is, readable where it stands."""


def refuse_unless_settled(path: Path, settle_s: float) -> None:
    """Looks at a rotated file where it stands. Raises SegmentRefusedError, OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        _refuse_fresh(status, settle_s)
        if any(path.with_name(path.name + suffix).exists() for suffix in (".gz", ".zst")):
            raise SegmentRefusedError("it is being compressed: run again when that is done")
        segment = _segment(path, fd, status)
        if segment.compression != "none":
            for _ in read_lines(segment):
                pass
    except SegmentDamagedError as error:
        raise SegmentRefusedError(str(error)) from None
    finally:
        os.close(fd)


def _refuse_fresh(status: os.stat_result, settle_s: float) -> None:
    age_s = time.time() - status.st_mtime
    if age_s < settle_s:
        raise SegmentRefusedError(f"it was written {age_s:.0f} s ago: run again in {settle_s - age_s:.0f} s")


def _segment(path: Path, fd: int, status: os.stat_result) -> Segment:
    return Segment(
        path=path,
        fd=fd,
        compression=compression_of(path.name),
        live=False,
        size_bytes=status.st_size,
        quiet=True,
        modified_unix_s=status.st_mtime,
        identity=identity_of(status),
    )


@contextlib.contextmanager
def closed_segment(path: Path, settle_s: float) -> Iterator[Segment]:
    """The claimed file, once no writer can append to it any more.

    Writers lock it, see that its path is another file's by now, and let go; the lock is not kept, since they would
    wait for it instead of moving on to the live file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SegmentRefusedError(
                        f"a writer has held its lock for {_LOCK_WAIT_S:.0f} s: run again later"
                    ) from None
                time.sleep(_LOCK_STEP_S)
        status = os.fstat(fd)
        fcntl.flock(fd, fcntl.LOCK_UN)
        _refuse_fresh(status, settle_s)
        yield _segment(path, fd, status)
    finally:
        os.close(fd)


def refuse_while_unsettled(archive: Archive) -> None:
    """A sweep looks for the rows of a killed process's sessions in the rotated files and would not find them in
    Parquet: it would write them a second time. So its journal has to be settled before the files go."""
    for path in archive.log_path.parent.glob(f".{archive.log_path.name}.*.inflight"):
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or not status.st_size:
                    continue
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process lives
            finally:
                os.close(fd)
            raise CompactionRefusedError(
                f"{path} holds sessions of a process that died: start iterate, which gives them their rows within a"
                " minute, and run again"
            )


@contextlib.contextmanager
def alone(archive: Archive) -> Iterator[None]:
    fd = os.open(archive.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CompactionRefusedError(f"another compaction of {archive.log_path} is running") from None
        yield
    finally:
        os.close(fd)
