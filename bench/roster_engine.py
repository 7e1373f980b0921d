"""What a file roster costs in this process: one JSON object on standard output, for ``bench/validated.py --before``.

    python bench/roster_engine.py CHECKOUT WORKERS.CSV

It runs under the interpreter of CHECKOUT, this one or an older one, and asks only for what both have: a roster is
opened, asked for ids, and asked for suggestions.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ASKED = 400
PLACES = (("Toledo", "OH"), ("Cleveland", "OH"), ("Detroit", "MI"), ("Chicago", "IL"), ("Fort Wayne", "IN"))


def memory_mb() -> dict[str, int]:
    """Private memory, and memory files: nobody else has those, and the kernel cannot take them back either."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kb = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))}
    return {"private_mb": kb["RssAnon"] // 1024, "memory_file_mb": kb["RssShmem"] // 1024}


async def median_us(work: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Return the median of the microseconds that `work` takes on each of `items`."""
    taken = []
    for item in items:
        started = time.perf_counter()
        await work(item)
        taken.append((time.perf_counter() - started) * 1e6)
    return round(statistics.median(taken), 1)


async def measure(root: Path, path: Path) -> dict[str, Any]:
    """Open the roster twice, the second time with whatever the first one left, and ask it."""
    sys.path[:0] = [str(root / "services")]
    package = "datasets" if (root / "services" / "validated" / "datasets").is_dir() else "roster"
    config = importlib.import_module("validated.config")
    file = importlib.import_module(f"validated.{package}.file")
    worker = importlib.import_module(f"validated.{package}.worker")
    figures: dict[str, Any] = {}
    before = memory_mb()
    for load in ("load_cold_s", "load_warm_s"):
        started = time.perf_counter()
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        async with file.FileRoster(config.RosterTable(path=path), near_ms=1000).open() as roster:
            figures[load] = round(time.perf_counter() - started, 2)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
            figures[load.replace("_s", "_cpu_s")] = round(cpu_s, 2)
            if load == "load_warm_s":
                figures |= {f"{name}_after_load": kept - before[name] for name, kept in memory_mb().items()}
                figures |= await ask(roster, worker)
                figures |= {name: kept - before[name] for name, kept in memory_mb().items()}
    figures["loader_peak_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return figures


async def ask(roster: Any, worker: Any) -> dict[str, float]:
    """Each id, and each stranger, is new to the roster, so that nothing is remembered."""
    random_ = random.Random(5)
    ids = [f"W-{number:07d}" for number in random_.sample(range(roster.version.row_count), ASKED * 16)]
    fifteens = [ids[at : at + 15] for at in range(ASKED, len(ids), 15)]
    found = (await roster.look_up(worker.Question(fifteens[0]))).found
    assert len(found) == 15, found

    async def look_up(worker_ids: Any) -> None:
        await roster.look_up(worker.Question(worker_ids))

    async def suggest(asked: Any) -> None:
        answer = await roster.look_up(worker.Question((asked[0].worker_id,)))
        await answer.near((asked[0],), worker.Criteria("welder", (asked[1],)))

    strangers = [
        (worker.Wanted(f"W-9{random_.randrange(10**6):06d}", "Ana Silmaro"), PLACES[at % len(PLACES)])
        for at in range(100 + len(PLACES))
    ]
    return {
        "look_up_us": await median_us(look_up, [(each,) for each in ids[:ASKED]]),
        "look_up_15_us": await median_us(look_up, fifteens[1:]),
        "pool_and_suggestion_us": await median_us(suggest, strangers[: len(PLACES)]),
        "suggestion_us": await median_us(suggest, strangers[len(PLACES) :]),
    }


def main() -> None:
    """See the module's docstring."""
    root, path = (Path(each).resolve() for each in sys.argv[1:3])
    with tempfile.TemporaryDirectory(prefix="bench-indexes-") as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        output, sys.stdout = sys.stdout, sys.stderr
        print(json.dumps(asyncio.run(measure(root, path))), file=output)


if __name__ == "__main__":
    main()
