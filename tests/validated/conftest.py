"""A roster for all the tests of the folder: the small one of tests/support/rosters.py, loaded once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from rosters import LIMITS, small_table

from validated.datasets.file import FileRoster
from validated.kinds.email import EmailValidator
from validated.kinds.fill import FillValidator
from validated.kinds.validator import Tools


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
