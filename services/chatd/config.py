"""What an operator can set about chatd: the providers, the routes over them, and the limits."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from chatd.abilities import AbilitiesTable
from chatd.error_rules import ErrorRule
from chatd.prices import PriceTable, read_prices
from lakehouse.near_names import did_you_mean
from lakehouse.server.config import ServerTable
from lakehouse.settings import Milliseconds, Table

# Provider and route names; lower case, since environment variables cannot tell cases apart.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
# Names that say that the value is a secret.
_SECRET_HEADER: Final = re.compile(r"authorization|api-?key|subscription-?key|token|secret|password|cookie")
_RESERVED_BODY_KEYS: Final = ("messages", "model", "stream", "stream_options", "tools", "response_format")
# The provider of a chatd without a configuration.
BUILT_IN_PROVIDER: Final = "scripted"


class RetryTable(Table):
    """When a failed call is repeated. Never later than the caller's deadline, never before a Retry-After."""

    max_retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Repeats of one call, after the first try."""
    budget: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Repeats that the provider's account holds when full: each repeat takes one, so that an outage is not made worse
    by a crowd that knocks again. 0: nothing is ever repeated."""
    budget_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """What each call that succeeds puts back."""
    base_ms: Annotated[int, Field(ge=1, le=60_000)] = 100
    """The wait before repeat n is drawn from 0 to base_ms * 2**n (n from 0), at most cap_ms."""
    cap_ms: Annotated[int, Field(ge=1, le=60_000)] = 5_000
    retry_after_max_ms: Milliseconds = 30_000
    """A longer Retry-After is not waited for: the caller gets it instead."""
    repeat_billed: bool = False
    """Whether calls that may have been billed are repeated as well: 5xx other than 503 and 529, connections that broke
    after the request was sent, silence. For endpoints whose calls cost nothing, such as a model of your own. Never
    after a piece of the answer has gone to the caller."""


class BreakerTable(Table):
    """When a failing endpoint is left alone. One probe ends it once `open_ms` are over."""

    failures: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Failures in a row (unreachable, failed, unreadable, silent) that open the circuit. 0: it never opens."""
    open_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 5_000


class ProviderTable(Table):
    """The settings of every provider."""

    default_model: Annotated[str, Field(max_length=256)] = ""
    """For requests that name no model. Empty: such requests are refused."""
    max_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64
    """HTTP requests in flight; further ones queue."""
    queue_max: Annotated[int, Field(ge=0, le=10_000)] = 256
    """Calls that wait for their turn; beyond it OVERLOADED."""
    queue_ms: Milliseconds = 5_000
    """The longest wait for one's turn; then OVERLOADED."""
    retry: RetryTable = RetryTable()
    breaker: BreakerTable = BreakerTable()
    may_see_candidates: bool | None = None
    """Whether this endpoint is shown what callers mark as restricted: names and ids out of the ground truth. Left out:
    true for the types `scripted` and `replay` and for a `base_url` on this machine without a proxy, else false. Set
    it to false for a gateway on this machine that sends requests on to somebody else."""
    prices: dict[str, PriceTable] = Field(default_factory=dict)
    """By model, as the provider names it or as asked for. Without an entry no cost is stated."""
    prices_file: Path | None = None
    """A table of prices by model, TOML or JSON, read at the start; `prices` stand over it."""

    @property
    def sees_candidates(self) -> bool:
        """`may_see_candidates`, or its default."""
        return self.is_on_this_machine if self.may_see_candidates is None else self.may_see_candidates

    @property
    def is_on_this_machine(self) -> bool:
        """Whether what is sent there leaves this machine by nobody's doing but its own."""
        return True

    @model_validator(mode="after")
    def _readable_prices(self) -> Self:
        read_prices(self.prices, self.prices_file)
        return self


