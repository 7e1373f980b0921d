"""What a process counts, in plain numbers. The names of the RPC metrics are those of go-grpc-middleware, so that stock
dashboards fit; ``exposition`` makes metrics of them, and is imported where somebody scrapes.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lakehouse.server.counts import Durations, Series

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

GetCounts = Callable[[], Mapping[str, int]]
# The names of the labels, and a number or a histogram for each tuple of their values.
Labelled = tuple[tuple[str, ...], Mapping[tuple[str, ...], float | Durations]]


@dataclass(slots=True)
class MethodCounts:
    """What one RPC method has seen. Plain numbers that the event loop changes; a scrape makes metrics of them."""

    started: int = 0
    handled: dict[str, Durations] = field(default_factory=dict)
    """By status."""

    def ended(self, code: str, seconds: float) -> None:
        """Count an RPC that ended."""
        durations = self.handled.get(code)
        if durations is None:
            durations = self.handled[code] = Durations()
        durations.add(seconds)


class Exported(NamedTuple):
    """See ``Metrics.export``."""

    prefix: str
    counts: GetCounts
    gauges: tuple[str, ...]
    label: str


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.methods: dict[tuple[str, str], MethodCounts] = {}
        """By service and method."""
        self.faults: dict[str, int] = {}
        """RPCs ended by a fault, by reason."""
        self.in_flight: Callable[[], int] = lambda: 0
        """How many RPCs are being served."""
        self.named: dict[str, Labelled] = {}
        """Counters (`…_total`), histograms (`…_seconds`) and gauges by labels of their own."""
        self.exported: list[Exported] = []

    @functools.cached_property
    def registry(self) -> CollectorRegistry:
        """All of it, and what is exported later, as prometheus_client scrapes it."""
        from lakehouse.server.exposition import registry_of  # noqa: PLC0415  30 ms of a start, for who is scraped

        return registry_of(self)

    def method(self, service: str, name: str) -> MethodCounts:
        """Return the counts of one method."""
        return self.methods.setdefault((service, name), MethodCounts())

    def series(self, name: str, *labels: str) -> Series:
        """Return a counter `<name>_total` by these labels, for the event loop to count."""
        series = Series(len(labels))
        self.named[f"{name}_total"] = (labels, series.values)
        return series

    def durations(self, name: str, label: str) -> dict[tuple[str, ...], Durations]:
        """Return a histogram `<name>` by one label, for the event loop to fill. Its values must be bounded by their
        source."""
        durations: dict[tuple[str, ...], Durations] = {}
        self.named[name] = ((label,), durations)
        return durations

    def build(self, service: str, version: str) -> None:
        """Expose which build runs."""
        labels = (service, version, platform.python_version())
        self.named["lakehouse_build_info"] = (("service", "version", "python"), {labels: 1.0})

    def export(
        self,
        prefix: str,
        counts: Callable[[], Mapping[str, int]],
        *,
        gauges: tuple[str, ...] = (),
        label: str = "cause",
    ) -> None:
        """Expose `counts()`, asked at each scrape, as counters `<prefix>_<name>_total`; those in `gauges` as gauges.

        A name may carry one label value after a colon: `dropped:queue_full` is `<prefix>_dropped_total{<label>=…}`.
        """
        self.exported.append(Exported(prefix, counts, gauges, label))

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Start the exposition in a thread of its own; what comes back stops it. Raises OSError."""
        from lakehouse.server.exposition import serve  # noqa: PLC0415  as above

        return serve(self.registry, host, port)
