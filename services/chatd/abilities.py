"""What a model of an HTTP endpoint bears of a request: by configuration, else by the vendor's defaults.

A vendor is known by the host of `base_url` and by nothing else: the host itself, or a domain that it stands below. The
configuration always wins, key by key: a model's table, then the provider's, then the vendor's default, then
`Abilities()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field
from yarl import URL

from chatd.completion import PLAIN_FORM, Form
from chatd.schemas.dialects import DialectName
from chatd.schemas.put_format import FormAbilities, JsonMode
from lakehouse.settings import Table

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]
Droppable = Literal[
    "temperature", "top_p", "seed", "stop", "max_tokens", "response_format", "stream_options", "tool_choice"
]
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class AbilitiesTable(Table):
    """What an endpoint, or one model on it, bears. A key that is left out is as the next wider table says."""

    drop: tuple[Droppable, ...] | None = None
    """Fields that are left out of every request, since the endpoint refuses them."""
    system_role: bool | None = None
    """false: there is no system role; its text goes in front of the first user turn."""
    max_tokens_field: MaxTokensField | None = None
    """The name of the limit. OpenAI's reasoning models want max_completion_tokens; most other endpoints know max_tokens
    alone."""
    stream_only: bool | None = None
    """true: the endpoint answers by a stream alone; `Complete` then reads one."""
    schema_dialect: DialectName | None = None
    """In which words it is sent JSON Schemas; naming one means that it is sent them. Left out: openai, gemini and
    ollama are known by their hosts and ports, anthropic by the type; others are plain, a schema as it is, and are sent
    it where `json_mode` says so."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, such as reasoning_effort, thinking or cache_control. A model's stand over the
    provider's, key by key."""


class Abilities(NamedTuple):
    """What a model bears, once all tables are read."""

    drop: frozenset[str] = frozenset()
    system_role: bool = True
    form: Form = Form()
    answer_form: FormAbilities = FormAbilities()


# By host. Only what a vendor's own reference says of all its models stands here; what one model refuses is found out.
_VENDORS: Final[Mapping[str, AbilitiesTable]] = {
    "api.openai.com": AbilitiesTable(max_tokens_field="max_completion_tokens", schema_dialect="openai"),
    "openai.azure.com": AbilitiesTable(schema_dialect="openai"),
    "generativelanguage.googleapis.com": AbilitiesTable(schema_dialect="gemini"),
    # Unknown fields are refused there; usage comes unasked.
    "api.mistral.ai": AbilitiesTable(drop=("seed", "stream_options")),
}


_OLLAMA_PORT: Final = 11434
_OLLAMA: Final = AbilitiesTable(schema_dialect="ollama")
# Anthropic's API at whatever host, and from its version 2026-10-21 on.
ANTHROPIC: Final = AbilitiesTable(schema_dialect="anthropic")
NEWER_ANTHROPIC: Final = AbilitiesTable(schema_dialect="anthropic", drop=("temperature", "top_p"))


def abilities_of(
    base_url: str,
    provider: AbilitiesTable,
    model: AbilitiesTable | None,
    *,
    vendor: AbilitiesTable | None = None,
    stream_usage: bool,
    json_mode: JsonMode | None,
    has_json_object: bool,
    strict: bool,
) -> Abilities:
    """Return the abilities by all tables together; `vendor` where it is known by more than its host.

    `json_mode` None: schemas, where the configuration names a dialect or the vendor is known to have JSON of either
    kind; else objects, where `has_json_object`.
    """
    tables = [each for each in (model, provider, vendor or _vendor(base_url)) if each is not None]

    def first(key: str, otherwise: Any) -> Any:
        return next((value for table in tables if (value := getattr(table, key)) is not None), otherwise)

    drop = frozenset(first("drop", ()))
    extra_body = {key: value for table in reversed(tables) for key, value in table.extra_body.items()}
    form = Form(
        max_tokens_field=first("max_tokens_field", "max_tokens"),
        stream=first("stream_only", otherwise=False),
        stream_usage=stream_usage and "stream_options" not in drop,
        extra_body=extra_body or _NOTHING,
    )
    dialect: DialectName | None = first("schema_dialect", None)
    if json_mode is None:
        named = any(each is not None and each.schema_dialect for each in (model, provider))
        otherwise: JsonMode = "json_object" if has_json_object else "none"
        json_mode = "json_schema" if named or (dialect is not None and has_json_object) else otherwise
    answer_form = FormAbilities(json_mode, has_json_object, dialect or "plain", strict)
    # The one object for the usual form: requests have it already.
    form = PLAIN_FORM if form == PLAIN_FORM else form
    return Abilities(drop, first("system_role", otherwise=True), form, answer_form)


def _vendor(base_url: str) -> AbilitiesTable | None:
    url = URL(base_url)
    host = (url.host or "").lower().rstrip(".")
    if url.explicit_port == _OLLAMA_PORT:
        return _OLLAMA
    return next((table for name, table in _VENDORS.items() if host == name or host.endswith(f".{name}")), None)
