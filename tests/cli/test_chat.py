"""`lakehouse chat` as a process, and for words and statuses in this one, against a chatd as a process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from command_line import lakehouse

SERVICES = Path(__file__).parents[2] / "services"
ENVIRON = {**os.environ, "PYTHONPATH": str(SERVICES)}
SCRIPT = """
[[replies]]
contains = "weather"
reasoning = "Think of clouds."
text = "It is raining in Toledo."
finish_reason = "length"

[[replies]]
contains = "busy"
error = "PROVIDER_RATE_LIMITED"
"""


@pytest_asyncio.fixture(scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder = tmp_path_factory.mktemp("chat")
    (folder / "script.toml").write_text(SCRIPT)
    (folder / "chatd.toml").write_text(
        '[chatd]\nbind = "127.0.0.1:0"\n[chatd.providers.stand-in]\ntype = "scripted"\n'
        f'script = "{folder}/script.toml"\n'
        "prices.scripted = {input = 1000, output = 2000}\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chatd",
        "--config",
        str(folder / "chatd.toml"),
        env=ENVIRON,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = json.loads(await process.stdout.readline())
        yield line["address"]
    finally:
        process.terminate()
        assert await process.wait() == 0


async def _chat(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from lakehouse.cli.chat import command; command()",
        *arguments,
        env=ENVIRON,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_answer_alone_goes_to_standard_output(address: str) -> None:
    code, out, err = await _chat("--address", address, "How is the weather?")

    assert (code, out) == (0, "It is raining in Toledo.\n")
    assert "Think of clouds." in err
    assert "stand-in/scripted" in err
    assert "ended by length" in err


def test_json_is_one_object_and_the_prompt_may_come_from_standard_input(address: str) -> None:
    done = lakehouse("chat", "--address", address, "--json", stdin="weather?")
    response: dict[str, Any] = json.loads(done.stdout)

    assert done.returncode == 0
    assert response["text"] == "It is raining in Toledo."
    assert response["reasoning"] == "Think of clouds."
    assert response["finish_reason"] == "length"
    assert response["usage"]["input_tokens"] == 1
    assert response["cost"]["total_usd"] == pytest.approx((1 * 1000 + 8 * 2000) / 1e6)


def test_a_fault_is_told_in_words_and_by_the_exit_status(address: str) -> None:
    done = lakehouse("chat", "--address", address, "Are you busy?")

    assert (done.returncode, done.stdout) == (3, "")
    assert "PROVIDER_RATE_LIMITED" in done.stderr


def test_nobody_there_is_told_with_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = lakehouse("chat", "--address", address, "--timeout", "5", "Hello?")

    assert done.returncode == 3
    assert address in done.stderr


def test_an_empty_prompt_is_wrong_usage() -> None:
    done = lakehouse("chat", "  ")

    assert done.returncode == 2
    assert "empty" in done.stderr
