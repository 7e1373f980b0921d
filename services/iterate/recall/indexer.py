"""The process that keeps the log's index, started where what it would cover is more than is searched by hand.

It is a child of ours and ends with us. Of the children of several processes on one log one works.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Final

import structlog

_SERVICES: Final = Path(__file__).parents[2]
_RESTART_S: Final = 10.0
_END_S: Final = 1.0
_LINE_BYTES_MAX: Final = 2000

_log = structlog.get_logger(__name__)


class Indexer:
    """One child at most. Any thread may call it."""

    def __init__(self, log_path: str, recall_hours: float) -> None:
        self._log_path = log_path
        self._recall_hours = recall_hours
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = float("-inf")
        self._closed = False

    def ensure(self) -> None:
        """Start the child unless it runs. Raises nothing: without an index, a warning and RECALL_NOT_READY."""
        with self._mutex:
            if self._closed or time.monotonic() < self._started_at + _RESTART_S:
                return
            if self._process is not None and self._process.poll() is None:
                return
            self._started_at = time.monotonic()
            search = os.pathsep.join(filter(None, (str(_SERVICES), os.environ.get("PYTHONPATH", ""))))
            try:
                self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                    [
                        sys.executable,
                        "-m",
                        "lakehouse.sessions.index",
                        self._log_path,
                        "--recall-hours",
                        str(self._recall_hours),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": search},
                )
            except OSError as error:
                _log.warning("session_log_index_unavailable", path=self._log_path, problem=error.strerror)
                return
            threading.Thread(
                target=_report, args=(self._process.stderr,), name="session-log-index", daemon=True
            ).start()

    def close(self) -> None:
        """End the child; what it leaves half done the next one takes back."""
        with self._mutex:
            self._closed = True
            process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)


def _report(complaints: IO[bytes] | None) -> None:
    if complaints is not None:
        with complaints:
            for line in iter(lambda: complaints.readline(_LINE_BYTES_MAX), b""):
                _log.warning("session_log_index", problem=line.decode(errors="replace").strip())
