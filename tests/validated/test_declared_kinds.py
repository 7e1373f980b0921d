"""Declared kinds at the service: verdicts, versions, spec, suggestions, reloads, and declarations that are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from catalogue import FOLDER, QUOTE, catalogue_table, products
from validated_server import Client, serving

from lakehouse.errors import Reason
from validated.config import LimitsTable
from validated.datasets.dataset_files import Datasets
from validated.kinds.declared.declaration import DeclarationError
from validated.kinds.declared.kind import DeclaredKind
from validated.kinds.declared.registry import Kinds, check_name

SPEC = {"count": 2, "category": "drills", "budget": 500}


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    index_dir = tmp_path_factory.mktemp("indexes")
    async with serving(datasets={"catalogue": catalogue_table(index_dir)}, kinds_dir=FOLDER / "kinds") as opened:
        yield opened


def quoting(*skus: str, **changes: Any) -> dict[str, Any]:
    """Return a quote of these articles, true in every line but for `changes`."""
    rows = products()
    lines = [
        {"sku": sku, "name": rows[sku]["name"], "unit_price": float(rows[sku]["price"]), "quantity": 1, **changes}
        for sku in skus
    ]
    return {"lines": lines}


def drills(count: int, **wanted: str) -> list[str]:
    """Articles that meet SPEC."""
    want = {"category": "drills", "discontinued": "no", **wanted}
    rows = products().values()
    return [
        row["sku"]
        for row in rows
        if all(row[name] == value for name, value in want.items()) and float(row["price"]) <= 500
    ][:count]


async def verdict(client: Client, artifact: Any, spec: dict[str, Any] = SPEC) -> list[tuple[str, str]]:
    response = await client.validate("quote", artifact, spec_json=json.dumps(spec))
    return [(finding.code, finding.path) for finding in response.findings]


async def test_a_true_quote_passes_and_the_version_of_the_dataset_is_said(client: Client) -> None:
    response = await client.validate("quote", quoting(*drills(2)), spec_json=json.dumps(SPEC))
    assert response.passed
    assert response.grounded_in_roster
    assert not response.HasField("roster")
    ((name, version),) = [(each.name, each.version) for each in response.datasets]
    assert name == "catalogue"
    assert version.startswith("sha256:")


async def test_each_code_blames_the_place(client: Client) -> None:
    one, two = drills(2)
    (gone,) = drills(1, discontinued="yes")
    assert await verdict(client, quoting(one, two, unit_price=1)) == [
        ("FACT_MISMATCH", "/lines/0/unit_price"),
        ("FACT_MISMATCH", "/lines/1/unit_price"),
    ]
    assert await verdict(client, quoting(one, gone)) == [("NOT_ALLOWED", "/lines/1/sku")]
    assert await verdict(client, quoting(one, one)) == [("DUPLICATE", "/lines/1/sku")]
    assert await verdict(client, quoting(one)) == [("COUNT", "/lines")]
    assert await verdict(client, quoting(one, two, quantity=0)) == [
        ("SCHEMA", "/lines/0/quantity"),
        ("SCHEMA", "/lines/1/quantity"),
    ]
    phantom = quoting(one, two)
    phantom["lines"][1]["sku"] = two + "0"
    response = await client.validate("quote", phantom, spec_json=json.dumps(SPEC))
    (finding,) = response.findings
    assert (finding.code, finding.path) == ("NOT_IN_DATASET", "/lines/1/sku")
    assert response.grounded_in_roster is False
    assert response.HasField("grounded_in_roster")
    near = [json.loads(each.facts_json) for each in finding.suggestions]
    # They exist, qualify and are not used yet; and only the columns that a model may see are shown.
    for facts in near:
        row = products()[facts["sku"]]
        assert row["category"] == "drills"
        assert row["discontinued"] == "no"
        assert float(row["price"]) <= 500
        assert set(facts) == {"sku", "name", "category", "price"}
        assert facts["sku"] != one
    assert near[0]["sku"] == two
    assert two in finding.message
    assert two not in finding.unrestricted_message.replace(two + "0", "")


async def test_what_is_missing_is_a_finding_and_nothing_passes_by_absence(client: Client) -> None:
    artifacts: list[Any] = [{}, {"lines": None}, {"lines": {}}, [], None, {"lines": [[]]}, {"lines": [None, None]}]
    for artifact in artifacts:
        response = await client.validate("quote", artifact, spec_json=json.dumps({"count": 2}))
        assert not response.passed
        assert not response.grounded_in_roster


async def test_a_spec_that_does_not_fit_is_refused_before_and_after_an_answer(client: Client) -> None:
    for spec in ('{"count":0}', '{"count":2,"colour":"red"}', '{"count":"2"}', "{}"):
        fault = await client.fault("quote", quoting(), spec_json=spec)
        assert fault.reason is Reason.BAD_REQUEST
        assert fault.violations[0].field == "spec_json"
        assert (await client.brief_fault("quote", spec_json=spec)).reason is Reason.BAD_REQUEST
    fault = await client.fault("quote", quoting())
    assert fault.reason is Reason.BAD_REQUEST


async def test_a_brief_says_what_the_spec_says_names_the_prompts_articles_first_and_what_cannot_be(
    client: Client,
) -> None:
    wanted = drills(40)[-1]
    (gone,) = drills(1, discontinued="yes")
    asked = {"prompt": f"Quote {wanted}, and {gone}.", "seed": "s", "candidates_max": 5}
    brief = await client.brief("quote", asked=asked, spec_json=json.dumps(SPEC))
    assert "exactly 2 lines" in brief.instructions.replace("\n", " ")
    assert "drills" in brief.instructions
    assert f'"{gone}" does not qualify' in brief.instructions
    assert gone not in brief.candidates_json
    assert json.loads(brief.candidates_json)[0]["sku"] == wanted
    assert brief.needed == 2
    assert [each.name for each in brief.datasets] == ["catalogue"]
    again = await client.brief("quote", asked=asked, spec_json=json.dumps(SPEC))
    assert again.candidates_json == brief.candidates_json
    none = await client.brief("quote", asked=asked, spec_json=json.dumps({**SPEC, "budget": 0.01}))
    assert none.infeasible
    assert [each.code for each in none.findings] == ["COUNT", "NOT_ALLOWED"]
    assert not (await client.brief("quote", asked={"candidates_max": 0}, spec_json='{"count":2}')).candidates_json


async def test_list_kinds_says_what_the_declaration_says(client: Client) -> None:
    kind = (await client.list_kinds())["quote"]
    assert kind.description.startswith("A quote")
    assert kind.has_candidates
    assert json.loads(kind.spec_schema_json)["required"] == ["count"]


def unopened(tmp_path: Path) -> Datasets:
    """Return the datasets as they are configured; nothing is read."""
    return Datasets({"catalogue": catalogue_table(tmp_path)})


def test_a_broken_declaration_leaves_the_old_one_and_a_new_one_counts_at_the_reload(tmp_path: Path) -> None:
    path = tmp_path / "quote.toml"
    shutil.copy(QUOTE, path)
    kinds = Kinds({}, tmp_path, unopened(tmp_path), LimitsTable())
    before = kinds.current["quote"]
    path.write_text("description = ")
    kinds.reload()
    assert kinds.current["quote"] is before
    path.write_text(QUOTE.read_text().replace("A quote:", "An offer:"))
    shutil.copy(QUOTE, tmp_path / "second.toml")
    kinds.reload()
    assert str(getattr(kinds.current["quote"], "description", "")).startswith("An offer")
    assert "second" in kinds.current
    (tmp_path / "second.toml").unlink()
    kinds.reload()
    assert set(kinds.current) == {"quote"}


async def test_sighup_loads_a_new_kind(tmp_path: Path) -> None:
    folder = tmp_path / "kinds"
    folder.mkdir()
    shutil.copy(QUOTE, folder / "quote.toml")
    async with serving(datasets={"catalogue": catalogue_table(tmp_path)}, kinds_dir=folder) as client:
        shutil.copy(QUOTE, folder / "offer.toml")
        assert "offer" not in await client.list_kinds()
        os.kill(os.getpid(), signal.SIGHUP)
        ends_at = time.monotonic() + 20
        while "offer" not in await client.list_kinds():
            assert time.monotonic() < ends_at


@pytest.mark.parametrize("name", ["fill", "email", "json_schema", "spec_json", "Quote", "a b", "ünder", "x" * 70])
def test_a_kind_may_not_be_called_so(name: str) -> None:
    with pytest.raises(DeclarationError, match="rename the file"):
        check_name(Path(f"{name}.toml"), {})


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


SCHEMA_START = '{\n  "type": "object",'
DEEP = '{"items":' * 60 + "true" + "}" * 60
BOMB = json.dumps(
    {
        "$defs": {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 4} for at in range(30)} | {"d30": {}},
        "$ref": "#/$defs/d0",
    }
)


def schema_of(text: str) -> str:
    return (
        QUOTE.read_text().split("schema = '''")[0] + f"schema = '''{text}'''\n" + QUOTE.read_text().split("'''", 2)[2]
    )


def with_reference(old: str, new: str) -> str:
    assert old in QUOTE.read_text()
    return QUOTE.read_text().replace(old, new)


HOSTILE: dict[str, str] = {
    "no toml": "description = ",
    "nothing": "",
    "not text": "\udcff",
    "deep toml": "a = " + "[" * 5000 + "]" * 5000,
    "an unknown key": QUOTE.read_text().replace("description", 'script = "rm"\ndescription', 1),
    "rules": QUOTE.read_text() + '\n[[rules]]\ncode = "X"\n',
    "a table that is no dataset": with_reference('dataset = "catalogue"', 'dataset = "elsewhere"'),
    "sql for a dataset": with_reference('dataset = "catalogue"', 'dataset = "x\'; DROP TABLE rows --"'),
    "sql for a column": with_reference('{ sku = "sku" }', '{ sku = "sku\\"; DROP" }'),
    "a column that is none": with_reference('name = "name"', 'name = "title"'),
    "a key that is none": with_reference('{ sku = "sku" }', '{ sku = "name" }'),
    "two keys": with_reference('{ sku = "sku" }', '{ sku = "sku", b = "sku" }'),
    "no keys": with_reference('{ sku = "sku" }', "{ }"),
    "a pointer without its slash": with_reference('at = "/lines/*"', 'at = "lines/*"'),
    "a pointer bomb": with_reference('at = "/lines/*"', f'at = "{"/*" * 90}"'),
    "a long pointer": with_reference('at = "/lines/*"', f'at = "{"/a" * 2000}"'),
    "a pointer of stars": with_reference('at = "/lines/*"', 'at = "/*/*/*/*"'),
    "a pointer with a number": with_reference('at = "/lines/*"', 'at = "/lines/0"'),
    "count without a star": with_reference('at = "/lines/*"', 'at = "/lines"'),
    "count of what the spec has not": with_reference('count = "spec.count"', 'count = "spec.number"'),
    "count below zero": with_reference('count = "spec.count"', "count = -1"),
    "count of code": with_reference('count = "spec.count"', 'count = "__import__"'),
    "a huge count": with_reference('count = "spec.count"', f"count = {10**12}"),
    "a tolerance for a text": with_reference('name = "name"', 'name = { column = "name", tolerance = "1" }'),
    "a tolerance that is none": with_reference('"0.005"', '"1e999999999"'),
    "an infinite tolerance": with_reference('"0.005"', "inf"),
    "a folded number": with_reference('tolerance = "0.005"', 'compare = "folded"'),
    "an operator that is none": with_reference('op = "at_most"', 'op = "matches"'),
    "an order of texts": with_reference('"category", spec', '"category", op = "at_least", spec'),
    "a value of another type": with_reference("value = false", 'value = "no"'),
    "value and spec": with_reference("value = false", 'value = false, spec = "spec.count"'),
    "neither value nor spec": with_reference("value = false", 'compare = "exact"'),
    "contains in a text": with_reference('"category", spec', '"category", op = "contains", spec'),
    "one of nothing": with_reference("value = false", 'op = "one_of", value = []'),
    "a condition on what the spec has not": with_reference('spec.budget" }', 'spec.money" }'),
    "a long path in the spec": with_reference('spec.budget" }', "spec" + ".a" * 50 + '" }'),
    "a place that is none": with_reference("{spec.count}", "{spec.number}"),
    "a place that is broken": with_reference("{spec.count}", "{spec[0]}"),
    "a brief of a column that is none": with_reference('["sku", "name", "category", "price"]', '["phone"]'),
    "a brief of too many": with_reference("candidates_max = 50", "candidates_max = 100000"),
    "a brief of no reference": with_reference("candidates_max = 50", "reference = 5"),
    "a schema that is no JSON": schema_of("{"),
    "a schema that says nothing": schema_of("{}"),
    "a schema of another draft": schema_of('{"$schema":"http://json-schema.org/draft-04/schema#","type":"object"}'),
    "a schema that leads outside": schema_of('{"$ref":"https://example.com/schema.json"}'),
    "a schema that reads a file": schema_of('{"$ref":"file:///etc/passwd"}'),
    "a schema that leads nowhere": schema_of('{"$ref":"#/$defs/none"}'),
    "a schema that recurs": schema_of('{"$defs":{"a":{"items":{"$ref":"#/$defs/a"}}},"$ref":"#/$defs/a"}'),
    "a schema of itself": schema_of('{"properties":{"a":{"$ref":"#"}}}'),
    "a schema bomb": schema_of(BOMB),
    "a deep schema": schema_of(DEEP),
    "a dynamic schema": schema_of('{"$dynamicRef":"#a"}'),
    "a pattern with a look-ahead": schema_of('{"pattern":"^(?=a)b"}'),
    "a pattern with a back-reference": schema_of('{"pattern":"(a)\\\\1"}'),
    "a pattern bomb": schema_of('{"pattern":"((a{1000}){1000}){1000}"}'),
    "a broken pattern": schema_of('{"pattern":"("}'),
    "names by pattern": schema_of('{"patternProperties":{"(a+)+$":{}}}'),
    "a large schema": schema_of(json.dumps({"enum": ["x" * 1000] * 100})),
    "a large file": "#" * 300_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_declaration_that_cannot_be_used_is_refused_with_its_line_in_bounded_time(tmp_path: Path, name: str) -> None:
    path = tmp_path / "quote.toml"
    path.write_bytes(HOSTILE[name].encode(errors="surrogateescape"))
    started = time.monotonic()
    with pytest.raises(DeclarationError) as refused:
        DeclaredKind(path, unopened(tmp_path), LimitsTable())
    assert time.monotonic() - started < 5
    text = str(refused.value)
    assert text.startswith(f"{path}:")
    assert len(text) < 2000
    if name != "a large file":
        line = int(text.removeprefix(f"{path}:").split(":")[0])
        assert 1 <= line <= HOSTILE[name].count("\n") + 1


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("a table that is no dataset", 'dataset = "elsewhere"'),
        ("a column that is none", "agree ="),
        ("an operator that is none", '"matches"'),
        ("a place that is none", "instructions ="),
        ("a schema that recurs", "schema = '''"),
        ("a brief of a column that is none", "columns ="),
        ("an unknown key", "script ="),
        ("a value of another type", "require ="),
    ],
)
def test_the_line_is_the_one_to_mend(tmp_path: Path, name: str, part: str) -> None:
    path = tmp_path / "quote.toml"
    path.write_text(HOSTILE[name])
    with pytest.raises(DeclarationError) as refused:
        DeclaredKind(path, unopened(tmp_path), LimitsTable())
    assert str(refused.value).startswith(f"{path}:{line_of(HOSTILE[name], part)}:")


def test_the_example_is_a_declaration_that_can_be_used(tmp_path: Path) -> None:
    assert len(HOSTILE) >= 50
    DeclaredKind(QUOTE, unopened(tmp_path), LimitsTable())


async def test_a_lone_surrogate_is_nobodys_key(client: Client) -> None:
    (one,) = drills(1)
    artifact = json.dumps(quoting(one)).replace(one, one[:-1] + "\\ud800")
    response = await client.validate("quote", artifact, spec_json='{"count":1}')
    assert [finding.code for finding in response.findings] == ["NOT_IN_DATASET"]
