"""The gate of the peers: the rules of kind "fill" in pure Python, over the same roster, loaded once.

As thorough as validated with one exception in their favour: a phantom gets the first workers who would qualify, not the
ones whose name or id is nearest.
"""

from __future__ import annotations

import csv
from functools import cache
from typing import Any

from bench.stack import job
from pydantic import BaseModel, ConfigDict


class Worker(BaseModel):
    """One worker of an artifact."""

    model_config = ConfigDict(extra="forbid")
    worker_id: str
    name: str
    role: str = ""
    city: str = ""
    state: str = ""


class Fill(BaseModel):
    """The artifact."""

    model_config = ConfigDict(extra="forbid")
    workers: list[Worker]


@cache
def _roster() -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    with job.ROSTER.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    fit = [row for row in rows if not list(_breaches(row))]
    return {row["worker_id"]: row for row in rows}, fit


def findings(artifact: Fill) -> list[str]:
    """Return what is wrong with an artifact, one sentence each."""
    by_id, fit = _roster()
    found: list[str] = []
    workers = artifact.workers
    if len(workers) != job.COUNT:
        found.append(f"COUNT at /workers: {len(workers)} workers where exactly {job.COUNT} were asked for")
    first_at: dict[str, int] = {}
    for index, worker in enumerate(workers):
        at = f"/workers/{index}"
        first = first_at.setdefault(worker.worker_id, index)
        if first != index:
            found.append(f'DUPLICATE_WORKER at {at}: "{worker.worker_id}" already stands at /workers/{first}')
        row = by_id.get(worker.worker_id)
        if row is None:
            taken = {each.worker_id for each in workers}
            free = [each for each in fit if each["worker_id"] not in taken][:3]
            names = ", ".join(f"{each['worker_id']} {each['name']}" for each in free)
            found.append(
                f'PHANTOM_WORKER at {at}/worker_id: "{worker.worker_id}" is not in the roster: no such worker exists; '
                f"workers who would qualify: {names}"
            )
            continue
        if worker.name != row["name"]:
            found.append(
                f'NAME_MISMATCH at {at}/name: {worker.worker_id} is "{row["name"]}" in the roster, not "{worker.name}"'
            )
        for name in ("role", "city", "state"):
            stated: str = getattr(worker, name)
            if stated and stated.casefold() != row[name].casefold():
                found.append(f'STATED_FACT_MISMATCH at {at}/{name}: it is "{row[name]}" in the roster, not "{stated}"')
        found += [f"{breach} at {at}/worker_id" for breach in _breaches(row)]
    return found


def feedback(found: list[str]) -> str:
    """Return what the model is told."""
    return "Your answer was checked against the ground truth and rejected:\n" + "\n".join(found)


def confirm(artifact: Any) -> None:
    """Raise AssertionError where a session did not end with the second answer."""
    if not isinstance(artifact, Fill) or artifact.workers[-1].worker_id == "W-999999":
        raise AssertionError(f"not the job: {artifact!r}"[:300])


def _breaches(row: dict[str, str]) -> list[str]:
    breaches = []
    if row["active"].casefold() != "true":
        breaches.append("INACTIVE_WORKER")
    if row["role"].casefold() != job.ROLE.casefold():
        breaches.append("WRONG_ROLE")
    if row["city"].casefold() != job.CITY.casefold():
        breaches.append("WRONG_CITY")
    if row["state"].casefold() != job.STATE.casefold():
        breaches.append("WRONG_STATE")
    return breaches
