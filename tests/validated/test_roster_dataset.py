"""The roster's workers as the dataset ``roster``: declared kinds over people, and what models may see of those."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_line import lakehouse
from pydantic import ValidationError
from rosters import until
from validated_server import Client, serving

from lakehouse.errors import Reason
from validated.config import LimitsTable, RosterTable, ValidatedTable
from validated.datasets.loaded_dataset import Datasets, LoadedDataset
from validated.kinds.declared.declaration import DeclarationError
from validated.kinds.declared.kind import DeclaredKind
from validated.kinds.declared.shown import People

ROWS = """worker_id,name,role,city,state,active,certifications,latitude,longitude,phone
W-1,Ana Silva,welder,Toledo,OH,true,forklift;OSHA-10,41.65,-83.53,419-555-0101
W-2,Omar Khan,welder,Toledo,OH,false,,,,419-555-0102
W-3,Mei Lin,call 419-555-0103,Toledo,OH,true,,,,419-555-0103
W-4,Eve 419-555-0104,welder,Toledo,OH,true,,,,
"""
KIND = """
description = "A team with a lead."
schema = '''{"type": "object", "required": ["team"], "additionalProperties": false, "properties": {"team": {
  "type": "array", "items": {"type": "object", "required": ["id", "name"], "additionalProperties": false,
  "properties": {"id": {"type": "string"}, "name": {"type": "string"}, "north": {"type": "number"}}}}}}'''

[[references]]
at = "/team/*"
dataset = "roster"
key = { id = "worker_id" }
agree = { name = "name", north = "latitude" }
require = [{ column = "active", value = true }]
count = 1

