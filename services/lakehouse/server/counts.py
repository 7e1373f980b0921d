"""What the event loop counts and an exposition reads: plain numbers by label values, bounded in number.

Counting takes no lock and makes an object only where label values come for the first time. A scrape, which runs in a
thread of its own, copies each dictionary in one step of the interpreter.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
LIMITS: Final = [f"{limit:.1f}" if limit == int(limit) else str(limit) for limit in SECONDS] + ["+Inf"]
SERIES_MAX: Final = 100
OTHER: Final = "other"
"""The label value of all that came after the first `SERIES_MAX`."""


@dataclass(slots=True)
class Durations:
    """How long something took: fixed buckets."""

    seconds: float = 0.0
    """All of them together."""
    within: list[int] = field(default_factory=lambda: [0] * len(LIMITS))
    """How many took up to each limit and longer than the one before it."""

    def add(self, seconds: float) -> None:
        """Count one."""
        self.seconds += seconds
        self.within[bisect_left(SECONDS, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """As an exposition has them: each holds the ones below it."""
        return list(zip(LIMITS, accumulate(list(self.within)), strict=True))


class Series:
    """One number for each tuple of label values; beyond the first 100 tuples all are one, `other`.

    For labels whose values come from outside, such as a model's name: whoever invents names fills no memory.
    """

    __slots__ = ("_other", "values")

    def __init__(self, labels: int) -> None:
        self._other = (OTHER,) * labels
        self.values: dict[tuple[str, ...], float] = {}

    def add(self, labels: tuple[str, ...], amount: float = 1) -> None:
        """Add `amount` to the number of `labels`."""
        values = self.values
        if labels not in values and len(values) >= SERIES_MAX:
            labels = self._other
        values[labels] = values.get(labels, 0) + amount
