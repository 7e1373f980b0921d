"""The file backend while it lives: changes, broken files, signals, swaps under load."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from rosters import judge, people, small_table, until, write_csv
from structlog.testing import capture_logs
from validated_server import serving

from lakehouse.errors import Fault, Reason
from validated.config import LimitsTable
from validated.datasets.file import FileRoster
from validated.datasets.worker import Question, RosterUnavailable
from validated.kinds.fill import FillValidator
from validated.kinds.validator import Tools

# Loads beside what is being answered: as the service loads.
pytestmark = pytest.mark.usefixtures("reader_processes")

SPEC: dict[str, Any] = {"role": "forklift operator", "count": 1}


def _version(roster: FileRoster) -> str:
    assert roster.version is not None
    return roster.version.version


async def test_a_changed_file_is_loaded_by_itself(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    async with FileRoster(table, near_ms=100).open() as roster:
        old = _version(roster)
        write_csv(table.path, [*people(), {**people()[0], "worker_id": "W-NEW"}])
        await until(lambda: _version(roster) != old)
        answer = await roster.look_up(Question(("W-NEW",)))
        assert answer.found["W-NEW"].worker.name == "Ana Silva"


async def test_a_broken_file_keeps_the_old_roster_and_says_so(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    async with FileRoster(table, near_ms=100).open() as roster:
        old = _version(roster)
        with capture_logs() as logs:
            write_csv(table.path, [{**person, "worker_id": "SAME"} for person in people()])
            await until(lambda: roster.counts()["load_failures"] == 1)
        (entry,) = [entry for entry in logs if entry["event"] == "roster not loaded"]
        assert entry["serving"] == old
        assert "row 2" in entry["problems"][0]
        assert _version(roster) == old
        assert "W-000001" in (await roster.look_up(Question(("W-000001",)))).found
        # Not tried again and again while it stays as it is; mended, it is loaded.
        await asyncio.sleep(0.3)
        assert roster.counts()["load_failures"] == 1
        write_csv(table.path, people()[:-1])
        await until(lambda: roster.counts()["rows"] == 7)


async def test_a_removed_file_keeps_the_old_roster(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    async with FileRoster(table, near_ms=100).open() as roster:
        table.path.unlink()
        await until(lambda: roster.counts()["load_failures"] == 1)
        assert "W-000001" in (await roster.look_up(Question(("W-000001",)))).found


async def test_a_file_that_is_being_written_is_left_until_it_holds_still(tmp_path: Path) -> None:
    table = small_table(tmp_path, poll_ms=200)
    async with FileRoster(table, near_ms=100).open() as roster:
        with table.path.open("a", encoding="utf-8") as file:
            for number in range(12):
                file.write(f"N-{number},Number {number},welder,Toledo,OH,true,,,,\n")
                file.flush()
                await asyncio.sleep(0.05)
        await until(lambda: roster.counts()["rows"] == 20)
        # One load at the start, one of the finished file.
        assert roster.counts() == {"loads": 2, "load_failures": 0, "rows": 20}


async def test_without_a_readable_roster_the_service_starts_and_answers_unavailable(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    rows = table.path.read_bytes()
    table.path.unlink()
    async with serving(roster=table) as client:
        fault = await client.fault("fill", {"workers": []}, **SPEC)
        assert fault.reason is Reason.ROSTER_UNAVAILABLE
        assert fault.code == "UNAVAILABLE"
        assert fault.retry_delay_ms is not None
        assert (await client.validate("json_schema", "1", schema_json="true")).passed
        table.path.write_bytes(rows)
        ends_at = time.monotonic() + 20
        while True:
            try:
                response = await client.validate(
                    "fill", {"workers": [{"worker_id": "W-000001", "name": "Ana Silva"}]}, **SPEC
                )
                break
            except Fault:
                assert time.monotonic() < ends_at
                await asyncio.sleep(0.05)
        assert response.passed


async def test_sighup_loads_at_once(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with serving(roster=small_table(tmp_path, poll_ms=3_600_000)):
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: sum(entry["event"] == "roster loaded" for entry in logs) == 2)


async def test_a_validation_keeps_to_the_version_that_it_began_with(tmp_path: Path) -> None:
    table = small_table(tmp_path, companions_unknown_max=1.0, allow_shrink=True)
    async with FileRoster(table, near_ms=1000).open() as roster:
        answer = await roster.look_up(Question(("W-000001",)))
        old = _version(roster)
        write_csv(table.path, [{**people()[0], "worker_id": "W-000009"}])
        await until(lambda: _version(roster) != old)
        assert answer.version.version == old
        assert answer.found["W-000001"].worker.name == "Ana Silva"


async def test_an_answer_names_the_version_that_gave_it_after_a_load_too(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    worker = {"workers": [{"worker_id": "W-000001", "name": "Ana Silva"}]}
    async with serving(roster=table) as client:
        old = (await client.validate("fill", worker, **SPEC)).roster
        assert (await client.validate("fill", worker, **SPEC)).roster == old
        write_csv(table.path, [*people(), {**people()[0], "worker_id": "W-NEW"}])
        ends_at = time.monotonic() + 20
        while (new := (await client.validate("fill", worker, **SPEC)).roster) == old:
            assert time.monotonic() < ends_at
            await asyncio.sleep(0.05)
    assert (old.row_count, new.row_count) == (8, 9)
    assert new.version != old.version


async def test_swapped_under_load_every_answer_is_of_one_version_and_none_fails(tmp_path: Path) -> None:
    """Two rosters in which the same ids bear other names: an answer that mixed them would have findings."""
    rows = [{**people()[0], "worker_id": f"W-{number:06d}", "name": "Name A"} for number in range(300)]
    versions = {"A": rows, "B": [{**row, "name": "Name B"} for row in rows]}
    table = small_table(
        tmp_path, path=write_csv(tmp_path / "swap.csv", rows), assignments_path=None, do_not_send_path=None
    )
    artifacts = {
        letter: {"workers": [{"worker_id": row["worker_id"], "name": row["name"]} for row in them]}
        for letter, them in versions.items()
    }
    seen: dict[str, set[str]] = {}
    answered = 0
    stop = asyncio.Event()
    async with FileRoster(table, near_ms=100).open() as roster:
        gate = FillValidator(Tools(roster, LimitsTable(suggestions_strangers_max=0)))

        async def ask(letter: str) -> None:
            nonlocal answered
            while not stop.is_set():
                findings, ground = await judge(
                    gate, artifacts[letter], role="forklift operator", count=300, findings_max=1000
                )
                assert ground is not None
                assert ground.roster is not None
                # All of its own version, or all of the other: never some.
                assert len(findings.kept) in (0, 300)
                truth = letter if not findings.any else "AB".replace(letter, "")
                seen.setdefault(ground.roster.version, set()).add(truth)
                answered += 1
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(ask(letter)) for letter in "AB"]
        for swap in range(3):
            before = roster.counts()["loads"]
            write_csv(table.path, versions["BA"[swap % 2]])
            # Awaited in this turn of the loop, so that `before` is this turn's.
            await until(lambda: roster.counts()["loads"] > before or any(t.done() for t in tasks))  # noqa: B023
        stop.set()
        await asyncio.gather(*tasks)
    assert len(seen) == 2
    assert all(len(truths) == 1 for truths in seen.values())
    assert answered > 20


async def test_with_no_roster_a_lookup_raises(tmp_path: Path) -> None:
    async with FileRoster(small_table(tmp_path, path=tmp_path / "none.csv"), near_ms=0).open() as roster:
        with pytest.raises(RosterUnavailable):
            await roster.look_up(Question(("W-1",)))
