"""Prometheus metrics. The names of the RPC metrics are those of go-grpc-middleware, so that stock dashboards fit."""

from __future__ import annotations

import ctypes
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LIMITS = [f"{limit:.1f}" if limit == int(limit) else str(limit) for limit in _SECONDS] + ["+Inf"]


@dataclass(slots=True)
class MethodCounts:
    """What one RPC method has seen. Plain numbers that the event loop changes; a scrape makes metrics of them."""

    started: int = 0
    handled: dict[str, int] = field(default_factory=dict)
    """By status."""
    seconds: float = 0.0
    """All of them together."""
    within: list[int] = field(default_factory=lambda: [0] * len(_LIMITS))
    """How many took up to each limit and longer than the one before it."""

    def ended(self, code: str, seconds: float) -> None:
        """Count an RPC that ended."""
        self.handled[code] = self.handled.get(code, 0) + 1
        self.seconds += seconds
        self.within[bisect_left(_SECONDS, seconds)] += 1


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.methods: dict[tuple[str, str], MethodCounts] = {}
        """By service and method."""
        self.faults: dict[str, int] = {}
        """RPCs ended by a fault, by reason."""
        self.in_flight: Callable[[], int] = lambda: 0
        """How many RPCs are being served."""
        self.registry.register(_Rpcs(self))
        self.registry.register(_Memory())

    def method(self, service: str, name: str) -> MethodCounts:
        """The counts of one method."""
        return self.methods.setdefault((service, name), MethodCounts())

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


class _Rpcs(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        rpc = ["grpc_service", "grpc_method"]
        started = CounterMetricFamily("grpc_server_started", "RPCs started.", labels=rpc)
        handled = CounterMetricFamily("grpc_server_handled", "RPCs ended, by status.", labels=[*rpc, "grpc_code"])
        seconds = HistogramMetricFamily("grpc_server_handling_seconds", "Time to serve an RPC.", labels=rpc)
        # This is the exposition's thread: each copy is taken in one step of the interpreter.
        for method, counts in list(self._metrics.methods.items()):
            started.add_metric(method, counts.started)
            for code, count in list(counts.handled.items()):
                handled.add_metric([*method, code], count)
            buckets = list(zip(_LIMITS, accumulate(list(counts.within)), strict=True))
            seconds.add_metric(method, buckets, counts.seconds)
        faults = CounterMetricFamily("lakehouse_faults", "RPCs ended by a fault, by reason.", labels=["reason"])
        for reason, count in list(self._metrics.faults.items()):
            faults.add_metric([reason], count)
        running = GaugeMetricFamily("lakehouse_rpcs_in_flight", "RPCs being served.", value=self._metrics.in_flight())
        yield from (started, handled, seconds, faults, running)

    def describe(self) -> Iterator[Metric]:
        return iter(())


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
    """The C library's own account of its heap; None where it keeps none (musl, macOS, glibc before 2.33)."""
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
                "Bytes that the C library's allocator has handed out and not got back.",
                value=info.uordblks + info.hblkhd,
            )
        yield GaugeMetricFamily(
            "lakehouse_python_blocks",
            "Memory blocks that the interpreter's own allocator has handed out and not got back.",
            value=sys.getallocatedblocks(),
        )

    def describe(self) -> Iterator[Metric]:
        return iter(())