[brief]
columns = ["worker_id", "name", "role", "city"]
"""


def roster_of(folder: Path, rows: str = ROWS) -> dict[str, Any]:
    (folder / "workers.csv").write_text(rows, encoding="utf-8")
    return {"path": folder / "workers.csv", "index_dir": folder / "indexes", "poll_ms": 50}


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    folder = tmp_path_factory.mktemp("roster")
    kinds = folder / "kinds"
    kinds.mkdir()
    (kinds / "team.toml").write_text(KIND)
    (kinds / "hall.toml").write_text(KIND.replace(', north = "latitude"', ""))
    async with serving(roster=roster_of(folder), kinds_dir=kinds) as opened:
        yield opened


async def codes(client: Client, worker: dict[str, Any]) -> list[str]:
    response = await client.validate("team", {"team": [worker]}, spec_json="{}")
    assert [each.name for each in response.datasets] == ["roster"]
    assert response.grounded_in_roster is ("NOT_IN_DATASET" not in [each.code for each in response.findings])
    return [each.code for each in response.findings]


async def test_a_declared_kind_judges_by_the_roster(client: Client) -> None:
    assert await codes(client, {"id": "W-1", "name": "Ana Silva"}) == []
    assert await codes(client, {"id": "W-1", "name": "Ana Silva", "north": 41.65}) == []
    assert await codes(client, {"id": "W-1", "name": "Ana Silva", "north": 41.66}) == ["FACT_MISMATCH"]
    assert await codes(client, {"id": "W-1", "name": "Ana silva"}) == ["FACT_MISMATCH"]
    assert await codes(client, {"id": "W-2", "name": "Omar Khan"}) == ["NOT_ALLOWED"]
    assert await codes(client, {"id": "W-9", "name": "Ana Silva"}) == ["NOT_IN_DATASET"]


async def test_no_phone_number_and_no_hidden_column_is_said_to_a_model(client: Client) -> None:
    asked = {"prompt": "Send W-1, W-3 or W-4.", "candidates_max": 50}
    brief = await client.brief("hall", asked=asked, spec_json="{}")
    candidates = {each["worker_id"]: each for each in json.loads(brief.candidates_json)}
    # Whose name holds a number is no candidate; a role that holds one is left out.
    assert set(candidates) == {"W-1", "W-3"}
    assert "role" not in candidates["W-3"]
    assert candidates["W-1"] == {"worker_id": "W-1", "name": "Ana Silva", "role": "welder", "city": "Toledo"}
    assert "W-1" in brief.candidates_schema_json
    # Choices with the latitude would tell it.
    other = await client.brief("team", asked=asked, spec_json="{}")
    assert other.candidates_json
    assert not other.candidates_schema_json
    wrong = await client.validate("team", {"team": [{"id": "W-1", "name": "x", "north": 1}]}, spec_json="{}")
    said = [each.message for each in wrong.findings]
    assert said == ['"x" is not what roster has: "Ana Silva"', "1 is not what roster has"]
    told = brief.instructions + brief.candidates_json + brief.candidates_schema_json + other.candidates_json + str(said)
    for number in ("0101", "0103", "0104", "41.65"):
        assert number not in told


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"latitude"', '"phone"', '"phone" is no column of roster'),
        ('"role", "city"', '"latitude"', "see validated.candidate_facts"),
        ('"role", "city"', '"phone"', "phone"),
        ('id = "worker_id"', 'id = "name"', "must name each key column of roster once: worker_id"),
    ],
)
def test_a_declaration_that_would_show_or_take_more_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "team.toml").write_text(KIND.replace(old, new))
    datasets = Datasets({}, RosterTable(**roster_of(tmp_path)))
    with pytest.raises(DeclarationError) as refused:
        DeclaredKind(tmp_path / "team.toml", datasets, LimitsTable())
    assert words in str(refused.value)


def test_what_a_deployment_hides_no_declaration_shows(tmp_path: Path) -> None:
    (tmp_path / "team.toml").write_text(KIND)
    datasets = Datasets({}, RosterTable(**roster_of(tmp_path)))
    with pytest.raises(DeclarationError, match="candidate_facts"):
        DeclaredKind(tmp_path / "team.toml", datasets, LimitsTable(), People(("city",)))


async def test_the_workers_are_read_as_the_roster_reads_them(tmp_path: Path) -> None:
    rows = "emp_no,NAME,Role\nW-1,Ana Silva, welder \n"
    given = roster_of(tmp_path, rows) | {"columns": {"worker_id": "emp_no"}}
    async with LoadedDataset("roster", RosterTable(**given)).open() as dataset:
        row = dataset.current()[0].row("W-1")
        assert row is not None
        # Everybody is active where no column says otherwise.
        assert (row.values["role"], row.values["active"], row.values["city"]) == ("welder", True, None)
        (tmp_path / "workers.csv").write_text("emp_no,NAME,Status\nW-1,Ana Silva,gone\n")
        dataset.reload()
        await until(lambda: dataset.counts()["load_failures"] == 1)
        assert dataset.current()[0].row("W-1") is row
    async with LoadedDataset("roster", RosterTable(**roster_of(tmp_path, ROWS))).open() as dataset:
        row = dataset.current()[0].row("W-1")
        assert row is not None
        assert row.values["latitude"] == Decimal("41.65")


async def test_the_roster_is_loaded_as_a_dataset_once_a_kind_names_it(tmp_path: Path) -> None:
    kinds = tmp_path / "kinds"
    kinds.mkdir()
    async with serving(roster=roster_of(tmp_path), kinds_dir=kinds) as client:
        assert not (tmp_path / "indexes-dataset").exists()
        (kinds / "team.toml").write_text(KIND)
        os.kill(os.getpid(), signal.SIGHUP)

        async def answered() -> bool:
            if "team" not in await client.list_kinds():
                return False
            try:
                return bool((await client.validate("team", {"team": []}, spec_json="{}")).findings)
            except Exception as error:  # noqa: BLE001  until it is read
                assert Reason.ROSTER_UNAVAILABLE.value in str(error) or "roster" in str(error).lower()
                return False

        for _ in range(2000):
            if await answered():
                break
        else:
            raise AssertionError("it is not loaded")
        shutil.rmtree(kinds)


def test_the_name_is_taken(tmp_path: Path) -> None:
    table = {"path": "x.csv", "key": ["a"], "columns": {"a": "text"}}
    with pytest.raises(ValidationError, match="call this another name"):
        ValidatedTable.model_validate({"roster": roster_of(tmp_path), "datasets": {"roster": table}})


def test_the_command_looks_at_the_roster_as_at_any_dataset(tmp_path: Path) -> None:
    roster_of(tmp_path)
    (tmp_path / "do_not_send.csv").write_text("client_id,worker_id\nacme ,W-1\n")
    config = tmp_path / "lakehouse.toml"
    config.write_text(f'[validated.roster]\npath = "{tmp_path}/workers.csv"\n')
    found = lakehouse("dataset", "find", "roster", "w-1", "--json", "--config", str(config))
    rows = json.loads(found.stdout)["rows"]
    assert [row["name"] for row in rows] == ["Ana Silva"]
    assert "phone" not in rows[0]
    info = json.loads(lakehouse("dataset", "info", "roster", "--json", "--config", str(config)).stdout)
    assert (info["row_count"], info["key"], info["columns"]["active"]) == (4, ["worker_id"], "boolean")
    config.write_text(config.read_text() + f'do_not_send_path = "{tmp_path}/do_not_send.csv"\n')
    check = lakehouse("dataset", "check", "roster", "--config", str(config))
    assert check.returncode == 1
    assert "do_not_send.csv: row 1, client_id" in check.stdout
