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

from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.disk import FILE_MODE, open_to_read
from lakehouse.sessions.store.journal import is_in_the_making, list_journals
from lakehouse.sessions.store.lines import SegmentDamagedError, check_whole
from lakehouse.sessions.store.names import names_of_same_rows, split_compression
from lakehouse.sessions.store.segments import Segment, segment_of

_LOCK_WAIT_S: Final = 10.0
_LOCK_STEP_S: Final = 0.01


class CompactionRefusedError(Exception):
    """Nothing was touched; the message says why and what to do."""


class SegmentRefusedError(Exception):
    """One segment stays as it is, readable where it stands."""


class SegmentYoungError(SegmentRefusedError):
    """It was written just now: the next run takes it."""


class SegmentRecalledError(SegmentRefusedError):
    """Its sessions may be asked for again: a later run takes it."""


def refuse_while_recalled(path: Path, recall_hours: float) -> None:
    """Refuse a file whose sessions a repeated call is answered from. Raises SegmentRecalledError, OSError."""
    age_s = time.time() - path.stat().st_mtime
    if age_s < recall_hours * 3600:
        raise SegmentRecalledError(
            f"a repeated call is answered from it for {recall_hours - age_s / 3600:.1f} h more: it stays as it is until"
            " then (--recall-hours)"
        )


def refuse_unless_settled(path: Path, settle_s: float) -> None:
    """Look at a rotated file where it stands. Raises SegmentRefusedError, OSError."""
    fd = open_to_read(path)
    try:
        _refuse_fresh(os.fstat(fd).st_mtime, settle_s)
        for name in names_of_same_rows(path.name):
            if path.with_name(name).exists():
                raise SegmentRefusedError(
                    f"it is being compressed: run again when that is done, or move {name} away if nothing is at work"
                )
        check_whole(segment_of(path, fd, split_compression(path.name)[1]))
    except SegmentDamagedError as error:
        raise SegmentRefusedError(str(error)) from None
    finally:
        os.close(fd)


def _refuse_fresh(modified_unix_s: float, settle_s: float) -> None:
    age_s = time.time() - modified_unix_s
    if age_s < settle_s:
        raise SegmentYoungError(f"it was written {age_s:.0f} s ago: run again in {settle_s - age_s:.0f} s")


@contextlib.contextmanager
def closed_segment(path: Path, settle_s: float) -> Iterator[Segment]:
    """Yield the claimed file, once no writer can append to it any more.

    Writers lock it, see that its path is another file's by now, and let go; the lock is not kept, since they would
    wait for it instead of moving on to the live file.
    """
    fd = open_to_read(path)
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
        segment = segment_of(path, fd, split_compression(path.name)[1])
        fcntl.flock(fd, fcntl.LOCK_UN)
        _refuse_fresh(segment.modified_unix_s, settle_s)
        yield segment
    finally:
        os.close(fd)


def refuse_while_unsettled(archive: Archive) -> None:
    """Refuse while a journal is left whose sessions nobody is giving their rows.

    A locked journal is a living process's, or is being swept. Both may be compacted beside: a sweep looks for a row
    first in the rotated files, then in the claimed ones, then in Parquet, which is the way that rows go, and until
    nothing new turns up. What is refused here would cost such a search by every later sweep a read of Parquet."""
    for path in list_journals(archive.log_path):
        if is_in_the_making(path):
            continue
        with contextlib.suppress(FileNotFoundError):
            fd = open_to_read(path)
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
def alone(archive: Archive, *, erases: bool = False) -> Iterator[None]:
    """Keep every other compaction, merge and erasure of the archive away. Raises CompactionRefusedError, OSError."""
    fd = os.open(archive.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CompactionRefusedError(f"another compaction of {archive.log_path} is running") from None
        if archive.erasure_interrupted and not erases:
            raise CompactionRefusedError(
                f"an erasure of {archive.log_path} was interrupted: run the same `lakehouse sessions erase` again first"
            )
        yield
    finally:
        os.close(fd)
