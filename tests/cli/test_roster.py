"""``lakehouse roster``: check, info, find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rosters import EXAMPLES, people, small_table, write_csv

from lakehouse.cli.roster import command


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments])


def test_the_example_roster_is_good() -> None:
    companions = ("--assignments", EXAMPLES / "assignments.csv", "--do-not-send", EXAMPLES / "do_not_send.csv")
    result = _run("check", EXAMPLES / "workers.csv", *companions)
    assert result.exit_code == 0, result.output
    assert "good, 3000 workers, version sha256:" in result.output
    assert "warning" not in result.output


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


def test_problems_beyond_the_wanted_are_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "w.csv", [{**person, "name": ""} for person in people()])
    report = json.loads(_run("check", path, "--json", "--problems-max", 1).output)
    assert len(report["problems"]) == 1
    assert report["problems_left_out"] == 7


def test_info_counts_roles_and_places(tmp_path: Path) -> None:
    path = small_table(tmp_path).path
    assert "8 workers, 7 active" in _run("info", path).output
    report = json.loads(_run("info", path, "--json").output)
    assert report["roles"] == {"Forklift operator": 7, "welder": 1}
    assert report["places"]["Toledo, OH"] == 6


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
    assert result.exit_code == 3
    assert 'nobody has "Omer Kahn"; near to it:' in result.output
    assert "Omar Khan" in result.output


def test_columns_with_other_names_are_mapped(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "w.csv", [{"no": "A1", "who": "[b]Ana[/b] Silva"}])
    result = _run("find", path, "silva", "--column", "worker_id=no", "--column", "name=who")
    assert result.exit_code == 0
    assert "[b]Ana[/b] Silva" in result.output
    assert _run("check", path, "--column", "worker_id").exit_code == 2
