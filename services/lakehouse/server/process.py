"""The first moment of a service's process, before anything heavy is imported."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import ModuleType
from typing import cast

from lakehouse.server.grpc_switches import set_grpc_switches
from lakehouse.server.parent import join_parent


def begin_process() -> None:
    """Call it in a service's ``__main__`` before grpc is imported."""
    open_missing_streams()
    set_grpc_switches()
    # SIGHUP asks for a reload and must not kill who is not there yet. A handler, since what is ignored would be
    # inherited by our own children.
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, _nothing_to_reload)
        # The interpreter puts the default, which kills, in place of a handler when it ends, but not of this.
        atexit.register(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    join_parent()
    import_structlog()


def import_structlog() -> None:
    """Import structlog without rich, which it takes where that is installed, for coloured tracebacks that no log of
    ours has: with it come pygments and attrs, together a fifth of a service's start. Whoever wants rich itself can
    import it afterwards."""
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    # A name that stands there as None cannot be imported.
    sys.modules["rich"] = cast("ModuleType", None)
    try:
        import structlog  # noqa: F401, PLC0415  for what imports it next
    finally:
        del sys.modules["rich"]


def open_missing_streams() -> None:
    """Put the null device where the caller closed a standard stream (``>&-``): the next file or socket would get its
    number, and what is printed would land in it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)


def _nothing_to_reload(_number: int, _frame: object) -> None:
    return
