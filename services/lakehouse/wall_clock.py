"""The wall clock read once and carried on by the monotonic one, so that a step of it turns no order and no duration."""

from __future__ import annotations

import time
from typing import NamedTuple, Self


class ClockAnchor(NamedTuple):
    """One moment on both clocks. What is measured monotonically has its place on the wall clock by it."""

    unix_ns: int
    """Nanoseconds since 1970."""
    monotonic_ns: int
    """Of `time.monotonic_ns`."""

    @classmethod
    def now(cls) -> Self:
        """Return the present moment, in whole microseconds of the wall clock: rows hold no more."""
        return cls(time.time_ns() // 1_000 * 1_000, time.monotonic_ns())

    def unix_ns_at(self, monotonic_ns: int) -> int:
        """Return the wall time of a monotonic one, as if the wall clock had never been set since the anchor."""
        return self.unix_ns + monotonic_ns - self.monotonic_ns

    def unix_ns_now(self) -> int:
        """Return the present wall time, by the same rule."""
        return self.unix_ns_at(time.monotonic_ns())


class StoppedClock(ClockAnchor):
    """Of what is over: the monotonic clock stands at 0 and its beginning lies before that, so that now is its end."""

    @classmethod
    def lasted(cls, unix_ns: int, duration_ns: int) -> Self:
        """Return the clock of what began at `unix_ns`."""
        return cls(unix_ns, -duration_ns)

    def unix_ns_now(self) -> int:
        """Return when it ended."""
        return self.unix_ns_at(0)
