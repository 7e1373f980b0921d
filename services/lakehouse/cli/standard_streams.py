"""The process's standard streams, made fit for a command: each is there, and a write that fails says where."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from lakehouse.server.process import open_missing_streams

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """Standard output, whose errors name it: a full disk behind it is then not taken for that of a file."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
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
        io.BufferedWriter(_Output(1, "wb", closefd=False)),
        encoding=None if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=os.isatty(1),
    )
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115  for the process's life
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
