"""Recovery: the sessions of dead processes get the rows that they are owed.

A sweep looks at every journal beside the log. One whose lock it cannot get belongs to a living process and is left
alone. In one whose lock it gets, each session that is not marked as written gets its row, unless the log has one:
the row it ended with, where the journal holds that, else the row that it began with, which has code PROCESS_DIED.
Where a file that may hold such a row cannot be read to its end, the journal stays for a later sweep.

Two sweepers never work on one journal, since one of them holds its lock. A sweeper that is killed leaves the next one
what it needs: it writes the row that it is about to append into the journal and then appends it, so that the next one
finds that very row in the log, or appends it. A journal goes when all of its rows stand.

Spills are swept likewise, and first: an owner's journal may still hold the beginning of a session whose end he had just
spilled, and that session's row is in the log then. While his spill cannot be swept, his journal waits.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from iterate.session_log.counts import MinuteWarning, SessionLogCounts, errno_name
from iterate.session_log.journal_reading import JournalContents, UnfinishedSession, read_journal
from iterate.session_log.scan import ScanIncompleteError, SoughtSession, find_written
from lakehouse.sessions.record import SessionRecord, parse_rfc3339, rfc3339
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.append import LogFile
from lakehouse.sessions.store.disk import identity_of
from lakehouse.sessions.store.journal import (
    end_line,
    is_in_the_making,
    list_journals,
    list_spills,
    owner_of,
    unread_path,
)

# How long a sweep waits for the log's lock before it leaves the rest to the next one.
LOCK_WAIT_S: Final = 2.0
_FILES_AT_A_TIME: Final = 64
_LOCK_STEP_S: Final = 0.005
# File times come of a clock that ticks more coarsely than the one that sessions begin by.
_COARSE_US: Final = 1_000_000

_log = structlog.get_logger(__name__)


OnRecovered = Callable[[SessionRecord, int, str | None], None]
"""Called with a row that a sweep wrote, when its session began (microseconds since 1970), and its caller's span."""


def ignore_recovered(record: SessionRecord, begun_unix_us: int, parent_span_id: str | None) -> None:
    """Nobody wants to know."""


class SweepStoppedError(Exception):
    """The rest of a journal is left to the next sweep."""


@dataclass(slots=True)
class DeadJournal:
    """A journal whose lock we hold, by ``fd``."""

    path: str
    fd: int
    contents: JournalContents
    seen_unix_us: int
    """The earlier one of now and its owner's last line, by the wall clock: before a session in it began, that clock has
    been set back since."""


def sweep(
    log_path: str,
    *,
    spill_dir: str = "",
    counts: SessionLogCounts,
    warning: MinuteWarning,
    stop: threading.Event | None = None,
    synced: bool = True,
    on_recovered: OnRecovered = ignore_recovered,
) -> int:
    """Recovers the sessions of every dead process that logged to ``log_path``. Returns the number of rows written.

    ``spill_dir``: where their spills stand; empty: none. ``synced``: rows are fsynced before their journal goes. Never
    raises OSError: what a bad disk leaves undone is warned of, counted and done by a later sweep.
    """
    log = LogFile(log_path, synced=synced)

    def sweep_all(paths: list[str]) -> int:
        # Many at a time: the log is searched once for all of them, and each holds a descriptor meanwhile.
        return sum(
            _sweep_batch(
                paths[start : start + _FILES_AT_A_TIME],
                log,
                counts=counts,
                warning=warning,
                stop=stop,
                on_recovered=on_recovered,
            )
            for start in range(0, len(paths), _FILES_AT_A_TIME)
        )

    recovered = 0
    try:
        left: set[str] = set()
        if spill_dir:
            try:
                recovered += sweep_all(list_spills(spill_dir, log_path))
                left = {owner_of(path) for path in list_spills(spill_dir, log_path)}
            except OSError as error:
                counts.add_error("sweep_errors", error)
                warning.warn("session_log_spill_unreadable", errno_name(error), spill_dir=spill_dir)
        try:
            journals = list_journals(log_path)
        except OSError:
            return recovered  # whoever appends warns of a missing folder
        return recovered + sweep_all([path for path in journals if owner_of(path) not in left])
    finally:
        log.close()


def _sweep_batch(
    paths: list[str],
    log: LogFile,
    *,
    counts: SessionLogCounts,
    warning: MinuteWarning,
    stop: threading.Event | None,
    on_recovered: OnRecovered,
) -> int:
    dead: list[DeadJournal] = []
    recovered = 0

    def left(path: str, error: OSError | ScanIncompleteError | SweepStoppedError) -> None:
        if stop is not None and stop.is_set():
            return
        cause = errno_name(error) if isinstance(error, OSError) else "POSTPONED"
        counts.add_cause("sweep_errors", cause)
        warning.warn("session_log_sweep_postponed", cause, journal=path, detail=str(error))

    try:
        for path in paths:
            try:
                journal = _take(path)
            except OSError as error:
                left(path, error)
                continue
            if journal is not None:
                dead.append(journal)
        try:
            unknown = _search(dead, log.path, stop)
        except ScanIncompleteError as error:
            left(log.path, error)
            return 0
        for journal in dead:
            if journal.path in unknown:
                left(journal.path, ScanIncompleteError(unknown[journal.path]))
                continue
            try:
                recovered += _recover(journal, log, counts=counts, stop=stop, on_recovered=on_recovered)
                _remove(journal, counts=counts)
            except (OSError, SweepStoppedError) as error:
                left(journal.path, error)
        return recovered
    finally:
        for journal in dead:
            os.close(journal.fd)


