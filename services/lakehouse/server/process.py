"""The first moment of a service's process, before anything heavy is imported."""

from __future__ import annotations

import signal
import sys
from types import ModuleType
from typing import cast

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


def _nothing_to_reload(_number: int, _frame: object) -> None:
    return
