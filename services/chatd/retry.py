"""When a failed call is repeated: the wait, and the budget that keeps an outage from being made worse."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# What a Retry-After may say at most; a longer one is taken as this.
_RETRY_AFTER_MAX_MS = 24 * 3600 * 1000
# "Please try again in 1h12m3.5s", "retry after 20 seconds", "wait 12 seconds": as endpoints say it in prose.
_IN_PROSE = re.compile(
    r"(?:again in|retry in|retry after|retrying after|please wait|reset after|resets in) "
    r"((?:[0-9]{1,7}(?:\.[0-9]{1,12})? ?(?:hours?|minutes?|seconds?|mins?|secs?|ms|h|m|s)(?![a-z]) ?){1,4})",
    re.IGNORECASE,
)
_SPAN = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,12})?) ?(ms|h|m|s)", re.IGNORECASE)
_SPAN_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


class RetryBudget:
    """An account of repeats, one per provider: each repeat takes one, each success puts a part of one back.

    Holds between 0 and `size`; starts full. Repeats are thus at most `size` plus `ratio` per successful call, however
    many callers there are.
    """

    def __init__(self, size: int, ratio: float) -> None:
        self._size = float(size)
        self._ratio = ratio
        self._left = float(size)

    def take(self) -> bool:
        """Take one repeat. False where none is left."""
        # The tenth part of ten successes is one, whatever floating point makes of it.
        if self._left < 1 - 1e-9:
            return False
        self._left -= 1
        return True

    def success(self) -> None:
        """Put back what a success is worth."""
        self._left = min(self._size, self._left + self._ratio)


def backoff_ms(
    retry: int,
    *,
    base_ms: int,
    cap_ms: int,
    retry_after_ms: int | None = None,
    draw: Callable[[], float] = random.random,
) -> float:
    """Return the wait before repeat `retry` (from 0): full jitter over base_ms * 2**retry, at most cap_ms.

    With a Retry-After the jitter is added to it, so that those who heard the same do not come back together.
    """
    jitter = draw() * min(cap_ms, base_ms << retry)
    return jitter if retry_after_ms is None else retry_after_ms + min(jitter, base_ms)


def read_retry_after_ms(headers: Mapping[str, str], message: str = "") -> int | None:
    """Return what `retry-after-ms`, `Retry-After` (seconds or an HTTP date) or the words of `message` ask for; None
    where none can be read."""
    in_ms = _number(headers.get("retry-after-ms"))
    if in_ms is not None:
        return min(int(in_ms), _RETRY_AFTER_MAX_MS)
    value = headers.get("Retry-After")
    if value is None:
        return _in_prose_ms(message)
    in_s = _number(value)
    if in_s is None:
        in_s = _seconds_until(value)
    return None if in_s is None else min(int(in_s * 1000), _RETRY_AFTER_MAX_MS)


def _number(value: str | None) -> float | None:
    # Digits and one point: float() alone would also read "nan", "inf" and "1_0".
    if value is None or len(value) > 20 or not value.strip().replace(".", "", 1).isdecimal():
        return None
    return float(value)


def _seconds_until(value: str) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _in_prose_ms(message: str) -> int | None:
    match = _IN_PROSE.search(message)
    if match is None:
        return None
    asked = sum(float(number) * _SPAN_MS[unit.lower()] for number, unit in _SPAN.findall(match[1]))
    return min(int(asked), _RETRY_AFTER_MAX_MS)
