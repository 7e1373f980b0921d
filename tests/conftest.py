"""For all tests: servers in this process run as the services do, who is started hears SIGHUP, and all runs draw the
same examples.

grpc reads its switches when it is first imported.
"""

import os
import signal
import sys

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from lakehouse.server.grpc_switches import set_grpc_switches

set_grpc_switches()

# Where it is set, each process that a test starts would compile all of its modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# pytest-xdist sets it for its workers, and a table for a terminal so wide is another one.
os.environ.pop("COLUMNS", None)

# Under nohup it is ignored, which children would inherit; what has a handler here is as usual in them.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# A change is not refused for what was there before it. To look for more: `pytest --hypothesis-profile=random`.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("random", derandomize=False, print_blob=True)
settings.load_profile("repeatable")

# Their files share servers that take long to start.
_TOGETHER = {"tests/conformance", "tests/parity"}


class _ByServers(LoadFileScheduling):  # type: ignore[misc] # xdist ships no types
    """What shares servers stays in one worker: a file's tests, and those of some folders."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        folder = "/".join(file.split("/")[:2])
        return folder if folder in _TOGETHER else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """See pytest-xdist. Called where there are workers."""
    return _ByServers(config, log)
