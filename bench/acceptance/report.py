"""The figures as Markdown, and their place in bench/RESULTS.md."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.acceptance.sessions import ArmFigures, Choice
from bench.stack.proc import Machine

_BEGIN: Final = "<!-- measured by python -m bench.acceptance: begin -->"
_END: Final = "<!-- measured by python -m bench.acceptance: end -->"


@dataclass(frozen=True, slots=True)
class Report:
    """One run."""

    arms: Sequence[ArmFigures]
    sent: Mapping[str, Counter[str]]
    machine: Machine
    date: str
    seed: int
    candidates: int
    threads: int
    lanes: int
    versions: str

    def text(self) -> str:
        """All tables in Markdown."""
        return "\n".join(
            [*self._head(), "", *self._accepted(), "", *self._price(), "", *self._choice(), "", *self._rest()]
        )

    def _head(self) -> list[str]:
        ran = self.arms[0].ran
        machine = self.machine
        pairs = sum(not ran.has_slots(task) for task in ran.tasks)
        where = f"{machine.cpu}, {machine.cores} cores, load average at the start {machine.load_1m:.1f}"
        model = f"SmolLM2-135M-Instruct (Q4_1), threads: {self.threads}, n_ctx 8192, greedy; {self.lanes} servers"
        tasks = f"{len(ran.tasks)} tasks (seed {self.seed}), at most {self.candidates} candidates"
        scarce = f"{pairs} with fewer than twice as many as they need (pairs, no slots)"
        return [
            f"{self.date}; {where}; {self.versions}.",
            f"{model}; {tasks}, {scarce}; {ran.seconds / 60:.0f} minutes.",
        ]

    def _accepted(self) -> list[str]:
        heads = ["arm", "accepted at attempt 1", "within 3", "at attempt 1, pairs alone"]
        heads += ["attempts a session", "attempts with such findings", "phantoms accepted"]
        lines = _head(heads)
        for arm in self.arms:
            found = ", ".join(f"{code} {number}" for code, number in arm.findings.most_common()) or "none"
            within = str(arm.in_all) if arm.arm.attempts > 1 else ""
            lines.append(
                f"| {arm.arm.name} | {arm.at_first} | {within} | {arm.of(slots=False).at_first} "
                f"| {arm.answers / max(len(arm.rows), 1):.2f} | {found} | {arm.phantoms} |"
            )
        return lines

    def _price(self) -> list[str]:
        heads = ["per accepted answer", "tokens", "s, whole session", "CPU ms of our three processes, waiting included"]
        lines = _head([*heads, "s of a first attempt whose prompt was not read before (median)"])
        for arm in self.arms:
            tokens = arm.per_accepted(sum(row.tokens for row in arm.rows))
            took_s = arm.per_accepted(sum(row.duration_ms for row in arm.rows) / 1000)
            cpu_ms = arm.per_accepted(arm.cpu_s * 1000)
            first = f"{statistics.median(arm.first_ms) / 1000:.1f}" if arm.first_ms else ""
            figures = f"{_of(tokens)} | {_of(took_s, 1)} | {_of(cpu_ms)}"
            lines.append(f"| {arm.arm.name} | {figures} | {first} |")
        return lines

    def _choice(self) -> list[str]:
        lines = _head(["workers of accepted answers who meet the wish", "slots", "by chance", "pairs", "by chance"])
        for arm in self.arms:
            if arm.in_all.hits:
                slots, pairs = arm.of(slots=True).choice, arm.of(slots=False).choice
                lines.append(f"| {arm.arm.name} | {slots.met} | {_chance(slots)} | {pairs.met} | {_chance(pairs)} |")
        return lines

    def _rest(self) -> list[str]:
        lines = []
        for arm in self.arms:
            sent = ", ".join(
                f"{name} {number}" for name, number in self.sent.get(arm.arm.name, Counter()).most_common()
            )
            ended = sum(row.no_progress for row in arm.rows)
            degraded = sum(row.degraded for row in arm.rows)
            more = f"; {ended} sessions ended since an answer came again" if arm.arm.attempts > 1 else ""
            more += f"; {degraded} briefs degraded" if degraded else ""
            lines.append(f"- {arm.arm.name}: chatd sent {sent or 'nothing'}{more}.")
        return lines


def write(text: str, path: Path) -> None:
    """Put the tables in place of those that `path` has between its two marks; at its end where it has none."""
    old = path.read_text(encoding="utf-8")
    if _BEGIN not in old:
        old = f"{old.rstrip()}\n\n{_BEGIN}\n{_END}\n"
    head, _, rest = old.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    path.write_text(f"{head}{_BEGIN}\n{text}\n{_END}{tail}", encoding="utf-8")


def _head(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", "|---" * len(cells) + "|"]


def _of(value: float | None, digits: int = 0) -> str:
    return "none" if value is None else f"{value:,.{digits}f}"


def _chance(choice: Choice) -> str:
    return "" if math.isnan(choice.by_chance) else f"{choice.by_chance:.0%}".replace("%", " %")
