"""The process's standard streams, made fit for a command: each is there, and a write that fails says where."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from lakehouse.server.process import open_missing_streams


class _Output(io.BufferedWriter):
    """Standard output, whose errors name it: a full disk behind it is then not taken for that of a file.

    The buffer and not what is below it: a Ctrl-C between a write that was made and its answer would have it made again.
    """

    def write(self, data: Any, /) -> int:
        with _named():
            return super().write(data)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, "the output") from None


def take_standard_streams() -> None:
    """Open what the caller closed (``>&-``), and make the errors of standard output name it. Call it once, first."""
    open_missing_streams()
    before = sys.stdout
    if before is not None and before.fileno() != 1:
        return  # Somebody embeds us, and reads what we write.
    # Not every encoding of a terminal has every character of an answer: an escape is better than no output.
    sys.stdout = io.TextIOWrapper(
        _Output(io.FileIO(1, "wb", closefd=False)),
        encoding=None if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=os.isatty(1) or getattr(before, "write_through", False),  # PYTHONUNBUFFERED
    )
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115  for the process's life
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
