"""Goal: what a new user types first works, says what happened, and leaves nothing running.

Method: the installed command in processes of its own, one for each way to run the demo; in this process where words and
statuses alone are looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import lakehouse
from service_starts import Start, starts
from shared_runs import Demo

from lakehouse.cli.stack import StackError, free_port_binds, running_stack

LAKEHOUSE = str(Path(sys.executable).parent / "lakehouse")
SPEC = '{"role": "forklift operator", "count": 3, "city": "Toledo", "state": "OH"}'


def run(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAKEHOUSE, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)


NAMES = ["final_verdict", "iterations", "session_id", "trace_id", "brief", "attempts", "artifact", "row", "spans"]


def test_the_demo_as_json_is_one_object_with_the_ungrounded_session_and_the_grounded_one(demo: Demo) -> None:
    result = demo.result
    assert list(result) == [*NAMES, "grounded"]
    assert (result["final_verdict"], result["iterations"], result["brief"]) == ("accepted", 2, None)
    phantom = result["attempts"][0]["findings"][0]
    assert phantom["code"] == "PHANTOM_WORKER"
    assert phantom["path"] == "/workers/2/worker_id"
    assert len(result["artifact"]["workers"]) == 3
    assert result["row"]["session_id"] == result["session_id"]
    assert result["row"]["artifact"] == result["artifact"]
    assert len(result["spans"]) == 8
    assert {span["trace_id"] for span in result["spans"]} == {result["trace_id"]}
    assert_grounded(result["grounded"])


def test_the_grounded_demo_alone_is_accepted_at_the_first_attempt() -> None:
    done = run("demo", "--grounded", "--json")

    assert done.returncode == 0, done.stderr
    assert_grounded(json.loads(done.stdout))


def test_the_grounded_demo_alone_speaks_of_no_other_task(grounded_demo: str) -> None:
    assert "a task, grounded from the first attempt" in grounded_demo
    assert "the same task" not in grounded_demo


def test_the_demo_of_the_catalogue_shows_a_declared_kind_without_a_key(tmp_path: Path) -> None:
    # From anywhere: the example's files are found by themselves.
    command = [LAKEHOUSE, "demo", "--example", "catalogue", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result) == [*NAMES, "grounded"]
    assert (result["final_verdict"], result["iterations"], result["brief"]) == ("accepted", 3, None)
    found = [[finding["code"] for finding in attempt.get("findings", ())] for attempt in result["attempts"]]
    assert found == [["FACT_MISMATCH", "NOT_IN_DATASET"], ["OVER_BUDGET"], []]
    assert result["row"]["kind"] == "quote"
    grounded = result["grounded"]
    assert (grounded["final_verdict"], grounded["iterations"]) == ("accepted", 1)
    assert grounded["brief"]["candidates"] > 3
    assert len(grounded["artifact"]["lines"]) == 3


def assert_grounded(session: dict[str, Any]) -> None:
    assert list(session) == NAMES
    assert (session["final_verdict"], session["iterations"]) == ("accepted", 1)
    assert session["brief"]["grounding"] == "candidates"
    assert session["brief"]["candidates"] > 3
    assert session["row"]["brief"]["candidates"] == session["brief"]["candidates"]
    assert [span["name"] for span in session["spans"]] == ["iterate.fill", "brief", "attempt-1", "chat", "validate"]
    assert len(session["artifact"]["workers"]) == 3


def test_the_demo_for_a_person_names_the_phantom_and_the_scripted_model() -> None:
    done = run("demo")

    assert done.returncode == 0, done.stderr
    assert "PHANTOM_WORKER at /workers/2/worker_id" in done.stdout
    assert "accepted after 2 attempts" in done.stdout
    assert "who qualify" in done.stdout
    assert "the same task, grounded from the first attempt" in done.stdout
    assert "accepted after 1 attempt " in done.stdout
    assert "scripted" in done.stdout
    assert "├─ attempt-1" in done.stdout


@asynccontextmanager
async def up(folder: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """`lakehouse up` on free ports, ready; and the lines that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(LAKEHOUSE, "up", "--data", str(folder), *arguments),
        env={**os.environ, **free_port_binds()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(60):
            while not any(line.startswith("ready") for line in lines):
                line = await process.stdout.readline()
                assert line, lines
                lines.append(line.decode())
        yield process, lines
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            rest, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        lines.extend(rest.decode().splitlines(keepends=True))


async def test_up_serves_until_ctrl_c_and_shows_logs_and_trees(tmp_path: Path) -> None:
    async with up(tmp_path, "--trace-view") as (process, lines):
        ready = next(line for line in lines if line.startswith("ready"))
        address = ready.split("iterate at ")[1].split(". ")[0]
        command = ("iterate", "--address", address, "--kind", "fill", "--prompt", "Fill it", "--spec", SPEC, "--json")
        grounded = ("--grounding", "form")
        done = await asyncio.to_thread(run, *command, *grounded)
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while not any("└─ validate" in line for line in lines):
                lines.append((await process.stdout.readline()).decode())

    assert done.returncode == 0, done.stderr
    response = json.loads(done.stdout)
    assert response["final_verdict"] == "accepted"
    assert response["brief"]["grounding"] == "form"
    assert process.returncode == 0
    (row,) = [json.loads(line) for line in (tmp_path / "sessions.jsonl").read_text().splitlines()]
    assert row["session_id"] == response["session_id"]
    output = "".join(lines)
    assert f"trace {response['trace_id']}" in output
    assert any(line.lstrip().startswith("validated ") and "rpc" in line for line in lines), "logs carry their service"
    assert sum("stopped" in line for line in lines) == 3, "each service ended in order"


def test_iterate_without_a_stack_says_how_to_start_one() -> None:
    done = run("iterate", "--address", "127.0.0.1:1", "--kind", "fill", "--prompt", "p", "--spec", SPEC)

    assert done.returncode == 3
    assert "lakehouse up" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("iterate",), "--kind and --prompt"),
        (("iterate", "no-such-file.toml"), "No such file"),
        (("iterate", "--kind", "fill", "--prompt", "p", "--spec", "{"), "not JSON"),
        (("iterate", "--kind", "fill", "--prompt", "p", "--spec", '{"rolle": "x"}'), "rolle"),
        (("iterate", "--kind", "k", "--prompt", "p", "--trace-id", "é"), "trace_id"),
        (("iterate", "--kind", "k", "--prompt", "p", "--grounding", "all"), "'none', 'form', 'candidates'"),
        (("no-such-command",), "No such command"),
    ],
)
def test_wrong_usage_is_answered_in_words(arguments: tuple[str, ...], words: str) -> None:
    done = lakehouse(*arguments)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", ["toml", "json"])
