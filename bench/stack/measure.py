"""One cell of the table: one variant, one concurrency, one latency of the model, for one window of time."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass

from bench.stack.proc import cpu_s, rss_mib
from bench.stack.variants import Variant, all_pids

# What was traced in the window is exported soon after it, and that CPU belongs to the window's sessions: every exporter
# here flushes once a second.
_FLUSH_S = 1.2
_QUIET_S = 0.3
_SETTLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a window gave."""

    sessions: int
    sessions_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    """Per session, by role."""
    rss_mib: dict[str, float]

    @property
    def cpu_total_us(self) -> float:
        return sum(self.cpu_us.values())


async def measure(variant: Variant, *, concurrency: int, latency_ms: int, seconds: float) -> Sample:
    """Run one window. The CPU of what is exported after it counts."""
    pids = all_pids(variant)
    before = _cpu(pids)
    result = await variant.runner.run(
        **variant.command, concurrency=concurrency, latency_ms=latency_ms, seconds=seconds
    )
    if variant.traced:
        await _exported(pids)
    after = _cpu(pids)
    latencies = sorted(result["latencies_us"])
    sessions = len(latencies)
    return Sample(
        sessions=sessions,
        sessions_per_s=sessions / result["seconds"],
        p50_ms=statistics.median(latencies) / 1000,
        p99_ms=latencies[min(int(sessions * 0.99), sessions - 1)] / 1000,
        cpu_us={role: (after[role] - before[role]) / sessions * 1e6 for role in pids},
        rss_mib={role: sum(rss_mib(pid) for pid in each) for role, each in pids.items()},
    )


async def _exported(pids: dict[str, list[int]]) -> None:
    """Wait until the exporters have had their turn and are quiet."""
    await asyncio.sleep(_FLUSH_S)
    last, waited = sum(_cpu(pids).values()), 0.0
    while waited < _SETTLE_S:
        await asyncio.sleep(_QUIET_S)
        waited += _QUIET_S
        now = sum(_cpu(pids).values())
        if now - last < 0.02:
            return
        last = now


def _cpu(pids: dict[str, list[int]]) -> dict[str, float]:
    return {role: sum(cpu_s(pid) for pid in each) for role, each in pids.items()}
