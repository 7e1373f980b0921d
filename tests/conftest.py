"""For all tests: servers in this process run as the services do, and who is started hears SIGHUP.

grpc reads its switches when it is first imported.
"""

import os
import signal
from pathlib import Path

import pytest

from lakehouse.server.grpc_switches import set_grpc_switches

set_grpc_switches()

# pytest-xdist sets it for its workers, and a table for a terminal so wide is another one.
os.environ.pop("COLUMNS", None)

# Under nohup it is ignored, which children would inherit; what has a handler here is as usual in them.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# Their files share servers that take long to start: one worker has them all.
_TOGETHER = {"conformance", "parity"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name what stays in one worker (`--dist loadgroup`): a file, whose tests share servers, or a folder."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent)
        group = place.parts[0] if place.parts[0] in _TOGETHER else str(place)
        item.add_marker(pytest.mark.xdist_group(group))
