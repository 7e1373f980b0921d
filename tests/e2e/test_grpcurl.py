"""Goal: a person with grpcurl finds their way: services listed and described, a session run, errors readable."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import pytest

GRPCURL = shutil.which("grpcurl")
pytestmark = pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not on PATH (.ci/run installs it)")


async def grpcurl(*arguments: str) -> tuple[int, str]:
    assert GRPCURL is not None
    process = await asyncio.create_subprocess_exec(
        GRPCURL, "-plaintext", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("iterate", "lakehouse.iterate.v1.IterateService"),
        ("chatd", "lakehouse.chatd.v1.ChatService"),
        ("validated", "lakehouse.validated.v1.ValidateService"),
    ],
)
async def test_each_service_is_listed_and_described(stack: Any, service: str, name: str) -> None:
    address = stack.stack.addresses[service]

    status, listed = await grpcurl(address, "list")
    _, described = await grpcurl(address, "describe", name)

    assert status == 0
    assert name in listed.split()
    assert "grpc.health.v1.Health" in listed.split()
    assert "rpc " in described


async def test_the_known_kinds_can_be_read_off_the_description(stack: Any) -> None:
    _, described = await grpcurl(stack.address, "describe", "lakehouse.iterate.v1.IterateRequest")

    assert "oneof spec" in described
    assert ".lakehouse.validated.v1.FillSpec fill" in described


async def test_a_whole_session_runs(stack: Any) -> None:
    request = {
        "kind": "fill",
        "fill": {"role": "forklift operator", "count": 3, "city": "Toledo", "state": "OH"},
        "prompt": "Fill 3 forklift operators",
    }

    status, output = await grpcurl(
        "-d", json.dumps(request), stack.address, "lakehouse.iterate.v1.IterateService/Iterate"
    )

    response = json.loads(output)
    assert status == 0
    assert len(response["attempts"]) == 2
    assert "workers" in str(response["accepted"])


async def test_an_error_is_readable_as_it_stands(stack: Any) -> None:
    status, output = await grpcurl(
        "-d", '{"kind": "fill"}', stack.address, "lakehouse.iterate.v1.IterateService/Iterate"
    )

    assert status != 0
    assert "InvalidArgument" in output
    assert "prompt: is empty" in output
    assert "BAD_REQUEST" in output
