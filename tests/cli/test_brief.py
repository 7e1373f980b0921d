"""``lakehouse brief`` and ``lakehouse kinds``, with a validated of their own, and by the address of one that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from shared_runs import RunningValidated

from lakehouse.cli.brief import command
from lakehouse.cli.kinds import command as kinds

FORKLIFT = ("--spec", '{"role": "forklift operator", "count": 2}')


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.fixture
def roster(validated: RunningValidated) -> str:
    return validated.roster


@pytest.fixture
def there(validated: RunningValidated) -> tuple[str, str]:
    """Return the arguments for a validated that runs on the same roster."""
    return "--address", validated.address


def test_candidates_are_a_table_under_the_instructions(roster: str) -> None:
    result = _run(*FORKLIFT, "--prompt", "not Omar Khan, but W-000005", "--roster", roster)
    assert result.exit_code == 0, result.output
    lines = [line.split("  ")[0].strip() for line in result.output.splitlines()]
    table = lines[lines.index("worker_id") :]
    assert table[1] == "W-000005"
    assert len([line for line in table if line.lower().startswith("w-00000")]) == 6
    assert '"Omar Khan" does not qualify' in result.output
    assert "6 candidates of 6 who qualify, 2 needed" in result.output
    assert "OSHA-10" in result.output
    assert "419" not in result.output
    assert "8 workers" in result.output


def test_the_schemas_are_shown_where_they_are_asked_for(there: tuple[str, str]) -> None:
    result = _run(*FORKLIFT, *there, "--schema")
    assert result.exit_code == 0, result.output
    _, _, rest = result.output.partition("schema of the form\n")
    form, _, candidates = rest.partition("\nschema of the candidates\n")
    assert json.loads(form)["required"] == ["workers"]
    assert len(json.loads(candidates)["properties"]["workers"]["prefixItems"]) == 2
    assert "schema of the form" not in _run(*FORKLIFT, *there).output
    assert _run("--kind", "email", "--spec", '{"worker_ids": ["X"]}', "--schema", *there).output.endswith(
        "schema of the candidates\n(none)\n"
    )


def test_one_json_object_holds_the_schemas_as_they_are(there: tuple[str, str]) -> None:
    result = _run(*FORKLIFT, "--candidates", "3", "--seed", "s", *there, "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.output)
    assert len(value["candidates"]) == 3
    assert value["candidates_schema"]["properties"]["workers"]["minItems"] == 2
    assert value["form_schema"]["required"] == ["workers"]
    assert value["infeasible"] is False
    assert value["roster"]["row_count"] == 8


def test_what_cannot_be_filled_exits_1_and_says_why(there: tuple[str, str]) -> None:
    terms = ("--role", "forklift operator", "--count", "3", "--certification", "OSHA-10")
    result = _run(*terms, *there)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("infeasible: no answer can pass")
    assert "only 2 workers of the roster qualify" in result.output
    assert 'the certification "OSHA-10" shuts most out' in result.output
    assert "2 candidates of 2 who qualify, 3 needed" in result.output


def test_without_candidates_the_form_is_shown_and_no_roster_is_read(tmp_path: Path) -> None:
    path = tmp_path / "absent.csv"
    path.write_text("worker_id,name\nA,[bold]B\n", encoding="utf-8")
    result = _run(*FORKLIFT, "--candidates", "0", "--roster", str(path))
    assert result.exit_code == 0, result.output
    assert "no candidates" in result.output
    shown = _run("--kind", "json_schema", "--spec", '{"type": "object"}', "--roster", str(path), "--json")
    assert json.loads(shown.output)["form_schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--kind", "email", "--role", "welder"], 2, "--role belongs to kind fill"),
        (["--spec", "{"], 2, "the spec does not fit"),
        (["--candidates", "201"], 2, "201"),
        (["--address", "127.0.0.1:1", "--timeout", "3"], 3, "nobody listens on 127.0.0.1:1"),
    ],
)
def test_wrong_usage_says_what_to_do(arguments: list[str], code: int, says: str) -> None:
    result = _run(*arguments)
    assert result.exit_code == code, result.output
    assert says in result.output


def test_a_spec_that_validated_refuses_is_reported_by_field(there: tuple[str, str]) -> None:
    result = _run("--spec", '{"role": "", "count": 0}', *there)
    assert result.exit_code == 2
    assert "fill.role" in result.output
    assert "fill.count" in result.output


def test_kinds_are_listed_with_the_fields_of_their_specs(roster: str, there: tuple[str, str]) -> None:
    result = CliRunner().invoke(kinds, ["--roster", roster])
    assert result.exit_code == 0, result.output
    assert "fill: Workers who fill a shift" in result.output
    assert "count (required), role (required), allowed_locations, city" in result.output
    value = json.loads(CliRunner().invoke(kinds, [*there, "--json"]).output)
    assert [kind["name"] for kind in value["kinds"]] == ["email", "fill", "json_schema"]
    assert value["kinds"][0]["spec_schema"]["required"] == ["worker_ids"]