def _endpoint_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:  # raises beyond 65535
        raise ValueError('must be a URL such as "http://127.0.0.1:11434/v1"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password: secrets go into api_key, by environment or file")
    if parts.query or parts.fragment:
        raise ValueError("must not hold a query or a fragment: parameters go into `query`")
    return value.rstrip("/")


def _is_loopback(url: str) -> bool:
    """Whether the host of `url` is 127.0.0.0/8, ::1 or localhost, in those words: what only might be is none."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy_url(value: object) -> object:
    return value if value in ("", "environment") else _endpoint_url(value)


class HttpProviderTable(ProviderTable, AbilitiesTable):
    """The settings of every HTTP endpoint; what it bears of a request (`AbilitiesTable`) has the vendor's defaults."""

    reserved_body_keys: ClassVar[tuple[str, ...]] = ()

    base_url: Annotated[str, BeforeValidator(_endpoint_url)]
    api_key: SecretStr = SecretStr("")
    """By environment only: CHATD_PROVIDERS__<NAME>__API_KEY. Empty: none is sent."""
    api_key_file: Path | None = None
    """File whose text is the key; read at the start, again when it changes, and at a 401."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further request headers, such as OpenAI-Organization. Not for secrets."""
    secret_headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Further request headers that are secret, by environment only, as JSON:
    CHATD_PROVIDERS__<NAME>__SECRET_HEADERS='{"X-Gateway-Token": "..."}'."""
    secret_headers_file: dict[str, Path] = Field(default_factory=dict)
    """Header by header the file whose text is its value, read again as `api_key_file` is."""
    proxy: Annotated[str, BeforeValidator(_proxy_url)] = ""
    """URL of an HTTP proxy. `environment`: what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say. Empty: none,
    whatever the environment says."""
    proxy_user: str = ""
    proxy_password: SecretStr = SecretStr("")
    """By environment, or by `proxy_password_file`."""
    proxy_password_file: Path | None = None
    ca_file: Path | None = None
    """PEM of the authorities that may sign the endpoint's certificate, in place of the system's."""
    models: Annotated[dict[str, AbilitiesTable], Field(max_length=1000)] = Field(default_factory=dict)
    """What single models bear, by the name that is asked for: [chatd.providers.<name>.models."<model>"]."""
    connect_timeout_ms: Annotated[int, Field(ge=1, le=600_000)] = 5_000
    """Name lookup, TCP and TLS together."""
    read_timeout_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 120_000
    """The longest silence of the endpoint: before its first byte and between any two."""
    keepalive_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 4_000
    """How long an idle connection is kept. Shorter than the endpoint keeps it (commonly 5 s and more): a request that
    crosses the endpoint's close fails as possibly billed."""
    json_mode: Literal["none", "json_object", "json_schema"] | None = None
    """What form of an answer the endpoint can be asked for; the most that it can. Left out: json_schema where
    `schema_dialect` is set or the vendor is known to bear schemas, else json_object, for Anthropic's API none."""
    errors: Annotated[tuple[ErrorRule, ...], Field(max_length=100)] = ()
    """What errors of this endpoint mean, in order and before the table in the package, which has the keys and examples
    (providers/upstream_errors.toml)."""

    @property
    def is_on_this_machine(self) -> bool:
        """See ``ProviderTable``: a proxy takes "localhost" for its own machine."""
        return not self.proxy and _is_loopback(self.base_url)

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if _SECRET_HEADER.search(name.lower()):
                raise ValueError(f"{name}: secrets go into api_key or secret_headers (environment), or api_key_file")
            if not _HEADER.fullmatch(name) or not value.isprintable() or not value.isascii():
                raise ValueError(f"{name[:64]!r}: not a usable HTTP header")
        return headers

    @model_validator(mode="after")
    def _check_secrets(self) -> Self:
        if self.proxy_user and self.proxy in {"", "environment"}:
            raise ValueError("proxy_user: is for a `proxy` that is a URL")
        names = [name.lower() for name in (*self.headers, *self.secret_headers, *self.secret_headers_file)]
        for name in (*self.secret_headers, *self.secret_headers_file):
            if not _HEADER.fullmatch(name):
                raise ValueError(f"{name[:64]!r}: not a usable HTTP header")
            if names.count(name.lower()) > 1:
                raise ValueError(f"{name}: is set twice")
        return self

    @model_validator(mode="after")
    def _check_extra_body(self) -> Self:
        tables: tuple[AbilitiesTable, ...] = (self, *self.models.values())
        for table in tables:
            for key in self.reserved_body_keys:
                if key in table.extra_body:
                    raise ValueError(f"extra_body.{key}: is set by chatd")
        return self


class OpenAiTable(HttpProviderTable):
    """Any `/chat/completions` endpoint: OpenAI, Azure, Ollama, vLLM, llama.cpp, OpenRouter, Groq, LiteLLM."""

    reserved_body_keys: ClassVar[tuple[str, ...]] = _RESERVED_BODY_KEYS

    type: Literal["openai"]
    api_style: Literal["openai", "azure"] = "openai"
    """`azure`: `/openai/deployments/{model}/chat/completions` and the header `api-key`."""
    query: dict[str, str] = Field(default_factory=dict)
    """Query parameters, such as Azure's api-version."""
    json_schema_strict: bool = True
    """Sent with a schema that the dialect can say in full: the endpoint must hold the answer to it."""
    stream_usage: bool = True
    """Ask for usage at the end of a stream (`stream_options`); off for endpoints that refuse the field."""


class AnthropicTable(HttpProviderTable):
    """The Messages API."""

    reserved_body_keys: ClassVar[tuple[str, ...]] = (*_RESERVED_BODY_KEYS, "system", "max_tokens")

    type: Literal["anthropic"]
    base_url: Annotated[str, BeforeValidator(_endpoint_url)] = "https://api.anthropic.com"
    version: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] = "2023-06-01"
    """The header `anthropic-version`. From 2026-10-21 on the API refuses temperature and top_p: they are then left out,
    unless `drop` says otherwise."""
    default_max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """The API wants a limit: the one for requests that have none."""
    json_mode: Literal["none", "json_schema"] | None = None

    @property
    def refuses_sampling(self) -> bool:
        """Whether this version of the API refuses temperature and top_p."""
        return self.version >= "2026-10-21"


