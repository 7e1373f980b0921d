"""Goal: a caller in Go or Node gets an answer, and of a fault its reason and when to try again, by the examples' code.

Method: the examples as they stand, compiled and installed from their locks, against a stack of real processes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lakehouse.cli.stack import Stack, examples, free_port_binds, running_stack

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "examples" / "clients"
needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
needs_node = pytest.mark.skipif(shutil.which("npm") is None, reason="Node is not installed")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    environ = {
        **free_port_binds(),
        "VALIDATED_ROSTER__PATH": str(examples() / "roster" / "workers.csv"),
        "ITERATE_SESSION_LOG_PATH": str(tmp_path_factory.mktemp("languages") / "sessions.jsonl"),
        # A provider that does not answer: a fault that may be tried again.
        "CHATD_PROVIDERS__AWAY__TYPE": "openai",
        "CHATD_PROVIDERS__AWAY__BASE_URL": "http://127.0.0.1:1",
        "CHATD_PROVIDERS__AWAY__DEFAULT_MODEL": "m",
        "CHATD_PROVIDERS__SCRIPTED__TYPE": "scripted",
        "CHATD_DEFAULT_PROVIDER": "scripted",
    }
    async with running_stack(on_log=lambda *_: None, environ=environ) as running:
        yield running


@pytest.fixture(scope="module")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    program = tmp_path_factory.mktemp("go") / "client"
    subprocess.run(["go", "build", "-o", program, "."], cwd=CLIENTS / "go", check=True)
    return [str(program)]


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    # Where the example stands in relation to the protos, and without writing into the checkout.
    folder = tmp_path_factory.mktemp("node")
    example = folder / "examples" / "clients" / "node"
    shutil.copytree(CLIENTS / "node", example, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "protos").symlink_to(ROOT / "protos")
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=example, check=True)
    return ["node", str(example / "main.js")]


CLIENT = [pytest.param("go_client", marks=needs_go), pytest.param("node_client", marks=needs_node)]


async def run(stack: Stack, command: list[str], **environ: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stack.addresses["iterate"],
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("client", CLIENT)
async def test_a_session_is_accepted_and_joins_the_trace_that_was_named(
    stack: Stack, client: str, request: pytest.FixtureRequest
) -> None:
    status, out, err = await run(stack, request.getfixturevalue(client))
    assert status == 0, err
    # The first 16 bytes of the name's SHA-256.
    assert hashlib.sha256(b"order-4711").hexdigest()[:32] in out
    assert "accepted: " in out


@pytest.mark.parametrize("client", CLIENT)
async def test_a_fault_is_read_with_reason_fields_and_wait(
    stack: Stack, client: str, request: pytest.FixtureRequest
) -> None:
    command = request.getfixturevalue(client)
    status, _, err = await run(stack, command, PROVIDER="nobody")
    assert status == 3
    assert "reason: UNKNOWN_PROVIDER" in err
    assert "no provider or route" in err
    status, _, err = await run(stack, command, PROVIDER="away")
    assert status == 3
    assert "reason: PROVIDER_UNREACHABLE" in err
    assert "try again after 1" in err


@needs_go
def test_the_committed_go_stubs_are_fresh(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "gen_go_stubs.py", "--out", tmp_path], check=True)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.go")}
    committed = {path.relative_to(CLIENTS / "go"): path.read_text() for path in (CLIENTS / "go").rglob("*.pb.go")}
    assert made == committed, "run `python scripts/gen_go_stubs.py`"


def test_the_locks_name_no_registry() -> None:
    assert '"resolved"' not in (CLIENTS / "node" / "package-lock.json").read_text()
