"""How a service reads its configuration; *what* it reads stands in the service's own ``config.py``.

One TOML file (``--config FILE`` or ``LAKEHOUSE_CONFIG``) with a table per service. Each key can be overridden by
``<SERVICE>_<KEY>``, nested by ``__``: ``CHATD_PROVIDERS__OPENAI__BASE_URL``. Unknown keys are errors in both, and all
problems are reported at once.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from lakehouse.near_names import nearest
from lakehouse.server.config_problems import problem_line, unknown_variable
from lakehouse.settings import (
    MACHINE_ERROR,
    ConfigError,
    Milliseconds,
    Port,
    Table,
    check_certificates,
    machine_error,
)
from lakehouse.targets import check_bind, hosts_overlap, split_bind
from lakehouse.tracing import TracingConfig

CONFIG_FILE_VARIABLE = "LAKEHOUSE_CONFIG"
# Of the three services, and of the table of all replicas that commands publish to and read.
_TABLES = ("iterate", "chatd", "validated", "lake")

# Kubernetes and Docker links put such variables into the environment of every container beside a service of this name:
# CHATD_SERVICE_HOST, CHATD_PORT, CHATD_PORT_50052_TCP_ADDR. They are not ours, and no key of ours looks like them.
_ORCHESTRATOR = re.compile(r"(SERVICE_(HOST|PORT(_.*)?)|PORT(_\d+_(TCP|UDP)(_.*)?)?|NAME|ENV_.*)\Z")

# Keys that hold a secret. They come by the environment, or from a file of their own by the key `<name>_file`; the
# configuration file is for everybody to read. A test holds that every SecretStr of a service is among them.
SECRET_KEYS = frozenset({"api_key", "catalog_uri", "conninfo", "proxy_password", "secret_headers", "secret_key"})


class TlsTable(Table):
    """TLS of the listener. Without it the listener is plain text, meant for loopback and private networks."""

    certificate_file: Path
    """PEM certificate chain."""
    key_file: Path
    """PEM private key."""
    client_ca_file: Path | None = None
    """PEM of the authorities whose client certificates are demanded (mTLS). None: none are."""

    @model_validator(mode="after")
    def _is_pem(self) -> Self:
        check_certificates(certificate_file=self.certificate_file, key_file=self.key_file, ca_file=self.client_ca_file)
        return self


class CallersTable(Table):
    """Who may call. Without it everybody may who reaches the listener: meant for loopback."""

    file: Path
    """TOML: the callers, how they are known, and what they may. Read again when it changes, and at SIGHUP; one that
    cannot be used changes nothing and is reported."""
    health: Literal["open", "callers"] = "open"
    """Who may ask grpc.health: everybody, as orchestrators' probes do, or known callers alone."""
    reflection: Literal["open", "callers"] = "callers"
    """Who may have the services described (grpcurl)."""

    @field_validator("file")
    @classmethod
    def _is_callers_file(cls, file: Path) -> Path:
        from lakehouse.server.callers.file import read_callers_file  # noqa: PLC0415  for who has callers alone

        try:
            read_callers_file(file)
        except OSError as error:
            raise machine_error(f"{file}: {error.strerror}") from None
        return file


class ServerTable(Table):
    """What can be set for every service."""

    bind: str
    """`host:port` (port 0: a free one) or `unix:/path`."""
    tls: TlsTable | None = None
    callers: CallersTable | None = None
    """None: everybody may call."""
    metrics_port: Port = 0
    """Prometheus exposition on 127.0.0.1 (`metrics_host`). 0: off."""
    metrics_host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    max_concurrent_rpcs: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Beyond it calls are refused at once with RESOURCE_EXHAUSTED. Health and reflection do not count."""
    message_bytes_max: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 4 * 1024 * 1024
    reflection: bool = True
    """Serve gRPC reflection, so that grpcurl can list and describe."""
    drain_ms: Milliseconds = 25_000
    """On SIGTERM: how long running calls may go on before they end with SHUTTING_DOWN. Orchestrators kill after 30 s
    unless configured (`terminationGracePeriodSeconds`, `stop_grace_period`): what is left of these is for the ends of
    calls that were cut, for queued rows and for spans. Raise both together."""
    drain_delay_ms: Milliseconds = 0
    """On SIGTERM: how long new calls are still taken after health says NOT_SERVING, for load balancers to notice."""
    connection_age_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 300_000
    """How old a connection gets before its client is asked to open another one, which lets it find new replicas. Calls
    that run on the old one go on. 0: any age."""
    connection_age_grace_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 3_600_000
    """How long such calls may go on before the old connection is cut: longer than any call should take."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, else JSON."""
    sched_batch: bool = False
    """Run under SCHED_BATCH: less CPU per call, but starves where other tasks fill every core."""
    tracing: TracingConfig = TracingConfig()

    @field_validator("bind")
    @classmethod
    def _is_address(cls, bind: str) -> str:
        check_bind(bind)
        return bind

    @field_validator("metrics_host")
    @classmethod
    def _beside_bind(cls, host: str, info: ValidationInfo) -> str:
        bound = split_bind(info.data["bind"]) if "bind" in info.data else None
        port = info.data.get("metrics_port")
        if bound is not None and port and bound[1] == port and hosts_overlap(bound[0], host):
            raise ValueError(f"bind listens on port {port} too: set another metrics_port")
        return host

    @field_validator("sched_batch")
    @classmethod
    def _has_sched_batch(cls, wanted: bool) -> bool:  # noqa: FBT001  pydantic passes it by position
        if wanted and not hasattr(os, "SCHED_BATCH"):
            raise ValueError("this system has no SCHED_BATCH")
        return wanted


