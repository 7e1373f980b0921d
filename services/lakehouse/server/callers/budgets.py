"""How much a caller may: sessions in flight, sessions a minute, tokens and nano-US-dollars of a day (UTC).

What is promised, in each process: never more sessions in flight than allowed, and never more begun within any 60
seconds. A session begins only where what the day has used, and what the running sessions hold of it
(`session_tokens_reserved`, `session_nano_usd_reserved` each), leaves room for what it would hold itself; or where
nothing runs and the day has anything left. Each model call is charged by what it really used, as soon as that is known,
and a running session whose caller's day is spent makes no further one. So a day's use passes its limit at most by what
the sessions in flight at that moment use beyond what they hold, in the model calls that they have begun.

Counters live on the event loop and are not shared between processes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lakehouse.errors import Fault, Reason
from lakehouse.server.callers.policy import Policy

DAY_S: Final = 86_400
_MINUTE_S: Final = 60.0
# How soon to ask again where a running session has to end first.
_SOON_MS: Final = 1_000
# A clock that is set back further than this had run ahead: the day that it shows then is the one that counts.
_RAN_AHEAD_S: Final = 3_600


class Spent(NamedTuple):
    """What was used."""

    tokens: int = 0
    nano_usd: int = 0

    def plus(self, tokens: int, nano_usd: int) -> Spent:
        return Spent(self.tokens + tokens, self.nano_usd + nano_usd)


_NOTHING: Final = Spent()


@dataclass(slots=True)
class _Account:
    day: int = 0
    spent: Spent = _NOTHING
    held: Spent = _NOTHING
    in_flight: int = 0
    begun_s: deque[float] = field(default_factory=deque)
    """When sessions of the last minute began; as many as are allowed in it."""


class Reservation:
    """A running session's share of its caller's budget."""

    def __init__(self, budgets: Budgets, account: _Account, policy: Policy, held: Spent) -> None:
        self._budgets = budgets
        self._account = account
        self._policy = policy
        self._held = held
        self._ended = False

    def charge(self, tokens: int, nano_usd: int | None) -> None:
        """Charge what a model call has used; `nano_usd` is None where its price is not known, and nothing is charged
        then."""
        account = self._budgets.today(self._account)
        if nano_usd is None and tokens and self._policy.nano_usd_per_day is not None:
            self._budgets.unpriced += 1
        cost = nano_usd or 0
        account.spent = account.spent.plus(tokens, cost)
        self._hold(Spent(max(self._held.tokens - tokens, 0), max(self._held.nano_usd - cost, 0)))

    def is_spent(self) -> bool:
        """Whether the day leaves nothing for another model call."""
        spent, policy = self._budgets.today(self._account).spent, self._policy
        return _reached(spent.tokens, policy.tokens_per_day) or _reached(spent.nano_usd, policy.nano_usd_per_day)

    def end(self) -> None:
        """End the session's hold; call it however the session ended. What it still held is free."""
        if not self._ended:
            self._ended = True
            self._hold(_NOTHING)
            self._account.in_flight -= 1

    def _hold(self, held: Spent) -> None:
        account = self._account
        account.held = account.held.plus(held.tokens - self._held.tokens, held.nano_usd - self._held.nano_usd)
        self._held = held


def _reached(spent: int, limit: int | None) -> bool:
    return limit is not None and spent >= limit


