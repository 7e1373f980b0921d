"""The kinds of model endpoints, one file each; ``type`` in the configuration names the kind.

`http`, `sse`, `json_text`, `answer_parts` and `upstream_errors` are what the two HTTP kinds share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from chatd.config import AnthropicTable, OpenAiTable, ProviderTable, ReplayTable, ScriptedTable
from chatd.provider import Provider
from chatd.providers.anthropic import AnthropicProvider
from chatd.providers.openai import OpenAiProvider
from chatd.providers.replay import ReplayProvider
from chatd.providers.scripted import ScriptedProvider

# A new kind: a table in ``chatd.config``, a file here, a line here.
_KINDS: Final[Mapping[type[ProviderTable], Callable[[Any], Provider]]] = {
    OpenAiTable: OpenAiProvider,
    AnthropicTable: AnthropicProvider,
    ScriptedTable: ScriptedProvider,
    ReplayTable: ReplayProvider,
}


def open_provider(table: ProviderTable) -> Provider:
    """Return the provider that `table` describes; to be called inside a running event loop.

    Raises ConfigError where a file that it names (key, script, session log) cannot be used.
    """
    return _KINDS[type(table)](table)
