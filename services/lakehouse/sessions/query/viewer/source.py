"""Where the pages' sessions come from. The pages know ``SessionSource`` alone; ``LogSource`` is a session log."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lakehouse.sessions.query.follow import LogFollower
from lakehouse.sessions.query.listing import Place, SessionSummary, find_rows, list_sessions
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.query.stats import FindingCount, Period, SessionStats, finding_counts, session_stats
from lakehouse.sessions.record import ROW_BYTES_MAX
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.store.segments import SessionLogUnavailableError, open_snapshot

ROWS_MAX: Final = 20
_FIGURES_KEPT: Final = 16


class QuestionTooLongError(Exception):
    """An answer would take longer than a page may wait for."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Sessions, newest first, and what could not be read on the way."""

    sessions: list[SessionSummary]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundRows:
    """The last rows of an id, oldest first, and how many before them were left out."""

    lines: list[bytes]
    left_out: int


@dataclass(frozen=True, slots=True)
class Figures:
    stats: SessionStats
    findings: list[FindingCount]
    warnings: tuple[str, ...]


class NewRows(Protocol):
    """The rows that come from now on."""

    def poll(self) -> Iterator[bytes]:
        """Yield the lines since the last call. Raises OSError."""

    def close(self) -> None: ...


class SessionSource(Protocol):
    """Answers the pages' questions; each call blocks, and comes from several threads at a time.

    Each raises SessionLogUnavailableError (nothing is there), QueryRefusedError, QuestionTooLongError and OSError.
    """

    @property
    def name(self) -> str:
        """Which sessions these are, for people."""

    def newest(self, wanted: SessionFilter, *, limit: int, before: Place | None) -> Listing:
        """Return the newest sessions that fit, behind the place ``before`` where one is given."""

    def rows(self, identifier: str, *, try_number: int | None = None) -> FoundRows:
        """Return the lines of the sessions with this session id, trace id or caller's trace: the last ``ROWS_MAX`` at
        most, and no more than are as long, together, as a row may be, but one at least. With a ``try_number`` those of
        this session id and try alone."""

    def figures(self, wanted: SessionFilter, *, period: Period) -> Figures:
        """Return the figures of the sessions that fit; the filter's text is not looked for."""

    def follow(self) -> NewRows | None:
        """Begin to follow what is appended; None where nothing grows by the row."""


class LogSource:
    """A session log with its rotated files and Parquet."""

    def __init__(self, log_path: Path, *, question_s: float) -> None:
        """``question_s``: how long an answer may take."""
        self._log_path = log_path
        self._question_s = question_s
        self._kept: OrderedDict[tuple[object, ...], Figures] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return str(self._log_path)

    def newest(self, wanted: SessionFilter, *, limit: int, before: Place | None) -> Listing:
        """See ``SessionSource``."""
        with self._reader() as (reader, check):
            found = list_sessions(reader, wanted, limit=limit, before=before, progress=check)
            return Listing(found, reader.warnings)

    def rows(self, identifier: str, *, try_number: int | None = None) -> FoundRows:
        """See ``SessionSource``."""
        found: deque[bytes] = deque()
        size_bytes = left_out = 0
        with self._reader() as (reader, check):
            for line in find_rows(reader, identifier, check):
                if try_number is not None and not _is_of(line, identifier, try_number):
                    continue
                found.append(line)
                size_bytes += len(line)
                while len(found) > 1 and (len(found) > ROWS_MAX or size_bytes > ROW_BYTES_MAX):
                    size_bytes -= len(found.popleft())
                    left_out += 1
        return FoundRows(list(found), left_out)

    def figures(self, wanted: SessionFilter, *, period: Period) -> Figures:
        """See ``SessionSource``. What was counted is kept until the log has changed."""
        with self._reader() as (reader, _):
            key = (reader.contents, wanted, period)
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            stats = session_stats(reader, wanted, period=period)
            figures = Figures(stats, finding_counts(reader, wanted, period=period), reader.warnings)
        with self._lock:
            self._kept[key] = figures
            while len(self._kept) > _FIGURES_KEPT:
                self._kept.popitem(last=False)
        return figures

    def follow(self) -> NewRows | None:
        """See ``SessionSource``."""
        try:
            with open_snapshot(self._log_path) as snapshot:
                live = next((segment for segment in snapshot.segments if segment.live), None)
                return LogFollower(self._log_path, after=live)
        except SessionLogUnavailableError:
            return LogFollower(self._log_path)

    @contextmanager
    def _reader(self) -> Iterator[tuple[SessionReader, Callable[[float], None]]]:
        """Open the log for one question, and what is called now and then while it is answered."""
        ends_at = time.monotonic() + self._question_s

        def check(_: float) -> None:
            if time.monotonic() > ends_at:
                raise QuestionTooLongError

        with self._opened(check) as reader:
            yield reader, check

    def _opened(self, check: Callable[[float], None]) -> SessionReader:
        return SessionReader(self._log_path, progress=check)


def _is_of(line: bytes, session_id: str, try_number: int) -> bool:
    row = read_row_line(line)
    return row.session_id == session_id and row.try_number == try_number
