"""What can be set for iterate: the table ``[iterate]``, or ``ITERATE_<KEY>``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from iterate.session_log.config import SessionLogConfig
from lakehouse.server.config import ServerTable
from lakehouse.settings import GrpcTarget, Milliseconds, Table, check_certificates

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
    def _both_or_none(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("set certificate_file and key_file, or neither")
        check_certificates(certificate_file=self.certificate_file, key_file=self.key_file, ca_file=self.ca_file)
        return self


class IterateConfig(SessionLogConfig, ServerTable):
    bind: str = "127.0.0.1:50051"
    chatd: GrpcTarget = "127.0.0.1:50052"
    """gRPC target of chatd: `host:port`, `dns:///name:port` (replicas are used in turn), `unix:/path`."""
    validated: GrpcTarget = "127.0.0.1:50053"
    """gRPC target of validated."""
    hop_tls: HopTlsTable | None = None
    """None: plain text, meant for loopback and private networks."""
    peer_away_ms: Milliseconds = 5_000
    """How long chatd or validated may be away before iterate says that it is not ready (grpc.health): one flap must not
    take a fleet of iterates down. At the start both have to be reached once."""
    extra_kinds: tuple[str, ...] = ()
    """Kinds beyond the built-in ones that the validated of this deployment knows; others are refused unasked."""

    daemon: Annotated[str, Field(min_length=1, max_length=256)] = "iterate"
    """Who the rows say wrote them."""
    max_iterations_default: Annotated[int, Field(ge=1, le=100)] = 3
    max_iterations_cap: Annotated[int, Field(ge=1, le=100)] = 10
    """The most that a request may ask for."""
    session_ms_max: Annotated[int, Field(ge=100, le=86_400_000)] = 120_000
    """Longest session of a caller that set no deadline."""
    chat_ms_min: Annotated[int, Field(ge=0, le=3_600_000)] = 100
    """With less time left than this no model call is begun."""
    validate_ms_max: Annotated[int, Field(ge=10, le=600_000)] = 10_000
    """Longest wait for validated."""
    session_tokens_max: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Tokens over all attempts of a session; once spent, no further model call is made. 0: no limit."""
    prompt_bytes_max: Annotated[int, Field(ge=1, le=64 * MIB)] = MIB
    artifact_bytes_max: Annotated[int, Field(ge=1, le=16 * MIB)] = MIB // 4
    context_bytes_max: Annotated[int, Field(ge=1024, le=64 * MIB)] = MIB + MIB // 2
    """Longest conversation sent to a model; what is left out of a longer one, ``conversation`` says."""

    @field_validator("max_iterations_cap")
    @classmethod
    def _holds_the_default(cls, cap: int, info: ValidationInfo) -> int:
        default = info.data.get("max_iterations_default")
        if default is not None and default > cap:
            raise ValueError(f"max_iterations_default, {default}, is above max_iterations_cap, {cap}")
        return cap

    @field_validator("chat_ms_min")
    @classmethod
    def _leaves_time_to_chat(cls, least_ms: int, info: ValidationInfo) -> int:
        session_ms = info.data.get("session_ms_max")
        if session_ms is not None and least_ms >= session_ms:
            raise ValueError(f"must be below session_ms_max, {session_ms}: no model would ever be asked")
        return least_ms
