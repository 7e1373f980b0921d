"""``Breaker``: leaves what fails alone for a while. ``Breakers``: one for an endpoint, one for each failing model."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

# Callers name models: beyond so many the one whose failure is the longest ago is forgotten.
MODELS_MAX: Final = 256


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

    @property
    def is_blank(self) -> bool:
        """Whether it remembers nothing: no failure, not open."""
        return self._opened_at is None and not self._failures

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
        """Note that the endpoint answered, be it with a refusal of the request."""
        self._failures = 0
        if probe:
            self._probing = False
            self._opened_at = None

    def failure(self, *, probe: bool) -> None:
        """Note that the endpoint failed. A call from before the opening says nothing new."""
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
        """Note that the call ended before the endpoint showed its state."""
        if probe:
            self._probing = False

    def _open(self) -> None:
        self.opened += 1
        self._opened_at = self._clock()
        self._failures = 0


class Admission(NamedTuple):
    """A call that was let pass, and what its end is reported to."""

    model_breaker: Breaker | None
    """None where the model had no failures."""
    model_probe: bool
    connection_probe: bool


# For every call where nothing is amiss.
FREE: Final = Admission(None, model_probe=False, connection_probe=False)


class Breakers:
    """The circuits of one endpoint: one for reaching it at all, and one for each model that has failed.

    Ten failures of one model say nothing of its neighbours; a host that nobody reaches has none. Only models with
    failures are kept, at most MODELS_MAX.
    """

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures_max = failures
        self._open_s = open_s
        self._clock = clock
        self._connection = Breaker(failures, open_s, clock)
        self._models: OrderedDict[str, Breaker] = OrderedDict()
        self.opened = 0
        """How often any of them opened; only grows."""
        self.is_blank = True
        """Whether nothing is remembered of anybody: every call passes as FREE, and its success is no news."""

    @property
    def open_now(self) -> int:
        """How many refuse calls, or only probe, now."""
        return self._connection.is_open + sum(each.is_open for each in self._models.values())

    @property
    def models_kept(self) -> int:
        """Models with failures that are remembered."""
        return len(self._models)

    def admit(self, model: str) -> Admission:
        """Let a call of `model` pass. Raises CircuitOpenError where none passes."""
        if not self._models and not self._connection.is_open:
            return FREE
        connection_probe = self._connection.admit()
        breaker = self._models.get(model)
        if breaker is None:
            return Admission(None, model_probe=False, connection_probe=connection_probe)
        try:
            return Admission(breaker, breaker.admit(), connection_probe)
        except CircuitOpenError:
            self._connection.no_verdict(probe=connection_probe)
            raise

    def success(self, model: str, admission: Admission) -> None:
        """Note that the model answered, be it with a refusal of the request."""
        if admission is FREE and self.is_blank:
            return
        self._connection.success(probe=admission.connection_probe)
        breaker = admission.model_breaker or self._models.get(model)
        if breaker is not None:
            breaker.success(probe=admission.model_probe)
            if breaker.is_blank and self._models.get(model) is breaker:
                del self._models[model]
        self.is_blank = not self._models and self._connection.is_blank

    def failure(self, model: str, admission: Admission, *, no_connection: bool) -> None:
        """Note that the call failed: nobody was reached, or the model failed."""
        self._fail_one(model, admission, no_connection=no_connection)
        self.is_blank = not self._models and self._connection.is_blank

    def _fail_one(self, model: str, admission: Admission, *, no_connection: bool) -> None:
        if no_connection:
            self._fail(self._connection, probe=admission.connection_probe)
            if admission.model_breaker is not None:
                admission.model_breaker.no_verdict(probe=admission.model_probe)
            return
        self._connection.success(probe=admission.connection_probe)
        if not self._failures_max:
            return
        breaker = admission.model_breaker or self._models.get(model)
        if breaker is None:
            breaker = Breaker(self._failures_max, self._open_s, self._clock)
        self._models[model] = breaker
        self._models.move_to_end(model)
        if len(self._models) > MODELS_MAX:
            self._models.popitem(last=False)
        self._fail(breaker, probe=admission.model_probe)

    def no_verdict(self, admission: Admission) -> None:
        """Note that the call ended before the endpoint showed its state."""
        self._connection.no_verdict(probe=admission.connection_probe)
        if admission.model_breaker is not None:
            admission.model_breaker.no_verdict(probe=admission.model_probe)

    def _fail(self, breaker: Breaker, *, probe: bool) -> None:
        before = breaker.opened
        breaker.failure(probe=probe)
        self.opened += breaker.opened - before
