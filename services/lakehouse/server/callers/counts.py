"""What callers did, for Prometheus. A caller's name is a label: names come from the callers' file alone, and of those
that a service names (`x-lakehouse-caller`) the first thousand; whoever comes later is `other`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lakehouse.errors import Reason
from lakehouse.server.callers.budgets import Budgets

_NAMES_MAX: Final = 1_000
_OTHER: Final = "other"


class CallerCounts(Collector):
    """Plain numbers that the event loop changes; a scrape makes metrics of them."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._calls: dict[str, int] = {}
        self._refusals: dict[tuple[str, str], int] = {}
        self._listed: Collection[str] = ()
        self.unknown = 0
        """Calls of nobody who is known."""
        self.file_is_broken = False

    def keep(self, callers: Collection[str]) -> None:
        """Keep what is listed now."""
        self._listed = callers

    def called(self, caller: str) -> None:
        name = self._label(caller)
        self._calls[name] = self._calls.get(name, 0) + 1

    def refused(self, caller: str, reason: Reason) -> None:
        key = (self._label(caller), str(reason))
        self._refusals[key] = self._refusals.get(key, 0) + 1

    def _label(self, caller: str) -> str:
        return caller if caller in self._calls or len(self._calls) < _NAMES_MAX else _OTHER

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily("lakehouse_caller_rpcs", "RPCs of known callers.", labels=["caller"])
        for name, count in list(self._calls.items()):
            calls.add_metric([name], count)
        refusals = CounterMetricFamily(
            "lakehouse_caller_refusals", "Calls of known callers that were refused.", labels=["caller", "reason"]
        )
        for (name, reason), count in list(self._refusals.items()):
            refusals.add_metric([name, reason], count)
        in_flight = GaugeMetricFamily(
            "lakehouse_caller_sessions_in_flight", "Sessions of a caller that run.", labels=["caller"]
        )
        tokens = GaugeMetricFamily("lakehouse_caller_tokens_today", "Tokens of the day (UTC).", labels=["caller"])
        money = GaugeMetricFamily(
            "lakehouse_caller_nano_usd_today", "Billionths of a US dollar of the day (UTC).", labels=["caller"]
        )
        for name in [each for each in list(self._calls) if each in self._listed]:
            spent = self._budgets.spent_today(name)
            in_flight.add_metric([name], self._budgets.in_flight(name))
            tokens.add_metric([name], spent.tokens)
            money.add_metric([name], spent.nano_usd)
        yield from (calls, refusals, in_flight, tokens, money)
        yield CounterMetricFamily("lakehouse_callers_unknown", "Calls of nobody who is known.", value=self.unknown)
        yield CounterMetricFamily(
            "lakehouse_callers_unpriced",
            "Model calls under a budget of money without a price.",
            value=self._budgets.unpriced,
        )
        yield GaugeMetricFamily(
            "lakehouse_callers_file_broken",
            "1 while the callers' file cannot be used and an earlier one counts.",
            value=self.file_is_broken,
        )

    def describe(self) -> Iterator[Metric]:
        return iter(())
