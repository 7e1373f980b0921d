"""The job of the comparison, the same for everybody: two attempts, 4 KB of prompt, 1.5 KB of answer.

Fifteen forklift operators in Toledo are asked for. The first answer names fourteen of the roster and one who does not
exist, the second fifteen who do. Standard library alone: it is imported by processes of three environments.
"""

from __future__ import annotations

import csv
import json
import random
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROSTER = ROOT / "examples" / "roster" / "workers.csv"

ROLE, CITY, STATE, COUNT = "forklift operator", "Toledo", "OH", 15
MODEL = "fake-1"
PROMPT_BYTES = 4096
LATENCIES_MS = (0, 50)


@cache
def prompt(size: int = PROMPT_BYTES) -> str:
    """Return what the caller asks, exactly `size` bytes of UTF-8: the task, then notes as long as people write them."""
    draw = random.Random(7)
    words = ["".join(draw.choices("etaoinshrdlucmfwyp", k=draw.randint(2, 9))) for _ in range(400)]
    task = f"Fill {COUNT} {ROLE}s in {CITY}, {STATE} for Saturday's early shift. Notes of the client:\n"
    notes = " ".join(draw.choices(words, k=PROMPT_BYTES // 3))
    return (task + notes)[:size]


@cache
def answers() -> tuple[str, str]:
    """Return the model's first and second answer, about 1.5 KB each."""
    with ROSTER.open(encoding="utf-8", newline="") as file:
        fit = [
            {"worker_id": row["worker_id"], "name": row["name"], "role": ROLE, "city": CITY, "state": STATE}
            for row in csv.DictReader(file)
            if (row["role"], row["city"], row["state"], row["active"]) == (ROLE, CITY, STATE, "true")
        ][:COUNT]
    phantom = {"worker_id": "W-999999", "name": "Nobody Atall", "role": ROLE, "city": CITY, "state": STATE}
    return _artifact([*fit[:-1], phantom]), _artifact(fit)


def _artifact(workers: list[dict[str, str]]) -> str:
    return json.dumps({"workers": workers}, ensure_ascii=False, separators=(",", ":"))
