"""The settings of iterate: the table ``[iterate]``, or ``ITERATE_<KEY>``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from iterate.session_log.logger import SessionLogConfig
from lakehouse.server.config import Milliseconds, ServerTable, Table

MIB = 1024 * 1024


class HopTlsTable(Table):
    """TLS towards chatd and validated, whose listeners have `tls` set."""

    ca_file: Path
    """PEM of the authorities that vouch for the two."""
    certificate_file: Path | None = None
    """PEM of our own certificate chain, where the two demand one (their `client_ca_file`)."""
    key_file: Path | None = None
    """PEM of its private key."""

    @model_validator(mode="after")
    def _both_or_none(self) -> HopTlsTable:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("set certificate_file and key_file, or neither")
        return self


class IterateConfig(ServerTable):
    bind: str = "127.0.0.1:50051"
    chatd: str = "127.0.0.1:50052"
    """gRPC target of chatd: `host:port`, `dns:///name:port` (replicas are used in turn), `unix:/path`."""
    validated: str = "127.0.0.1:50053"
    """gRPC target of validated."""
    hop_tls: HopTlsTable | None = None
    """None: plain text, meant for loopback and private networks."""
    extra_kinds: tuple[str, ...] = ()
    """Kinds beyond the built-in ones that the validated of this deployment knows; others are refused unasked."""

    max_iterations_default: Annotated[int, Field(ge=1, le=100)] = 3
    max_iterations_cap: Annotated[int, Field(ge=1, le=100)] = 10
    """The most that a request may ask for."""
    session_ms_max: Annotated[int, Field(ge=100, le=86_400_000)] = 120_000
    """Longest session of a caller that set no deadline."""
    chat_ms_min: Milliseconds = 100
    """With less time left than this no model call is begun."""
    validate_ms_max: Annotated[int, Field(ge=10, le=600_000)] = 10_000
    """Longest wait for validated."""
    session_tokens_max: Annotated[int, Field(ge=0)] = 0
    """Tokens over all attempts of a session; once spent, no further model call is made. 0: no limit."""
    prompt_bytes_max: Annotated[int, Field(ge=1, le=64 * MIB)] = MIB
    artifact_bytes_max: Annotated[int, Field(ge=1, le=16 * MIB)] = MIB // 4
    context_bytes_max: Annotated[int, Field(ge=1024, le=64 * MIB)] = MIB + MIB // 2
    """Longest conversation sent to a model; what is left out of a longer one, ``conversation`` says."""

    session_log_path: str = ""
    """The JSONL log; production: /var/lib/lakehouse/gateway/sessions.jsonl. Empty: no log."""
    session_log_guarantee: Literal["best_effort", "strict"] = "best_effort"
    """`best_effort`: the log never fails a request. `strict`: no row, no answer (SESSION_LOG_UNAVAILABLE)."""
    daemon: str = "iterate"
    """Who the rows say wrote them."""
    append_wait_ms: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Longest that an answer waits for its row; past it the row follows by itself and is counted as late."""
    fsync: Literal["never", "interval", "row"] = "interval"
    """`never`: rows survive the death of the process, not of the machine. `interval`: all but the last
    `fsync_interval_ms` survive that too. `row`: every row whose answer went out in time does."""
    fsync_interval_ms: Annotated[int, Field(ge=1, le=60_000)] = 1000
    queue_rows_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    queue_bytes_max: Annotated[int, Field(ge=1024)] = 64 * MIB
    """Rows that wait for the disk; beyond either bound the newest is dropped and counted."""
    journal: bool = True
    """The in-flight journal: turns the sessions of a killed process into rows. Off: those rows are lost."""
    sweep_interval_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 60_000
    """How often the journals of dead processes are looked for."""
    log_drain_ms: Milliseconds = 5000
    """Longest that the end of the process waits for queued rows."""

    @model_validator(mode="after")
    def _default_within_cap(self) -> IterateConfig:
        if self.max_iterations_default > self.max_iterations_cap:
            raise ValueError("max_iterations_default is above max_iterations_cap")
        return self

    def session_log(self) -> SessionLogConfig:
        """The part that the session log is made from."""
        return SessionLogConfig(
            path=self.session_log_path,
            daemon=self.daemon,
            guarantee=self.session_log_guarantee,
            append_wait_ms=self.append_wait_ms,
            fsync=self.fsync,
            fsync_interval_ms=self.fsync_interval_ms,
            queue_rows_max=self.queue_rows_max,
            queue_bytes_max=self.queue_bytes_max,
            journal=self.journal,
            sweep_interval_ms=self.sweep_interval_ms,
            drain_ms=self.log_drain_ms,
        )
