"""What callers have used today (UTC), read from the session log: so that a restart gives nobody a second budget.

Files are read from the newest row backwards, in a thread, until none can hold a row of today. Until that is done,
callers with a day's budget are asked to come again. What cannot be read is not counted, and said: the log must not stop
the service. Rows of siblings that write to the same log count as well.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from iterate.session_log.sweep import OnRecovered
from lakehouse.server.callers.budgets import DAY_S, Budgets, Spent
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.record import SessionRecord, parse_rfc3339
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.row_reading import RowBreach
from lakehouse.sessions.store.lines import SegmentDamagedError, read_backwards, read_lines
from lakehouse.sessions.store.segments import Segment, SessionLogUnavailableError

READ_S_MAX: Final = 300.0
# The start waits so long for it; then callers without a day's budget are served beside it.
_START_WAIT_S: Final = 10.0
# Rows one after the other that are of an earlier day, after which a file is left behind: a sweep appends earlier ends.
_OLDER_ROWS: Final = 1000
_CLOCK_SLACK_S: Final = 60.0

_log = structlog.get_logger()


class DayUse:
    """Hands what was used today to the budgets, each row once: those that stand in the log at the start, and those that
    a sweep writes for processes that died. Any thread may call it; the budgets live on the loop."""

    def __init__(self, budgets: Budgets, log_path: str, *, now_s: Callable[[], float] = time.time) -> None:
        """To be made inside the running event loop."""
        self._budgets = budgets
        self._log_path = log_path
        self._now_s = now_s
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._seen: set[tuple[str, int]] = set()
        self._stop = threading.Event()
        self._done = asyncio.Event()

    @asynccontextmanager
    async def restored(self) -> AsyncIterator[None]:
        """Read the log for the time of the block, which begins once that is done, or after ten seconds."""
        self._budgets.restoring = True
        threading.Thread(target=self._read, name="day-use", daemon=True).start()
        try:
            async with asyncio.timeout(_START_WAIT_S):
                await self._done.wait()
        except TimeoutError:
            _log.warning("callers' use of today is still being read: who has a day's budget waits for it")
        try:
            yield
        finally:
            self._stop.set()

    def beside(self, on_recovered: OnRecovered) -> OnRecovered:
        """`on_recovered`, and the row of the session whose process died is counted."""

        def recovered(record: SessionRecord, begun_unix_us: int, parent_span_id: str | None) -> None:
            self._recovered(record)
            on_recovered(record, begun_unix_us, parent_span_id)

        return recovered

    def _recovered(self, record: SessionRecord) -> None:
        costs = (each.cost_nano_usd for each in record.attempts)
        tokens = sum(each.input_tokens + each.output_tokens for each in record.attempts)
        day = int(parse_rfc3339(record.timestamp) / 1e6 // DAY_S)
        if record.caller is None or day < self._today():
            return
        if self._is_new(record.session_id, record.try_number or 1):
            use = {record.caller: Spent(tokens, sum(cost or 0 for cost in costs))}
            self._loop.call_soon_threadsafe(self._budgets.restore, use, day)

    def _read(self) -> None:
        use: dict[str, Spent] = {}
        problems: list[str] = []
        # Midnight may come while the log is read: what was used before it counts for nothing then.
        today = self._today()
        try:
            self._add_log(today, use, problems)
        except SessionLogUnavailableError as error:
            # Nothing there is how a log begins.
            _log.info("no use of today in the session log", why=str(error)[:300])
        except Exception as error:  # noqa: BLE001  DuckDB's as well: none is a reason not to serve
            problems.append(f"{type(error).__name__}: {error}"[:300])
        if problems:
            _log.error("callers' use of today is not known whole: budgets begin with what was read", problems=problems)
        try:
            self._loop.call_soon_threadsafe(self._finish, today, use)
        except RuntimeError:
            return  # the loop is closed: the process ends

    def _finish(self, day: int, use: dict[str, Spent]) -> None:
        self._budgets.restore(use, day)
        self._budgets.restoring = False
        self._done.set()

    def _add_log(self, today: int, use: dict[str, Spent], problems: list[str]) -> None:
        today_s = float(today * DAY_S)
        until_s = time.monotonic() + READ_S_MAX
        with SessionReader(self._log_path) as reader:
            problems += reader.warnings
            for row in _rows(reader, today_s, problems):
                self._add(use, row)
                if self._stop.is_set() or time.monotonic() > until_s:
                    problems.append("it took too long")
                    return

    def _add(self, use: dict[str, Spent], row: dict[str, Any]) -> None:
        caller = row.get("caller")
        if caller is None or not self._is_new(row["session_id"], row.get("try", 1)):
            return
        attempts = row["attempts"]
        tokens = sum(each["input_tokens"] + each["output_tokens"] for each in attempts)
        nano_usd = sum(each.get("cost_nano_usd", 0) for each in attempts)
        use[caller] = use.get(caller, Spent()).plus(tokens, nano_usd)

    def _is_new(self, session_id: str, try_number: int) -> bool:
        with self._lock:
            before = len(self._seen)
            self._seen.add((session_id, try_number))
            return len(self._seen) > before

    def _today(self) -> int:
        return int(self._now_s() // DAY_S)


def _rows(reader: SessionReader, today_s: float, problems: list[str]) -> Iterator[dict[str, Any]]:
    for segment in reversed(reader.snapshot.segments):
        if segment.modified_unix_s + _CLOCK_SLACK_S >= today_s:
            try:
                yield from _rows_of_segment(segment, today_s)
            except SegmentDamagedError as error:
                problems.append(str(error))
    if reader.snapshot.parquet_files:
        _, found = reader.query_archive(
            "SELECT line FROM parquet_rows WHERE line IS NOT NULL AND caller IS NOT NULL"
            " AND timestamp >= make_timestamp(?::BIGINT)",
            [int(today_s * 1e6)],
        )
        yield from _rows_of_lines((line.encode() for (line,) in found), today_s, None)


def _rows_of_segment(segment: Segment, today_s: float) -> Iterator[dict[str, Any]]:
    if segment.compression == "none":
        return _rows_of_lines(read_backwards(segment), today_s, _OLDER_ROWS)
    return _rows_of_lines((line.data for line in read_lines(segment)), today_s, None)


def _rows_of_lines(lines: Iterable[bytes], today_s: float, older_max: int | None) -> Iterator[dict[str, Any]]:
    older = 0
    for line in lines:
        try:
            found = read_row_line(line)
            unix_s = parse_rfc3339(found.timestamp) / 1e6
        except (RowBreach, ValueError):
            continue
        if unix_s >= today_s:
            older = 0
            # What a clock that ran ahead has stamped is of no day that is today.
            if unix_s < today_s + DAY_S:
                yield json.loads(found.text)
        elif older_max is not None and (older := older + 1) >= older_max:
            return
