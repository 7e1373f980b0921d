"""What sessions and health checks wait for while the session log's volume stands still.

    python bench/frozen_disk.py [--seconds 5] [--rate 50]

Makes an ext4 image on a loop device (root, `mkfs.ext4`, `fsfreeze`), starts the three services with the log on it, asks
sessions at a fixed rate for so many seconds, and for as many with the volume frozen. Prints p50 and p99 of both and the
slowest health check; exit status 1 where the p99 passes the unfrozen one + 2 x append_wait_ms + 10 ms, where a health
check was not SERVING, or where a row is missing afterwards. Says so and exits with 0 where a volume cannot be frozen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lakehouse.cli.stack import free_port_binds, running_stack
from lakehouse.clients import AsyncIterateClient
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.validated.v1 import validated_pb2

ROOT = Path(__file__).resolve().parent.parent
APPEND_WAIT_MS = 20


class CannotFreezeError(Exception):
    """Why no volume can be frozen here."""


@contextlib.contextmanager
def volume(folder: Path) -> Iterator[Path]:
    """Yield a mounted file system of its own."""
    image, mount = folder / "image", folder / "volume"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(mount)]):
        run(command)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=False)


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CannotFreezeError(f"{command[0]} is not here") from error
    if done.returncode:
        raise CannotFreezeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def frozen(mount: Path) -> Iterator[None]:
    run(["fsfreeze", "--freeze", str(mount)])
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(mount)], check=True)


async def ask(client: AsyncIterateClient, name: str, rate: float, seconds: float) -> list[float]:
    """Milliseconds of each session, asked at times that do not depend on the answers."""

    async def one(number: int) -> float:
        await asyncio.sleep(number / rate)
        began = time.perf_counter()
        await client.iterate(
            iterate_pb2.IterateRequest(
                session_id=f"{name}-{number}",
                kind="json_schema",
                json_schema=validated_pb2.JsonSchemaSpec(schema_json='{"type":"object"}'),
                prompt="p" * 2_000,
            ),
            timeout_s=30,
        )
        return (time.perf_counter() - began) * 1000

    return sorted(await asyncio.gather(*(one(number) for number in range(int(rate * seconds)))))


async def check_health(address: str, checks: list[float]) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            began = time.perf_counter()
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            if answer.status != health_pb2.HealthCheckResponse.SERVING:
                raise SystemExit("health is not SERVING")
            checks.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.05)


def quantile(values: list[float], share: float) -> float:
    return round(values[min(int(len(values) * share), len(values) - 1)], 1)


async def measure(folder: Path, mount: Path, rate: float, seconds: float) -> dict[str, Any]:
    script = folder / "script.toml"
    script.write_text('[[replies]]\ncontains = ""\ntext = "{}"\n')
    log = mount / "sessions.jsonl"
    environ = {
        **os.environ,
        **free_port_binds(),
        "ITERATE_SESSION_LOG_PATH": str(log),
        "ITERATE_APPEND_WAIT_MS": str(APPEND_WAIT_MS),
        "CHATD_DEFAULT_PROVIDER": "s",
        "CHATD_PROVIDERS__S__TYPE": "scripted",
        "CHATD_PROVIDERS__S__SCRIPT": str(script),
        "VALIDATED_ROSTER__PATH": str(ROOT / "examples" / "roster" / "workers.csv"),
    }
    checks: list[float] = []
    async with (
        running_stack(on_log=lambda *_: None, environ=environ) as stack,
        AsyncIterateClient(stack.addresses["iterate"]) as client,
    ):
        await ask(client, "warm", rate, 2)
        before = await ask(client, "moving", rate, seconds)
        with frozen(mount):
            health = asyncio.create_task(check_health(stack.addresses["iterate"], checks))
            during = await ask(client, "frozen", rate, seconds)
            health.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await health
    rows = Counter(json.loads(line)["session_id"] for line in log.read_text().splitlines())
    sessions = int(rate * 2) + 2 * int(rate * seconds)
    return {
        "sessions_per_second": rate,
        "seconds": seconds,
        "append_wait_ms": APPEND_WAIT_MS,
        "moving_ms": {"p50": quantile(before, 0.5), "p99": quantile(before, 0.99)},
        "frozen_ms": {"p50": quantile(during, 0.5), "p99": quantile(during, 0.99)},
        "frozen_p99_limit_ms": quantile(before, 0.99) + 2 * APPEND_WAIT_MS + 10,
        "health_checks": len(checks),
        "slowest_health_check_ms": round(max(checks), 1),
        "rows_missing": sessions - len(rows),
        "rows_twice": sum(number > 1 for number in rows.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=50, help="sessions a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with volume(Path(folder)) as mount:
                report = asyncio.run(measure(Path(folder), mount, options.rate, options.seconds))
        except CannotFreezeError as error:
            print(f"no volume can be frozen here: {error}", file=sys.stderr)
            return
    print(json.dumps(report, indent=1))
    late = report["frozen_ms"]["p99"] > report["frozen_p99_limit_ms"]
    if late or report["rows_missing"] or report["rows_twice"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