def test_a_request_file_is_taken_and_flags_go_over_it(tmp_path: Path, form: str) -> None:
    file = tmp_path / f"request.{form}"
    if form == "toml":
        file.write_text('kind = "fill"\nprompt = "p"\nmax_iterations = 99\n[fill]\nrole = "welder"\ncount = 1\n')
    else:
        file.write_text(json.dumps({"kind": "fill", "prompt": "p", "fill": {"role": "welder", "count": 1}}))

    done = lakehouse("iterate", file, "--max-iterations", "1", "--address", "127.0.0.1:1")

    # Read whole: what fails is the connection.
    assert done.returncode == 3
    assert "UNAVAILABLE" in done.stderr


async def test_a_service_that_cannot_start_is_named_with_its_problem() -> None:
    with pytest.raises(StackError, match="chatd"):
        async with running_stack(on_log=lambda *_: None, environ={**free_port_binds(), "CHATD_NO_SUCH_KEY": "1"}):
            pass


def test_each_service_explains_itself_and_checks_its_configuration(tmp_path: Path) -> None:
    services = ("iterate", "chatd", "validated")
    file = tmp_path / "c.toml"
    file.write_text("".join(f"[{service}]\nbnid = 1\nmetrics_port = -1\n" for service in services))
    free = {**os.environ, **free_port_binds()}
    checks = {service: subprocess.Popen([sys.executable, "-m", service, "--check"], env=free) for service in services}

    helped = starts(*(Start(service, {}, ("--help",)) for service in services))
    bad = starts(*(Start(service, {}, ("--check", "--config", str(file))) for service in services))

    for service, explained, found in zip(services, helped, bad, strict=True):
        assert (explained.status, found.status) == (0, 2), service
        assert explained.output.startswith(f"usage: python -m {service}")
        assert "--config" in explained.output
        assert f"{service}.bnid: unknown key" in found.output
        assert f"{service}.metrics_port" in found.output
    assert {service: check.wait(60) for service, check in checks.items()} == dict.fromkeys(services, 0)
