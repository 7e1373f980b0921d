"""Prometheus metrics. The names of the RPC metrics are those of go-grpc-middleware, so that stock dashboards fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        rpc = ("grpc_service", "grpc_method")
        self.started = Counter("grpc_server_started", "RPCs started.", rpc, registry=self.registry)
        self.handled = Counter(
            "grpc_server_handled", "RPCs ended, by status.", (*rpc, "grpc_code"), registry=self.registry
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time to serve an RPC.",
            rpc,
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.faults = Counter(
            "lakehouse_faults", "RPCs ended by a fault, by reason.", ("reason",), registry=self.registry
        )
        self.in_flight = Gauge("lakehouse_rpcs_in_flight", "RPCs being served.", registry=self.registry)

    def export(self, prefix: str, counts: Callable[[], Mapping[str, int]], *, gauges: tuple[str, ...] = ()) -> None:
        """Expose `counts()`, asked at each scrape, as counters `<prefix>_<name>_total`; those in `gauges` as gauges.

        A name may carry one label value after a colon: `dropped:queue_full` is `<prefix>_dropped_total{cause=…}`.
        """
        self.registry.register(_Counts(prefix, counts, gauges))

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Start the exposition in a thread of its own; what comes back stops it."""
        server, thread = start_http_server(port, addr=host, registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join(timeout=1)

        return stop


class _Counts(Collector):
    def __init__(self, prefix: str, counts: Callable[[], Mapping[str, int]], gauges: tuple[str, ...]) -> None:
        self._prefix = prefix
        self._counts = counts
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, value in self._counts().items():
            base, _, cause = name.partition(":")
            labels = ["cause"] if cause else []
            kind = GaugeMetricFamily if base in self._gauges else CounterMetricFamily
            family = families.setdefault(base, kind(f"{self._prefix}_{base}", base.replace("_", " "), labels=labels))
            family.add_metric([cause] if cause else [], value)
        yield from families.values()

    def describe(self) -> Iterator[Metric]:
        return iter(())
