"""Goal: nobody gets more than its budget and what it has in flight, at whatever times things happen.

Method: a clock of the test's own; a state machine that begins, charges and ends sessions and lets time pass, beside a
model that only adds up.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from lakehouse.errors import Fault, Reason
from lakehouse.server.callers.budgets import DAY_S, Budgets, Reservation, Spent
from lakehouse.server.callers.policy import Policy

NOON = 20_000.5 * DAY_S


@dataclass
class Clock:
    """Wall and monotonic clock at once."""

    s: float = NOON

    def __call__(self) -> float:
        return self.s


def budgets_of(clock: Clock) -> Budgets:
    return Budgets(now_s=clock, monotonic_s=clock)


def refusal(budgets: Budgets, policy: Policy) -> Fault:
    with pytest.raises(Fault) as caught:
        budgets.reserve("a", policy)
    assert caught.value.reason is Reason.CALLER_QUOTA
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    return caught.value


def test_of_64_sessions_at_once_as_many_run_as_are_allowed_in_flight() -> None:
    budgets, policy = budgets_of(Clock()), Policy(sessions_in_flight=10)
    running: list[Reservation] = []
    refused = 0
    for _ in range(64):
        try:
            running.append(budgets.reserve("a", policy))
        except Fault:
            refused += 1

    assert (len(running), refused) == (10, 54)
    running.pop().end()
    running.append(budgets.reserve("a", policy))
    assert refusal(budgets, policy).metadata["limit"] == "sessions_in_flight"


def test_of_64_sessions_at_once_on_a_day_of_10_tokens_one_runs() -> None:
    budgets, policy = budgets_of(Clock()), Policy(tokens_per_day=10)
    first = budgets.reserve("a", policy)
    for _ in range(63):
        assert refusal(budgets, policy).retry_delay_ms == 1000
    first.charge(900, None)
    first.end()

    fault = refusal(budgets, policy)

    assert fault.metadata["limit"] == "tokens_per_day"
    assert fault.retry_delay_ms == DAY_S // 2 * 1000 + 1, "the day ends in twelve hours"
    assert budgets.spent_today("a") == Spent(900, 0), "what the one in flight used, and no more"


def test_sessions_run_beside_one_another_as_long_as_the_day_has_room_for_what_they_hold() -> None:
    budgets, policy = budgets_of(Clock()), Policy(nano_usd_per_day=100, session_nano_usd_reserved=30)
    running = [budgets.reserve("a", policy) for _ in range(3)]
    refusal(budgets, policy)
    for each in running:
        each.charge(10, 5)
        each.end()

    assert budgets.spent_today("a") == Spent(30, 15)
    assert len([budgets.reserve("a", policy) for _ in range(2)]) == 2


def test_a_session_whose_callers_day_is_spent_makes_no_further_model_call() -> None:
    clock = Clock()
    budgets, policy = budgets_of(clock), Policy(tokens_per_day=100, session_tokens_reserved=10)
    one, other = budgets.reserve("a", policy), budgets.reserve("a", policy)
    other.charge(99, None)
    assert not one.is_spent()
    other.charge(1, None)
    assert one.is_spent()
    clock.s += DAY_S
    assert not one.is_spent(), "another day"


def test_a_minute_holds_no_more_sessions_than_allowed_and_says_when_there_is_room() -> None:
    clock = Clock()
    budgets, policy = budgets_of(clock), Policy(sessions_per_minute=2)
    budgets.reserve("a", policy).end()
    clock.s += 40
    budgets.reserve("a", policy).end()
    assert refusal(budgets, policy).retry_delay_ms == 20_001
    clock.s += 20.001
    budgets.reserve("a", policy).end()
    assert refusal(budgets, policy).retry_delay_ms is not None


def test_a_day_ends_at_midnight_utc_and_a_clock_set_back_gives_nothing_back() -> None:
    clock = Clock(20_000 * DAY_S + DAY_S - 1)
    budgets, policy = budgets_of(clock), Policy(tokens_per_day=10)
    session = budgets.reserve("a", policy)
    session.charge(10, None)
    session.end()
    refusal(budgets, policy)
    clock.s += 1
    budgets.reserve("a", policy).charge(10, None)
    clock.s -= 60
    refusal(budgets, policy)


def test_use_that_was_read_before_midnight_counts_for_nothing_after_it() -> None:
    clock = Clock(20_001 * DAY_S - 1)
    budgets, policy = budgets_of(clock), Policy(tokens_per_day=10)
    clock.s += 2
    budgets.restore({"a": Spent(10, 0)}, 20_000)
    budgets.reserve("a", policy)
    budgets.restore({"a": Spent(10, 0)}, 20_001)
    refusal(budgets, policy)


def test_a_clock_that_ran_far_ahead_holds_nobody_beyond_the_next_midnight() -> None:
    clock = Clock()
    budgets, policy = budgets_of(clock), Policy(tokens_per_day=10)
    clock.s += 400 * DAY_S
    session = budgets.reserve("a", policy)
    session.charge(10, None)
    session.end()
    clock.s -= 400 * DAY_S
    refusal(budgets, policy)
    clock.s += DAY_S / 2
    budgets.reserve("a", policy)


def test_accounts_are_forgotten_when_their_day_is_over_and_never_before() -> None:
    clock = Clock()
    budgets = budgets_of(clock)
    idle, minute = Policy(tokens_per_day=10), Policy(sessions_per_minute=1)
    running = budgets.reserve("running", idle)
    budgets.reserve("idle", idle).end()
    clock.s += DAY_S / 2 - 1
    budgets.reserve("of this minute", minute).end()
    clock.s += 2
    budgets.reserve("another", idle)
    assert set(budgets.accounts()) == {"running", "of this minute", "another"}
    running.end()
    with pytest.raises(Fault):
        budgets.reserve("of this minute", minute)


def test_a_restart_in_the_middle_of_the_day_gives_nobody_a_second_budget() -> None:
    clock, policy = Clock(), Policy(tokens_per_day=10, nano_usd_per_day=10)
    restarted = budgets_of(clock)
    restarted.restoring = True
    assert refusal(restarted, policy).metadata["limit"] == "restoring"
    assert restarted.reserve("b", Policy(sessions_in_flight=1)), "who has no day's budget does not wait"
    restarted.restore({"a": Spent(10, 0)})
    restarted.restoring = False

    assert refusal(restarted, policy).metadata["limit"] == "tokens_per_day"


def test_what_has_no_known_price_costs_nothing_and_is_counted() -> None:
    budgets, policy = budgets_of(Clock()), Policy(nano_usd_per_day=10)
    session = budgets.reserve("a", policy)
    session.charge(5, None)

    assert budgets.spent_today("a") == Spent(5, 0)
    assert budgets.unpriced == 1


def test_ending_a_session_twice_gives_back_once() -> None:
    budgets, policy = budgets_of(Clock()), Policy(sessions_in_flight=1)
    session = budgets.reserve("a", policy)
    session.end()
    session.end()
    budgets.reserve("a", policy)
    refusal(budgets, policy)


@given(
    limit=st.integers(1, 50),
    hold=st.integers(1, 20),
    spent=st.integers(0, 60),
    uses=st.lists(st.integers(0, 40), min_size=64, max_size=64),
)
@settings(max_examples=200, deadline=None)
def test_64_at_once_pass_a_day_by_no_more_than_what_those_that_run_use_beyond_what_they_hold(
    limit: int, hold: int, spent: int, uses: list[int]
) -> None:
    budgets, policy = budgets_of(Clock()), Policy(tokens_per_day=limit, session_tokens_reserved=hold)
    budgets.restore({"a": Spent(spent, 0)})
    running: list[tuple[Reservation, int]] = []
    for use in uses:
        with contextlib.suppress(Fault):
            running.append((budgets.reserve("a", policy), use))
    for session, use in running:
        session.charge(use, None)

    beyond = sum(max(use - hold, 0) for _, use in running)
    alone = max(hold - (limit - spent), 0) if len(running) == 1 else 0
    assert budgets.spent_today("a").tokens <= max(limit, spent) + beyond + alone
    assert bool(running) == (spent < limit)


class Sessions(RuleBasedStateMachine):
    """Sessions begin, use and end in any order; every one makes any number of calls while its day is not spent."""

    running = Bundle("running")

    @initialize(
        limit=st.integers(1, 100), hold=st.integers(1, 30), in_flight=st.integers(1, 5), minute=st.integers(1, 6)
    )
    def begin_day(self, limit: int, hold: int, in_flight: int, minute: int) -> None:
        self.clock = Clock()
        self.budgets = budgets_of(self.clock)
        self.policy = Policy(
            tokens_per_day=limit,
            session_tokens_reserved=hold,
            sessions_in_flight=in_flight,
            sessions_per_minute=minute,
        )
        self.begun: list[float] = []
        self.open = 0
        self.spent = 0
        self.calling: list[Reservation] = []
        self.day = self.clock.s // DAY_S

    def roll(self) -> None:
        if self.clock.s // DAY_S > self.day:
            self.day, self.spent = self.clock.s // DAY_S, 0

    @rule(target=running)
    def reserve(self) -> Reservation | None:
        self.roll()
        recent = [each for each in self.begun if each > self.clock.s - 60]
        try:
            session = self.budgets.reserve("a", self.policy)
        except Fault as fault:
            assert fault.retry_delay_ms is not None
            assert 0 < fault.retry_delay_ms <= DAY_S * 1000 + 1
            return None
        assert self.policy.sessions_in_flight is not None
        assert self.policy.sessions_per_minute is not None
        assert self.policy.tokens_per_day is not None
        assert self.open < self.policy.sessions_in_flight
        assert len(recent) < self.policy.sessions_per_minute
        assert self.spent < self.policy.tokens_per_day
        self.begun.append(self.clock.s)
        self.open += 1
        return session

    @rule(session=running)
    def begin_call(self, session: Reservation | None) -> None:
        self.roll()
        if session is None or session in self.calling or session.is_spent():
            return
        assert self.policy.tokens_per_day is not None
        assert self.spent < self.policy.tokens_per_day
        self.calling.append(session)

    @rule(tokens=st.integers(0, 40))
    def end_call(self, tokens: int) -> None:
        self.roll()
        if self.calling:
            self.calling.pop(0).charge(tokens, None)
            self.spent += tokens

    @rule(session=consumes(running))
    def end(self, session: Reservation | None) -> None:
        if session is not None:
            self.calling = [each for each in self.calling if each is not session]
            session.end()
            self.open -= 1

    @rule(seconds=st.sampled_from([0.0, 1.0, 59.0, 61.0, 7 * 3600.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.s += seconds

    @invariant()
    def what_was_used_is_known_and_bounded(self) -> None:
        if not hasattr(self, "budgets"):
            return
        self.roll()
        assert self.budgets.spent_today("a").tokens == self.spent
        assert self.budgets.in_flight("a") == self.open
        # Only the calls that were running when the limit was reached pass it: none begins after that.
        assert self.policy.tokens_per_day is not None
        assert self.policy.sessions_in_flight is not None
        assert self.spent <= self.policy.tokens_per_day + 40 * self.policy.sessions_in_flight


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
