"""Where log lines go: a stream that takes a line and never waits, and a thread that writes it.

A pipe whose reader stands still, or a log file on a disk that does, holds up the thread and nothing else. What does
not fit into the queue then is dropped, newest first, and counted; when the stream moves again, a line says how many.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Final

_LINES_MAX: Final = 20_000
_BYTES_MAX: Final = 16 * 1024 * 1024
# What is written at once, in one system call where the stream takes it.
_BATCH_BYTES_MAX: Final = 256 * 1024


class LogStream:
    """A text stream for loggers, on a file descriptor. Every method may be called from any thread."""

    def __init__(
        self,
        fd: int,
        *,
        dropped_line: Callable[[int], bytes],
        lines_max: int = _LINES_MAX,
        bytes_max: int = _BYTES_MAX,
    ) -> None:
        """``dropped_line`` makes the LF-ended line that says how many lines were dropped."""
        self._fd = fd
        self._dropped_line = dropped_line
        self._lines_max = lines_max
        self._bytes_max = bytes_max
        self._lock = threading.Lock()  # never held while anything is written
        self._lines = 0
        self._bytes = 0
        self._dropped = 0
        self._dropped_unsaid = 0
        self._queue: queue.SimpleQueue[tuple[bytes, int] | threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="log-stream", daemon=True).start()

    @property
    def lines_dropped(self) -> int:
        return self._dropped

    def write(self, text: str) -> int:
        """Take whole lines."""
        self.write_lines(text.encode("utf-8", "backslashreplace"), max(text.count("\n"), 1))
        return len(text)

    def write_lines(self, data: bytes, lines: int) -> None:
        with self._lock:
            if self._lines + lines > self._lines_max or (self._lines and self._bytes + len(data) > self._bytes_max):
                self._dropped += lines
                self._dropped_unsaid += lines
                return
            self._lines += lines
            self._bytes += len(data)
        self._queue.put((data, lines))

    def flush(self) -> None:
        """For loggers that call it after each line; the thread writes by itself."""

    def drain(self, timeout_s: float) -> bool:
        """Wait until what was taken before is written. False where the stream does not move that fast."""
        written = threading.Event()
        self._queue.put(written)
        return written.wait(timeout_s)

    def _run(self) -> None:
        while True:
            batch, waiters = [self._queue.get()], []
            size = 0
            data: list[bytes] = []
            lines = 0
            while batch:
                taken = batch.pop()
                if isinstance(taken, threading.Event):
                    waiters.append(taken)
                else:
                    data.append(taken[0])
                    lines += taken[1]
                    size += len(taken[0])
                if size < _BATCH_BYTES_MAX and not self._queue.empty():
                    batch.append(self._queue.get())
            self._write(data, lines, size)
            for waiter in waiters:
                waiter.set()

    def _write(self, data: list[bytes], lines: int, size: int) -> None:
        written = self._write_whole(b"".join(data))
        with self._lock:
            self._lines -= lines
            self._bytes -= size
            unsaid, self._dropped_unsaid = self._dropped_unsaid, 0
            if not written:  # nobody reads any more, or the disk refuses
                self._dropped += lines
                self._dropped_unsaid = unsaid + lines
        if unsaid and written and not self._write_whole(self._dropped_line(unsaid)):
            with self._lock:
                self._dropped_unsaid += unsaid

    def _write_whole(self, data: bytes) -> bool:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            return False
        return True
