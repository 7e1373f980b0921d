"""What ties a service to the process that started it, where that one asked for it (`lakehouse up`, `lakehouse demo`).

The starter hands down one end of a socket pair and says so in `LAKEHOUSE_PARENT`. The service reports on it where it
listens and whether it is ready; its end of file says that the starter is gone, however it went, and the service then
ends as on SIGTERM. On Linux the kernel sends that SIGTERM as well, which also reaches a service that has not begun yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

PARENT_VARIABLE: Final = "LAKEHOUSE_PARENT"
_PR_SET_PDEATHSIG: Final = 1


class Parent:
    """The service's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setblocking(False)  # noqa: FBT003  the socket's own signature

    def report(self, address: str, causes: Sequence[str]) -> None:
        """Say where we listen, and why we are not ready (no causes: we are). A starter that does not read gets less."""
        line = json.dumps({"address": address, "causes": list(causes)}) + "\n"
        with contextlib.suppress(OSError):
            self._connection.send(line.encode())

    def on_gone(self, call: Callable[[], object]) -> None:
        """Have `call` made in the running event loop when the starter has ended."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                is_gone = not self._connection.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                is_gone = True
            if is_gone:
                loop.remove_reader(self._connection)
                call()

        loop.add_reader(self._connection, read)


_parent: Parent | None = None


def parent() -> Parent | None:
    """Return the starter that handed something down, if any."""
    return _parent


def join_parent() -> None:
    """Take what the starter handed down. To be called first thing in a service's process."""
    global _parent  # noqa: PLW0603  one process, one parent
    # Not for our own children.
    handed = os.environ.pop(PARENT_VARIABLE, "")
    descriptor, _, pid = handed.partition(":")
    if not (descriptor.isdigit() and pid.isdigit()):
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have died before the line above, and the kernel would say nothing any more.
    if os.getppid() != int(pid):
        sys.exit(1)
    try:
        connection = socket.socket(fileno=int(descriptor))
    except OSError:
        return
    connection.set_inheritable(False)
    _parent = Parent(connection)