T = TypeVar("T", bound=Table)


def load(service: str, model: type[T], *, file: Path | None, environ: Mapping[str, str]) -> T:
    """Return the configuration of `service` from its table in `file` (None: no file) and from `environ`.

    Raises ConfigError with every problem found.
    """
    problems: list[str] = []
    values = _from_file(service, file, problems)
    sources = _merge_environment(service, values, model, environ, problems)
    try:
        config = model.model_validate(values, context={"by_file": file is not None})
    except ValidationError as error:
        errors = error.errors(include_url=False)
        of_machine = not problems and all(each["type"] == MACHINE_ERROR for each in errors)
        problems += [problem_line(service, model, each, sources) for each in errors]
        raise ConfigError(problems, of_machine=of_machine) from None
    if problems:
        raise ConfigError(problems)
    return config


def configured_by_file(info: ValidationInfo) -> bool:
    """For a validator: whether these settings were loaded with a configuration file."""
    return bool((info.context or {}).get("by_file"))


def configuration_file(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file: the one that a command names, else the environment's; None where there is none."""
    by_environment = environ.get(CONFIG_FILE_VARIABLE)
    return named or (Path(by_environment) if by_environment else None)


def given_values(service: str, *, file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what file and environment set for `service`, unchecked. For whoever must not set it otherwise.

    Raises ConfigError where the file cannot be read.
    """
    values = _from_file(service, file, [])
    _merge_environment(service, values, None, environ, [])
    return values


def _from_file(service: str, file: Path | None, problems: list[str]) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # some editors begin with a mark
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8 at byte {error.start}: save it as UTF-8"]) from None
    except (ValueError, RecursionError) as error:  # not TOML, a number of thousands of digits
        raise ConfigError([f"{file}: not TOML: {error}"]) from None
    problems += [
        f"{file}: {_unknown(name, value)}; the tables are [iterate], [chatd], [validated] and [lake]"
        for name, value in document.items()
        if name not in _TABLES
    ]
    problems += [
        f"{file}: {key}: secrets only by environment ({_variable(key)}) or by {key}_file"
        for key in _secrets(document, "")
    ]
    values = document.get(service, {})
    if not isinstance(values, dict):
        problems.append(f"{file}: {service} must be a table")
        return {}
    return values


def _unknown(name: str, value: Any) -> str:
    if not isinstance(value, dict):
        return f'the key "{name}" stands in no table'
    near = nearest(name, _TABLES)
    return f"unknown table [{name}]" + (f", did you mean [{near}]?" if near else "")


def _secrets(value: Any, key: str) -> Iterator[str]:
    """Paths of the secrets that stand in a table."""
    if not isinstance(value, dict):
        return
    for name, below in value.items():
        path = f"{key}.{name}" if key else name
        if name in SECRET_KEYS and below:
            yield path
        yield from _secrets(below, path)


def _variable(key: str) -> str:
    service, _, rest = key.partition(".")
    return f"{service}_{rest.replace('.', '__')}".upper()


def _merge_environment(
    service: str,
    values: dict[str, Any],
    model: type[BaseModel] | None,
    environ: Mapping[str, str],
    problems: list[str],
) -> dict[tuple[str, ...], str]:
    """Which variable has set a key, by the key's path."""
    sources: dict[tuple[str, ...], str] = {}
    prefix = f"{service.upper()}_"
    for name in sorted(environ):
        if not name.startswith(prefix) or _ORCHESTRATOR.match(name[len(prefix) :]):
            continue
        path = name[len(prefix) :].lower().split("__")
        if model is not None and path[0] not in model.model_fields:
            problems.append(unknown_variable(name, service, model))
            continue
        table = values
        for part in path[:-1]:
            below = table.setdefault(part, {})
            if not isinstance(below, dict):
                problems.append(f"{name}: {part} is not a table")
                break
            table = below
        else:
            table[path[-1]] = _value(environ[name])
            sources[tuple(path)] = name
    return sources


def _value(text: str) -> Any:
    # Lists and tables are written as JSON; everything else goes to pydantic as text, which reads numbers and booleans.
    if text[:1] in "[{":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text
