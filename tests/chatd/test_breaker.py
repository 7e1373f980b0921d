from __future__ import annotations

import pytest
from campaigns import campaign
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chatd.breaker import MODELS_MAX, Admission, Breaker, Breakers, CircuitOpenError

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


BreakerMachine.TestCase.settings = campaign(30, stateful_step_count=30)
TestBreakerMachine = BreakerMachine.TestCase


# One for each model ---------------------------------------------------------------------------------------------------


def _breakers() -> tuple[Breakers, Clock]:
    clock = Clock()
    return Breakers(FAILURES, OPEN_S, clock), clock


def _fail(breakers: Breakers, model: str, times: int = FAILURES, *, no_connection: bool = False) -> None:
    for _ in range(times):
        breakers.failure(model, breakers.admit(model), no_connection=no_connection)


def test_failures_of_a_model_leave_its_neighbours_alone() -> None:
    breakers, clock = _breakers()
    _fail(breakers, "a")

    with pytest.raises(CircuitOpenError):
        breakers.admit("a")
    breakers.success("b", breakers.admit("b"))
    assert (breakers.opened, breakers.open_now, breakers.models_kept) == (1, 1, 1)

    clock.now += OPEN_S
    probe = breakers.admit("a")
    with pytest.raises(CircuitOpenError):
        breakers.admit("a")
    breakers.success("a", probe)
    assert (breakers.opened, breakers.open_now, breakers.models_kept) == (1, 0, 0)


def test_whoever_reaches_nobody_speaks_for_all_models() -> None:
    breakers, clock = _breakers()
    for model in ("a", "b", "c"):
        _fail(breakers, model, 1, no_connection=True)

    with pytest.raises(CircuitOpenError):
        breakers.admit("d")
    assert (breakers.open_now, breakers.models_kept) == (1, 0)

    clock.now += OPEN_S
    breakers.failure("a", breakers.admit("a"), no_connection=False)
    breakers.success("d", breakers.admit("d"))


def test_a_probe_of_the_host_that_the_model_refuses_is_given_back() -> None:
    breakers, clock = _breakers()
    before = [breakers.admit("a") for _ in range(FAILURES)]
    _fail(breakers, "b", no_connection=True)
    clock.now += OPEN_S - 1
    for admission in before:
        breakers.failure("a", admission, no_connection=False)

    # The host may be probed again, and `a`, which has failed later, may not.
    clock.now += 1
    with pytest.raises(CircuitOpenError):
        breakers.admit("a")

    breakers.success("c", breakers.admit("c"))
    assert breakers.open_now == 1


def test_only_models_with_failures_are_kept_and_not_too_many() -> None:
    breakers, _ = _breakers()
    for number in range(5 * MODELS_MAX):
        breakers.success(f"good-{number}", breakers.admit(f"good-{number}"))
    assert breakers.models_kept == 0

    for number in range(5 * MODELS_MAX):
        _fail(breakers, f"bad-{number}", 1)
    assert breakers.models_kept == MODELS_MAX

    _fail(breakers, "bad-0", FAILURES - 1)
    assert breakers.open_now == 0, "its first failure was forgotten"
    _fail(breakers, "bad-0", 1)
    assert breakers.open_now == 1


def test_no_failures_means_no_memory_of_models() -> None:
    breakers = Breakers(0, OPEN_S, Clock())
    _fail(breakers, "a", 100)

    assert (breakers.models_kept, breakers.open_now) == (0, 0)


class BreakersMachine(RuleBasedStateMachine):
    """Any order of calls of three models: bounded memory, a way back, and counts that only grow."""

    models = st.sampled_from(["a", "b", "c"])

    @initialize()
    def start(self) -> None:
        self.clock = Clock()
        self.breakers = Breakers(FAILURES, OPEN_S, self.clock)
        self.running: list[tuple[str, Admission]] = []
        self.opened = 0

    @rule(model=models)
    def call(self, model: str) -> None:
        try:
            self.running.append((model, self.breakers.admit(model)))
        except CircuitOpenError as refusal:
            assert self.breakers.open_now
            assert 0 < refusal.wait_s <= OPEN_S

    @precondition(lambda self: self.running)
    @rule(first=st.booleans())
    def succeed(self, *, first: bool) -> None:
        self.breakers.success(*self.running.pop(0 if first else -1))

    @precondition(lambda self: self.running)
    @rule(no_connection=st.booleans())
    def fail(self, *, no_connection: bool) -> None:
        self.breakers.failure(*self.running.pop(0), no_connection=no_connection)

    @precondition(lambda self: self.running)
    @rule()
    def leave(self) -> None:
        self.breakers.no_verdict(self.running.pop()[1])

    @rule()
    def wait(self) -> None:
        self.clock.now += OPEN_S / 2

    @invariant()
    def bounded_and_growing(self) -> None:
        breakers = getattr(self, "breakers", None)
        if breakers is not None:
            assert breakers.models_kept <= 3
            assert breakers.opened >= self.opened
            self.opened = breakers.opened

    @precondition(lambda self: not self.running)
    @rule(model=models)
    def after_the_wait_everybody_passes(self, model: str) -> None:
        self.clock.now += OPEN_S
        self.breakers.success(model, self.breakers.admit(model))


BreakersMachine.TestCase.settings = campaign(30, stateful_step_count=40)
TestBreakersMachine = BreakersMachine.TestCase
