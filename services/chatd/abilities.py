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
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, such as reasoning_effort, thinking or cache_control. A model's stand over the
    provider's, key by key."""


class Abilities(NamedTuple):
    """What a model bears, once all tables are read."""

    drop: frozenset[str] = frozenset()
    system_role: bool = True
    form: Form = Form()


# By host. Only what a vendor's own reference says of all its models stands here; what one model refuses is found out.
_VENDORS: Final[Mapping[str, AbilitiesTable]] = {
    "api.openai.com": AbilitiesTable(max_tokens_field="max_completion_tokens"),
    # Unknown fields are refused there; usage comes unasked.
    "api.mistral.ai": AbilitiesTable(drop=("seed", "stream_options")),
}


# Anthropic's API from its version 2026-10-21 on, at whatever host.
NEWER_ANTHROPIC: Final = AbilitiesTable(drop=("temperature", "top_p"))


def abilities_of(
    base_url: str,
    provider: AbilitiesTable,
    model: AbilitiesTable | None,
    *,
    vendor: AbilitiesTable | None = None,
    stream_usage: bool,
) -> Abilities:
    """The abilities by all tables together; `vendor` where it is known by more than its host."""
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
    # The one object for the usual form: requests have it already.
    return Abilities(drop, first("system_role", otherwise=True), PLAIN_FORM if form == PLAIN_FORM else form)


def _vendor(base_url: str) -> AbilitiesTable | None:
    host = (URL(base_url).host or "").lower().rstrip(".")
    return next((table for name, table in _VENDORS.items() if host == name or host.endswith(f".{name}")), None)
