"""A session log opened for questions: a snapshot, its DuckDB views, and progress while a long query runs."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from lakehouse.sessions.query.rows_alone import source_of
from lakehouse.sessions.query.views import JsonSource, connect
from lakehouse.sessions.store.lines import SegmentDamagedError, check_whole, is_cut
from lakehouse.sessions.store.segments import Segment, Snapshot, open_snapshot

if TYPE_CHECKING:
    import duckdb

QueryProgress = Callable[[float], None]
"""Called now and then with how much of the answer is done, 0 to 1."""

_PROGRESS_INTERVAL_S: Final = 0.1
_FETCH_ROWS: Final = 256
# Of an answer's time, what goes by in looking at each line of JSONL, about.
_LOOKING_SHARE: Final = 0.6


class QueryRefusedError(Exception):
    """A query is not one that reads, or DuckDB refuses it; the message says why."""


class SessionReader:
    """Opens the log and answers queries over ``sessions``, ``attempts`` and ``facts`` (see ``views``).

    A context manager; not thread-safe. A compressed file that turns out to be damaged is left out of the answers, and
    ``warnings`` names it.
    """

    def __init__(self, log_path: str | os.PathLike[str], *, progress: QueryProgress | None = None) -> None:
        """Raise SessionLogUnavailableError."""
        self._open(open_snapshot(log_path), progress)

    def _open(self, snapshot: Snapshot, progress: QueryProgress | None) -> None:
        self.snapshot = snapshot
        self._progress = progress
        self._folder = tempfile.mkdtemp(prefix="lakehouse-sessions-")
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._archive: duckdb.DuckDBPyConnection | None = None
        self._done = 0.0
        """How much of the running answer had been done when its query began."""

    @property
    def contents(self) -> tuple[object, ...]:
        """What differs where the rows may differ."""
        snapshot = self.snapshot
        segments = tuple((each.identity, each.size_bytes, each.modified_unix_s) for each in snapshot.segments)
        return segments, tuple((file.path, file.size_bytes) for file in snapshot.parquet)

    @property
    def has_archive(self) -> bool:
        """Whether ``query_archive`` has anything to read."""
        return bool(self.snapshot.parquet_files)

    def find_by_id(self, identifier: str) -> Iterator[bytes] | None:
        """Return the rows with this session id, trace id or caller's trace string, oldest first; None where they are to
        be looked for in the files of a log."""
        return None

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.snapshot.warnings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for connection in (self._connection, self._archive):
            if connection is not None:
                connection.close()
        self.snapshot.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Column names and the rows, in pieces. Raises QueryRefusedError for whatever DuckDB refuses."""
        import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

        try:
            result = self._run(self.connection, sql, parameters)
        except duckdb.IOException as error:
            if not self._leave_out_damaged():
                raise QueryRefusedError(_reason(error)) from None
            try:
                result = self._run(self.connection, sql, parameters)
            except duckdb.Error as second:
                raise QueryRefusedError(_reason(second)) from None
        except duckdb.Error as error:
            raise QueryRefusedError(_reason(error)) from None
        return [column[0] for column in result.description or []], _rows(result)

    def query_archive(self, sql: str, parameters: Sequence[object] = ()) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """As ``query``, over the compacted rows alone, so that no JSONL is looked at. Raises QueryRefusedError."""
        import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

        if self._archive is None:
            self._archive = connect(self.snapshot, (), spill_folder=os.path.join(self._folder, "spill-archive"))  # noqa: PTH118  DuckDB takes a string
        try:
            result = self._run(self._archive, sql, parameters)
        except duckdb.Error as error:
            raise QueryRefusedError(_reason(error)) from None
        return [column[0] for column in result.description or []], _rows(result)

    def query_read_only(self, sql: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """As ``query`` for one statement from a person, which must be a SELECT or an EXPLAIN."""
        import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

        try:
            statements = self.connection.extract_statements(sql)
        except duckdb.Error as error:
            raise QueryRefusedError(_reason(error)) from None
        if len(statements) != 1:
            raise QueryRefusedError(f"one statement at a time: this text holds {len(statements)}")
        if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
            kind = str(statements[0].type).rpartition(".")[2]
            raise QueryRefusedError(
                f"{kind} is refused: the log is only read here, with SELECT, FROM, WITH or DESCRIBE"
            )
        return self.query(sql)

    def _run(
        self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object]
    ) -> duckdb.DuckDBPyConnection:
        """Run the query in a thread of its own: DuckDB does not see a Ctrl-C in the one that waits for it."""
        outcome: Future[duckdb.DuckDBPyConnection] = Future()

        def execute() -> None:
            try:
                outcome.set_result(connection.execute(sql, list(parameters)))
            except BaseException as error:  # noqa: BLE001  raised again where it is waited for
                outcome.set_exception(error)

        worker = threading.Thread(target=execute, name="session-query", daemon=True)
        worker.start()
        try:
            while not wait((outcome,), timeout=_PROGRESS_INTERVAL_S).done:
                percent = connection.query_progress()
                # Called where DuckDB does not know how far it is, too: what waits may give up.
                if self._progress is not None:
                    self._progress(self._done + (1 - self._done) * min(1.0, max(0.0, percent) / 100))
        except BaseException:
            connection.interrupt()
            raise
        finally:
            worker.join()
            self._done = 0.0
        return outcome.result()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB with the views; reads the snapshot's files alone."""
        if self._connection is None:
            # DuckDB reports a damaged gzip file, and reads half a zstd file as if it were whole.
            cut = filter(is_cut, self.snapshot.segments)
            self.leave_out({segment: reason for segment in cut if (reason := _damage(segment))})
            sources = self._sources()
            self._connection = connect(self.snapshot, sources, spill_folder=os.path.join(self._folder, "spill"))  # noqa: PTH118  DuckDB takes a string
        return self._connection

    def _sources(self) -> list[JsonSource]:
        total = sum(segment.size_bytes for segment in self.snapshot.segments)
        looked_at = 0

        def advance(count: int) -> None:
            nonlocal looked_at
            looked_at += count
            self._done = _LOOKING_SHARE * min(1.0, looked_at / total)
            if self._progress is not None:
                self._progress(self._done)

        return [source_of(segment, Path(self._folder), advance) for segment in self.snapshot.segments]

    def _leave_out_damaged(self) -> bool:
        """Drop compressed files that do not decompress to their end; True when there were some."""
        damage = {segment: reason for segment in self.snapshot.segments if (reason := _damage(segment))}
        if damage and self._connection is not None:
            self._connection.close()
            self._connection = None
        self.leave_out(damage)
        return bool(damage)

    def notice(self, text: str) -> None:
        """Add a warning: of something that an answer does not say."""
        self.snapshot = replace(self.snapshot, notices=(*self.snapshot.notices, text))

    def leave_out(self, damage: dict[Segment, str]) -> None:
        """Close damaged segments, each with its reason, and warn of them."""
        if not damage:
            return
        self.snapshot = replace(
            self.snapshot,
            segments=tuple(segment for segment in self.snapshot.segments if segment not in damage),
            unreadable=(*self.snapshot.unreadable, *(f"{reason}; its rows are left out" for reason in damage.values())),
        )
        for segment in damage:
            os.close(segment.fd)


def _damage(segment: Segment) -> str:
    try:
        check_whole(segment)
    except SegmentDamagedError as error:
        return str(error)
    return ""


def _rows(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    try:
        while rows := result.fetchmany(_FETCH_ROWS):
            yield from rows
    except duckdb.Error as error:
        raise QueryRefusedError(_reason(error)) from None


def _reason(error: Exception) -> str:
    text = str(error)
    if "maximum_object_size" in text:
        return f"a line of the log is longer than any row ({text.splitlines()[0]}): cut the file's line out"
    return text
