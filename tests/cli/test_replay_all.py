"""`lakehouse sessions replay --all`: what a changed gate says differently of recorded answers is seen, and named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from session_rows import UNREACHABLE, attempt, record, write_segment
from shared_runs import Demo

from lakehouse.cli.replay_comparison import compare, judged_attempts, replayed
from lakehouse.cli.replay_report import ReplayReport
from lakehouse.cli.sessions import command
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.sessions.query.fitting_rows import fitting_rows
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.record import SessionRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.row_reading import decode_row
from lakehouse.sessions.upkeep.compaction import compact

ROOT = Path(__file__).resolve().parent.parent.parent
LAKEHOUSE = str(Path(sys.executable).parent / "lakehouse")
ROSTER = ROOT / "examples" / "roster" / "workers.csv"


@pytest.fixture(scope="module")
def log(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sessions of a real stack, live, rotated and compacted, and some of which nothing is to be judged again."""
    folder = tmp_path_factory.mktemp("recorded")
    live = folder / "sessions.jsonl"
    corrected, grounded = (decode_row(line) for line in demo.log.read_bytes().splitlines())
    assert [each.verdict for each in corrected.attempts] == ["rejected", "accepted"]
    cut = replace(corrected.attempts[0], raw_truncated=True)
    fault = replace(corrected.attempts[1], verdict="infra_error", findings=None, error=UNREACHABLE, raw="")
    rows = [
        replace(corrected, session_id="compacted", timestamp="2026-11-01T00:00:00.000000Z"),
        replace(grounded, session_id="grounded", kind=grounded.kind),
        replace(corrected, session_id="used twice", try_number=2),
        replace(grounded, session_id="used twice"),
        replace(corrected, session_id="cut", attempts=(cut,), final_verdict="max_iter_exhausted"),
        replace(corrected, session_id="infeasible", attempts=(), final_verdict="max_iter_exhausted", artifact=None),
        # What the gate had said before the fault is compared, the fault is not.
        replace(corrected, session_id="fault", attempts=(corrected.attempts[0], fault), final_verdict="infra_error",
                error=UNREACHABLE),
        replace(corrected, session_id="fault alone", attempts=(replace(fault, iteration=1),),
                final_verdict="infra_error", error=UNREACHABLE),
    ]  # fmt: skip
    write_segment(folder / "sessions.jsonl.1", encode_row(rows[0]))
    assert all(outcome.compacted for outcome in compact(live))
    write_segment(folder / "sessions.jsonl.1", b"".join(map(encode_row, rows[1:])))
    live.write_bytes(encode_row(replace(corrected, session_id="live")))
    return live


def replay_all(log: Path, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAKEHOUSE, "sessions", "replay", "--all", "--log", log, "--roster", ROSTER, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environ},
    )  # fmt: skip


def test_the_gate_of_then_says_the_same_of_every_session(log: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in log.parent.iterdir() if path.is_file()}
    junit = tmp_path / "replay.xml"

    done = replay_all(log, "--json", "--junit", junit)

    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert {name: said[name] for name in ("sessions", "same", "different", "refused", "skipped", "failed")} == {
        "sessions": 9, "same": 6, "different": 0, "refused": 0, "skipped": 3, "failed": 0,
    }  # fmt: skip
    assert {each["session_id"] for each in said["not_same"]} == {"cut", "infeasible", "fault alone"}
    suite = ET.parse(junit).getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["skipped"]) == ("9", "0", "3")
    assert len(suite) == 9
    after = {path: path.read_bytes() for path in log.parent.iterdir() if path.is_file()}
    assert after == before, "a replay is no session"


def test_a_bug_in_the_gate_fails_the_run_with_the_sessions_that_it_changes(log: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "services" / "validated", tmp_path / "validated")
    judgement = tmp_path / "validated" / "kinds" / "fill_judgement.py"
    text = judgement.read_text(encoding="utf-8")
    sound = "        if found is None:\n            self.grounded = False\n"
    assert text.count(sound) == 1
    judgement.write_text(text.replace(sound, "        if found is None:\n            return\n"), encoding="utf-8")
    junit = tmp_path / "replay.xml"

    done = replay_all(log, "--junit", junit, PYTHONPATH=str(tmp_path))

    assert done.returncode == 1, done.stdout + done.stderr
    table, _, summary = done.stdout.strip().rpartition("\n\n")
    changed = [line.split("  ")[0] for line in table.splitlines()[1:] if "attempt 1:" in line]
    assert sorted(changed) == ["compacted", "fault", "live", "used twice"]
    assert "attempt 1: rejected (PHANTOM_WORKER)  →  accepted" in table
    assert "attempt 2: accepted  →  not reached" in table
    assert summary.startswith("6 sessions judged again: 2 the same, 4 different; 3 skipped")
    suite = ET.parse(junit).getroot()[0]
    failed = {case.attrib["name"] for case in suite if case.find("failure") is not None}
    assert failed == set(changed)


