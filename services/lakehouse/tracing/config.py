"""What an operator can set about tracing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """Where the traces go, what they show and how much may wait.

    Tracing is on when `host`, `public_key` and `secret_key` are all set.

    Attributes:
        host: Langfuse's base URL, for example `https://cloud.langfuse.com`.
        public_key, secret_key: The keys of a Langfuse project.
        environment: 1 to 40 of `[a-z0-9_-]`, not starting with `langfuse`; "" leaves it out.
        release: A version of the deployment, at most 200 characters; "" leaves it out.
        sample_rate: The share of traces that is recorded, 0 to 1. The trace id decides, so that three processes
            with the same rate agree.
        mask_keys: Names of JSON members, in any case, whose values are never captured.
        mask_patterns: What is never captured wherever it stands; see `mask_pattern.compile_mask_pattern`.
        capture_bytes_max: The longest input, output or other text captured, in bytes of UTF-8; a longer one is
            cut, and a mark says so.
        compression: `gzip` costs about as much as encoding the spans. `auto` is `none` for `http://`, which
            stays within a private network, and `gzip` for `https://`.
        queue_spans_max, queue_bytes_max: How many ended spans, and how much of their text in memory, may wait
            to be sent. Past either the newest span is dropped and counted.
        queue_scores_max: How many sessions' scores may wait to be sent.
        flush_spans: The most spans in one request.
        flush_interval_ms: How long an ended span or a score waits for company.
        timeout_ms: The most one request, with its repeats, may take.
        shutdown_ms: The most `Tracing.close` may take.
    """

    host: str = ""
    public_key: str = ""
    secret_key: str = field(default="", repr=False)
    environment: str = ""
    release: str = ""
    sample_rate: float = 1.0
    mask_keys: tuple[str, ...] = DEFAULT_MASK_KEYS
    mask_patterns: tuple[str, ...] = DEFAULT_MASK_PATTERNS
    capture_bytes_max: int = 65_536
    compression: Literal["auto", "gzip", "none"] = "auto"
    queue_spans_max: int = 4_096
    queue_bytes_max: int = 33_554_432
    queue_scores_max: int = 1_024
    flush_spans: int = 256
    flush_interval_ms: int = 1_000
    timeout_ms: int = 5_000
    shutdown_ms: int = 2_000

    def __post_init__(self) -> None:
        """Raises ValueError that names every setting which is wrong."""
        problems: list[str] = []
        if self.host:
            problems.extend(_host_problems(self.host))
        if self.environment and not _ENVIRONMENT.fullmatch(self.environment):
            problems.append(
                "environment must be 1 to 40 lowercase letters, digits, '-' or '_' and not start with 'langfuse'"
            )
        if len(self.release) > 200:
            problems.append("release must be at most 200 characters")
        if not 0.0 <= self.sample_rate <= 1.0:
            problems.append("sample_rate must be between 0 and 1")
        if self.compression not in ("auto", "gzip", "none"):
            problems.append("compression must be 'auto', 'gzip' or 'none'")
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not least <= value <= most:
                problems.append(f"{name} must be between {least} and {most}")
        try:
            Masker(self.mask_keys, self.mask_patterns)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("tracing: " + "; ".join(problems))

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that tracing still needs; empty when it is on."""
        return tuple(name for name in ("host", "public_key", "secret_key") if not getattr(self, name))


_RANGES: Final = (
    ("capture_bytes_max", 256, 1_048_576),
    ("queue_spans_max", 1, 1_000_000),
    ("queue_bytes_max", 65_536, 2_147_483_648),
    ("queue_scores_max", 1, 100_000),
    ("flush_spans", 1, 2_048),
    ("flush_interval_ms", 10, 60_000),
    ("timeout_ms", 50, 60_000),
    ("shutdown_ms", 0, 60_000),
)


def _host_problems(host: str) -> list[str]:
    try:
        url = urlsplit(host)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid or url.username or url.query or url.fragment:
        return ["host must be a URL such as https://langfuse.example.com, without keys or a query"]
    return []
