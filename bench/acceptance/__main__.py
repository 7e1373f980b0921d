"""``python -m bench.acceptance``: how often a real model's answer passes the gate, by what it gets to know.

SmolLM2-135M-Instruct behind llama-cpp-python's server, the three services as processes, tasks drawn from the example
roster. Needs `make conformance`; starts and ends all else itself.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.acceptance.chart import draw
from bench.acceptance.report import Report, write
from bench.acceptance.run import run
from bench.acceptance.servers import PYTHON, ROSTER, ModelError, find_model, running_bench, running_model
from bench.acceptance.sessions import read
from bench.acceptance.tasks import draw_tasks, read_workers
from bench.stack.job import ROOT
from bench.stack.proc import Machine

from lakehouse.cli.stack import StackError

_VERSIONS = "import importlib.metadata as m; print('llama-cpp-python', m.version('llama-cpp-python'))"


def main() -> None:
    """Exit with 1 where a process does not come up, or where a phantom was accepted."""
    arguments = _arguments()
    try:
        find_model()
        versions = subprocess.run([str(PYTHON), "-c", _VERSIONS], check=True, capture_output=True, text=True)
        report = asyncio.run(_run(arguments, versions.stdout.strip()))
    except (ModelError, StackError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    print(report.text())
    if arguments.write:
        write(report.text(), ROOT / "bench" / "RESULTS.md")
        (ROOT / "bench" / "acceptance.svg").write_text(draw(report.arms), encoding="utf-8")
    if any(arm.phantoms for arm in report.arms):
        sys.exit(1)


async def _run(arguments: argparse.Namespace, versions: str) -> Report:
    machine = Machine.here()
    workers = read_workers(ROSTER)
    tasks = draw_tasks(workers, arguments.tasks, arguments.seed, candidates=arguments.candidates)
    with tempfile.TemporaryDirectory(prefix="bench-acceptance-") as scratch:
        folder = Path(scratch) if arguments.keep is None else arguments.keep
        folder.mkdir(parents=True, exist_ok=True)
        async with (
            running_model(folder, threads=arguments.threads) as model,
            running_bench(model, folder, candidates=arguments.candidates) as bench,
        ):
            ran = await run(
                bench,
                tasks,
                seed=arguments.seed,
                candidates=arguments.candidates,
                timeout_s=arguments.timeout,
                until_s=time.monotonic() + arguments.minutes * 60,
                say=lambda line: print(line, flush=True),
            )
        return Report(
            arms=read(ran, bench.logs, workers, arguments.seed),
            sent=bench.sent,
            machine=machine,
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            seed=arguments.seed,
            candidates=arguments.candidates,
            threads=arguments.threads,
            versions=versions,
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.acceptance", description=__doc__)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--seed", type=int, default=16, help="of the tasks and of the candidates")
    parser.add_argument("--candidates", type=int, default=16, help="the most that are offered")
    parser.add_argument("--threads", type=int, default=1, help="of the model's server")
    parser.add_argument("--timeout", type=float, default=600.0, help="of one session, seconds")
    parser.add_argument("--minutes", type=float, default=45.0, help="no task is begun after that")
    parser.add_argument("--keep", type=Path, help="a new folder for the session logs, to look into")
    parser.add_argument("--write", action="store_true", help="put the tables into bench/RESULTS.md, with a chart")
    return parser.parse_args()


if __name__ == "__main__":
    main()
