"""What tests read together of one run; the fixtures stand in tests/cli/conftest.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Demo(NamedTuple):
    """What `lakehouse demo --json --keep FOLDER` said and kept."""

    result: dict[str, Any]
    log: Path
    configured_log: Path
    """The session log of the configuration that it was started with, which is not its own."""


class RunningValidated(NamedTuple):
    """A validated in a process of its own."""

    address: str
    roster: str
    """Of eight workers; see `rosters.people`."""
