"""Puts the repository's root on the path, from which ``parity`` is a package, and builds each writer once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from parity.writers import LANGUAGES, Writer, WriterAbsentError  # noqa: E402 - needs the path above


@pytest.fixture(scope="session")
def all_writers() -> list[Writer]:
    """Return the writers of all three languages; skips, and says why, where one cannot be built."""
    writers = []
    for language, build in LANGUAGES.items():
        try:
            writers.append(build())
        except WriterAbsentError as error:
            pytest.skip(f"no {language} writer on this machine: {error}")
    return writers
