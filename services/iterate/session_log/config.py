"""Settings of the session log, each with what it promises. They stand in the table [iterate] itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from iterate.session_log.writer import FsyncPolicy
from lakehouse.settings import Milliseconds, Table


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
    row, no answer (SESSION_LOG_UNAVAILABLE): a session is refused at its beginning while the log is known not to take
    rows, and at its end if its row was not written in time. The row may still follow then, so that a row without an
    answer is possible, an answer without a row is not."""
    append_wait_ms: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Longest that an answer waits for its row, counted from the row's hand-over; past it the row follows by itself
    and is counted as late."""
    fsync: FsyncPolicy = "interval"
    """``never``: rows survive the death of the process; a power cut loses what the kernel had not written back yet, by
    default up to 30 s of rows. ``interval``: at most ``fsync_interval_ms`` and one fsync's duration of rows. ``row``:
    none whose answer left in time: a row counts as written after its fsync (rows that arrive during an fsync share the
    next one), and an fsync slower than ``append_wait_ms`` makes it late."""
    fsync_interval_ms: Annotated[int, Field(ge=1, le=60_000)] = 1000
    queue_rows_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    queue_bytes_max: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024 * 1024)] = 64 * 1024 * 1024
    """Rows that wait for the disk; beyond either bound the newest is dropped and counted."""
    journal: bool = True
    """The in-flight journal: turns the sessions of a killed process, and its queued rows, into rows. Off: they leave
    none."""
    sweep_interval_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 60_000
    """How often the journals of dead processes are looked for."""
    log_drain_ms: Milliseconds = 5000
    """Longest that the end of the process waits for queued rows."""

    @field_validator("session_log_path")
    @classmethod
    def _names_a_file(cls, path: str) -> str:
        if path.endswith("/") or (path and Path(path).is_dir()):
            raise ValueError(f"{path} is a folder: name a file")
        return path

    @field_validator("session_log_guarantee")
    @classmethod
    def _has_a_log(cls, guarantee: str, info: ValidationInfo) -> str:
        if guarantee == "strict" and info.data.get("session_log_path") == "":
            raise ValueError("strict needs a log: set session_log_path, or session_log_guarantee to best_effort")
        return guarantee

    @field_validator("fsync")
    @classmethod
    def _may_be_awaited(cls, fsync: str, info: ValidationInfo) -> str:
        strict = info.data.get("session_log_guarantee") == "strict"
        if strict and fsync == "row" and info.data.get("append_wait_ms") == 0:
            raise ValueError("with strict and append_wait_ms 0 no fsync ends in time: set append_wait_ms above 0")
        return fsync
