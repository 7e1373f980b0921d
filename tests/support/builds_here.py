"""Rosters and datasets are read in this process, where the service starts one of its own for each: most of what that
takes is the start of an interpreter.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from validated.datasets import loader
from validated.datasets.build import answer


class BuildHere:
    """What `Loader` knows of subprocess.Popen. It is neither killed nor too slow."""

    def __init__(self, command: list[str], **_: Any) -> None:
        assert command[1:] == ["-m", "validated.datasets.reader"]
        self.returncode: int | None = None

    def communicate(self, request: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        assert timeout
        try:
            report = json.dumps(answer(json.loads(request)))
        except Exception:  # noqa: BLE001  as an interpreter would
            self.returncode = 1
            return b"", traceback.format_exc().encode()
        self.returncode = 0
        return report.encode(), b""

    def kill(self) -> None:
        return


@contextlib.contextmanager
def builds_here() -> Iterator[None]:
    """Read them here for the time of the block."""
    known = SimpleNamespace(Popen=BuildHere, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    with mock.patch.object(loader, "subprocess", known):
        yield
