"""What the gate costs on a large roster, and whether it holds.

    python bench/validated.py [--workers 1000000] [--postgres DSN]
    python bench/validated.py --before CHECKOUT
    python bench/validated.py --gate 100000

The first form starts ``python -m validated`` on a roster of so many workers and measures: time to load, memory,
validations a second, the server's CPU for one validation beside that for an empty RPC (a health check), latencies
while the roster is loaded again, and, in this process, what a brief of 50 candidates takes. With --postgres (or
LAKEHOUSE_TEST_POSTGRES) the same is asked of a table.

The second form measures the roster's engine of another checkout, which has a .venv of its own, and of this one in
turns: load cold and warm, private memory, look-ups of one id and of 15, suggestions; medians of the rounds.

The third form makes so many artifacts by random edits of the example roster, runs each through FillValidator, and
exits with 1 where one is accepted that an independent oracle finds wrong, or refused that it finds right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests" / "support")]

import grpc  # noqa: E402  after the path
import psycopg  # noqa: E402
from fill_edits import edited, is_right  # noqa: E402
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from rosters import EXAMPLES, example_rows  # noqa: E402

from lakehouse.strict_json.parser import read_canonical  # noqa: E402
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc  # noqa: E402
from validated.config import LimitsTable, RosterTable  # noqa: E402
from validated.datasets.file import FileRoster  # noqa: E402
from validated.datasets.index import RosterIndex  # noqa: E402
from validated.datasets.near import near_workers  # noqa: E402
from validated.datasets.postgres import PostgresRoster  # noqa: E402
from validated.datasets.worker import Draw, Question, Wanted, WorkerLookup  # noqa: E402
from validated.findings import Findings  # noqa: E402
from validated.kinds import KINDS  # noqa: E402
from validated.kinds.fill import FillValidator  # noqa: E402
from validated.kinds.fill_terms import FillTerms  # noqa: E402
from validated.kinds.spec import read_spec  # noqa: E402
from validated.kinds.validator import Task, Tools  # noqa: E402

ROLES = ("forklift operator", "picker packer", "welder", "CDL driver", "machine operator", "general laborer")
CITIES = (("Toledo", "OH"), ("Cleveland", "OH"), ("Detroit", "MI"), ("Chicago", "IL"), ("Fort Wayne", "IN"))
HEADER = "worker_id,name,role,city,state,active,certifications,latitude,longitude,phone\n"
CONCURRENCY = 16
TABLE = "bench_workers"


def write_roster(path: Path, workers: int) -> None:
    """Write a roster of `workers`, distinct ids, some 200,000 distinct names; the same for the same number."""
    random_ = random.Random(workers)
    first = [f"{name}{ending}" for name in ("Ana", "José", "Łuka", "Mei", "Omar") for ending in _syllables(80)]
    last = [f"{name}{ending}" for name in ("Sil", "Gar", "Kow", "Ngu", "O'") for ending in _syllables(100)]
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for number in range(workers):
            city, state = CITIES[random_.randrange(len(CITIES))]
            file.write(
                f"W-{number:07d},{random_.choice(first)} {random_.choice(last)},{random_.choice(ROLES)},{city},{state},"
                f"{'true' if random_.random() < 0.95 else 'false'},OSHA-10;forklift,{41 + random_.random():.4f},"
                f"{-83 - random_.random():.4f},+1-419-555-{random_.randrange(100, 200):04d}\n"
            )


def _syllables(count: int) -> list[str]:
    random_ = random.Random(count)
    return ["".join(random_.choice("aeiou") + random_.choice("lmnrst") for _ in range(3)) for _ in range(count)]


class Server:
    """One ``python -m validated``."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT / "services"), "VALIDATED_LOG_FORMAT": "json", **environ}
        self.address = ""
        self.load_ms = 0

    def __enter__(self) -> Self:
        environ = {"VALIDATED_BIND": "127.0.0.1:0", **self._environ}
        self._log = tempfile.TemporaryFile("w+b")
        self.process = subprocess.Popen([sys.executable, "-m", "validated"], env=environ, stdout=self._log)
        ends_at = time.monotonic() + 300
        while not self.address:
            for entry in self.entries():
                self.address = entry.get("address", self.address) if entry["event"] == "listening" else self.address
            if self.process.poll() is not None or time.monotonic() > ends_at:
                sys.exit(f"validated did not start: {self.entries()}")
            time.sleep(0.05)
        loads = [entry["duration_ms"] for entry in self.entries() if entry["event"] == "roster loaded"]
        self.load_ms = loads[0] if loads else 0
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._log.close()

    def entries(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in os.pread(self._log.fileno(), 1 << 26, 0).splitlines(keepends=True)
            if line.endswith(b"\n")
        ]

    def loads(self) -> int:
        return sum(entry["event"] == "roster loaded" for entry in self.entries())

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> dict[str, int]:
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        values = {
            line.split(":")[0]: int(line.split()[1]) // 1024
            for line in lines
            if line.startswith(("VmRSS", "VmHWM", "RssAnon"))
        }
        return {"rss_mb": values["VmRSS"], "heap_mb": values["RssAnon"], "peak_mb": values["VmHWM"]}


