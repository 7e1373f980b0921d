"""``python -m bench.stack``: measure everybody in one run and print the medians; with --write, put them into
bench/RESULTS.md and the chart."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.stack import job
from bench.stack.chart import draw
from bench.stack.measure import Sample, measure
from bench.stack.proc import Machine
from bench.stack.report import Cell, Results, as_text, write
from bench.stack.variants import PEERS, StartError, Variant, open_field, peers_python

_WARM_UP_S = 1.5
_OURS = ("grpcio", "protobuf", "uvloop", "aiohttp", "orjson", "structlog", "langfuse")
_THEIRS = ("instructor", "pydantic-ai-slim", "litellm", "openai", "langfuse", "uvloop")


def main() -> None:
    """Exit with 1 where a process does not come up."""
    arguments = _arguments()
    names = tuple(arguments.only.split(","))
    if set(names) & set(PEERS) and not peers_python().exists():
        _make_peers_environment()
    machine = Machine.here()
    print(f"{machine.cpu}, {machine.cores} cores, load {machine.load_1m:.2f}", flush=True)
    try:
        samples = asyncio.run(_run(names, arguments))
    except StartError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    results = Results(
        samples=samples,
        machine=machine,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        versions=_versions(bool(set(names) & set(PEERS))),
    )
    print(as_text(results))
    if arguments.before:
        print(_against_before(samples))
    if arguments.write:
        write(results, job.ROOT / "bench" / "RESULTS.md")
        (job.ROOT / "bench" / "results.svg").write_text(draw(results), encoding="utf-8")


async def _run(names: tuple[str, ...], arguments: argparse.Namespace) -> dict[Cell, list[Sample]]:
    samples: dict[Cell, list[Sample]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-stack-") as folder:
        async with open_field(Path(folder)) as field:
            variants = await field.start(names, arguments.before)
            for variant in variants:
                for concurrency in arguments.concurrency:
                    await measure(variant, concurrency=concurrency, latency_ms=0, seconds=_WARM_UP_S)
            for number in range(arguments.rounds):
                # The order turns around each round, so that a drift of the machine is nobody's advantage.
                order = variants if number % 2 == 0 else variants[::-1]
                for latency_ms in arguments.latency_ms:
                    for concurrency in arguments.concurrency:
                        for variant in order:
                            cell = Cell(variant.name, latency_ms, concurrency)
                            sample = await measure(
                                variant, concurrency=concurrency, latency_ms=latency_ms, seconds=arguments.seconds
                            )
                            samples.setdefault(cell, []).append(sample)
                print(f"round {number + 1} of {arguments.rounds}", flush=True)
            await _check_traced(variants)
    return dict(sorted(samples.items(), key=lambda each: [variant.name for variant in variants].index(each[0].name)))


async def _check_traced(variants: list[Variant]) -> None:
    """Nobody who is said to trace has traced nothing."""
    for variant in variants:
        if variant.traced:
            host, _, port = variant.sink.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /counts HTTP/1.1\r\nhost: sink\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            told = await reader.readuntil(b"}")
            writer.close()
            print(f"{variant.name}: {told.decode()}", flush=True)
            if b'"posts": 0' in told:
                raise StartError(f"{variant.name} has sent nothing to its sink")


def _against_before(samples: dict[Cell, list[Sample]]) -> str:
    """Return what became of CPU per session and p50: the medians' ratio, and the median of the rounds' pairs."""
    lines = ["", "against before (CPU per session, p50; of medians, median of pairs):"]
    for cell, ours in samples.items():
        before = samples.get(Cell(cell.name.replace("ours", "before"), cell.latency_ms, cell.concurrency))
        if before is None or not cell.name.startswith("ours"):
            continue
        parts = []
        for of in (_cpu_us, _p50_ms):
            pairs = [of(new) / of(old) for new, old in zip(ours, before, strict=True)]
            medians = statistics.median(map(of, ours)) / statistics.median(map(of, before))
            parts.append(f"{medians:.3f} {statistics.median(pairs):.3f} ({min(pairs):.2f}-{max(pairs):.2f})")
        lines.append(f"  {cell.name}, {cell.concurrency} at a time, model {cell.latency_ms} ms: {'; '.join(parts)}")
    return "\n".join(lines)


def _cpu_us(sample: Sample) -> float:
    return sample.cpu_total_us


def _p50_ms(sample: Sample) -> float:
    return sample.p50_ms


def _make_peers_environment() -> None:
    """.venv-bench, made with the uv that the development environment has."""
    environment = peers_python().parent.parent
    lock = job.ROOT / "requirements" / "bench.txt"
    print(f"making {environment.name} for the peers from {lock.relative_to(job.ROOT)}", flush=True)
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(peers_python()), "--require-hashes", "-r", str(lock)],
        check=True,
    )


def _versions(with_peers: bool) -> dict[str, str]:  # noqa: FBT001  one caller
    versions = {"CPython": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _OURS}
    if with_peers:
        script = f"import importlib.metadata as m; print(*(m.version(n) for n in {_THEIRS!r}))"
        told = subprocess.run([str(peers_python()), "-c", script], check=True, capture_output=True, text=True).stdout
        versions |= {f"peers' {name}": version for name, version in zip(_THEIRS, told.split(), strict=True)}
    return versions


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.stack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each window")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--latency-ms", type=int, nargs="+", default=list(job.LATENCIES_MS), choices=job.LATENCIES_MS)
    everybody = ",".join(("floor", "ours", *PEERS))
    parser.add_argument("--only", default=everybody, help="some of the default, with commas; or grounding, callers")
    parser.add_argument(
        "--before", type=Path, help="root of another checkout with its own .venv: ours, as it was there"
    )
    parser.add_argument("--write", action="store_true", help="put the tables and the chart of everybody into bench/")
    arguments = parser.parse_args()
    if arguments.write and arguments.only != everybody:
        parser.error("--write is for the whole field: without --only")
    return arguments


if __name__ == "__main__":
    main()