class ScriptedTable(ProviderTable):
    """A deterministic stand-in that replays replies from a readable file. No model, no network, no key."""

    type: Literal["scripted"]
    default_model: Annotated[str, Field(max_length=256)] = "scripted"
    script: Path | None = None
    """TOML file of replies (`providers/script.py` tells its keys). None: the one in the package, for the demo."""
    retry: RetryTable = RetryTable(max_retries=0)


class ReplayTable(ProviderTable):
    """Answers from the rows of a session log: the model is the id of the recorded session."""

    type: Literal["replay"]
    session_log: Path
    """JSONL file of `session.iterate.v1` rows."""
    retry: RetryTable = RetryTable(max_retries=0)


AnyProviderTable = Annotated[OpenAiTable | AnthropicTable | ScriptedTable | ReplayTable, Field(discriminator="type")]


class TargetTable(Table):
    """An endpoint and a model on it."""

    provider: str
    model: Annotated[str, Field(max_length=256)] = ""
    """Empty: the provider's default model."""


class RouteTable(Table):
    """A name for several targets, tried in order."""

    targets: Annotated[tuple[TargetTable, ...], Field(min_length=1, max_length=8)]


def _built_in() -> dict[str, AnyProviderTable]:
    return {BUILT_IN_PROVIDER: ScriptedTable(type="scripted")}


class ChatdConfig(ServerTable):
    """The table [chatd]."""

    bind: str = "127.0.0.1:50052"
    call_timeout_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 300_000
    """The longest call, whatever the caller's deadline."""
    default_provider: str = ""
    """Provider or route for requests that name none. May be left empty where there is one provider alone."""
    providers: dict[str, AnyProviderTable] = Field(default_factory=_built_in)
    """By name. None configured: one scripted provider, so that the loop runs with no key and no network."""
    routes: dict[str, RouteTable] = Field(default_factory=dict)

    @property
    def default_target(self) -> str:
        """The name that a request without one gets."""
        return self.default_provider or next(iter(self.providers))

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        problems = [
            f"{name[:64]!r}: names are 1-64 of a-z, 0-9, '_' and '-', and start with a letter or digit"
            for name in (*self.providers, *self.routes)
            if not _NAME.fullmatch(name)
        ]
        known = ", ".join(sorted(self.providers)) or "none"
        if not self.providers:
            problems.append("providers: configure at least one, or leave the table out for the scripted one")
        problems += [f"routes.{name}: a provider has this name too" for name in self.routes if name in self.providers]
        for name, route in self.routes.items():
            for target in route.targets:
                provider = self.providers.get(target.provider)
                if provider is None:
                    meant = did_you_mean(target.provider, self.providers)
                    problems.append(f"routes.{name}: no provider {target.provider[:64]!r}; there are: {known}{meant}")
                elif not target.model and not provider.default_model:
                    problems.append(f"routes.{name}: {target.provider} has no default_model: name a model")
        if self.default_provider and self.default_provider not in {*self.providers, *self.routes}:
            meant = did_you_mean(self.default_provider, (*self.providers, *self.routes))
            problems.append(f"default_provider: no provider or route {self.default_provider[:64]!r}{meant}")
        if not self.default_provider and len(self.providers) > 1:
            problems.append(f"default_provider: there are several providers ({known}): name the default")
        if problems:
            raise ValueError("; ".join(problems))
        return self
