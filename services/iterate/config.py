"""What can be set for iterate: the table ``[iterate]``, or ``ITERATE_<KEY>``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from iterate.session_log.config import SessionLogConfig, session_log_advice
from iterate.task import GROUNDINGS, Grounding
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
    """Ignored, and gone in the next release: which kinds there are, validated knows."""

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
    grounding: Grounding = "candidates"
    """What a model gets to know before its first answer, where a request does not say: ``none`` (the prompt and the
    spec alone), ``form`` (also the form of an answer and its rules) or ``candidates`` (also the facts of those who
    qualify, which chatd sends only where `may_see_candidates` allows it)."""
    grounding_max: Grounding = "candidates"
    """The most that a request, or the default, gives."""
    brief_ms_max: Annotated[int, Field(ge=10, le=600_000)] = 1000
    """Longest wait for what validated says before the first attempt; at most a third of the session's time. Where it
    takes longer, the session goes on with less."""
    candidates_max: Annotated[int, Field(ge=1, le=200)] = 50
    """The most candidates that a model is offered; where more are needed than that, twice the need."""
    on_infeasible: Literal["stop", "ask"] = "stop"
    """Where it is certain that no answer can pass: end without a model call, or ask a model all the same."""
    on_no_progress: Literal["stop", "continue"] = "stop"
    """Where a model gives the same answer again and the same is wrong with it: pass on to the next target of the
    request's escalation, and end where there is none; or use up the attempts. bench/RESULTS.md has both: what was
    answered again was not mended by asking once more."""
    session_tokens_max: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Tokens over all attempts of a session; once spent, no further model call is made. 0: no limit."""
    prompt_bytes_max: Annotated[int, Field(ge=1, le=64 * MIB)] = MIB
    artifact_bytes_max: Annotated[int, Field(ge=1, le=16 * MIB)] = MIB // 4
    context_bytes_max: Annotated[int, Field(ge=1024, le=64 * MIB)] = MIB + MIB // 2
    """Longest conversation sent to a model; what is left out of a longer one, ``conversation`` says."""

    def grounding_of(self, asked: Grounding | None) -> Grounding:
        """Return what a request gets that asks for `asked`; None: for the default."""
        return min(asked or self.grounding, self.grounding_max, key=GROUNDINGS.index)

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if "grounding" in self.model_fields_set and self.grounding_of(None) != self.grounding:
            raise ValueError(f"grounding, {self.grounding}, is above grounding_max, {self.grounding_max}")
        return self

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


def advice(config: IterateConfig) -> Iterator[str]:
    """Yield what an operator should know of settings that can be used: one line each, from the key on."""
    if config.extra_kinds:
        yield "extra_kinds: ignored, since validated knows its kinds; the next release refuses it: leave it out"
    yield from session_log_advice(config)
