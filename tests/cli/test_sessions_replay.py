"""Goal: a recorded session runs again exactly, and a changed ground truth shows as a changed verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import lakehouse
from shared_runs import Demo

LAKEHOUSE = str(Path(sys.executable).parent / "lakehouse")
ROSTER = Path(__file__).resolve().parent.parent.parent / "examples" / "roster" / "workers.csv"


@pytest.fixture(scope="module")
def recorded(demo: Demo) -> tuple[Path, dict[str, object]]:
    return demo.log, json.loads(demo.log.read_text().splitlines()[0])


def replay(log: Path, session_id: object, roster: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAKEHOUSE, "sessions", "replay", str(session_id), "--log", log, "--roster", roster, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_against_the_same_roster_the_verdicts_are_the_same(recorded: tuple[Path, dict[str, object]]) -> None:
    log, row = recorded
    before = log.read_bytes()

    done = replay(log, row["session_id"], ROSTER)

    assert done.returncode == 0, done.stderr
    compared = json.loads(done.stdout)
    assert compared["same"]
    assert [attempt["now"]["verdict"] for attempt in compared["attempts"]] == ["rejected", "accepted"]
    assert log.read_bytes() == before, "a replay is no session"


def test_a_worker_who_has_left_the_roster_turns_the_verdict(
    recorded: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    log, row = recorded
    artifact = row["artifact"]
    assert isinstance(artifact, dict)
    gone = artifact["workers"][0]["worker_id"]
    roster = tmp_path / "workers.csv"
    lines = ROSTER.read_text(encoding="utf-8").splitlines(keepends=True)
    roster.write_text("".join(line for line in lines if not line.startswith(gone)), encoding="utf-8")

    done = replay(log, row["session_id"], roster)

    assert done.returncode == 1, done.stderr
    compared = json.loads(done.stdout)
    assert compared["final_verdict"] == {"then": "accepted", "now": "max_iter_exhausted"}
    assert compared["attempts"][1]["then"] == {"verdict": "accepted", "findings": []}
    assert compared["attempts"][1]["now"] == {"verdict": "rejected", "findings": ["PHANTOM_WORKER"]}
    assert compared["roster"]["then"] != compared["roster"]["now"]


def test_a_grounded_session_is_judged_as_it_was_recorded(recorded: tuple[Path, dict[str, object]]) -> None:
    log, _ = recorded
    grounded = json.loads(log.read_text().splitlines()[1])
    assert grounded["brief"]["grounding"] == "candidates"

    done = replay(log, grounded["session_id"], ROSTER)

    assert done.returncode == 0, done.stderr
    assert [attempt["now"]["verdict"] for attempt in json.loads(done.stdout)["attempts"]] == ["accepted"]


def test_what_nobody_can_fill_today_is_replayed_all_the_same(
    recorded: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    log, row = recorded
    empty = tmp_path / "workers.csv"
    head, *lines = ROSTER.read_text(encoding="utf-8").splitlines(keepends=True)
    empty.write_text("".join([head, *(line for line in lines if "Toledo" not in line)]), encoding="utf-8")

    done = replay(log, row["session_id"], empty)

    assert done.returncode == 1, done.stderr
    assert [attempt["now"]["verdict"] for attempt in json.loads(done.stdout)["attempts"]] == ["rejected", "rejected"]


def test_a_session_that_is_not_there_is_told_in_words(recorded: tuple[Path, dict[str, object]]) -> None:
    done = lakehouse("sessions", "replay", "no-such-session", "--log", recorded[0], "--roster", ROSTER, "--json")

    assert done.returncode == 1
    assert "no session" in done.stderr


def test_a_gate_that_is_not_ready_is_told_and_waited_for(
    recorded: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    log, row = recorded
    roster = tmp_path / "workers.csv"
    roster.write_text("nobody\n", encoding="utf-8")
    command = [LAKEHOUSE, "sessions", "replay", str(row["session_id"]), "--log", str(log), "--roster", str(roster)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        whole = roster.with_suffix(".new")
        whole.write_bytes(ROSTER.read_bytes())
        whole.replace(roster)
        output, _ = process.communicate(timeout=60)

    assert said.startswith("waiting until the gate is ready: validated: ")
    assert "workers.csv" in said
    assert process.returncode == 0, output
