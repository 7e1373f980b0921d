"""The arithmetic of the tables: intervals of proportions, and what choosing by chance would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_Z_95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `of`."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """From 0 to 1; NaN of none."""
        return self.hits / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at 95 %; all of 0 to 1 where there is none to count."""
        if not self.of:
            return 0.0, 1.0
        z2 = _Z_95 * _Z_95
        middle = (self.hits + z2 / 2) / (self.of + z2)
        reach = _Z_95 / (self.of + z2) * math.sqrt(self.hits * (self.of - self.hits) / self.of + z2 / 4)
        # At its ends rounding would leave a trace of 1e-17.
        low = 0.0 if self.hits == 0 else max(middle - reach, 0.0)
        high = 1.0 if self.hits == self.of else min(middle + reach, 1.0)
        return low, high

    def __str__(self) -> str:
        """Such as `11 of 12, 92 % (65 to 99)`."""
        if not self.of:
            return "none"
        low, high = self.interval
        return f"{self.hits} of {self.of}, {self.value:.0%} ({low * 100:.0f} to {high * 100:.0f})".replace("%", " %")


def chance(meets: Sequence[bool], slots: int) -> float:
    """Return the share of chosen candidates that would meet a wish if each choice were drawn blindly among those
    offered.

    `meets` says of each candidate, in the order offered, whether it meets the wish. `slots` is how many slots the
    candidates are dealt to by turns, one choice from each; 1 where every choice is among all.
    """
    shares = [_mean(meets[at::slots]) for at in range(slots)]
    return _mean(shares)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
