"""`lakehouse sessions …` as a person or a script uses it: what is printed, and the exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from session_rows import FULL, PHANTOM, UNREACHABLE, attempt, record, rows, write_log, write_segment

from lakehouse.cli.sessions import command
from lakehouse.cli.sessions_output import safe
from lakehouse.sessions.record import BriefRecord, DatasetRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.upkeep.compaction import compact


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return write_log(tmp_path)


def run(live: Path, name: str, *arguments: str) -> Result:
    return CliRunner().invoke(command, [name, "--log", str(live), *arguments], prog_name="lakehouse sessions")


def printed(live: Path, name: str, *arguments: str) -> str:
    result = run(live, name, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_subcommand_explains_itself() -> None:
    for name, subcommand in command.commands.items():
        result = CliRunner().invoke(command, [name, "--help"])
        assert result.exit_code == 0
        assert subcommand.short_help, name
        assert "--log" in result.output, name


@pytest.mark.parametrize(
    "arguments",
    [("ls",), ("stats",), ("show", "x"), ("sql", "SELECT 1"), ("tail",), ("verify",), ("compact",), ("report",)],
)
def test_a_missing_log_is_one_line_that_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(tmp_path / "sessions.jsonl", *arguments)

    assert result.exit_code == 3
    assert result.stderr.startswith("Error: there is no session log at ")
    assert "--log" in result.stderr


def test_the_log_is_named_by_the_environment(live: Path) -> None:
    result = CliRunner().invoke(command, ["ls", "--limit", "1", "--json"], env={"LAKEHOUSE_SESSION_LOG": str(live)})

    assert json.loads(result.stdout)[0]["session_id"] == "session-0049"


def test_ls_shows_the_newest_first_and_filters(live: Path) -> None:
    lines = printed(live, "ls", "--limit", "3").splitlines()

    assert [line.split()[1] for line in lines[1:]] == ["session-0049", "session-0048", "session-0047"]
    assert "session-00" not in printed(live, "ls", "--verdict", "infra_error")
    assert len(json.loads(printed(live, "ls", "--until", "2026-11-21", "--json", "--limit", "100"))) == 24


def test_ls_json_has_the_same_keys_for_every_session(live: Path) -> None:
    first, *_ = found = json.loads(printed(live, "ls", "--json", "--limit", "4"))

    assert first == {
        "timestamp": "2026-11-22T01:30:00.000049Z",
        "session_id": "session-0049",
        "try": 1,
        "trace_id": f"{50:032x}",
        "kind": "fill",
        "provider": "openai",
        "model": "gpt-x",
        "final_verdict": "accepted",
        "reason": None,
        "iterations": 2,
        "grounded_in_roster": True,
        "caller": None,
        "input_tokens": 200,
        "output_tokens": 20,
        "duration_ms": 90,
    }
    assert {tuple(session) for session in found} == {tuple(first)}


def test_show_tells_the_whole_session(live: Path) -> None:
    text = printed(live, "show", "session-0042", "--langfuse-host", "https://lf.example/", "--langfuse-project", "p 1")

    wanted = [
        "Session session-0042  ACCEPTED",
        "after 90 ms",
        "openai / gpt-x, at most 3 attempts",
        f"https://lf.example/project/p%201/traces/{43:032x}",
        "yes: every worker is in the roster",
        "Fill 3 operators in Toledo",
        "Café résumé  你好",
        '"seen": 18446744073709551617',
        "Attempt 1  REJECTED",
        '{"try":1}',
        f"{PHANTOM.code} at {PHANTOM.path}: {PHANTOM.message}",
        "Attempt 2  ACCEPTED",
        "findings: none",
        "Outcome  ACCEPTED after 2 attempts",
        "1e+21",
    ]
    place = 0
    for part in wanted:
        place = text.find(part, place)
        assert place >= 0, part


def test_show_finds_by_trace_and_prints_the_rows_bytes(live: Path) -> None:
    for number in (3, 13, 23, 43):
        result = CliRunner().invoke(command, ["show", f"{number + 1:032x}", "--log", str(live), "--json"])
        assert result.stdout_bytes == encode_row(record(number))


def test_show_tells_errors_and_what_never_happened(tmp_path: Path) -> None:
    failed = attempt(1, verdict="infra_error", findings=None, raw="", error=UNREACHABLE)
    nothing: dict[str, Any] = {"spec": None, "artifact": None, "grounded_in_roster": None}
    session = record(1, **nothing, attempts=(failed,), final_verdict="infra_error", error=UNREACHABLE)
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(session))

    text = printed(live, "show", "session-0001")

    assert text.count("UNAVAILABLE / PROVIDER_UNREACHABLE in chatd: The model endpoint cannot be reached.") == 2
    for absent in ("Spec", "rtifact", "grounded", "findings", "answer", "Langfuse"):
        assert absent not in text


def test_show_of_an_unknown_id_fails(live: Path) -> None:
    result = run(live, "show", "nobody")

    assert (result.exit_code, "no session with the id" in result.stderr) == (1, True)


def test_an_answer_cannot_steer_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202egnol\x00"
    session = record(1, prompt=hostile, kind=hostile, attempts=(attempt(1, raw=hostile),))
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(session))

    query = ("sql", "SELECT kind, prompt FROM sessions")
    for arguments in (("show", "session-0001"), ("ls",), ("tail",), ("stats",), query):
        text = printed(live, *arguments)
        assert not any(code in text for code in "\x1b\x07\r\x9b\u202e\x00"), arguments
    assert safe("a\tb\nc\u200f") == "a\tb\nc\\u200f"


def test_a_row_of_another_shape_is_no_row_for_anybody(tmp_path: Path) -> None:
    odd = {"schema": "session.iterate.v1", "session_id": "odd", "attempts": [1, {"findings": [2], "raw": 5}]}
    live = write_segment(tmp_path / "sessions.jsonl", json.dumps(odd).encode() + b"\n")

    assert run(live, "show", "odd").exit_code == 1
    assert "No session fits" in run(live, "ls").output
    assert printed(live, "tail") == ""
    assert json.loads(printed(live, "verify", "--json"))["invalid"] == 1


def test_show_has_what_was_given_and_what_would_pass(tmp_path: Path) -> None:
    hint = replace(PHANTOM, suggestions=('{"name":"Anna Aida","worker_id":"W-7"}',))
    session = record(
        5,
        caller="desk",
        try_number=3,
        token_budget_spent=True,
        no_progress=True,
        brief=BriefRecord(
            grounding="candidates",
            candidates=2,
            candidates_total=9,
            candidates_total_is_floor=True,
            infeasible=True,
            degraded=True,
            findings=(replace(PHANTOM, code="TOO_FEW"),),
            roster="r7",
            brief_ms=12,
        ),
        attempts=(
            attempt(
                1, verdict="rejected", findings=(hint,), cost_nano_usd=1_250_000, datasets=(DatasetRecord("d", "v3"),)
            ),
            attempt(2, verdict="unparsable", findings=None, cost_nano_usd=2_000_000_000, parse_problem="no JSON\x1b"),
        ),
    )
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(session))

    text = printed(live, "show", "session-0005")

    for part in (
        "caller     desk",
        "try        3: the id was used before",
        "cost       2.00125 USD",
        "the form and candidates; 2 given of at least 9 who qualify; roster r7; 12 ms",
        "degraded: the candidates",
        "infeasible: fewer qualify",
        "TOO_FEW at /workers/0",
        "name Anna Aida, worker_id W-7",
        "0.00125 USD; datasets d v3",
        "not read: no JSON\\u001b",
        "2.00 USD",
        "ended early: the token budget was spent",
        "ended early: the model gave an answer again",
    ):
        assert part in text, part


def test_show_says_that_no_model_was_asked_where_no_answer_could_pass(tmp_path: Path) -> None:
    brief = BriefRecord(grounding="candidates", candidates=0, candidates_total=0, infeasible=True, brief_ms=1)
    session = record(5, attempts=(), final_verdict="max_iter_exhausted", artifact=None, brief=brief)
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(session))

    text = printed(live, "show", "session-0005")

    assert "infeasible: fewer qualify than are needed" in text
    assert "no model was asked: no answer can pass" in text


def test_show_names_no_candidates_of_a_kind_that_counts_nobody(tmp_path: Path) -> None:
    brief = BriefRecord(grounding="candidates", candidates=0, candidates_total=0, brief_ms=1)
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(record(5, brief=brief)))

    text = printed(live, "show", "session-0005")

    assert "the form alone; 1 ms" in text
    assert "who qualify" not in text


def test_stats_json_is_stable(live: Path) -> None:
    found = json.loads(printed(live, "stats", "--json", "--kind", "fill", "--by", "week"))

    assert list(found) == ["period", "totals", "by_model", "by_period", "by_period_and_model", "attempts", "causes"]
    assert found["totals"]["sessions"] == 50
    assert found["totals"]["phantom_rate"] == 0.5
    assert [(part["period"], part["sessions"]) for part in found["by_period"]] == [("2026-11-16", 50)]


def test_stats_are_tables_for_people(live: Path) -> None:
    text = printed(live, "stats", "--kind", "fill")

    assert text.startswith("50 sessions\n")
    assert "100.0%" in text
    assert "2026-11-21" in text


def sql_json(live: Path, statement: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(printed(live, "sql", statement, "--json"))
    return found


def test_sql_prints_json_with_types_that_json_has(live: Path) -> None:
    [row] = sql_json(
        live,
        "SELECT timestamp, artifact, error, attempts[1].findings AS f, 12345678901234567890123::HUGEINT AS h,"
        " 1.5::DECIMAL(4,2) AS d, 'nan'::DOUBLE AS n, DATE '2026-11-24' AS day, INTERVAL 1 HOUR AS i"
        " FROM sessions WHERE session_id = 'session-0041'",
    )

    assert row == {
        "timestamp": "2026-11-21T17:30:00.000041Z",
        "artifact": record(41).artifact,
        "error": None,
        "f": [{"code": PHANTOM.code, "path": PHANTOM.path, "message": PHANTOM.message, "suggestions": None}],
        "h": 12345678901234567890123,
        "d": "1.50",
        "n": "nan",
        "day": "2026-11-24",
        "i": "1:00:00",
    }


def test_sql_without_rows_is_an_empty_array(live: Path) -> None:
    assert sql_json(live, "SELECT * FROM sessions WHERE false") == []


def test_sql_csv_is_read_back_by_a_csv_reader(live: Path) -> None:
    session = record(0)
    where = f"WHERE session_id = '{session.session_id}'"

    text = printed(live, "sql", f"SELECT session_id, prompt, artifact, error FROM sessions {where}", "--csv")

    assert list(csv.reader(io.StringIO(text))) == [
        ["session_id", "prompt", "artifact", "error"],
        [session.session_id, session.prompt, session.artifact, ""],
    ]


def test_sql_refuses_what_is_not_reading(live: Path, tmp_path: Path) -> None:
    result = run(live, "sql", f"COPY (SELECT 1) TO '{tmp_path}/out.csv'")

    assert (result.exit_code, "COPY is refused" in result.stderr) == (2, True)
    assert not (tmp_path / "out.csv").exists()


def test_verify_says_by_its_exit_status_whether_the_log_is_whole(tmp_path: Path) -> None:
    clean = write_segment(tmp_path / "sessions.jsonl", rows(1, 2))
    assert "whole            2" in printed(clean, "verify", "--canonical")

    clean.write_bytes(rows(1, 2, 2) + b"{torn\n")
    result = run(clean, "verify")

    assert result.exit_code == 1
    assert f"line 4, byte {len(rows(1, 2, 2))}" in result.stdout
    found = json.loads(run(clean, "verify", "--json").stdout)
    assert (found["passed"], found["whole"], found["torn"], found["duplicates"]) == (False, 3, 1, 1)


COMPACT = ("compact", "--recall-hours", "0")


def test_compact_leaves_the_files_from_which_a_repeated_call_is_answered(live: Path) -> None:
    result = run(live, "compact")

    assert result.exit_code == 0, "nothing is to be done about it"
    assert "sessions.jsonl.2.gz: left as it is: a repeated call is answered from it for 2" in result.stdout
    assert "sessions.jsonl.2.gz: 10 lines" in printed(live, "compact", "--recall-hours", "0.5")


def test_compact_tells_what_it_did_and_what_it_left(live: Path) -> None:
    write_segment(live.with_name("sessions.jsonl.3"), rows(60), age_s=1)

    result = run(live, *COMPACT)

    assert result.exit_code == 1
    assert "sessions.jsonl.2.gz: 10 lines" in result.stdout
    assert "sessions.jsonl.3: left as it is: it was written" in result.stdout
    assert [o["compacted"] for o in json.loads(run(live, *COMPACT, "--settle-s", "0", "--json").stdout)] == [True]
    assert "Nothing to compact" in printed(live, *COMPACT)


def test_compact_names_the_days_that_it_merged_and_those_that_it_could_not(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(50))
    for number in range(3):
        write_segment(tmp_path / f"sessions.jsonl.{number + 1}", rows(number))

    assert "2026-11-20: 3 Parquet files of 3 lines merged into one" in printed(live, *COMPACT)
    assert "merged" not in printed(live, *COMPACT)
    (merged,) = tmp_path.glob("sessions.parquet/day=*/merged-*.parquet")
    merged.unlink()
    failed = run(live, *COMPACT, "--json")

    assert failed.exit_code == 1
    assert json.loads(failed.stdout) == []
    assert "not merged: " in failed.stderr
    assert "restore it from a backup" in failed.stderr


def test_a_subcommand_brings_no_more_than_it_needs(live: Path) -> None:
    script = (
        "import sys; from lakehouse.cli.main import main\n"
        f"main(['sessions', 'ls', '--log', {str(live)!r}], standalone_mode=False)\n"
        "print(*sorted({'grpc', 'duckdb', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert found.stderr.splitlines()[-1:] == [""]


def test_report_writes_one_page(live: Path, tmp_path: Path) -> None:
    result = run(live, "report", "-o", str(tmp_path / "page.html"))

    assert result.exit_code == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_damaged_archive_is_a_warning_on_stderr(live: Path) -> None:
    damaged = live.with_name("sessions.jsonl.2.gz")
    damaged.write_bytes(damaged.read_bytes()[:-30])

    result = run(live, "ls", "--json", "--limit", "1")

    assert result.exit_code == 0
    assert "Warning: " in result.stderr
    assert json.loads(result.stdout)


def test_tail_prints_the_last_rows_oldest_first(live: Path) -> None:
    result = CliRunner().invoke(command, ["tail", "-n", "12", "--json", "--log", str(live)])
    *_, before_live = rows(38, 39)[:-1].split(b"\n")

    assert result.stdout_bytes.split(b"\n")[2:-1] == rows(*range(40, 50))[:-1].split(b"\n")
    assert result.stdout_bytes.split(b"\n")[0] == before_live
    assert printed(live, "tail", "-n", "1").split()[1] == "session-0049"


class Tail:
    """`tail -f` in a process of its own."""

    def __init__(self, live: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lakehouse.cli.main", "sessions", "tail", "-f", "--log", str(live), *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def read(self, wanted: bytes) -> None:
        """Wait until exactly these bytes came next."""
        assert self._process.stdout is not None
        got, deadline = b"", time.monotonic() + 20
        while len(got) < len(wanted):
            left = deadline - time.monotonic()
            assert left > 0, got
            if select.select([self._process.stdout], [], [], left)[0]:
                got += os.read(self._process.stdout.fileno(), len(wanted) - len(got))
        assert got == wanted

    def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        assert self._process.stdout is not None
        self._process.stdout.close()
        try:
            return self._process.wait(20)
        finally:
            self._process.kill()  # where it did not heed: nothing stays behind


def test_tail_follows_across_rotation_until_interrupted(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1, 2))
    tail = Tail(live, "-n", "1", "--json")
    try:
        tail.read(rows(2))
        with live.open("ab") as file:
            file.write(rows(3))
        tail.read(rows(3))
        live.rename(tmp_path / "sessions.jsonl.1")
        live.write_bytes(rows(4))
        tail.read(rows(4))
    finally:
        status = tail.interrupt()
    assert status == 130


def test_ls_stats_and_report_take_one_callers_sessions_alone(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    callers = ("scheduler", "scheduler", "other", None)
    found = [record(number, caller=caller) for number, caller in enumerate(callers)]
    live.write_bytes(b"".join(map(encode_row, found)))
    listed = json.loads(printed(live, "ls", "--caller", "scheduler", "--json"))

    assert [each["caller"] for each in listed] == ["scheduler", "scheduler"]
    assert json.loads(printed(live, "ls", "--caller", "nobody", "--json")) == []
    assert '"sessions": 2' in printed(live, "stats", "--caller", "scheduler", "--json")


def test_show_gives_the_last_try_of_an_id_and_all_of_them_when_asked(tmp_path: Path) -> None:
    failed = replace(FULL, session_id="again", attempts=())
    tries = [encode_row(failed), encode_row(replace(failed, try_number=2)), encode_row(replace(failed, try_number=3))]
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(tries))

    assert run(live, "show", "again", "--json").stdout.encode() == tries[2]
    assert run(live, "show", "again", "--json", "--all-tries").stdout.encode() == b"".join(tries)


def test_show_gives_the_last_tries_of_an_id_that_failed_more_often_than_it_shows(tmp_path: Path) -> None:
    failed = replace(FULL, session_id="again", attempts=())
    tries = [encode_row(replace(failed, try_number=number)) for number in range(1, 26)]
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(tries))
    every = run(live, "show", "again", "--json", "--all-tries")

    assert run(live, "show", "again", "--json").stdout.encode() == tries[-1]
    assert every.stdout.encode() == b"".join(tries[-20:])
    assert "more than 20 sessions; the 5 before are not shown" in every.stderr


def test_ls_says_which_try_of_its_id_a_session_is(tmp_path: Path) -> None:
    failed = record(1, final_verdict="infra_error", error=UNREACHABLE, attempts=())
    tries = [failed, replace(record(2), session_id=failed.session_id, try_number=2)]
    live = write_segment(tmp_path / "sessions.jsonl", b"")
    write_segment(tmp_path / "sessions.jsonl.1", b"".join(map(encode_row, tries)))
    listed = json.loads(printed(live, "ls", "--json"))
    table = printed(live, "ls").splitlines()
    assert all(outcome.compacted for outcome in compact(live))
    compacted = json.loads(printed(live, "ls", "--json"))

    assert [(each["session_id"], each["try"]) for each in listed] == [("session-0001", 2), ("session-0001", 1)]
    assert compacted == listed
    columns = [line.split()[1:3] for line in table]
    assert columns == [["session", "try"], ["session-0001", "2"], ["session-0001", "1"]]


def test_tail_names_the_try_of_an_id_that_was_used_again(tmp_path: Path) -> None:
    tries = [record(1), replace(record(2), session_id="session-0001", try_number=2)]
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(map(encode_row, tries)))

    assert ["(try 2)" in line for line in printed(live, "tail").splitlines()] == [False, True]
