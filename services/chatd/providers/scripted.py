"""Provider type `scripted`: a deterministic stand-in that replays replies from a readable file.

It is no model and says so: its model is called `scripted`, its usage counts words in place of tokens, and where no
reply fits it answers with a sentence that tells that.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import ClassVar, Final

from chatd.completion import Completion, CompletionRequest, Delta, OnDelta, Usage
from chatd.config import ScriptedTable
from chatd.providers.script import Reply, load_script
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason

BUILT_IN_SCRIPT: Final = Path(__file__).with_name("default_script.toml")
MODEL: Final = "scripted"
_NO_REPLY: Final = Reply(
    text="This is the scripted provider, no model: its script has no reply to this conversation. "
    "Configure a provider in chatd, or add a reply to the script."
)
_REFUSALS: Final = frozenset({Reason.PROVIDER_RATE_LIMITED, Reason.PROVIDER_UNREACHABLE})
_MAYBE_BILLED: Final = frozenset({Reason.PROVIDER_FAILED, Reason.PROVIDER_BAD_ANSWER, Reason.PROVIDER_TIMEOUT})


class ScriptedProvider:
    """Replies from one script."""

    calls_upstream: ClassVar[bool] = False

    def __init__(self, table: ScriptedTable) -> None:
        """Raise ConfigError where the script cannot be used."""
        self._script = load_script(table.script or BUILT_IN_SCRIPT)

    async def complete(
        self, request: CompletionRequest, model: str, deadline_s: float, on_delta: OnDelta | None
    ) -> Completion:
        """See ``Provider.complete``. Whatever model was asked for, the answer's model is `scripted`."""
        sent = time.monotonic()
        reply = self._script.reply_to(request) or _NO_REPLY
        if reply.hang:
            # Ends by the deadline of the call, or by its caller.
            await asyncio.get_running_loop().create_future()
        if reply.delay_ms:
            await asyncio.sleep(reply.delay_ms / 1000)
        if reply.error is not None:
            raise UpstreamFault(
                reply.error,
                billed=reply.error in _MAYBE_BILLED,
                repeatable=reply.error in _REFUSALS,
                retry_after_ms=reply.retry_after_ms,
                detail="scripted",
            )
        first_token = time.monotonic()
        if on_delta is not None:
            await _speak(reply, on_delta)
        return Completion(
            text=reply.text,
            reasoning=reply.reasoning,
            model=MODEL,
            usage=_usage(request, reply),
            finish_reason=reply.finish_reason,
            sent=sent,
            first_token=first_token,
        )

    async def close(self) -> None:
        """See ``Provider.close``: nothing is held."""


async def _speak(reply: Reply, on_delta: OnDelta) -> None:
    if reply.reasoning:
        await on_delta(Delta(reasoning=reply.reasoning))
    for word in re.findall(r"\s*\S+|\s+\Z", reply.text):
        await on_delta(Delta(text=word))
        if reply.delta_ms:
            await asyncio.sleep(reply.delta_ms / 1000)


def _usage(request: CompletionRequest, reply: Reply) -> Usage:
    """Whitespace words for tokens, where the script does not say otherwise."""
    words = sum(len(message.content.split()) for message in request.messages)
    answer = len(reply.text.split()) + len(reply.reasoning.split())
    return Usage(
        input_tokens=words if reply.input_tokens is None else reply.input_tokens,
        output_tokens=answer if reply.output_tokens is None else reply.output_tokens,
        cached_input_tokens=reply.cached_input_tokens,
        reasoning_tokens=reply.reasoning_tokens or len(reply.reasoning.split()),
    )
