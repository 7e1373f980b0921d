"""``python -m lakehouse.sessions.index LOG``: makes the log's index and keeps it up to date, until standard input ends.

A child of iterate, with which it ends; a low priority is enough for it. Of several on one log one
works, and the next one takes over where that one ends.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import sys
import time
from pathlib import Path
from typing import Final

from lakehouse.sessions.index.build import IndexBuilder
from lakehouse.sessions.index.store import IndexDamagedError, RowIndex, index_folder, remove_index
from lakehouse.sessions.store.disk import FILE_MODE

_POLL_S: Final = 0.5
_FAILED_S: Final = 5.0
_WAIT_S: Final = 1.0
_NICENESS: Final = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="lakehouse.sessions.index", description="Index a session log.")
    parser.add_argument("log", type=Path)
    parser.add_argument("--recall-hours", type=float, default=24.0)
    parser.add_argument("--once", action="store_true", help="end when the log is covered")
    arguments = parser.parse_args()
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    log_path: Path = arguments.log.absolute()
    lock = -1
    while True:
        wait_s = _WAIT_S
        try:
            lock = _locked(log_path) if lock < 0 else lock
            if lock < 0:
                if arguments.once:
                    sys.exit(f"another process indexes {log_path}")
            else:
                _index(log_path, arguments.recall_hours, once=arguments.once)
                if arguments.once:
                    return
                os.close(lock)  # deleted, and perhaps its folder and the lock with it
                lock = -1
                continue
        except IndexDamagedError as error:
            _complain(log_path, error)
            with contextlib.suppress(OSError):
                remove_index(log_path)
                wait_s = 0.0
        except OSError as error:
            if arguments.once:
                sys.exit(f"{log_path} is not indexed: {error}")
            _complain(log_path, error)
            wait_s = _FAILED_S
        if not arguments.once and _parent_is_gone(wait_s):
            return


def _index(log_path: Path, recall_hours: float, *, once: bool) -> None:
    """Until the index is deleted; exits with the parent. Raises OSError, IndexDamagedError."""
    with contextlib.closing(RowIndex.open_to_write(index_folder(log_path))) as index:
        builder = IndexBuilder(log_path, index, recall_hours=recall_hours)
        while index.is_in_place:
            worked = builder.turn()
            if once and not worked:
                return
            if not once and _parent_is_gone(0.0 if worked else _POLL_S):
                sys.exit(0)


def _locked(log_path: Path) -> int:
    """Take the lock of who writes the index: its descriptor; -1 where another process has it. Raises OSError."""
    folder = index_folder(log_path)
    folder.mkdir(mode=0o750, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def _parent_is_gone(wait_s: float) -> bool:
    """Wait so long for the end of standard input."""
    try:
        readable, _, _ = select.select([0], [], [], wait_s)
        return bool(readable) and not os.read(0, 4096)
    except (OSError, ValueError):
        time.sleep(wait_s)
        return os.getppid() == 1


def _complain(log_path: Path, error: Exception) -> None:
    sys.stderr.write(f"the index of {log_path} waits: {error}\n")


if __name__ == "__main__":
    main()
