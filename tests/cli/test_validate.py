"""``lakehouse validate``, with a validated of its own and against a running one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from shared_runs import RunningValidated

from lakehouse.cli.validate import command

ANA = {"workers": [{"worker_id": "W-000001", "name": "Ana Silva"}]}
PHANTOM = {"workers": [{"worker_id": "W-000010", "name": "Ana Silva"}]}
FLAGS = ("--role", "forklift operator", "--count", "1", "--city", "Toledo", "--state", "OH")


def _run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(command, list(arguments), input=stdin)


@pytest.fixture
def roster(validated: RunningValidated) -> str:
    return validated.roster


def _file(folder: Path, value: object) -> str:
    path = folder / "artifact.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


def test_an_artifact_that_passes_exits_0_and_says_by_which_roster(tmp_path: Path, roster: str) -> None:
    result = _run(_file(tmp_path, ANA), *FLAGS, "--roster", roster)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("passed\n")
    assert "8 workers" in result.output


def test_findings_exit_1_and_are_one_json_object_where_asked(tmp_path: Path, validated: RunningValidated) -> None:
    result = _run(_file(tmp_path, PHANTOM), *FLAGS, "--address", validated.address, "--json")
    assert result.exit_code == 1, result.output
    value = json.loads(result.output)
    assert value["passed"] is False
    assert value["artifact"] == PHANTOM
    assert value["grounded_in_roster"] is False
    (finding,) = value["findings"]
    assert finding["code"] == "PHANTOM_WORKER"
    assert finding["suggestions"][0]["worker_id"] in ("W-000001", "W-000007")


def test_a_broken_roster_is_told_by_row(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_text("worker_id,name\nA,B\nA,C\n", encoding="utf-8")
    result = _run(_file(tmp_path, ANA), *FLAGS, "--roster", str(path))
    assert result.exit_code == 3
    assert "row 2" in result.output


def test_a_running_validated_is_asked_by_its_address(tmp_path: Path, validated: RunningValidated) -> None:
    there = ("--address", validated.address)
    spec = tmp_path / "spec.toml"
    spec.write_text('role = "forklift operator"\ncount = 1\n', encoding="utf-8")
    result = _run(*there, "--spec", f"@{spec}", stdin=json.dumps(ANA))
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "passed")
    schema = '{"type": "string"}'
    result = _run(*there, "--kind", "json_schema", "--spec", schema, stdin="5")
    assert result.exit_code == 1
    assert "SCHEMA at the top" in result.output
    result = _run(*there, *FLAGS, "--state", "Ohio", stdin=json.dumps(ANA))
    assert result.exit_code == 2
    assert "fill.state" in result.output
    result = _run(*there, *FLAGS, stdin="prose")
    assert result.exit_code == 2
    assert "artifact_json" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.json", *FLAGS), "No such file"),
        (("-", "--kind", "email", "--role", "x"), "--role belongs to kind fill"),
        (("-", "--spec", "{"), "not JSON"),
        (("-", "--spec", '{"rolle": "x"}'), "rolle"),
        (("-", "--spec", "[]"), "one JSON object"),
        (("-", "--roster", "a.csv", "--address", "b:1"), "not both"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_to_do(arguments: tuple[str, ...], says: str) -> None:
    result = _run(*arguments, stdin="{}")
    assert result.exit_code == 2
    assert says in result.output


def test_where_nobody_listens_the_message_says_how_to_start_one() -> None:
    result = _run("--address", "127.0.0.1:1", *FLAGS, stdin="{}")
    assert result.exit_code == 3
    assert "lakehouse up" in result.output
