"""``terminal``: where a command writes what a person reads. Colours, widths and closed pipes are decided here."""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO

from rich.console import Console

from lakehouse.colours import has_colours

# Nothing is cut or folded where no terminal says how wide it is: a program or a file reads it.
_UNBOUNDED_COLUMNS: Final = 1000


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        # Rich would end the process by itself, with status 1.
        raise BrokenPipeError(32, os.strerror(32))


def terminal(file: TextIO | None = None, *, quiet: bool = False, wraps: bool = False) -> Console:
    """Return a console on `file` (None: standard output). `wraps`: text is folded at the terminal's width by words,
    else by the terminal itself.
    """
    stream = file or sys.stdout
    return _Terminal(
        file=stream,
        quiet=quiet,
        highlight=False,
        soft_wrap=not wraps,
        color_system="auto" if has_colours() else None,
        width=None if stream.isatty() or "COLUMNS" in os.environ else _UNBOUNDED_COLUMNS,
    )
