"""``Breaker``: leaves a failing endpoint alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitOpenError(Exception):
    """The circuit lets no call pass now."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"open for {wait_s:.3f} s")
        self.wait_s = wait_s


class Breaker:
    """Closed, open, or half open: three states of one circuit.

    Closed: all calls pass; `failures` in a row open it. Open: none passes for `open_s`. Then half open: one call at a
    time passes as a probe; its success closes the circuit, its failure opens it anew, and a probe that ends without
    saying either (the caller went away) leaves the place to the next. Every admitted call reports its end once, by
    `success`, `failure` or `no_verdict`, with what `admit` gave it.
    """

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures_max = failures
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False
        self.opened = 0
        """How often it opened; only grows."""

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, or only probed, now."""
        return self._opened_at is not None

    def admit(self) -> bool:
        """Let a call pass; True where it is a probe. Raises CircuitOpenError where none passes."""
        if self._opened_at is None:
            return False
        left = self._opened_at + self._open_s - self._clock()
        if left > 0 or self._probing:
            raise CircuitOpenError(max(left, self._open_s if self._probing else 0))
        self._probing = True
        return True

    def success(self, *, probe: bool) -> None:
        """The endpoint answered, be it with a refusal of the request."""
        self._failures = 0
        if probe:
            self._probing = False
            self._opened_at = None

    def failure(self, *, probe: bool) -> None:
        """The endpoint failed. A call from before the opening says nothing new."""
        if probe:
            self._probing = False
            self._open()
            return
        if self._opened_at is not None:
            return
        self._failures += 1
        if self._failures_max and self._failures >= self._failures_max:
            self._open()

    def no_verdict(self, *, probe: bool) -> None:
        """The call ended before the endpoint showed its state."""
        if probe:
            self._probing = False

    def _open(self) -> None:
        self.opened += 1
        self._opened_at = self._clock()
        self._failures = 0
