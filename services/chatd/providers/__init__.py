"""The kinds of model endpoints, one file each; ``type`` in the configuration names the kind.

`http`, `sse`, `json_text`, `answer_parts` and `upstream_errors` are what the two HTTP kinds share.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from chatd.config import AnthropicTable, OpenAiTable, ProviderTable, ReplayTable, ScriptedTable
from chatd.provider import Provider

# A new kind: a table in ``chatd.config``, a file here, a line here. It is imported where it is configured: an HTTP
# client alone takes a third of a start.
_KINDS: Final[Mapping[type[ProviderTable], tuple[str, str]]] = {
    OpenAiTable: ("openai", "OpenAiProvider"),
    AnthropicTable: ("anthropic", "AnthropicProvider"),
    ScriptedTable: ("scripted", "ScriptedProvider"),
    ReplayTable: ("replay", "ReplayProvider"),
}


def open_provider(table: ProviderTable) -> Provider:
    """Return the provider that `table` describes; to be called inside a running event loop.

    Raises ConfigError where a file that it names (key, script, session log) cannot be used.
    """
    module, name = _KINDS[type(table)]
    provider: Provider = getattr(import_module(f"{__name__}.{module}"), name)(table)
    return provider
