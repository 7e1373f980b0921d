"""Samples to tables: medians, ratios, and whether what must be reached is reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.stack.measure import Sample
from bench.stack.proc import Machine

_BEGIN, _END = "<!-- measured by python -m bench.stack: begin -->", "<!-- measured: end -->"
FLOOR = "floor"
OURS_LOG = "ours, log on, tracing off"
OURS_ALL = "ours, log on, tracing on"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """Which row of which table."""

    name: str
    latency_ms: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Results:
    """One run."""

    samples: dict[Cell, list[Sample]]
    machine: Machine
    rounds: int
    seconds: float
    date: str
    versions: dict[str, str]

    def median(self, cell: Cell, figure: Callable[[Sample], float]) -> float | None:
        """Return the median of the rounds; None where the cell was not measured."""
        samples = self.samples.get(cell)
        return None if not samples else statistics.median(figure(sample) for sample in samples)

    def tables(self) -> list[tuple[int, int]]:
        """(latency_ms, concurrency) of each table."""
        return sorted({(cell.latency_ms, cell.concurrency) for cell in self.samples})

    def names(self) -> list[str]:
        """Return the variants, in the order in which they were started."""
        return list(dict.fromkeys(cell.name for cell in self.samples))


def as_text(results: Results) -> str:
    """All tables in Markdown."""
    return "\n".join(_lines(results))


def write(results: Results, path: Path) -> None:
    """Put the tables in place of those that `path` has between its two marks."""
    text = path.read_text(encoding="utf-8") if path.exists() else f"# Results\n\n{_BEGIN}\n{_END}\n"
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    path.write_text(f"{head}{_BEGIN}\n{as_text(results)}\n{_END}{tail}", encoding="utf-8")


def _lines(results: Results) -> list[str]:
    machine = results.machine
    where = f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:.0f} GiB, Linux {machine.kernel}"
    how = f"Medians of {results.rounds} interleaved rounds of windows of {results.seconds:g} s"
    lines = [
        f"{results.date}; {where}; load average at the start {machine.load_1m:.2f}.",
        f"{how}; p99 is the median of the windows' p99.",
        "",
        ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
    ]
    for latency_ms, concurrency in results.tables():
        lines += ["", f"### Model latency {latency_ms} ms, concurrency {concurrency}", ""]
        lines += _table(results, latency_ms, concurrency)
    gates = _gates(results)
    if gates:
        lines += ["", "### What must be reached", "", "| figure | limit | " + " | ".join(_heads(results)) + " |"]
        lines += ["|---|---|" + "---|" * len(results.tables()), *gates]
    return lines


def _table(results: Results, latency_ms: int, concurrency: int) -> list[str]:
    lines = [
        "| variant | sessions/s | p50 ms | p99 ms | CPU µs | of each process | RSS MiB | CPU/floor | p50/floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    floor = Cell(FLOOR, latency_ms, concurrency)
    floor_cpu, floor_p50 = results.median(floor, _cpu), results.median(floor, _p50)
    for name in results.names():
        cell = Cell(name, latency_ms, concurrency)
        cpu, p50 = results.median(cell, _cpu), results.median(cell, _p50)
        if cpu is None or p50 is None:
            continue
        roles = results.samples[cell][0].cpu_us
        parts = ", ".join(f"{role} {_role_cpu(results, cell, role):.0f}" for role in roles)
        rss = results.median(cell, lambda sample: sum(sample.rss_mib.values()))
        lines.append(
            f"| {name} | {results.median(cell, lambda s: s.sessions_per_s):.0f} | {p50:.2f} "
            f"| {results.median(cell, lambda s: s.p99_ms):.2f} | {cpu:.0f} | {parts} | {rss:.0f} "
            f"| {_ratio(cpu, floor_cpu)} | {_ratio(p50, floor_p50)} |"
        )
    return lines


def _role_cpu(results: Results, cell: Cell, role: str) -> float:
    return statistics.median(sample.cpu_us[role] for sample in results.samples[cell])


def _heads(results: Results) -> list[str]:
    return [f"{latency_ms} ms, c={concurrency}" for latency_ms, concurrency in results.tables()]


def _gates(results: Results) -> list[str]:
    """One line a gate, one column a table."""
    rows: list[tuple[str, str, Callable[[int, int], float | None]]] = []

    def against(name: str, other: str, figure: Callable[[Sample], float]) -> Callable[[int, int], float | None]:
        def ratio(latency_ms: int, concurrency: int) -> float | None:
            one = results.median(Cell(name, latency_ms, concurrency), figure)
            two = results.median(Cell(other, latency_ms, concurrency), figure)
            return None if one is None or two is None else one / two

        return ratio

    def added(name: str, other: str) -> Callable[[int, int], float | None]:
        def ratio(latency_ms: int, concurrency: int) -> float | None:
            one = results.median(Cell(name, latency_ms, concurrency), _p50)
            two = results.median(Cell(other, latency_ms, concurrency), _p50)
            return None if one is None or two is None else (one - 2 * latency_ms) / (two - 2 * latency_ms)

        return ratio

    rows += [
        ("CPU, log on, tracing off, to the floor", "≤ 1.35", against(OURS_LOG, FLOOR, _cpu)),
        ("p50, log on, tracing off, to the floor", "≤ 1.35", against(OURS_LOG, FLOOR, _p50)),
        ("CPU, log on, tracing on, to the floor", "≤ 1.8", against(OURS_ALL, FLOOR, _cpu)),
        ("p50, log on, tracing on, to the floor", "≤ 1.8", against(OURS_ALL, FLOOR, _p50)),
    ]
    for tracing in ("off", "on"):
        ours = OURS_ALL if tracing == "on" else OURS_LOG
        rows += [
            (
                f"sessions/s to LiteLLM's proxy and a loop, tracing {tracing}",
                "≥ 5",
                against(ours, f"litellm, tracing {tracing}", lambda sample: sample.sessions_per_s),
            ),
            (
                f"added p50 to LiteLLM's proxy and a loop, tracing {tracing}",
                "≤ 0.2",
                added(ours, f"litellm, tracing {tracing}"),
            ),
        ]
    rows += [
        (f"CPU to {name}, tracing on", "≤ 1", against(OURS_ALL, f"{name}, tracing on", _cpu))
        for name in ("instructor", "pydantic-ai")
    ]
    lines = []
    for label, limit, ratio in rows:
        values = [ratio(latency_ms, concurrency) for latency_ms, concurrency in results.tables()]
        if any(value is not None for value in values):
            shown = " | ".join("" if value is None else f"{value:.2f}" for value in values)
            lines.append(f"| {label} | {limit} | {shown} |")
    return lines


def _ratio(value: float, base: float | None) -> str:
    return "" if not base else f"{value / base:.2f}"


def _cpu(sample: Sample) -> float:
    return sample.cpu_total_us


def _p50(sample: Sample) -> float:
    return sample.p50_ms
