"""``lakehouse roster``: check, info, find. The reader that it starts runs in this process where a test says so."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from rosters import EXAMPLES, POSTGRES, people, small_table, write_csv

from lakehouse.cli import roster
from lakehouse.cli.roster import command
from validated import roster_tool


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments])


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reader run here: a process of its own costs what ten readings do."""

    def run(command_line: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        interpreter, minus_m, module, *arguments = command_line
        assert (interpreter, minus_m, module) == (sys.executable, "-m", "validated.roster_tool")
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        status: object = None
        with contextlib.redirect_stdout(io.StringIO()) as said:
            try:
                roster_tool.main()
            except SystemExit as error:
                status = error.code
        assert isinstance(status, int)
        return subprocess.CompletedProcess(command_line, status, said.getvalue().encode(), b"")

    monkeypatch.setattr(roster, "subprocess", SimpleNamespace(run=run))


def test_the_example_roster_is_good() -> None:
    companions = ("--assignments", EXAMPLES / "assignments.csv", "--do-not-send", EXAMPLES / "do_not_send.csv")
    result = _run("check", EXAMPLES / "workers.csv", *companions)
    assert result.exit_code == 0, result.output
    assert "good, 3000 workers, version sha256:" in result.output
    assert "warning" not in result.output


@pytest.mark.usefixtures("in_process")
def test_every_problem_is_listed_with_its_row(tmp_path: Path) -> None:
    rows = people()
    rows[1]["worker_id"] = rows[0]["worker_id"]
    rows[4]["name"] = " "
    path = write_csv(tmp_path / "w.csv", rows)
    result = _run("check", path)
    assert result.exit_code == 1
    assert "row 2, worker_id: 'W-000001' stands in row 1" in result.output
    assert "row 5, name: is empty" in result.output
    assert "2 problems; validated refuses this roster" in result.output


@pytest.mark.usefixtures("in_process")
def test_problems_beyond_the_wanted_are_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "w.csv", [{**person, "name": ""} for person in people()])
    report = json.loads(_run("check", path, "--json", "--problems-max", 1).output)
    assert len(report["problems"]) == 1
    assert report["problems_left_out"] == 7


@pytest.mark.usefixtures("in_process")
def test_info_counts_roles_and_places(tmp_path: Path) -> None:
    path = small_table(tmp_path).path
    assert "8 workers, 7 active" in _run("info", path).output
    report = json.loads(_run("info", path, "--json").output)
    assert report["roles"] == {"Forklift operator": 7, "welder": 1}
    assert report["places"]["Toledo, OH"] == 6


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("ana silva", {"W-000001", "W-000007"}),
        ("000001", {"W-000001", "w-000001"}),
    ],
)
def test_find_knows_ids_names_and_parts_of_them(tmp_path: Path, text: str, ids: set[str]) -> None:
    result = _run("find", small_table(tmp_path).path, text, "--json")
    assert result.exit_code == 0
    assert {worker["worker_id"] for worker in json.loads(result.output)["workers"]} == ids


def test_find_shows_who_is_near_where_nobody_has_it(tmp_path: Path) -> None:
    result = _run("find", small_table(tmp_path).path, "Omer Kahn")
    assert result.exit_code == 1
    assert 'nobody has "Omer Kahn"; near to it:' in result.output
    assert "Omar Khan" in result.output


@pytest.mark.usefixtures("in_process")
def test_columns_with_other_names_are_mapped(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "w.csv", [{"no": "A1", "who": "[b]Ana[/b] Silva"}])
    result = _run("find", path, "silva", "--column", "worker_id=no", "--column", "name=who")
    assert result.exit_code == 0
    assert "[b]Ana[/b] Silva" in result.output
    assert _run("check", path, "--column", "worker_id").exit_code == 2


@pytest.mark.usefixtures("in_process")
def test_check_says_what_is_read_ignored_and_taken_for_granted(tmp_path: Path) -> None:
    rows = [
        {"emp": "W-1", "name": "Ana Silva", "phone": "+1 419 555 0101", "salary": "9"},
        {"emp": "w-1", "name": "ana  silva", "phone": "419-555-0101", "salary": "9"},
        {"emp": "W-3", "name": "\u0410na Silva", "phone": "", "salary": "9"},
    ]
    path = write_csv(tmp_path / "w.csv", rows)
    gone = [{"client_id": "acme", "worker_id": f"W-{number}"} for number in (1, 9)]
    companions = ("--do-not-send", write_csv(tmp_path / "d.csv", gone))
    result = _run("check", path, "--column", "worker_id=emp", *companions)
    assert result.exit_code == 1
    assert "1 of 2 rows name a worker who is not in the roster (row 2 'W-9')" in result.output
    result = _run("check", path, "--column", "worker_id=emp")
    assert result.exit_code == 0
    assert "workers: 3 rows; read: worker_id = emp, name, phone" in result.output
    assert "workers: ignored: salary" in result.output
    assert "workers: no active: everybody counts as active" in result.output
    report = json.loads(_run("check", path, "--column", "worker_id=emp", "--json").output)
    assert report["confusable_ids"]["shown"] == [["W-1", "w-1"]]
    assert report["confusable_names"]["total"] == 1
    assert report["one_person_under_two_ids"]["shown"] == [["W-1", "w-1"]]


@pytest.mark.usefixtures("in_process")
def test_check_takes_the_roster_of_the_configuration_by_its_rules(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("worker_id;name;status\nW-1;Ana Silva;yes\n", encoding="utf-8")
    config = tmp_path / "lakehouse.toml"
    text = f'[validated.roster]\npath = "{tmp_path / "w.csv"}"\ndelimiter = ";"\n'
    config.write_text(text, encoding="utf-8")
    refused = _run("check", "--config", config)
    assert refused.exit_code == 1
    assert '"status" looks like it; map it: roster.columns = {active = "status"}' in refused.output
    config.write_text(f'{text}columns = {{active = "status"}}\n', encoding="utf-8")
    assert _run("check", "--config", config).exit_code == 0
    config.write_text(f"{text}nonsense = 1\n", encoding="utf-8")
    assert _run("check", "--config", config).exit_code == 2
    assert _run("check", tmp_path / "none.csv").exit_code == 2
    assert _run("check", tmp_path / "w.csv", "--delimiter", "ab").exit_code == 2


@pytest.mark.skipif(not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set: no PostgreSQL server")
def test_check_looks_at_postgres_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALIDATED_ROSTER__POSTGRES__CONNINFO", POSTGRES)
    config = tmp_path / "lakehouse.toml"
    config.write_text('[validated.roster]\nbackend = "postgres"\npostgres = {table = "no such"}\n', encoding="utf-8")
    result = _run("check", "--config", config, "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["problems"][0]["text"].startswith("there is no such table")
    assert _run("info", "--config", config).exit_code == 2
