"""``Task``: what one session is asked to do, after its arguments were checked."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final, Literal, get_args

from iterate.spec import Spec

Grounding = Literal["none", "form", "candidates"]
"""What the model gets to know before it answers."""
GROUNDINGS: Final[tuple[Grounding, ...]] = get_args(Grounding)
"""From the least to the most."""


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """Who is asked: a provider or route of chatd and a model on it; empty strings are chatd's defaults."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    session_id: str
    kind: str
    spec: Spec
    prompt: str
    grounding: Grounding = "none"
    target: ModelTarget
    escalation: tuple[ModelTarget, ...] = ()
    """Who answers attempt 2, 3, …; the last one answers all that follow."""
    max_iterations: int
    temperature: float | None = None
    max_tokens: int | None = None
    caller: str | None = None
    """Who asks, where callers are known."""
    request_digest: str | None = None
    """Of the request as it was sent, where its caller gave the id; None where the id is ours."""
    try_number: int = 1
    """Which use of its id the session is."""

    def target_of(self, turn: int) -> ModelTarget:
        """Whose turn the `turn`-th is (from 1): that of attempt `turn`, unless a target was passed over."""
        if turn == 1 or not self.escalation:
            return self.target
        return self.escalation[min(turn - 2, len(self.escalation) - 1)]

    def fallbacks_of(self, turn: int) -> tuple[ModelTarget, ...]:
        """Who answers in the `turn`-th turn where its target cannot: those whose turn would come after it."""
        return self.escalation[turn - 1 :]

    def turn_of_another(self, turn: int) -> int | None:
        """Return the first turn after `turn` that is another target's; None where all that follow are the same
        one's."""
        present = self.target_of(turn)
        later = range(turn + 1, len(self.escalation) + 2)
        return next((each for each in later if self.target_of(each) != present), None)


def new_session_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits, so that ids sort by
    time."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