@asynccontextmanager
async def channel_to(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
        yield channel


async def flood(
    call: Callable[[int], Awaitable[Any]], count: int, concurrency: int = CONCURRENCY
) -> tuple[float, list[float]]:
    """Make `count` calls, so many at a time; wall seconds, and each call's milliseconds."""
    latencies: list[float] = []
    numbers = iter(range(count))

    async def one() -> None:
        for number in numbers:
            started = time.perf_counter()
            await call(number)
            latencies.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(concurrency)))
    return time.perf_counter() - started, latencies


def requests_for(rows: list[list[str]], *, phantom: bool = False) -> list[validated_pb2.ValidateRequest]:
    """Return requests that each name three workers of one role and city; `phantom` makes the last one up."""
    random_ = random.Random(3)
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for row in rows:
        if row[5] == "true":
            groups.setdefault((row[2], row[3], row[4]), []).append(row)
    made = []
    for (role, city, state), group in groups.items():
        for _ in range(10):
            workers = [{"worker_id": row[0], "name": row[1]} for row in random_.sample(group, 3)]
            if phantom:
                workers[-1] = {"worker_id": f"W-9{random_.randrange(10**6):06d}", "name": workers[-1]["name"][:-1]}
            fill = {"role": role, "count": 3, "city": city, "state": state}
            text = json.dumps({"workers": workers}, ensure_ascii=False)
            made.append(validated_pb2.ValidateRequest(kind="fill", fill=fill, artifact_json=text))
    random_.shuffle(made)
    return made


