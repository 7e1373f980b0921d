"""The published table as a source of the pages of `lakehouse sessions serve`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lakehouse.sessions.lake.errors import LakeUnavailableError
from lakehouse.sessions.lake.reading import TableReader
from lakehouse.sessions.lake.table import LakeTable
from lakehouse.sessions.query.viewer.source import LogSource, NewRows
from lakehouse.sessions.store.segments import SessionLogUnavailableError


class TableSource(LogSource):
    """The table as it is at each question."""

    def __init__(self, lake: LakeTable, *, question_s: float) -> None:
        super().__init__(Path(lake.name), question_s=question_s)
        self._lake = lake

    def follow(self) -> NewRows | None:
        """See ``SessionSource``: a table grows by the segment."""
        return None

    def _opened(self, check: Callable[[float], None]) -> TableReader:
        try:
            return TableReader(self._lake, progress=check)
        except LakeUnavailableError as error:
            raise SessionLogUnavailableError(str(error)) from None
