"""A roster for all the tests of the folder: the small one of tests/support/rosters.py, loaded once. Where a test loads
one of its own it is read in this process, unless the test wants `reader_processes`."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest
from builds_here import builds_here
from rosters import LIMITS, small_table

from validated.datasets import loader
from validated.datasets.file import FileRoster
from validated.kinds.email import EmailValidator
from validated.kinds.fill import FillValidator
from validated.kinds.validator import Tools


@pytest.fixture(scope="package", autouse=True)
def _no_reader_processes() -> Iterator[None]:
    with builds_here():
        yield


@pytest.fixture
def reader_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have rosters and datasets read as the service has them read."""
    monkeypatch.setattr(loader, "subprocess", subprocess)


@pytest.fixture(scope="session")
async def roster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FileRoster]:
    async with FileRoster(small_table(tmp_path_factory.mktemp("roster")), near_ms=5000).open() as loaded:
        yield loaded


@pytest.fixture(scope="session")
def fill(roster: FileRoster) -> FillValidator:
    return FillValidator(Tools(roster, LIMITS))


@pytest.fixture(scope="session")
def email(roster: FileRoster) -> EmailValidator:
    return EmailValidator(Tools(roster, LIMITS))