def test_with_ask_a_model_answers_anew_and_outcomes_are_compared(log: Path, tmp_path: Path) -> None:
    script, config = tmp_path / "script.toml", tmp_path / "today.toml"
    script.write_text('[[replies]]\ntext = "There is nobody."\n', encoding="utf-8")
    config.write_text(f'[chatd.providers.mute]\ntype = "scripted"\nscript = "{script}"\n', encoding="utf-8")

    done = replay_all(log, "--config", config, "--ask", "mute/", "--json")

    assert done.returncode == 1, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert {name: said[name] for name in ("same", "different", "skipped", "failed", "refused")} == {
        "same": 2, "different": 5, "skipped": 2, "failed": 0, "refused": 0,
    }  # fmt: skip
    changed = [each for each in said["not_same"] if each["outcome"] == "different"]
    assert {each["session_id"] for each in changed} == {"compacted", "grounded", "used twice", "live"}
    assert changed[0]["final_verdict"] == {"then": "accepted", "now": "max_iter_exhausted"}


def test_a_run_that_judges_nothing_is_no_success(log: Path) -> None:
    done = CliRunner().invoke(command, ["replay", "--all", "--log", str(log), "--kind", "nobody"])

    assert (done.exit_code, "nothing was judged again" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments", [(), ("s", "--all"), ("s", "--kind", "fill"), ("s", "--junit", "x"), ("s", "--limit", "2")]
)
def test_one_session_or_all_of_a_filter(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(command, ["replay", *arguments, "--log", str(tmp_path / "none")])

    assert (done.exit_code, "--all" in done.stderr) == (2, True)


def rows_of(log: Path, limit: int | None = None, *, text: str | None = None, verdict: str | None = None) -> list[str]:
    wanted = SessionFilter(text=text, verdict=verdict)
    with SessionReader(log) as reader:
        return sorted(decode_row(line).session_id for line in fitting_rows(reader, wanted, limit=limit))


def test_rows_that_fit_are_found_wherever_they_stand(log: Path) -> None:
    assert len(rows_of(log)) == 9
    assert rows_of(log, text="COMPACTED") == ["compacted"]
    assert "compacted" not in rows_of(log, limit=8)
    assert len(rows_of(log, limit=8)) == 8
    assert rows_of(log, verdict="infra_error") == ["fault", "fault alone"]


def answered(*verdicts: str, outcome: str = "accepted") -> iterate_pb2.IterateResponse:
    response = iterate_pb2.IterateResponse()
    getattr(response, outcome).SetInParent()
    for verdict in verdicts:
        response.attempts.add(verdict=iterate_pb2.Verdict.Value(f"VERDICT_{verdict.upper()}"))
    return response


CLEAN = (attempt(1, verdict="rejected"), attempt(2))
BOTH, FIRST = record(1, attempts=CLEAN), record(1, attempts=CLEAN[:1], final_verdict="infra_error", error=UNREACHABLE)
EXHAUSTED = "max_iter_exhausted"


@pytest.mark.parametrize(
    ("session", "response", "outcome"),
    [
        (BOTH, answered("rejected", "accepted"), "same"),
        (BOTH, answered("accepted"), "different"),
        (BOTH, answered("rejected", "rejected", outcome=EXHAUSTED), "different"),
        (FIRST, answered("rejected", outcome=EXHAUSTED), "same"),
        (FIRST, answered("accepted"), "different"),
        (replace(FIRST, final_verdict="accepted"), answered("rejected", outcome=EXHAUSTED), "different"),
    ],
)
def test_verdicts_are_compared_attempt_by_attempt_and_at_the_end(
    session: SessionRecord, response: iterate_pb2.IterateResponse, outcome: str
) -> None:
    result = compare(session, response)

    assert result.outcome == outcome
    assert bool(result.differences()) == (outcome == "different")


def test_attempts_behind_a_fault_are_nobodys_verdict() -> None:
    assert judged_attempts(record(1, attempts=(*CLEAN, attempt(3, verdict="infra_error")))) == list(CLEAN)


def test_junit_holds_any_text_and_a_fault_is_an_error(tmp_path: Path) -> None:
    hostile = record(1, session_id="\x00\x1b]0;\u202e<&\"'\ud800", kind="]]>\n\u2028")
    junit = tmp_path / "replay.xml"
    with ReplayReport() as report:
        report.add(replayed(hostile, "failed", reason="a\x0bfault & <more>"))
        report.add(replayed(record(2), "refused", reason="no longer a kind"))
        report.write_junit(junit)
        said = report.as_json()

    suite = ET.parse(junit).getroot()[0]
    assert [child.tag for case in suite for child in case] == ["error", "failure"]
    assert (suite.attrib["errors"], suite.attrib["failures"], said["failed"], report.differing) == ("1", "1", 1, 1)
