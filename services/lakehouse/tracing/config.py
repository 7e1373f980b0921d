"""What an operator can set about tracing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from lakehouse.settings import Table
from lakehouse.tracing.masking import Masker

DEFAULT_MASK_KEYS: Final = (
    "api_key",
    "apikey",
    "api-key",
    "x-api-key",
    "authorization",
    "proxy-authorization",
    "password",
    "passwd",
    "secret",
    "client_secret",
    "secret_key",
    "access_token",
    "refresh_token",
    "id_token",
)
DEFAULT_MASK_PATTERNS: Final = (
    r"sk-[A-Za-z0-9_-]{16,}",  # model providers' and Langfuse's secret keys
    r"Bearer\s{1,4}[A-Za-z0-9._~+/=-]{8,}",
    r"bearer\s{1,4}[A-Za-z0-9._~+/=-]{8,}",
    r"Basic\s{1,4}[A-Za-z0-9+/=]{8,}",
    r"AKIA[A-Z0-9]{16}",  # AWS access key ids
    r"AIza[A-Za-z0-9_-]{35}",  # Google API keys
    r"gh[pousr]_[A-Za-z0-9]{36}",  # GitHub tokens
    r"eyJ[A-Za-z0-9_.-]{16,}",  # JSON Web Tokens
)

# What Langfuse accepts. It lower-cases other spellings, so that two environments could fall together unseen.
_ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")


class TracingConfig(Table):
    """Where the traces go, what they show and how much may wait. Off unless host and both keys are set.

    `host`, `public_key` and the secret key are set together or not at all.
    """

    host: str = ""
    """Langfuse's base URL: `https://cloud.langfuse.com`, `http://langfuse-web:3000`."""
    public_key: Annotated[str, Field(max_length=256)] = ""
    """The public key of a Langfuse project."""
    secret_key: SecretStr = SecretStr("")
    """Its secret key: by environment or by `secret_key_file`; never logged."""
    secret_key_file: Path | None = None
    """File whose text is the secret key; read at the start."""
    environment: Annotated[str, Field(max_length=40)] = ""
    """Langfuse's environment tag: 1 to 40 of `[a-z0-9_-]`, not starting with `langfuse`. Empty: none is sent."""
    release: Annotated[str, Field(max_length=200)] = ""
    """A version of the deployment. Empty: none is sent."""
    sample_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of traces that are recorded. The trace id decides, so that three processes with the same rate agree."""
    caller_span: Literal["parent", "ignore"] = "parent"
    """What a caller's span is to a session's root. `parent`: the session hangs in the caller's tree, which keeps its
    name and tags. `ignore`, for callers whose spans never reach this Langfuse project: the trace id is kept, and the
    session's root is the trace's. iterate alone heeds it."""
    mask_keys: tuple[str, ...] = DEFAULT_MASK_KEYS
    """Names of JSON members, in any case, whose values are never captured; in place of the default list."""
    mask_patterns: tuple[str, ...] = DEFAULT_MASK_PATTERNS
    """What is never captured wherever it stands, in place of the defaults (API keys, bearer tokens); for their syntax
    see `mask_pattern.compile_mask_pattern`."""
    capture_bytes_max: Annotated[int, Field(ge=256, le=1024 * 1024)] = 64 * 1024
    """The longest input, output or other text captured, in bytes of UTF-8; a longer one is cut, and a mark says so
    (the session's row has it whole). With more than the default a request may pass the 1 MiB at which proxies commonly
    refuse it, and its spans are lost."""
    compression: Literal["auto", "gzip", "none"] = "auto"
    """`gzip` costs about as much as encoding the spans. `auto` is `none` for `http://`, which stays within a private
    network, and `gzip` for `https://`."""
    queue_spans_max: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    """Ended spans that may wait to be sent. Past this bound or the next the newest span is dropped and counted."""
    queue_bytes_max: Annotated[int, Field(ge=64 * 1024, le=2 * 1024 * 1024 * 1024)] = 32 * 1024 * 1024
    """How much memory the waiting spans may hold."""
    queue_scores_max: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Sessions whose scores may wait to be sent; further ones are dropped and counted."""
    flush_interval_ms: Annotated[int, Field(ge=10, le=60_000)] = 1000
    """How long an ended span or a score waits for company."""
    flush_spans: Annotated[int, Field(ge=1, le=2048)] = 512
    """The most spans in one request."""
    timeout_ms: Annotated[int, Field(ge=50, le=60_000)] = 5000
    """Longest wait for Langfuse per request, its repeats included."""
    shutdown_ms: Annotated[int, Field(ge=0, le=60_000)] = 3000
    """Longest wait for the last request when the process ends."""

    @field_validator("host")
    @classmethod
    def _is_base_url(cls, host: str) -> str:
        try:
            url = urlsplit(host)
            usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            usable = False
        plain = host.isprintable() and " " not in host
        if host and (not usable or not plain or "@" in url.netloc or url.query or url.fragment):
            raise ValueError("must be a URL such as https://langfuse.example.com, without keys or a query")
        return host

    @field_validator("public_key")
    @classmethod
    def _fits_a_header(cls, key: str) -> str:
        if not (key.isascii() and key.isprintable()) or " " in key or ":" in key:
            raise ValueError("must be printable ASCII without spaces and colons, such as pk-lf-…")
        return key

    @field_validator("secret_key_file")
    @classmethod
    def _whole_or_off(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if not {"host", "public_key", "secret_key"} <= info.data.keys():
            return file
        secret = file or info.data["secret_key"].get_secret_value()
        parts = {"host": info.data["host"], "public_key": info.data["public_key"], "secret_key": secret}
        missing = [name for name, value in parts.items() if not value]
        if 0 < len(missing) < len(parts):
            raise ValueError(f"tracing is half set: set {' and '.join(missing)} as well, or none of {', '.join(parts)}")
        return file

    @field_validator("environment")
    @classmethod
    def _is_an_environment(cls, environment: str) -> str:
        if environment and not _ENVIRONMENT.fullmatch(environment):
            raise ValueError("must be 1 to 40 lowercase letters, digits, '-' or '_' and not start with 'langfuse'")
        return environment

    @field_validator("mask_keys")
    @classmethod
    def _are_names(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        Masker(keys, ())
        return keys

    @field_validator("mask_patterns")
    @classmethod
    def _can_be_searched(cls, patterns: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        Masker(info.data.get("mask_keys", ()), patterns)
        return patterns

    @property
    def enabled(self) -> bool:
        """True when spans go somewhere."""
        return bool(self.host)
