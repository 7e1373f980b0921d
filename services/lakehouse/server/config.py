"""How a service reads its configuration; *what* it reads stands in the service's own ``config.py``.

One TOML file (``--config FILE`` or ``LAKEHOUSE_CONFIG``) with a table per service. Each key can be overridden by
``<SERVICE>_<KEY>``, nested by ``__``: ``CHATD_PROVIDERS__OPENAI__BASE_URL``. Unknown keys are errors in both, and all
problems are reported at once.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

CONFIG_FILE_VARIABLE = "LAKEHOUSE_CONFIG"

# Kubernetes and Docker links put such variables into the environment of every container beside a service of this name:
# CHATD_SERVICE_HOST, CHATD_PORT, CHATD_PORT_50052_TCP_ADDR. They are not ours, and no key of ours looks like them.
_ORCHESTRATOR = re.compile(r"(SERVICE_(HOST|PORT(_.*)?)|PORT(_\d+_(TCP|UDP)(_.*)?)?|NAME|ENV_.*)\Z")

# Keys that hold a secret. They come by the environment, or from a file of their own by the key `<name>_file`; the
# configuration file is for everybody to read. A test holds that every SecretStr of a service is among them.
SECRET_KEYS = frozenset({"api_key", "conninfo", "proxy_password", "secret_headers", "secret_key"})

Port = Annotated[int, Field(ge=0, le=65535)]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Table(BaseModel):
    """A table of the configuration: unknown keys are errors, values do not change after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True)


class TlsTable(Table):
    """TLS of the listener. Without it the listener is plain text, meant for loopback and private networks."""

    certificate_file: Path
    """PEM certificate chain."""
    key_file: Path
    """PEM private key."""
    client_ca_file: Path | None = None
    """PEM of the authorities whose client certificates are demanded (mTLS). None: none are."""


class TracingTable(Table):
    """Langfuse. Off unless host and both keys are given."""

    host: str = ""
    """Base URL, `http://langfuse-web:3000`."""
    public_key: str = ""
    secret_key: SecretStr = SecretStr("")
    """By environment or by `secret_key_file`; never logged."""
    secret_key_file: Path | None = None
    environment: str = ""
    """Langfuse environment tag: lower case, [a-z0-9-_], at most 40."""
    release: str = ""
    sample_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of sessions that are traced; decided by the trace id, so that the three processes agree at equal rates."""
    mask_keys: tuple[str, ...] | None = None
    """JSON names whose values are masked, in place of the default list."""
    mask_patterns: tuple[str, ...] | None = None
    """Regular expressions whose matches are masked, in place of the defaults (API keys, bearer tokens)."""
    capture_bytes_max: Annotated[int, Field(ge=256, le=16 * 1024 * 1024)] = 256 * 1024
    """The longest input or output that is captured; longer ones are cut, with a mark."""
    queue_spans_max: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    """Spans that wait for export; beyond it spans are dropped and counted."""
    flush_interval_ms: Annotated[int, Field(ge=10, le=60_000)] = 1000
    flush_spans: Annotated[int, Field(ge=1, le=8192)] = 512
    timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = 5000
    """Longest wait for Langfuse per export, retries included."""
    shutdown_ms: Milliseconds = 3000
    """Longest wait for the last export when the process ends."""

    @model_validator(mode="after")
    def _one_secret(self) -> TracingTable:
        if self.secret_key.get_secret_value() and self.secret_key_file is not None:
            raise ValueError("set secret_key or secret_key_file, not both")
        return self


class ServerTable(Table):
    """What every service can be told."""

    bind: str
    """`host:port` (port 0: a free one) or `unix:/path`."""
    tls: TlsTable | None = None
    metrics_port: Port = 0
    """Prometheus exposition on 127.0.0.1 (`metrics_host`). 0: off."""
    metrics_host: str = "127.0.0.1"
    max_concurrent_rpcs: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Beyond it calls are refused at once with RESOURCE_EXHAUSTED. Health and reflection do not count."""
    message_bytes_max: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 4 * 1024 * 1024
    reflection: bool = True
    """Serve gRPC reflection, so that grpcurl can list and describe."""
    drain_ms: Milliseconds = 10_000
    """On SIGTERM: how long running calls may go on before they end with SHUTTING_DOWN."""
    drain_delay_ms: Milliseconds = 0
    """On SIGTERM: how long new calls are still taken after health says NOT_SERVING, for load balancers to notice."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, else JSON."""
    sched_batch: bool = False
    """Run under SCHED_BATCH: less CPU per call, but starves where other tasks fill every core."""
    tracing: TracingTable = TracingTable()


T = TypeVar("T", bound=ServerTable)


def load(service: str, model: type[T], *, file: Path | None, environ: Mapping[str, str]) -> T:
    """The configuration of `service` from its table in `file` (None: no file) and from `environ`.

    Raises ConfigError with every problem found.
    """
    problems: list[str] = []
    values = _from_file(service, file, problems)
    _merge_environment(service, values, model, environ, problems)
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        for each in error.errors(include_input=False, include_url=False):
            key = ".".join(str(part) for part in each["loc"])
            problems.append(
                f"{service}.{key}: {_say(each['type'], each['msg'])}" if key else f"{service}: {each['msg']}"
            )
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)
    return config


def read_secret(value: SecretStr, file: Path | None) -> str:
    """The secret itself, from the value or the file's first line. Raises ConfigError where the file cannot be read."""
    if file is None:
        return value.get_secret_value()
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError([f"secret file {file}: {error.strerror}"]) from None
    return text


def _say(kind: str, message: str) -> str:
    return "unknown key" if kind == "extra_forbidden" else message


def _from_file(service: str, file: Path | None, problems: list[str]) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: not TOML: {error}"]) from None
    problems += [
        f"{file}: unknown table [{table}]; the tables are [iterate], [chatd] and [validated]"
        for table in document
        if table not in {"iterate", "chatd", "validated"}
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
    model: type[BaseModel],
    environ: Mapping[str, str],
    problems: list[str],
) -> None:
    prefix = f"{service.upper()}_"
    for name in sorted(environ):
        if not name.startswith(prefix) or _ORCHESTRATOR.match(name[len(prefix) :]):
            continue
        path = name[len(prefix) :].lower().split("__")
        if path[0] not in model.model_fields:
            problems.append(f"{name}: unknown key")
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


def _value(text: str) -> Any:
    # Lists and tables are written as JSON; everything else goes to pydantic as text, which reads numbers and booleans.
    if text[:1] in "[{":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
