"""What a process counts as Prometheus metrics, made at each scrape."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from lakehouse.server.counts import Durations
from lakehouse.server.metric_texts import TEXTS
from lakehouse.server.metrics import Exported, Labelled, Metrics


def registry_of(metrics: Metrics) -> CollectorRegistry:
    """Return a registry of its own for these metrics."""
    registry = CollectorRegistry()
    for collector in (_Rpcs(metrics), _Memory(), _Named(metrics.named), _Exported(metrics.exported)):
        registry.register(collector)
    return registry


def serve(registry: CollectorRegistry, host: str, port: int) -> Callable[[], None]:
    """See ``Metrics.serve``."""
    server, thread = start_http_server(port, addr=host, registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=1)

    return stop


class _Rpcs(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        rpc = ["grpc_service", "grpc_method"]
        started = _counter("grpc_server_started", rpc)
        handled = _counter("grpc_server_handled", [*rpc, "grpc_code"])
        seconds = _histogram("grpc_server_handling_seconds", [*rpc, "grpc_code"])
        # This is the exposition's thread: each copy is taken in one step of the interpreter.
        for method, counts in list(self._metrics.methods.items()):
            started.add_metric(method, counts.started)
            for code, durations in list(counts.handled.items()):
                buckets = durations.buckets()
                handled.add_metric([*method, code], buckets[-1][1])
                seconds.add_metric([*method, code], buckets, durations.seconds)
        faults = _counter("lakehouse_faults", ["reason"])
        for reason, count in list(self._metrics.faults.items()):
            faults.add_metric([reason], count)
        running = _gauge("lakehouse_rpcs_in_flight", [])
        running.add_metric([], self._metrics.in_flight())
        yield from (started, handled, seconds, faults, running)

    def describe(self) -> Iterator[Metric]:
        return iter(())


class _Named(Collector):
    """What the services count by labels of their own."""

    def __init__(self, named: Mapping[str, Labelled]) -> None:
        self._named = named

    def collect(self) -> Iterator[Metric]:
        for name, (labels, values) in list(self._named.items()):
            family: HistogramMetricFamily | CounterMetricFamily | GaugeMetricFamily
            if name.endswith("_seconds"):
                family = _histogram(name, labels)
            else:
                counted = name.endswith("_total")
                family = _counter(name.removesuffix("_total"), labels) if counted else _gauge(name, labels)
            for values_of, value in list(values.items()):
                if isinstance(value, Durations):
                    assert isinstance(family, HistogramMetricFamily)  # noqa: S101  `durations` made it
                    family.add_metric(values_of, value.buckets(), value.seconds)
                else:
                    assert not isinstance(family, HistogramMetricFamily)  # noqa: S101  `series` made it
                    family.add_metric(values_of, value)
            yield family

    def describe(self) -> Iterator[Metric]:
        return iter(())


def _counter(name: str, labels: Sequence[str]) -> CounterMetricFamily:
    return CounterMetricFamily(name, TEXTS[f"{name}_total"], labels=labels)


def _gauge(name: str, labels: Sequence[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, TEXTS[name], labels=labels)


def _histogram(name: str, labels: Sequence[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, TEXTS[name], labels=labels)


class _Exported(Collector):
    """What is asked at each scrape."""

    def __init__(self, exported: Sequence[Exported]) -> None:
        self._exported = exported

    def collect(self) -> Iterator[Metric]:
        for prefix, counts, gauges, label in list(self._exported):
            families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
            for name, value in counts().items():
                base, _, cause = name.partition(":")
                family = families.get(base)
                if family is None:
                    made = _gauge if base in gauges else _counter
                    family = families[base] = made(f"{prefix}_{base}", [label] if cause else [])
                family.add_metric([cause] if cause else [], value)
            yield from families.values()

    def describe(self) -> Iterator[Metric]:
        return iter(())


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


def _mallinfo() -> Callable[[], _MallInfo] | None:
    """Return the C library's own account of its heap; None where it keeps none (musl, macOS, glibc before 2.33)."""
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    function.restype = _MallInfo
    return function


class _Memory(Collector):
    """What is allocated, as the two allocators count it. Resident memory cannot show a slow leak: freed pages linger.

    Small Python objects (up to 512 bytes) live in arenas of the interpreter, which the C library does not know of, and
    are counted in blocks; everything else, gRPC's core included, is in the C library's bytes.
    """

    def __init__(self) -> None:
        self._mallinfo = _mallinfo()

    def collect(self) -> Iterator[Metric]:
        if self._mallinfo is not None:
            info = self._mallinfo()
            yield GaugeMetricFamily(
                "lakehouse_allocated_bytes",
                TEXTS["lakehouse_allocated_bytes"],
                value=info.uordblks + info.hblkhd,
            )
        yield GaugeMetricFamily(
            "lakehouse_python_blocks",
            TEXTS["lakehouse_python_blocks"],
            value=sys.getallocatedblocks(),
        )

    def describe(self) -> Iterator[Metric]:
        return iter(())
