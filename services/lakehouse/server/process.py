"""The first moment of a service's process, before anything heavy is imported."""

from __future__ import annotations

import signal

from lakehouse.server.grpc_switches import set_grpc_switches
from lakehouse.server.parent import join_parent


def begin_process() -> None:
    """Call it in a service's ``__main__`` before grpc is imported."""
    set_grpc_switches()
    # SIGHUP asks for a reload and must not kill who is not there yet. A handler, since what is ignored would be
    # inherited by our own children.
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, _nothing_to_reload)
    join_parent()


def _nothing_to_reload(_number: int, _frame: object) -> None:
    return
