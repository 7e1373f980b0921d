from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chatd.breaker import Breaker, CircuitOpenError

FAILURES = 3
OPEN_S = 5.0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _opened() -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(FAILURES, OPEN_S, clock)
    for _ in range(FAILURES):
        breaker.failure(probe=breaker.admit())
    return breaker, clock


def test_failures_in_a_row_open_it_and_say_for_how_long() -> None:
    breaker, clock = _opened()
    clock.now += 2

    with pytest.raises(CircuitOpenError) as caught:
        breaker.admit()

    assert caught.value.wait_s == pytest.approx(OPEN_S - 2)
    assert breaker.opened == 1


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(FAILURES, OPEN_S, Clock())
    for _ in range(4):
        for _ in range(FAILURES - 1):
            breaker.failure(probe=breaker.admit())
        breaker.success(probe=breaker.admit())

    assert not breaker.is_open


@pytest.mark.parametrize("end", ["success", "failure", "no_verdict"])
def test_one_probe_at_a_time_decides(end: str) -> None:
    breaker, clock = _opened()
    clock.now += OPEN_S
    assert breaker.admit()
    with pytest.raises(CircuitOpenError):
        breaker.admit()

    getattr(breaker, end)(probe=True)

    if end == "success":
        assert not breaker.admit()
    elif end == "failure":
        with pytest.raises(CircuitOpenError):
            breaker.admit()
        assert breaker.opened == 2
    else:
        assert breaker.admit()


def test_calls_from_before_the_opening_do_not_prolong_it() -> None:
    breaker, clock = _opened()
    clock.now += OPEN_S - 1
    breaker.failure(probe=False)
    clock.now += 1

    assert breaker.admit()


def test_zero_failures_means_never() -> None:
    breaker = Breaker(0, OPEN_S, Clock())
    for _ in range(1000):
        breaker.failure(probe=breaker.admit())

    assert not breaker.is_open


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls, ends and waits: never two probes, never refused for longer than open_s."""

    @initialize()
    def start(self) -> None:
        self.clock = Clock()
        self.breaker = Breaker(FAILURES, OPEN_S, self.clock)
        self.running: list[bool] = []

    @rule()
    def call(self) -> None:
        try:
            self.running.append(self.breaker.admit())
        except CircuitOpenError as refusal:
            assert self.breaker.is_open
            assert 0 < refusal.wait_s <= OPEN_S

    @precondition(lambda self: self.running)
    @rule()
    def succeed(self) -> None:
        self.breaker.success(probe=self.running.pop(0))

    @precondition(lambda self: self.running)
    @rule()
    def fail(self) -> None:
        self.breaker.failure(probe=self.running.pop(0))

    @precondition(lambda self: self.running)
    @rule()
    def leave(self) -> None:
        self.breaker.no_verdict(probe=self.running.pop())

    @rule()
    def wait(self) -> None:
        self.clock.now += OPEN_S / 2

    @invariant()
    def one_probe_at_most(self) -> None:
        assert sum(getattr(self, "running", ())) <= 1

    @precondition(lambda self: not any(self.running))
    @rule()
    def after_the_wait_somebody_passes(self) -> None:
        self.clock.now += OPEN_S
        self.running.append(self.breaker.admit())


BreakerMachine.TestCase.settings = settings(derandomize=True, max_examples=50, stateful_step_count=30)
TestBreakerMachine = BreakerMachine.TestCase
