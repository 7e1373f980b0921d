"""Goal: the lines of RPCs, which are written in batches, are whole, in order, and lost by no ordinary end.

Method: a process of its own that configures the log, since that changes its standard output for good.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

HEAD = """
import asyncio, os, structlog
from lakehouse.server import log
log.configure(service="s", level="info", form="json")
"""


def written(script: str) -> list[dict[str, Any]]:
    process = subprocess.run(
        [sys.executable, "-c", HEAD + script], capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_a_line_that_waits_for_company_is_written_within_the_wait() -> None:
    # The process ends without any ordinary end: what it has written by then is all that there is.
    lines = written("""
async def main():
    log.rpc_line({"number": 1})
    log.rpc_line({"number": 2})
    await asyncio.sleep(0.5)
    os._exit(0)
asyncio.run(main())
""")
    assert [line["number"] for line in lines] == [1, 2]
    assert {(line["event"], line["level"], line["service"]) for line in lines} == {("rpc", "info", "s")}
    assert all(line["timestamp"].endswith("Z") for line in lines)


@pytest.mark.parametrize(
    ("level", "kept"),
    [("debug", [1, 2]), ("info", [1, 2]), ("warning", [2]), ("error", [])],
    ids=str,
)
@pytest.mark.parametrize("form", ["json", "console"])
def test_an_rpcs_line_has_a_level_of_its_own_and_the_logs_level_holds_for_it(
    level: str, kept: list[int], form: str
) -> None:
    script = f"""
import asyncio
from lakehouse.server import log
log.configure(service="s", level="{level}", form="{form}")
async def main():
    log.rpc_line({{"number": 1}})
    log.rpc_line({{"number": 2}}, "warning")
asyncio.run(main())
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    lines = process.stdout.splitlines()
    assert len(lines) == len(kept)
    if form == "json":
        assert [json.loads(line)["level"] for line in lines] == [("info", "warning")[number - 1] for number in kept]


def test_another_line_comes_after_the_rpcs_before_it() -> None:
    lines = written("""
async def main():
    log.rpc_line({"number": 1})
    structlog.get_logger().warning("mine")
    log.rpc_line({"number": 2})
asyncio.run(main())
""")
    assert [line["event"] for line in lines] == ["rpc", "mine", "rpc"]


def test_lines_that_still_wait_are_written_at_the_end_of_the_process() -> None:
    lines = written("""
async def main():
    for number in range(1000):
        log.rpc_line({"number": number})
asyncio.run(main())
""")
    assert [line["number"] for line in lines] == list(range(1000))


def test_a_line_with_half_a_character_takes_no_other_line_with_it() -> None:
    lines = written("""
async def main():
    log.rpc_line({"number": 1})
    log.rpc_line({"number": 2, "odd": "\\ud83d"})
    log.rpc_line({"number": 3})
asyncio.run(main())
""")
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert lines[1]["odd"] == "\ud83d"


def test_a_reader_that_stands_still_holds_up_no_logger_and_the_loss_is_said_when_it_reads_again() -> None:
    script = """
import sys, time
for number in range(60_000):
    structlog.get_logger().warning("mine", number=number)
sys.stderr.write("logged\\n")
sys.stderr.flush()
sys.stdin.readline()
log.flush()
structlog.get_logger().warning("last")
print(log.counts()["lines_dropped"], file=sys.stderr)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    assert process.stderr.readline() == "logged\n", "the loggers waited for the reader"
    process.stdin.write("go on\n")
    process.stdin.close()
    process.stdin = None
    out, err = process.communicate(timeout=60)
    lines = [json.loads(line) for line in out.splitlines()]
    dropped = int(err)
    assert dropped > 0
    said = [line["lines"] for line in lines if line["event"] == "log_lines_dropped"]
    assert sum(said) == dropped
    numbers = [line["number"] for line in lines if line["event"] == "mine"]
    assert len(numbers) == 60_000 - dropped
    assert numbers == sorted(numbers), "the order was lost"
    assert lines[-1]["event"] == "last"


def test_the_end_of_the_process_does_not_wait_for_a_reader_that_stands_still() -> None:
    script = "for number in range(10_000): structlog.get_logger().warning('x' * 100)"
    process = subprocess.Popen([sys.executable, "-c", HEAD + script], stdout=subprocess.PIPE)
    try:
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
