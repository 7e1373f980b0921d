"""Settings of the session log, each with what it promises. They stand in the table [iterate] itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from iterate.session_log.fsync import FsyncPolicy
from lakehouse.sessions.record import RECALL_HOURS
from lakehouse.settings import Milliseconds, Table

_WAIT_MS: Final = 20
_STRICT_WAIT_MS: Final = 1_000


class SessionLogConfig(Table):
    """What the session log is made from.

    What survives a SIGKILL does not depend on ``fsync``: whatever was handed to the kernel does. ``fsync`` is about
    power cuts and kernel crashes, and about rows only; the journal is never fsynced, so that sessions in flight at
    such a moment may leave no row.
    """

    session_log_path: str = ""
    """The JSONL file; production: /var/lib/lakehouse/gateway/sessions.jsonl. Its folder must exist and be writable (the
    journal stands there too). Empty: no log."""
    session_log_guarantee: Literal["best_effort", "strict"] = "best_effort"
    """``best_effort``: the log never fails a request and never holds it up beyond ``append_wait_ms``. ``strict``: no
    row, no answer. A session whose beginning is not in the journal within ``append_wait_ms`` is refused before a model
    is asked, and so is every session while the log is known not to take rows (SESSION_LOG_UNAVAILABLE); one whose row
    is not in the log in time ends without its answer (SESSION_NOT_LOGGED). That row may still follow, so that a row
    without an answer is possible, an answer without a row is not."""
    append_wait_ms: Annotated[int, Field(ge=0, le=10_000)] = Field(default=None)  # type: ignore[assignment]  # a validator puts a number there
    """Longest that a session waits for its beginning, and again for its row; 20 unless set, under ``strict`` 1000.
    Past it the disk's work goes on by itself: the beginning is counted as unjournaled, the row as late."""
    fsync: FsyncPolicy = "interval"
    """``never``: rows survive the death of the process; a power cut loses what the kernel had not written back yet, by
    default up to 30 s of rows. ``interval``: at most ``fsync_interval_ms`` and one fsync's duration of rows. ``row``:
    none whose answer left in time: a row counts as written after its fsync (rows that arrive during an fsync share the
    next one), and an fsync slower than ``append_wait_ms`` makes it late."""
    fsync_interval_ms: Annotated[int, Field(ge=1, le=60_000)] = 1000
    queue_rows_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    queue_bytes_max: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024 * 1024)] = 64 * 1024 * 1024
    """Rows that wait for the disk; beyond either bound the newest is dropped and counted."""
    spill_dir: str = ""
    """A folder on another volume than the log's. It takes what the log's disk refuses before the answer leaves, and at
    the end of the process the rows that are still queued; the next start, and each sweep, brings them into the log.
    Empty: such rows wait in memory, and are lost where the process ends first."""
    journal: bool = True
    """The in-flight journal: turns the sessions of a killed process, and its queued rows, into rows. Off: they leave
    none."""
    sweep_interval_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 60_000
    """How often the journals of dead processes are looked for."""
    log_drain_ms: Milliseconds = 5000
    """Longest that the end of the process waits for queued rows."""
    recall_hours: Annotated[float, Field(ge=0, le=24 * 366)] = RECALL_HOURS
    """How long a session is known by its id: so long after it ended by an outcome, a call with the `session_id` that it
    was given and the same request is answered from its row. The same for all processes on one log, and for `lakehouse
    sessions compact`. 0: not at all, as without a log."""
    recall_wait_ms: Annotated[int, Field(ge=10, le=60_000)] = 2000
    """Longest that a call with a `session_id` of its caller's own waits until it is known what became of the id; past
    it the call is refused (RECALL_NOT_READY), under ``best_effort`` as well: better late than billed twice."""

    @field_validator("session_log_path")
    @classmethod
    def _names_a_file(cls, path: str) -> str:
        if path.endswith("/") or (path and Path(path).is_dir()):
            raise ValueError(f"{path} is a folder: name a file")
        return path

    @field_validator("append_wait_ms", mode="before")
    @classmethod
    def _as_guaranteed(cls, wait_ms: object, info: ValidationInfo) -> object:
        if wait_ms is None:
            return _STRICT_WAIT_MS if info.data.get("session_log_guarantee") == "strict" else _WAIT_MS
        return wait_ms

    @field_validator("append_wait_ms")
    @classmethod
    def _leaves_time_to_write(cls, wait_ms: int, info: ValidationInfo) -> int:
        if wait_ms == 0 and info.data.get("session_log_guarantee") == "strict":
            raise ValueError("with strict and 0 no session begins in time: set it above 0")
        return wait_ms

    @field_validator("spill_dir")
    @classmethod
    def _stands_elsewhere(cls, spill_dir: str, info: ValidationInfo) -> str:
        log_path = info.data.get("session_log_path")
        if spill_dir and not log_path:
            raise ValueError("needs a log: set session_log_path, or leave spill_dir empty")
        if spill_dir and log_path and Path(spill_dir).absolute() == Path(log_path).absolute().parent:
            raise ValueError(f"{spill_dir} is the log's own folder: name one on another volume")
        if spill_dir and Path(spill_dir).exists() and not Path(spill_dir).is_dir():
            raise ValueError(f"{spill_dir} is no folder")
        return spill_dir

    @field_validator("session_log_guarantee")
    @classmethod
    def _has_a_log(cls, guarantee: str, info: ValidationInfo) -> str:
        if guarantee == "strict" and info.data.get("session_log_path") == "":
            raise ValueError("strict needs a log: set session_log_path, or session_log_guarantee to best_effort")
        return guarantee


def session_log_missing(config: SessionLogConfig) -> Iterator[str]:
    """Why no row could be written now; one line, from the key on."""
    if not config.session_log_path:
        return
    path = Path(config.session_log_path)
    try:
        folder_is_there = path.parent.is_dir()
        if not folder_is_there:
            yield f"session_log_path: there is no folder {path.parent}: make it, writable for the service"
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            yield f"session_log_path: no permission to write into {path.parent}"
        elif path.is_symlink():
            yield f"session_log_path: {path} is a symbolic link, which is never followed: name the file itself"
        elif path.exists() and not path.is_file():
            yield f"session_log_path: {path} is there and is no file"
        elif path.exists() and not os.access(path, os.W_OK):
            yield f"session_log_path: no permission to write {path}"
    except OSError as error:
        yield f"session_log_path: {path}: {error.strerror}"


def session_log_advice(config: SessionLogConfig) -> Iterator[str]:
    """Yield what an operator should know of settings that can be used: one line each, from the key on."""
    if not config.session_log_path:
        return
    if not config.spill_dir:
        yield (
            "spill_dir: not set: what the log's disk refuses is lost where the process ends before the disk takes it; "
            "name a folder on another volume"
        )
        return
    try:
        spill = Path(config.spill_dir).stat()
    except OSError as error:
        yield f"spill_dir: {config.spill_dir}: {error.strerror}: nothing can be spilled until it is there"
        return
    if not os.access(config.spill_dir, os.W_OK | os.X_OK):
        yield f"spill_dir: {config.spill_dir} is not writable: nothing can be spilled"
    with contextlib.suppress(OSError):
        if Path(config.session_log_path).parent.stat().st_dev == spill.st_dev:
            yield f"spill_dir: {config.spill_dir} is on the log's own volume: it fails when the log fails"
