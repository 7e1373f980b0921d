"""``Task``: what one session is asked to do, after its arguments were checked."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from lakehouse.server.specs import Spec


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """Who is asked: a provider or route of chatd and a model on it; empty strings are chatd's defaults."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    session_id: str
    spec: Spec
    prompt: str
    target: ModelTarget
    escalation: tuple[ModelTarget, ...] = ()
    """Who answers attempt 2, 3, …; the last one answers all that follow."""
    max_iterations: int
    temperature: float | None = None
    max_tokens: int | None = None

    @property
    def kind(self) -> str:
        return self.spec.kind

    def target_of(self, iteration: int) -> ModelTarget:
        """Who answers attempt `iteration` (from 1)."""
        if iteration == 1 or not self.escalation:
            return self.target
        return self.escalation[min(iteration - 2, len(self.escalation) - 1)]

    def fallbacks_of(self, iteration: int) -> tuple[ModelTarget, ...]:
        """Who answers attempt `iteration` where its target cannot: those whose turn would come after it."""
        return self.escalation[iteration - 1 :]


def new_session_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits, so that ids sort by time."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
