from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.retry import RetryBudget, backoff_ms, read_retry_after_ms


@settings(derandomize=True, max_examples=200)
@given(st.integers(0, 10), st.floats(0, 1), st.integers(1, 1000), st.integers(1, 5000))
def test_the_wait_is_jitter_below_a_cap(retry: int, drawn: float, base_ms: int, cap_ms: int) -> None:
    wait_ms = backoff_ms(retry, base_ms=base_ms, cap_ms=cap_ms, draw=lambda: drawn)

    assert 0 <= wait_ms <= min(cap_ms, base_ms * 2**retry)


@settings(derandomize=True, max_examples=100)
@given(st.integers(0, 10), st.floats(0, 1), st.integers(0, 60_000))
def test_the_wait_is_never_before_a_retry_after(retry: int, drawn: float, asked_ms: int) -> None:
    wait_ms = backoff_ms(retry, base_ms=100, cap_ms=5000, retry_after_ms=asked_ms, draw=lambda: drawn)

    assert asked_ms <= wait_ms <= asked_ms + 100


@pytest.mark.parametrize(
    ("headers", "expected_ms"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2000),
        ({"Retry-After": "0.5"}, 500),
        ({"retry-after-ms": "120", "Retry-After": "9"}, 120),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "9" * 30}, None),
        ({"Retry-After": "99999999"}, 24 * 3600 * 1000),
        ({"Retry-After": "Mon, 99 Foo 2026 25:61:00 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_retry_after_is_read_as_endpoints_write_it(headers: dict[str, str], expected_ms: int | None) -> None:
    assert read_retry_after_ms(headers) == expected_ms


@pytest.mark.parametrize(
    ("words", "expected_ms"),
    [
        ("Please try again in 7.66s. Visit x.", 7660),
        ("Please try again in 120ms.", 120),
        ("try again in 1h12m3.5s", 4_323_500),
        ("Please try again in 3m30.816s.", 210_816),
        ("Please retry in 36.6004s.", 36_600),
        ("Please retry after 20 seconds.", 20_000),
        ("Please wait 40000 seconds before retrying.", 40_000_000),
        ("Try again in 2 minutes", 120_000),
        ("try again in 99999h", 24 * 3600 * 1000),
        ("try again in a while", None),
        ("again in 5 something", None),
        ("it took 7.66s", None),
        ("", None),
    ],
)
def test_a_wait_may_stand_in_the_words(words: str, expected_ms: int | None) -> None:
    assert read_retry_after_ms({}, words) == expected_ms
    assert read_retry_after_ms({"Retry-After": "2"}, words) == 2000, "the header is the more exact one"


def test_retry_after_may_be_a_date() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)

    wait_ms = read_retry_after_ms({"Retry-After": moment})

    assert wait_ms is not None
    assert 28_000 < wait_ms <= 30_000


@settings(derandomize=True, max_examples=200)
@given(st.integers(0, 20), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.lists(st.booleans(), max_size=200))
def test_repeats_are_at_most_the_budget_and_its_share_of_successes(size: int, ratio: float, calls: list[bool]) -> None:
    budget = RetryBudget(size, ratio)
    repeats = successes = 0
    for wants_repeat in calls:
        if wants_repeat:
            repeats += budget.take()
        else:
            successes += 1
            budget.success()

        assert repeats <= size + successes * ratio + 1e-6


def test_ten_successes_pay_for_one_repeat() -> None:
    budget = RetryBudget(1, 0.1)
    assert budget.take()

    for _ in range(9):
        budget.success()
        assert not budget.take()
    budget.success()

    assert budget.take()
