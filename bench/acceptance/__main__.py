"""``python -m bench.acceptance``: how often a real model's answer passes the gate, by what it gets to know.

SmolLM2-135M-Instruct behind llama-cpp-python's server, the three services as processes, tasks drawn from the example
roster. Needs `make conformance`; starts and ends all else itself.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path

from bench.acceptance.chart import draw
from bench.acceptance.report import Report, write
from bench.acceptance.run import Ran, run, together
from bench.acceptance.servers import PYTHON, ROSTER, ModelError, find_model, running_bench, running_model
from bench.acceptance.sessions import read
from bench.acceptance.tasks import Task, draw_tasks, read_workers
from bench.stack.job import ROOT
from bench.stack.proc import Machine

from lakehouse.cli.stack import StackError

_VERSIONS = "import importlib.metadata as m; print('llama-cpp-python', m.version('llama-cpp-python'))"


def main() -> None:
    """Exit with 1 where a process does not come up, or where a phantom was accepted."""
    arguments = _arguments()
    report, failure = None, ""
    try:
        find_model()
        versions = subprocess.run([str(PYTHON), "-c", _VERSIONS], check=True, capture_output=True, text=True)
        report = asyncio.run(_run(arguments, versions.stdout.strip()))
    except* (ModelError, StackError) as errors:
        failure = "\n".join(map(str, errors.exceptions))
    except* asyncio.CancelledError:
        failure = "interrupted: nothing was written"
    if report is None:
        sys.exit(failure)
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
        folders = [folder / f"lane-{lane}" for lane in range(arguments.lanes)]
        for each in folders:
            each.mkdir(parents=True)
        until_s = time.monotonic() + arguments.minutes * 60
        waiting = deque(tasks)
        _end_by_signal()
        async with asyncio.TaskGroup() as lanes:
            started = [lanes.create_task(_lane(arguments, waiting, each, until_s)) for each in folders]
        ran = together([lane.result()[0] for lane in started])
        sent: dict[str, Counter[str]] = {}
        for lane in started:
            for arm, counted in lane.result()[1].items():
                sent[arm] = sent.get(arm, Counter()) + counted
        return Report(
            arms=read(ran, folders, workers, arguments.seed),
            sent=sent,
            machine=machine,
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            seed=arguments.seed,
            candidates=arguments.candidates,
            threads=arguments.threads,
            lanes=arguments.lanes,
            versions=versions,
        )


async def _lane(
    arguments: argparse.Namespace, waiting: deque[Task], folder: Path, until_s: float
) -> tuple[Ran, dict[str, Counter[str]]]:
    """Run some of the tasks, with a model's server and services of their own; and what chatd sent."""
    async with (
        running_model(folder, threads=arguments.threads) as llama_url,
        running_bench(llama_url, folder, candidates=arguments.candidates) as bench,
    ):
        ran = await run(
            bench,
            waiting,
            seed=arguments.seed,
            candidates=arguments.candidates,
            thin=arguments.thin,
            timeout_s=arguments.timeout,
            until_s=until_s,
            say=lambda line: print(line, flush=True),
        )
        return ran, bench.sent


def _end_by_signal() -> None:
    """Make Ctrl-C and SIGTERM cancel this task, so that all that was started ends; also where SIGINT was ignored, as in
    a shell's background."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.acceptance", description=__doc__)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--seed", type=int, default=16, help="of the tasks and of the candidates")
    parser.add_argument("--candidates", type=int, default=16, help="the most that are offered")
    parser.add_argument("--threads", type=int, default=1, help="of the model's server")
    parser.add_argument(
        "--lanes", type=int, default=1, help="so many model's servers, each with its share of the tasks"
    )
    parser.add_argument("--thin", type=int, default=1, help="without a schema, ask for every so many-th task alone")
    parser.add_argument("--timeout", type=float, default=600.0, help="of one session, seconds")
    parser.add_argument("--minutes", type=float, default=45.0, help="no task is begun after that")
    parser.add_argument("--keep", type=Path, help="a new folder for the session logs, to look into")
    parser.add_argument("--write", action="store_true", help="put the tables into bench/RESULTS.md, with a chart")
    return parser.parse_args()


if __name__ == "__main__":
    main()
