"""Settings of the session log, each with what it promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iterate.session_log.writer import FsyncPolicy

Guarantee = Literal["best_effort", "strict"]


@dataclass(frozen=True, kw_only=True)
class SessionLogConfig:
    """Raises ValueError where settings do not fit one another.

    What survives a SIGKILL does not depend on ``fsync``: whatever was handed to the kernel does. ``fsync`` is about
    power cuts and kernel crashes, and about rows only; the journal is never fsynced, so that sessions in flight at
    such a moment may leave no row.
    """

    path: str = ""
    """The log's file; empty = disabled. Its folder must exist and be writable (the journal stands there too)."""
    daemon: str = "iterate"
    """Who a row says wrote it."""
    append_wait_ms: int = 20
    """How long an answer waits at most for its row, counted from the row's hand-over."""
    guarantee: Guarantee = "best_effort"
    """``best_effort``: the log never fails a request and never holds it up beyond ``append_wait_ms``. ``strict``: no
    row, no answer: a session is refused at its beginning while the log is known not to take rows, and at its end
    if its row was not written in time. The row may still follow then, so that a row without an answer is possible,
    an answer without a row is not."""
    fsync: FsyncPolicy = "interval"
    """``never``: a power cut loses what the kernel had not written back yet, by default up to 30 s of rows.
    ``interval``: at most ``fsync_interval_ms`` and one fsync's duration of rows. ``row``: none whose answer left in
    time: a row counts as written after its fsync (rows that arrive during an fsync share the next one), and an
    fsync slower than ``append_wait_ms`` makes it late."""
    fsync_interval_ms: int = 1_000
    queue_rows_max: int = 10_000
    queue_bytes_max: int = 64 * 1024 * 1024
    """Rows beyond either bound are dropped, newest first, and counted."""
    journal: bool = True
    """False: a killed process's sessions in flight, and its queued rows, leave no row."""
    sweep_interval_ms: int = 60_000
    """How often dead processes' journals are looked for."""
    drain_ms: int = 5_000
    """How long ``close`` waits at most for queued rows."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)}: set at least {least}"
            for name, least in (
                ("append_wait_ms", 0),
                ("fsync_interval_ms", 1),
                ("queue_rows_max", 1),
                ("queue_bytes_max", 1),
                ("sweep_interval_ms", 100),
                ("drain_ms", 0),
            )
            if getattr(self, name) < least
        ]
        if self.guarantee == "strict" and not self.path:
            problems.append("guarantee is strict, but path is empty: set path, or guarantee to best_effort")
        if self.path.endswith("/"):
            problems.append(f"path is {self.path!r}: name a file, not a folder")
        if problems:
            raise ValueError("; ".join(problems))
