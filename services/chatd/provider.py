"""``Provider``: what every kind of model endpoint is to the rest of chatd. One small protocol, one call."""

from __future__ import annotations

from typing import ClassVar, Protocol

from chatd.completion import Completion, CompletionRequest, OnDelta


class Provider(Protocol):
    """One configured endpoint. Kinds stand in ``chatd.providers``."""

    calls_upstream: ClassVar[bool]
    """Whether `complete` makes an HTTP request: exactly one, or none."""

    async def complete(
        self, request: CompletionRequest, model: str, deadline_s: float, on_delta: OnDelta | None
    ) -> Completion:
        """Ask `model` once, without repeating anything.

        With `on_delta` the answer is streamed and each piece is handed over before the next is read; the pieces
        together are the answer's text and reasoning. The caller cancels at `deadline_s` (time.monotonic); a
        cancelled call has closed its connection when it ends.

        Raises UpstreamFault for everything that can go wrong out there, and lets through what `on_delta` raises.
        """
        ...

    async def close(self) -> None:
        """Give back what is held. No call may be running."""
        ...
