"""What the session logs say of a run: the product is asked about itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.acceptance.arms import ARMS, Arm, order
from bench.acceptance.figures import Share, chance
from bench.acceptance.run import Ran, session_id
from bench.acceptance.tasks import Task, Worker

from lakehouse.sessions.query.reader import SessionReader

_ROWS: Final = """
    SELECT session_id, final_verdict, artifact, attempts, input_tokens + output_tokens AS tokens, duration_ms,
        coalesce(no_progress, false) AS no_progress, coalesce(brief.degraded, false) AS degraded, brief.candidates
    FROM sessions
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One session."""

    task: Task
    verdict: str
    artifact: str
    attempts: tuple[Mapping[str, Any], ...]
    tokens: int
    duration_ms: int
    no_progress: bool
    degraded: bool

    @property
    def accepted(self) -> bool:
        """Whether an answer passed the gate."""
        return self.verdict == "accepted"

    @property
    def accepted_at_first(self) -> bool:
        """Whether the first one did."""
        return bool(self.attempts) and self.attempts[0]["verdict"] == "accepted"

    @property
    def chosen(self) -> list[tuple[str, str]]:
        """Id and name of each worker of the accepted answer."""
        return [(each["worker_id"], each["name"]) for each in json.loads(self.artifact)["workers"]]


@dataclass(frozen=True, slots=True)
class Choice:
    """How the workers of accepted answers were chosen."""

    met: Share
    """Who meets the prompt's wish."""
    by_chance: float
    """The share to be expected of a blind choice from what was offered."""


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What one arm gave."""

    arm: Arm
    rows: tuple[Row, ...]
    cpu_s: float
    """Of our three processes, over all its sessions."""
    ran: Ran
    roster: Mapping[str, str]
    """Names by id."""

    @property
    def at_first(self) -> Share:
        """Sessions whose first answer was accepted."""
        return Share(sum(row.accepted_at_first for row in self.rows), len(self.rows))

    @property
    def in_all(self) -> Share:
        """Sessions that ended with an accepted answer."""
        return Share(sum(row.accepted for row in self.rows), len(self.rows))

    @property
    def answers(self) -> int:
        """Model calls."""
        return sum(len(row.attempts) for row in self.rows)

    @property
    def findings(self) -> Counter[str]:
        """How many attempts had a finding of that code, were unparsable, or failed."""
        found: Counter[str] = Counter()
        for row in self.rows:
            for attempt in row.attempts:
                codes = {finding["code"] for finding in attempt["findings"] or ()}
                found.update(codes or ({attempt["verdict"]} - {"accepted"}))
        return found

    @property
    def phantoms(self) -> int:
        """Workers of accepted answers whom the roster's file does not have by that id and name."""
        return sum(
            self.roster.get(worker_id) != name for row in self.rows if row.accepted for worker_id, name in row.chosen
        )

    def per_accepted(self, total: float) -> float | None:
        """`total` by accepted answers; None where there are none."""
        accepted = self.in_all.hits
        return total / accepted if accepted else None

    @property
    def first_ms(self) -> list[int]:
        """Model time of each first attempt whose prompt the server had not read for another arm."""
        return [
            row.attempts[0]["chat_ms"]
            for row in self.rows
            if row.attempts
            and (not self.arm.is_grounded or _grounded_first(row.task, self.ran.thin).provider == self.arm.provider)
        ]

    def of(self, *, slots: bool) -> ArmFigures:
        """Return the tasks alone that were offered slots, or those that were offered one list."""
        rows = [row for row in self.rows if self.ran.has_slots(row.task) == slots]
        return ArmFigures(self.arm, tuple(rows), 0.0, self.ran, self.roster)

    @property
    def choice(self) -> Choice:
        """Over all workers of accepted answers."""
        hits = of = 0
        expected = 0.0
        for row in self.rows:
            if not row.accepted:
                continue
            offered = self.ran.offered[row.task.number]
            meets = {
                each["worker_id"]: row.task.wish.met_by(each.get("city", ""), each.get("certifications", ()))
                for each in offered.candidates
            }
            chosen = [worker_id for worker_id, _ in row.chosen]
            hits += sum(meets.get(worker_id, False) for worker_id in chosen)
            of += len(chosen)
            expected += len(chosen) * chance(list(meets.values()), offered.slots)
        return Choice(Share(hits, of), expected / of if of else float("nan"))


def read(ran: Ran, folders: Sequence[Path], workers: Iterable[Worker], seed: int) -> list[ArmFigures]:
    """Every arm's figures, from its logs in `folders`."""
    roster = {worker.worker_id: worker.name for worker in workers}
    by_id = {session_id(task, seed): task for task in ran.tasks}
    found = {
        arm.name: {task: row for folder in folders for task, row in _rows(arm.log_in(folder), by_id).items()}
        for arm in ARMS
    }
    figures = []
    for arm in ARMS:
        rows = []
        used = []
        for task in ran.tasks:
            # What could only be the same as its twin's was not asked for again.
            asked = arm if (task.number, arm.name) in ran.cpu_s or arm.twin is None else arm.twin
            if (task.number, asked.name) not in ran.cpu_s:
                continue
            rows.append(found[asked.name][task.number])
            used.append(ran.cpu_s[task.number, asked.name])
        figures.append(ArmFigures(arm, tuple(rows), sum(used), ran, roster))
    return figures


def _rows(log: Path, by_id: Mapping[str, Task]) -> dict[int, Row]:
    """Return the rows by the number of their task; none where there is no log."""
    if not log.exists():
        return {}
    with SessionReader(log) as reader:
        names, found = reader.query(_ROWS)
        rows = [dict(zip(names, values, strict=True)) for values in found]
    return {
        by_id[row["session_id"]].number: _row(row, by_id[row["session_id"]])
        for row in rows
        if row["session_id"] in by_id
    }


def _row(row: Mapping[str, Any], task: Task) -> Row:
    return Row(
        task=task,
        verdict=row["final_verdict"],
        artifact=row["artifact"] or "",
        attempts=tuple(row["attempts"]),
        tokens=row["tokens"],
        duration_ms=row["duration_ms"],
        no_progress=row["no_progress"],
        degraded=row["degraded"],
    )


def _grounded_first(task: Task, thin: int) -> Arm:
    return next(arm for arm in order(task.number, thin) if arm.is_grounded)
