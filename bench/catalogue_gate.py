"""Whether a declared kind holds: quotes over examples/catalogue, right or a slip or two away, against an oracle in
words of its own (tests/support/catalogue.py).

    python bench/catalogue_gate.py [--quotes 1000000] [--processes 2] [--seed 18]

Each quote is judged in this process, by the kind as it is declared, its rule included. Exits with 1 where one is
accepted that the oracle finds wrong, or refused that it finds right.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import multiprocessing
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests" / "support")]

from catalogue import QUOTE, a_quote, a_spec, catalogue_table, is_right, products  # noqa: E402  after the path

from lakehouse.strict_json.parser import print_canonical, read_canonical  # noqa: E402
from validated.config import LimitsTable  # noqa: E402
from validated.datasets.loaded_dataset import Datasets  # noqa: E402
from validated.findings import Findings  # noqa: E402
from validated.kinds.declared.kind import DeclaredKind  # noqa: E402
from validated.kinds.spec import Spec  # noqa: E402

SHOWN_MAX = 5
PART = 20_000


async def judge(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Judge so many quotes: {quotes, accepted, false_accepts, false_rejects, codes, cpu_s, examples}."""
    rows = products()
    skus = list(rows)
    draws = random.Random(seed)
    codes: collections.Counter[str] = collections.Counter()
    wrong: dict[str, list[str]] = {"false_accepts": [], "false_rejects": []}
    accepted, cpu_s = 0, time.process_time()
    async with Datasets({"catalogue": catalogue_table(folder)}).open() as datasets:
        kind = DeclaredKind(QUOTE, datasets, LimitsTable(suggestions_strangers_max=0))
        for _ in range(count):
            spec = a_spec(draws)
            quote = a_quote(draws, spec, rows, skus)
            findings = Findings(100)
            # What iterate sends: the canonical text, read once.
            value, text = read_canonical(json.dumps(quote))
            await kind.validate(value, Spec("quote", None, print_canonical(spec)), findings)
            codes.update(findings.codes())
            accepted += not findings.any
            if is_right(quote, spec, rows) == findings.any:
                name = "false_rejects" if findings.any else "false_accepts"
                wrong[name].append(f"{text} {spec} {findings.kept[:2]}")
    return {
        "quotes": count,
        "accepted": accepted,
        "codes": dict(codes),
        "cpu_s": time.process_time() - cpu_s,
        **{name: len(found) for name, found in wrong.items()},
        "examples": [each for found in wrong.values() for each in found[:SHOWN_MAX]],
    }


def work(given: tuple[int, int, str]) -> dict[str, Any]:
    """Judge one process's part."""
    count, seed, folder = given
    return asyncio.run(judge(count, seed, Path(folder)))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--quotes", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=18, help="of the first part; each has the next one")
    given = parser.parse_args()
    started = time.monotonic()
    report: dict[str, Any] = dict.fromkeys(("quotes", "accepted", "false_accepts", "false_rejects", "cpu_s"), 0)
    codes: collections.Counter[str] = collections.Counter()
    sizes = [min(PART, given.quotes - at) for at in range(0, given.quotes, PART)]
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        jobs = [(size, given.seed + at, folder) for at, size in enumerate(sizes)]
        # A part is reported when it is done: what is cut off has shown something.
        for part in pool.imap_unordered(work, jobs):
            codes.update(part.pop("codes"))
            for example in part.pop("examples"):
                print(example)
            report = {name: round(total + part[name], 1) for name, total in report.items()}
            print(json.dumps({**report, "wall_s": round(time.monotonic() - started, 1)}), flush=True)
    print(json.dumps({"codes": dict(codes.most_common())}))
    sys.exit(1 if report["false_accepts"] or report["false_rejects"] else 0)


if __name__ == "__main__":
    main()