class Budgets:
    """The accounts of all callers of one process."""

    def __init__(
        self, *, now_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._accounts: dict[str, _Account] = {}
        self._cleared_day = 0
        self.unpriced = 0
        """Model calls of callers with a budget of money whose price is not known."""
        self.restoring = False
        """True while the day's use before the start is being looked up: who has a day's budget waits for it."""

    def reserve(self, caller: str, policy: Policy) -> Reservation:
        """Begin a session of this caller. Raises Fault (CALLER_QUOTA), which says when to ask again."""
        self._forget_idle()
        account = self.today(self._accounts.setdefault(caller, _Account(self._day())))
        if policy.sessions_in_flight is not None and account.in_flight >= policy.sessions_in_flight:
            raise _quota("sessions_in_flight", _SOON_MS)
        now_s = self._monotonic_s()
        begun_s = account.begun_s
        while begun_s and begun_s[0] <= now_s - _MINUTE_S:
            begun_s.popleft()
        if policy.sessions_per_minute is not None and len(begun_s) >= policy.sessions_per_minute:
            wait_s = begun_s[-policy.sessions_per_minute] + _MINUTE_S - now_s
            raise _quota("sessions_per_minute", max(int(wait_s * 1000) + 1, 1))
        hold = self._hold(account, policy)
        account.held = account.held.plus(*hold)
        account.in_flight += 1
        if policy.sessions_per_minute is not None:
            begun_s.append(now_s)
        return Reservation(self, account, policy, hold)

    def restore(self, use: Mapping[str, Spent], day: int | None = None) -> None:
        """Add what callers have used before this process began, on this day (UTC, since 1970; None: today): what was
        used on another day counts no more, though it was read while that day lasted."""
        if day is not None and day != self._day():
            return
        for caller, spent in use.items():
            account = self.today(self._accounts.setdefault(caller, _Account(self._day())))
            account.spent = account.spent.plus(*spent)

    def accounts(self) -> Collection[str]:
        """Return whose use is remembered."""
        return self._accounts.keys()

    def spent_today(self, caller: str) -> Spent:
        """From any thread."""
        account = self._accounts.get(caller)
        return _NOTHING if account is None or account.day < self._day() else account.spent

    def in_flight(self, caller: str) -> int:
        account = self._accounts.get(caller)
        return 0 if account is None else account.in_flight

    def today(self, account: _Account) -> _Account:
        """Return the account, emptied where its day is over. A clock that is set back empties nothing: what was used
        counts on, until the next midnight by that clock."""
        now_s = self._now_s()
        day = int(now_s // DAY_S)
        if day > account.day:
            account.day, account.spent = day, _NOTHING
        elif now_s < account.day * DAY_S - _RAN_AHEAD_S:
            account.day = day
        return account

    def _forget_idle(self) -> None:
        """Once a day. Never before: whoever leaves the callers' file and comes back has no second budget."""
        day = self._day()
        if day == self._cleared_day:
            return
        self._cleared_day = day
        minute_s = self._monotonic_s() - _MINUTE_S
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if account.in_flight or account.day >= day or (account.begun_s and account.begun_s[-1] > minute_s)
        }

    def _hold(self, account: _Account, policy: Policy) -> Spent:
        """Return what a session would hold. Raises Fault where the day has no room for it."""
        hold = Spent(
            policy.session_tokens_reserved if policy.tokens_per_day is not None else 0,
            policy.session_nano_usd_reserved if policy.nano_usd_per_day is not None else 0,
        )
        if hold == _NOTHING:
            return hold
        if self.restoring:
            raise _quota("restoring", _SOON_MS)
        for name, limit, spent, held, wanted in (
            ("tokens_per_day", policy.tokens_per_day, account.spent.tokens, account.held.tokens, hold.tokens),
            ("nano_usd_per_day", policy.nano_usd_per_day, account.spent.nano_usd, account.held.nano_usd, hold.nano_usd),
        ):
            if limit is None:
                continue
            if spent >= limit:
                raise _quota(name, self._ms_to_midnight())
            if account.in_flight and spent + held + wanted > limit:
                raise _quota(name, _SOON_MS)
        return hold

    def _day(self) -> int:
        return int(self._now_s() // DAY_S)

    def _ms_to_midnight(self) -> int:
        return int((DAY_S - self._now_s() % DAY_S) * 1000) + 1


def _quota(limit: str, retry_delay_ms: int) -> Fault:
    return Fault(Reason.CALLER_QUOTA, retry_delay_ms=retry_delay_ms, metadata={"limit": limit})
