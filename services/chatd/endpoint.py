"""``Endpoint``: a provider with its limit, its circuit breaker and its repeats.

The rule of repeating. A call that the endpoint refused or never received (no connection, 429, 503, 529) is repeated
with jitter, not before a Retry-After, at most `max_retries` times, as long as the provider's budget lasts and the wait
ends before the deadline. A call that may have been billed is not, unless the operator said `repeat_billed`; and never
once a piece of the answer has gone to the caller: what fails after that is ABORTED, whatever the endpoint's words.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from chatd.adaptation import AdaptationMemory, Healing, open_adapter
from chatd.breaker import FREE, Admission, Breakers, CircuitOpenError
from chatd.completion import Completion, CompletionRequest, FinishReason, Listener
from chatd.config import ProviderTable
from chatd.limit import ConcurrencyLimit, QueueFullError
from chatd.prices import read_prices
from chatd.provider import Provider
from chatd.retry import RetryBudget, backoff_ms
from chatd.sent_format import shown, shown_whole
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason
from lakehouse.server.counts import Durations

# What speaks against an endpoint. A refusal (bad key, rate limit, unknown model) is an answer: the endpoint lives.
_ENDPOINT_FAILED: Final = frozenset(
    {
        Reason.PROVIDER_UNREACHABLE,
        Reason.PROVIDER_FAILED,
        Reason.PROVIDER_BAD_ANSWER,
        Reason.PROVIDER_TIMEOUT,
    }
)


# What says by itself that an answer broke off, or that the caller's time did.
_SAYS_BROKEN_OFF: Final = frozenset(
    {Reason.PROVIDER_FAILED, Reason.PROVIDER_BAD_ANSWER, Reason.PROVIDER_TIMEOUT, Reason.DEADLINE}
)


@dataclass(slots=True)
class Tally:
    """What one RPC has spent so far; filled in while it runs, so that it is known however the RPC ends."""

    upstream_requests: int = 0
    retries: int = 0
    fallbacks: int = 0
    provider: str = ""
    """The last one that was tried."""
    model: str = ""
    details: tuple[str, ...] = ()
    """What went wrong out there, for the log."""
    adapted: tuple[str, ...] = ()
    """What the last request did without, or had otherwise, since its endpoint had refused it."""
    sent: CompletionRequest | None = None
    """The last request that was made, as its target got it."""
    billed_in_vain: bool = False
    """Whether a request that gave no answer may have been billed: what the RPC cost is then unknown."""


@dataclass(slots=True)
class EndpointCounts:
    """Counters of one endpoint; they only grow."""

    calls: int = 0
    upstream_requests: int = 0
    retries: int = 0
    retries_over_budget: int = 0
    failures: int = 0
    queue_refusals: int = 0


class Endpoint:
    """One configured provider, guarded."""

    def __init__(
        self, name: str, provider: Provider, table: ProviderTable, memory: AdaptationMemory | None = None
    ) -> None:
        """`memory` of what endpoints cannot bear; one for all of them. Raises ValueError where `prices_file` cannot be
        read."""
        self.name = name
        self.table = table
        self.prices = read_prices(table.prices, table.prices_file)
        self._adapter = open_adapter(name, table, AdaptationMemory() if memory is None else memory)
        self.counts = EndpointCounts()
        self.durations = Durations()
        self._provider = provider
        self._may_see = table.sees_candidates
        self.breakers = Breakers(table.breaker.failures, table.breaker.open_ms / 1000)
        self.limit = ConcurrencyLimit(table.max_concurrency, queue_max=table.queue_max, queue_s=table.queue_ms / 1000)
        self._budget = RetryBudget(table.retry.budget, table.retry.budget_ratio)

    async def complete(
        self,
        request: CompletionRequest,
        model: str,
        *,
        deadline_s: float,
        listener: Listener | None,
        tally: Tally,
    ) -> Completion:
        """One answer, with repeats where they are allowed; over by `deadline_s` (time.monotonic).

        Raises UpstreamFault: that of the last try, or of the last one that may have been billed.
        """
        self.counts.calls += 1
        tally.provider = self.name
        tally.model = model
        billed: UpstreamFault | None = None
        retry = 0
        adapter, healing = self._adapter, None
        if request.restricted or request.response_format is not None:
            request = (shown_whole if adapter is None else shown)(request, may_see=self._may_see)
        tally.adapted = () if adapter is None else adapter.known(model)
        adapted = request if adapter is None else adapter.adapt(request, model, tally.adapted)
        while True:
            tally.sent = adapted
            try:
                completion = await self._once(adapted, model, deadline_s, listener, tally)
            except UpstreamFault as fault:
                tally.details += (f"{self.name}: {fault.detail or fault.reason}",)
                if listener is not None and listener.heard:
                    tally.billed_in_vain = True
                    raise _broken_off(fault) from None
                if fault.billed:
                    billed = fault
                    tally.billed_in_vain = True
                if adapter is not None and (fault.unsupported or fault.key_changed):
                    healing = healing or Healing(adapter, request, model, streamed=listener is not None)
                    again = healing.again(fault)
                    if again is not None:
                        adapted, tally.adapted = again, healing.steps
                        continue
                wait_s = self._wait_before_repeat_s(fault, retry, deadline_s)
                if wait_s is None:
                    raise (billed or fault) from None
                if not self._budget.take():
                    self.counts.retries_over_budget += 1
                    raise (billed or fault) from None
                await asyncio.sleep(wait_s)
                retry += 1
                tally.retries += 1
                self.counts.retries += 1
            else:
                self._budget.success()
                if healing is not None:
                    healing.helped()
                return completion

    async def close(self) -> None:
        """Close the provider. No call may be running."""
        await self._provider.close()

    def _wait_before_repeat_s(self, fault: UpstreamFault, retry: int, deadline_s: float) -> float | None:
        table = self.table.retry
        if retry >= table.max_retries or not fault.repeatable or (fault.billed and not table.repeat_billed):
            return None
        asked_ms = fault.retry_after_ms
        if asked_ms is not None and asked_ms > table.retry_after_max_ms:
            return None
        wait_ms = backoff_ms(retry, base_ms=table.base_ms, cap_ms=table.cap_ms, retry_after_ms=asked_ms)
        wait_s = wait_ms / 1000
        return wait_s if time.monotonic() + wait_s < deadline_s else None

    async def _once(
        self,
        request: CompletionRequest,
        model: str,
        deadline_s: float,
        listener: Listener | None,
        tally: Tally,
    ) -> Completion:
        if not self.limit.take_free():
            await self._wait_turn(deadline_s)
        try:
            # Nearly always there is nothing to ask, and nothing to tell: that is seen without a call.
            admission = FREE if self.breakers.is_blank else self._admit(model)
            if self._provider.calls_upstream:
                tally.upstream_requests += 1
                self.counts.upstream_requests += 1
            sent = time.monotonic()
            try:
                # aiohttp's own total is of no use here: it rounds up to whole seconds.
                async with asyncio.timeout_at(deadline_s):
                    completion = await self._provider.complete(request, model, deadline_s, listener)
            except UpstreamFault as fault:
                if request.sent_format is not None and request.sent_format.shows_restricted and fault.unquoted:
                    # What was shown to one endpoint may come back in its words, and the log has other readers.
                    fault.detail = f"{fault.unquoted}, its words are not quoted since it was shown restricted content"
                self._judge(fault, model, admission)
                if fault.generated is None or (listener is not None and listener.heard):
                    raise
                tally.details += (f"{self.name}: {fault.detail}",)
                return _malformed(fault.generated, model, sent)
            except TimeoutError:
                self.breakers.no_verdict(admission)
                raise UpstreamFault(
                    Reason.DEADLINE, billed=True, detail="the caller's deadline passed during the call"
                ) from None
            except BaseException:
                self.breakers.no_verdict(admission)
                raise
            finally:
                self.durations.add(time.monotonic() - sent)
            if not (admission is FREE and self.breakers.is_blank):
                self.breakers.success(model, admission)
            return completion
        finally:
            self.limit.release()

    async def _wait_turn(self, deadline_s: float) -> None:
        try:
            await self.limit.wait_turn(deadline_s)
        except QueueFullError:
            self.counts.queue_refusals += 1
            # A timer of the loop may fire up to a millisecond early.
            if time.monotonic() + 0.001 >= deadline_s:
                raise UpstreamFault(Reason.DEADLINE, billed=False, detail="the deadline passed in the queue") from None
            raise UpstreamFault(Reason.OVERLOADED, billed=False, detail="the provider's queue is full") from None

    def _admit(self, model: str) -> Admission:
        try:
            return self.breakers.admit(model)
        except CircuitOpenError as refusal:
            wait_ms = int(refusal.wait_s * 1000)
            raise UpstreamFault(
                Reason.CIRCUIT_OPEN, billed=False, retry_after_ms=wait_ms, detail="circuit open"
            ) from None

    def _judge(self, fault: UpstreamFault, model: str, admission: Admission) -> None:
        # A model that made invalid output lives.
        if fault.reason in _ENDPOINT_FAILED and fault.generated is None:
            self.counts.failures += 1
            self.breakers.failure(model, admission, no_connection=fault.no_connection)
        else:
            self.breakers.success(model, admission)


def _broken_off(fault: UpstreamFault) -> UpstreamFault:
    """Return what `fault` is after pieces of the answer have gone out: never one that says that no model was called."""
    if fault.reason in _SAYS_BROKEN_OFF:
        return fault
    return UpstreamFault(Reason.PROVIDER_FAILED, billed=True, detail=fault.detail)


def _malformed(text: str, model: str, sent: float) -> Completion:
    return Completion(
        text=text, model=model, sent=sent, first_token=time.monotonic(), finish_reason=FinishReason.MALFORMED
    )