def _take(path: str) -> DeadJournal | None:
    """Lock and read a journal. Returns None where its owner lives or another sweeper is at it. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    taken = None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        opened = os.fstat(fd)
        if not stat.S_ISREG(opened.st_mode) or not _is_named(path, opened):
            return None  # swept, or replaced by its owner, between our open and our lock
        if is_in_the_making(path):
            os.unlink(path)  # noqa: PTH108  its owner died while making it, and has a whole one beside it
            return None
        seen_unix_ns = min(opened.st_mtime_ns, time.time_ns())
        taken = DeadJournal(path, fd, read_journal(fd), seen_unix_ns // 1000)
        return taken
    finally:
        if taken is None:
            os.close(fd)


def _search(dead: list[DeadJournal], log_path: str, stop: threading.Event | None) -> dict[str, str]:
    """Take out of the journals what the log has already. Returns the journals of whose sessions that is not known, by
    path, with the reason. Raises ScanIncompleteError."""
    owners = [(journal, number) for journal in dead for number in journal.contents.unfinished]
    if not owners:
        return {}
    sought = [_sought(journal.contents.unfinished[number], journal.seen_unix_us) for journal, number in owners]
    result = find_written(log_path, sought, stop)
    for index in result.written:
        journal, number = owners[index]
        del journal.contents.unfinished[number]
    return {owners[index][0].path: reason for index, reason in result.unknown.items()}


def _remove(journal: DeadJournal, *, counts: SessionLogCounts) -> None:
    skipped = journal.contents.lines_skipped
    if skipped:
        kept = unread_path(journal.path)
        os.rename(journal.path, kept)  # noqa: PTH104  beside os.open on the same string
        _log.warning("session_log_journal_unread", journal=kept, lines=skipped)
    else:
        os.unlink(journal.path)  # noqa: PTH108  beside os.open on the same string
    counts.add("journals_swept")
    counts.add("journal_lines_skipped", skipped + journal.contents.torn)


def _is_named(path: str, opened: os.stat_result) -> bool:
    try:
        found = os.stat(path, follow_symlinks=False)  # noqa: PTH116  beside os.open on the same string
    except FileNotFoundError:
        return False
    return identity_of(found) == identity_of(opened)


def _recover(
    journal: DeadJournal,
    log: LogFile,
    *,
    counts: SessionLogCounts,
    stop: threading.Event | None,
    on_recovered: OnRecovered,
) -> int:
    """Append the rows of the journal's unfinished sessions; return how many."""
    fd, contents = journal.fd, journal.contents
    if not contents.unfinished:
        return 0
    if contents.torn:
        os.ftruncate(fd, contents.end)
    for number, session in contents.unfinished.items():
        if session.ended is None:
            session.ended = _process_died(session, contents.last_alive_unix_us)
            _write_end(fd, contents, number, encode_row(session.ended))
        _append(log, encode_row(session.ended), stop)
        counts.add("sessions_recovered")
        on_recovered(session.ended, _begun_unix_us(session), session.parent_span_id)
    for descriptor in log.take_unsynced():
        try:
            os.fsync(descriptor)
            counts.add("fsyncs")
        finally:
            os.close(descriptor)
    _log.warning("session_log_sessions_recovered", journal=journal.path, sessions=len(contents.unfinished))
    return len(contents.unfinished)


def _sought(session: UnfinishedSession, seen_unix_us: int) -> SoughtSession:
    known = session.begun or session.ended
    if known is None:  # the reader makes no session without one of them
        raise ValueError("a session without a beginning and an end")
    begun_unix_us = _begun_unix_us(session)
    return SoughtSession(
        known=session.ended or replace(known, attempts=tuple(session.attempts)),
        ended=session.ended is not None,
        position=session.position,
        begun_unix_us=begun_unix_us,
        clock_set_back=seen_unix_us < begun_unix_us - _COARSE_US,
    )


def _begun_unix_us(session: UnfinishedSession) -> int:
    known = session.begun or session.ended
    if known is None:  # the reader makes no session without one of them
        raise ValueError("a session without a beginning and an end")
    # An end alone says when it began as well.
    return parse_rfc3339(known.timestamp) - known.duration_ms * 1000


def _process_died(session: UnfinishedSession, last_alive_unix_us: int) -> SessionRecord:
    """Return the row of a session whose end nobody saw. It ended when its process did, which is at the earliest the
    last moment that the journal shows: that is its timestamp, and its duration counts to there."""
    begun = session.begun
    if begun is None:
        raise ValueError("a session without a beginning")
    begun_unix_us = parse_rfc3339(begun.timestamp)
    ended_unix_us = max(begun_unix_us, last_alive_unix_us)
    return replace(
        begun,
        timestamp=rfc3339(ended_unix_us),
        attempts=tuple(session.attempts),
        duration_ms=(ended_unix_us - begun_unix_us) // 1000,
    )


def _write_end(fd: int, contents: JournalContents, number: int, row: bytes) -> None:
    line = end_line(number, row)
    offset, written = contents.end, 0
    while written < len(line):
        try:
            written += os.pwrite(fd, line[written:], offset + written)
        except OSError:
            os.ftruncate(fd, offset)
            raise
    contents.end += len(line)


def _append(log: LogFile, row: bytes, stop: threading.Event | None) -> None:
    give_up_at = time.monotonic() + LOCK_WAIT_S
    while not log.try_lock():
        if time.monotonic() >= give_up_at or (stop is not None and stop.is_set()):
            raise SweepStoppedError("the log is locked by another process")
        time.sleep(_LOCK_STEP_S)
    try:
        log.append(row)
    finally:
        log.unlock()
