"""``Limits``: what bounds a session and what it does at its forks, from the configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of every session alike; ``config`` explains each."""

    chat_ms_min: int
    validate_ms_max: int
    session_tokens_max: int
    """0: none."""
    artifact_bytes_max: int
    context_bytes_max: int
    brief_ms_max: int = 1000
    candidates_max: int = 50
    asks_infeasible: bool = False
    """Whether a model is asked although no artifact can pass."""
    stops_repeats: bool = False
    """Whether an answer that came again passes over the rest of its target's attempts."""