async def measure(server: Server, rows: list[list[str]], rounds: int, count: int) -> dict[str, Any]:
    """Validate, Validate with a phantom, and an empty RPC, in turns; medians of the rounds."""
    good, bad = requests_for(rows), requests_for(rows, phantom=True)
    figures: dict[str, list[tuple[float, float, float]]] = {"validate": [], "validate_phantom": [], "empty_rpc": []}
    async with channel_to(server.address) as channel:
        stub = validated_pb2_grpc.ValidateServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        first = await stub.Validate(good[0])
        assert first.passed, first
        second = await stub.Validate(bad[0])
        assert [finding.code for finding in second.findings] == ["PHANTOM_WORKER"], second
        assert second.findings[0].suggestions, second
        calls: dict[str, Callable[[int], Awaitable[Any]]] = {
            "validate": lambda number: stub.Validate(good[number % len(good)]),
            "validate_phantom": lambda number: stub.Validate(bad[number % len(bad)]),
            "empty_rpc": lambda _: health.Check(health_pb2.HealthCheckRequest()),
        }
        await flood(calls["validate"], count // 4)
        for _ in range(rounds):
            for name, call in calls.items():
                calls_made = count // 8 if name == "validate_phantom" else count
                before = server.cpu_s()
                wall, latencies = await flood(call, calls_made)
                cpu_us = (server.cpu_s() - before) / calls_made * 1e6
                figures[name].append((calls_made / wall, cpu_us, statistics.median(latencies)))
    return {
        name: {
            "per_second": round(statistics.median(each[0] for each in taken)),
            "server_cpu_us": round(statistics.median(each[1] for each in taken)),
            "p50_ms": round(statistics.median(each[2] for each in taken), 2),
        }
        for name, taken in figures.items()
    }


async def under_reload(server: Server, path: Path, rows: list[list[str]]) -> dict[str, Any]:
    """Latencies of validations, one at a time, before and while the roster is loaded again."""
    good = requests_for(rows)
    async with channel_to(server.address) as channel:
        stub = validated_pb2_grpc.ValidateServiceStub(channel)
        _, before = await flood(lambda number: stub.Validate(good[number % len(good)]), 500, 1)
        loads = server.loads()
        os.utime(path)
        versions: set[str] = set()
        during: list[float] = []
        while server.loads() == loads:
            for number in range(50):
                started = time.perf_counter()
                response = await stub.Validate(good[number % len(good)])
                during.append((time.perf_counter() - started) * 1000)
                versions.add(response.roster.loaded_at)
                assert response.passed
    return {
        "calls": len(during),
        "failed": 0,
        "p50_ms_before": round(statistics.median(before), 2),
        "p50_ms": round(statistics.median(during), 2),
        "p99_ms": round(statistics.quantiles(during, n=100)[98], 2),
        "max_ms": round(max(during), 2),
    }


def in_process(folder: Path, ids: list[str]) -> dict[str, Any]:
    """Microseconds of the index itself: each id is new to it, so that nothing is remembered."""
    index = RosterIndex(folder)
    random_ = random.Random(5)
    random_.shuffle(ids)

    def each_us(work: Callable[[], object], count: int) -> float:
        started = time.perf_counter()
        work()
        return round((time.perf_counter() - started) / count * 1e6, 1)

    fifteens = [ids[at : at + 15] for at in range(0, len(ids) - 15, 15)]
    wanted = [Wanted(f"W-9{random_.randrange(10**6):06d}", "Ana Silmaro") for _ in range(50)]
    pool = index.pool("welder", (("Toledo", "OH"),))
    far = time.monotonic() + 600
    return {
        "has_us": each_us(lambda: [index.has(each) for each in ids], len(ids)),
        "worker_us": each_us(lambda: [index.worker(each) for each in ids], len(ids)),
        "fifteen_us": each_us(lambda: [[index.worker(one) for one in each] for each in fifteens], len(fifteens)),
        "pool_us": each_us(lambda: [index.pool("welder", (city,)) for city in CITIES[1:]], len(CITIES) - 1),
        "near_us": each_us(lambda: [near_workers(index, (each,), pool, ends_at=far) for each in wanted], len(wanted)),
        "size_mb": sum(each.stat().st_size for each in folder.iterdir()) // 10**6,
    }


async def briefs(roster: WorkerLookup, count: int) -> dict[str, Any]:
    """Microseconds of a brief of 50 candidates, medians of `count`, each with another seed: the pool alone, and all."""
    fill = FillValidator(Tools(roster, LimitsTable()))
    asked: dict[str, dict[str, Any]] = {
        "place": {"role": "welder", "city": "Toledo", "state": "OH"},
        "certified": {"role": "welder", "city": "Toledo", "state": "OH", "required_certifications": ["osha-10"]},
        "anywhere": {"role": "welder"},
    }
    taken: dict[str, Any] = {}
    for name, terms in asked.items():
        spec = read_spec(validated_pb2.BriefRequest(kind="fill", fill={"count": 3, **terms}), KINDS)
        met_by = FillTerms.read(spec.message).met_by
        criteria = FillTerms.read(spec.message).criteria()
        pool_us: list[float] = []
        brief_us: list[float] = []
        for number in range(count):
            draw = Draw(Question(()), criteria, ("osha-10",) * (name == "certified"), f"pool-{number}", 50, 3)
            started = time.perf_counter()
            drawn = await roster.draw(draw, met_by)
            between = time.perf_counter()
            prompt = f"Three welders for Saturday, please; order {number}"
            brief = await fill.brief(spec, Task(prompt, 50, f"brief-{number}"))
            pool_us.append((between - started) * 1e6)
            brief_us.append((time.perf_counter() - between) * 1e6)
            assert len(drawn.qualified) >= 50
            assert len(brief.candidates) == 50
        taken[name] = {
            "first_pool_us": round(pool_us[0]),
            "pool_us": round(statistics.median(pool_us)),
            "pool_p99_us": round(statistics.quantiles(pool_us, n=100)[98]),
            "brief_us": round(statistics.median(brief_us)),
        }
    return taken


def fill_table(dsn: str, path: Path, workers: int) -> None:
    """Make the same roster a table, indexed as the documentation says; made anew where the count differs."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} (worker_id text, name text, role text, city text, state text, "
            "active boolean, certifications text, latitude float8, longitude float8, phone text)"
        )
        counted = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()
        if counted == (workers,):
            return
        connection.execute(f"TRUNCATE {TABLE}")
        statement = f"COPY {TABLE} FROM STDIN (FORMAT csv, HEADER true)"
        with connection.cursor() as cursor, cursor.copy(statement) as copy, path.open("rb") as file:
            while block := file.read(1 << 20):
                copy.write(block)
        connection.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {TABLE}_id ON {TABLE} (worker_id)")
        connection.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_name ON {TABLE} (lower(name))")
        connection.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_role ON {TABLE} (lower(role))")
        connection.execute(f"VACUUM ANALYZE {TABLE}")


async def gate(cases: int, seed: int) -> int:
    """Run `cases` artifacts through the gate; the number of wrong verdicts."""
    rows = [row for row in example_rows() if row["role"] == "picker packer" and row["active"] == "true"]
    known = {row["worker_id"]: row for row in example_rows()}
    random_ = random.Random(seed)
    accepted = wrongly_accepted = wrongly_refused = 0
    started = time.monotonic()
    async with FileRoster(RosterTable(path=EXAMPLES / "workers.csv"), near_ms=0).open() as roster:
        validator = FillValidator(Tools(roster, LimitsTable(suggestions_strangers_max=0)))
        for _ in range(cases):
            text = edited(random_, rows)
            artifact = json.loads(text)
            size = len(artifact.get("workers", [])) if isinstance(artifact, dict) else 1
            count = min(max(size, 1), 1000)
            fill = {"role": "picker packer", "count": count}
            findings = Findings(100)
            spec = read_spec(validated_pb2.ValidateRequest(kind="fill", fill=fill), KINDS)
            await validator.validate(read_canonical(text)[0], spec, findings)
            accepted += not findings.any
            if is_right(text, known, count, "picker packer") is findings.any:
                wrongly_accepted += not findings.any
                wrongly_refused += findings.any
                print(f"WRONGLY {'REFUSED' if findings.any else 'ACCEPTED'}: {text}")
    seconds = time.monotonic() - started
    print(
        json.dumps(
            {
                "artifacts": cases,
                "accepted": accepted,
                "false_accepts": wrongly_accepted,
                "false_rejects": wrongly_refused,
                "seconds": round(seconds, 1),
            }
        )
    )
    return wrongly_accepted + wrongly_refused


def compare(before: Path, workers: int, rounds: int) -> dict[str, Any]:
    """Return the second form: figures of `before` and of this checkout, and the machine's load in each round."""
    taken: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
    loads = []
    with tempfile.TemporaryDirectory(prefix="bench-validated-") as folder:
        path = Path(folder) / "workers.csv"
        write_roster(path, workers)
        for _ in range(rounds):
            loads.append(round(os.getloadavg()[0], 1))
            for name, root in (("before", before.resolve()), ("after", ROOT)):
                python = root / ".venv" / "bin" / "python"
                script = Path(__file__).with_name("roster_engine.py")
                ran = subprocess.run([python, script, root, path], stdout=subprocess.PIPE, cwd=root, check=True)
                taken[name].append(json.loads(ran.stdout))
    medians = {
        name: {figure: statistics.median(each[figure] for each in rounds_) for figure in rounds_[0]}
        for name, rounds_ in taken.items()
    }
    return {"workers": workers, "rounds": rounds, "load_average": loads, **medians}


async def large(arguments: argparse.Namespace) -> None:
    """Measure the first form."""
    with tempfile.TemporaryDirectory(prefix="bench-validated-") as folder:
        path = Path(folder) / "workers.csv"
        write_roster(path, arguments.workers)
        with path.open(encoding="utf-8") as file:
            next(file)
            rows = [line.rstrip("\n").split(",") for _, line in zip(range(20_000), file, strict=False)]
        result: dict[str, Any] = {"workers": arguments.workers, "file_mb": round(path.stat().st_size / 1e6, 1)}
        indexes = Path(folder) / "indexes"
        environ = {
            "VALIDATED_ROSTER__PATH": str(path),
            "VALIDATED_ROSTER__POLL_MS": "500",
            "VALIDATED_ROSTER__INDEX_DIR": str(indexes),
        }
        with Server(environ) as server:
            cold = {"load_ms": server.load_ms, **server.memory_mb()}
        with Server(environ) as server:
            # Of the memory, `heap_mb` is private; the index is a file's pages, which the kernel takes back at will.
            result["file"] = {"cold": cold, "restart_load_ms": server.load_ms, **server.memory_mb()}
            result["file"] |= await measure(server, rows, arguments.rounds, arguments.calls)
            result["file"]["under_reload"] = await under_reload(server, path, rows)
            result["file"]["after"] = server.memory_mb()
        async with FileRoster(RosterTable(path=path, index_dir=indexes), near_ms=100).open() as files:
            result["file"]["brief"] = await briefs(files, 200)
        result["file"]["index"] = in_process(next(indexes.glob("[!.]*")), [row[0] for row in rows])
        if arguments.postgres:
            fill_table(arguments.postgres, path, arguments.workers)
            environ = {
                "VALIDATED_ROSTER__BACKEND": "postgres",
                "VALIDATED_ROSTER__POSTGRES__CONNINFO": arguments.postgres,
                "VALIDATED_ROSTER__POSTGRES__TABLE": TABLE,
            }
            with Server(environ) as server:
                result["postgres"] = await measure(server, rows, arguments.rounds, arguments.calls)
                result["postgres"] |= server.memory_mb()
            table = RosterTable.model_validate(
                {"backend": "postgres", "postgres": {"conninfo": arguments.postgres, "table": TABLE}}
            )
            async with PostgresRoster(table, arguments.postgres, near_ms=100).open() as database:
                result["postgres"]["brief"] = await briefs(database, 10)
        result["client_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(result, indent=2))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Measures validated on a large roster.")
    parser.add_argument("--workers", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4000, help="calls of each sort in a round")
    parser.add_argument("--postgres", default=os.environ.get("LAKEHOUSE_TEST_POSTGRES", ""), metavar="DSN")
    parser.add_argument("--gate", type=int, default=0, metavar="N", help="run N artifacts through the gate instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--before", type=Path, metavar="CHECKOUT", help="another checkout's roster engine beside this one"
    )
    arguments = parser.parse_args()
    if arguments.before:
        print(json.dumps(compare(arguments.before, arguments.workers, arguments.rounds), indent=2))
        return
    if arguments.gate:
        sys.exit(1 if asyncio.run(gate(arguments.gate, arguments.seed)) else 0)
    asyncio.run(large(arguments))


if __name__ == "__main__":
    main()
