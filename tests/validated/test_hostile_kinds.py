"""Declarations and artifacts that once passed unseen, took minutes, or ended in a bug."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from rapidfuzz import process
from validated_server import Client, serving

from validated.config import DatasetTable, LimitsTable
from validated.datasets.loaded_dataset import Datasets
from validated.kinds.declared.declaration import DeclarationError
from validated.kinds.declared.kind import DeclaredKind

NAMES = ("number", "name", "at", "tags")
MEMBERS: dict[str, Any] = {**{name: {} for name in NAMES}, "price": {"type": "number"}}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "lines": {"type": "array", "items": {"type": "object", "additionalProperties": False, "properties": MEMBERS}}
    },
}
SPEC = {
    "type": "object",
    "properties": {"limits": {"type": "object", "additionalProperties": False, "properties": {"most": {}}}},
}
KIND = f"""description = "Parts."
schema = '''{json.dumps(SCHEMA)}'''
spec_schema = '''{json.dumps(SPEC)}'''

[[references]]
at = "/lines/*"
dataset = "parts"
key = {{ number = "number" }}
agree = {{ name = "name", at = "at", tags = "tags" }}
optional = true
require = [{{ column = "name", op = "not_equals", spec = "spec.limits.most" }}]

[[rules]]
code = "DEAR"
check = "!has(item.price) || item.price <= artifact.lines[0].price"
message = "dear"
reference = 0
"""


def parts(folder: Path) -> DatasetTable:
    """Write a table with a row at each edge."""
    rows = [
        "P-1,Hex bolt,2026-11-01T05:30:00Z,a",
        "P-2,caf\u00e9,9999-12-31T23:59:59.999999Z,",
        "P-3,Nut,2300-01-01T00:00:00.123457Z,a;b",
    ]
    (folder / "parts.csv").write_text("\n".join([",".join(NAMES), *rows]) + "\n")
    return DatasetTable.model_validate({
        "path": folder / "parts.csv", "key": ["number"], "may_be_empty": ["tags"], "index_dir": folder / "indexes",
        "columns": {"number": "text", "name": "text", "at": "instant", "tags": "labels"},
    })  # fmt: skip


def refusal(folder: Path, text: str) -> str:
    path = folder / "order.toml"
    path.write_text(text)
    started_at = time.monotonic()
    with pytest.raises(DeclarationError) as refused:
        DeclaredKind(path, Datasets({"parts": parts(folder)}), LimitsTable())
    assert time.monotonic() - started_at < 5
    return str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('name = "name"', 'nmae = "name"', "agree.nmae"),
        ('number = "number"', 'numbr = "number"', "key.numbr"),
        ('"/lines/*"', '"/lins/*"', "at"),
        ('"/lines/*"', '"/lines"', "at"),
        ("spec.limits.most", "spec.limits.mots", "require"),
        ("!has(item.price) || item.price", "!has(item.prise) || item.prise", "check"),
        ("artifact.lines[0].price", "artifact.lines[0].prise", "check"),
        ('message = "dear"', 'message = "{item.prise}"', "message"),
        ('message = "dear"', 'message = "dear"\npath = "/prise"', "path"),
    ],
)
def test_a_name_that_the_schema_shuts_out_is_refused_where_it_stands(
    tmp_path: Path, old: str, new: str, where: str
) -> None:
    text = refusal(tmp_path, KIND.replace(old, new))
    if where == "at" and new == '"/lines"':
        assert "key.number" in text  # an array has no number
    else:
        assert f"{where}: " in text
    assert "would never be looked at" in text


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("description", ".".join(["a"] * 20_000) + " = 1\ndescription", ":1: a name of more than 20 parts"),
        ("description", f"x = {'9' * 50_000}\ndescription", ":1: holds a number"),
        ("optional = true", 'optional = "yes"', "valid boolean"),
        ("optional = true", "count = true", "valid integer"),
        ('spec = "spec.limits.most"', "value = 1.5", "in quotes"),
        ('spec = "spec.limits.most"', "value = 2026-12-05", "in quotes"),
        ('"/lines/*"', '"/li~2nes/*"', "is written"),
        ('tags = "tags"', 'tags = { column = "tags", tolerance = 0.5 }', "agree.tags.tolerance"),
    ],
)
def test_a_declaration_of_the_wrong_type_or_size_is_refused_at_once(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert says in refusal(tmp_path, KIND.replace(old, new, 1))


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "kinds").mkdir()
    # Some editors begin a file with this mark.
    (folder / "kinds" / "order.toml").write_text(KIND, encoding="utf-8-sig")
    async with serving(datasets={"parts": parts(folder)}, kinds_dir=folder / "kinds") as opened:
        yield opened


async def messages(client: Client, *lines: dict[str, Any]) -> list[str]:
    response = await client.validate("order", {"lines": lines}, spec_json="{}")
    return [finding.message for finding in response.findings]


@pytest.mark.parametrize(
    "line",
    [
        {"number": "P-1", "at": "2026-11-01t01:30:00-04:00"},
        {"number": "P-1", "at": "2026-11-01T05:30:00.000000000Z"},
        {"number": "P-2", "at": "9999-12-31T23:59:59.999999Z"},
        {"number": "P-3", "at": "2300-01-01T00:00:00.123457Z"},
        {"number": "P-2", "tags": []},
        {"number": "P-2", "tags": None},
    ],
)
async def test_what_is_so_passes(client: Client, line: dict[str, Any]) -> None:
    assert await messages(client, line) == []


@pytest.mark.parametrize(
    "at",
    [
        "2026-11-01T05:30:00.0000009Z", "2026-11-01x05:30:00Z", "2026-W44-7T05:30:00Z", "20261101T053000Z",
        "2026-11-01T05:30Z", "2026-11-01T05:30:01+00:00:01",
    ],
)  # fmt: skip
async def test_an_instant_is_what_rfc_3339_says_to_the_last_digit(client: Client, at: str) -> None:
    assert await messages(client, {"number": "P-1", "at": at})


async def test_a_look_alike_text_is_told_apart_by_its_code_points(client: Client) -> None:
    (message,) = await messages(client, {"number": "P-2", "name": "cafe\u0301"})
    assert "U+0065 U+0301 where parts has U+00E9" in message


async def test_a_key_of_any_length_is_answered_in_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    real = process.extract

    def extract(key: str, *rest: Any, **how: Any) -> Any:
        compared.append(len(key))
        return real(key, *rest, **how)

    monkeypatch.setattr(process, "extract", extract)
    found = await messages(client, {"number": "P-1" * 60_000})
    assert "does not stand in parts" in found[0]
    assert compared == [200]


async def test_a_rule_that_looks_at_the_whole_for_each_element_is_bounded(client: Client) -> None:
    few = [{"number": "P-1", "price": 1}] * 20
    assert await messages(client, *few) == []
    found = await messages(client, *few * 45)
    assert [message for message in found if "900 elements are too many for the rule DEAR" in message]
