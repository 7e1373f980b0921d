"""How well kind email tells messages about the fill from messages about others.

    python bench/messages.py [--cases 3000] [--seed 1]

Makes so many labelled messages of the example roster and of adversarial ones, prints a JSON line of false accepts and
false rejects with the milliseconds that a message takes, and exits with 1 where a message about others passes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests" / "support")]

import message_cases  # noqa: E402  after the path
from rosters import judge, write_csv  # noqa: E402

from validated.config import LimitsTable, RosterTable  # noqa: E402
from validated.datasets.file import FileRoster  # noqa: E402
from validated.kinds.email import EmailValidator  # noqa: E402
from validated.kinds.validator import Tools  # noqa: E402


async def run(cases: int, seed: int) -> int:
    """Return the number of false accepts."""
    draw = random.Random(seed)
    wrong: Counter[str] = Counter()
    took_ms: list[float] = []
    labels: Counter[bool] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in message_cases.rosters().items():
            table = RosterTable(path=write_csv(Path(folder) / f"{name}.csv", rows))
            async with FileRoster(table, near_ms=0).open() as roster:
                gate = EmailValidator(Tools(roster, LimitsTable()))
                for _ in range(cases // len(message_cases.rosters())):
                    case = message_cases.case(draw, rows)
                    labels[case.is_bad] += 1
                    started = time.perf_counter()
                    findings, _ = await judge(
                        gate,
                        case.artifact,
                        kind="email",
                        worker_ids=case.worker_ids,
                        allowed_names=message_cases.ALLOWED_NAMES,
                        allowed_numbers=message_cases.ALLOWED_NUMBERS,
                    )
                    took_ms.append((time.perf_counter() - started) * 1000)
                    if findings.any != case.is_bad:
                        wrong["false_accepts" if case.is_bad else "false_rejects"] += 1
                        what = [finding.message for finding in findings.kept]
                        print(f"{name}: {case.form}: {case.artifact} {what}", file=sys.stderr)
    print(
        json.dumps(
            {
                "about_others": labels[True],
                "innocent": labels[False],
                "false_accepts": wrong["false_accepts"],
                "false_rejects": wrong["false_rejects"],
                "p50_ms": round(statistics.median(took_ms), 2),
                "p99_ms": round(statistics.quantiles(took_ms, n=100)[98], 2),
            }
        )
    )
    return wrong["false_accepts"]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Judges labelled messages.")
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(1 if asyncio.run(run(arguments.cases, arguments.seed)) else 0)


if __name__ == "__main__":
    main()
