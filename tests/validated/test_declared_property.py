"""A declared kind against an oracle that shares no code with it, and the promises of its brief."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from campaigns import TIMES, campaign
from catalogue import QUOTE, a_quote, a_spec, catalogue_table, is_right, products
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.strict_json.parser import canonicalize, parse_json, print_canonical
from validated.config import LimitsTable
from validated.datasets.loaded_dataset import Datasets
from validated.findings import Findings
from validated.kinds.declared.kind import DeclaredKind
from validated.kinds.spec import Spec
from validated.kinds.validator import Task

QUOTES = 600 * TIMES
QUIET = LimitsTable(suggestions_strangers_max=0)
# Other ways to declare much the same: (what of quote.toml, what in its place).
VARIANTS: dict[str, tuple[tuple[str, str], ...]] = {
    "as it is": (),
    "not unique": (("unique = true", "unique = false"),),
    "folded keys": (('key = { sku = "sku" }', 'key = { sku = "sku" }\ncompare = "folded"'),),
    "prices as text": (('"unit_price": {"type": "number"}', '"unit_price": {"type": "string"}'),),
    "any further names": (('"additionalProperties": false', '"additionalProperties": true'),),
    "a name that the schema narrows": (
        ('"name": {"type": "string"}', '"name": {"type": "string", "pattern": "[LX]"}'),
    ),
    "a price that may be left out": (('["sku", "name", "unit_price", "quantity"]', '["sku", "quantity"]'),),
    "elements by reference": (
        (
            '"items": {\n        "type"',
            '"items": {"$ref": "#/$defs/line"}\n    }\n  },\n  "$defs": {"line": {\n        "type"',
        ),
        ('"additionalProperties": false\n      }\n    }\n  },', '"additionalProperties": false\n      }\n    },'),
    ),
    "no type at the top": (
        ('{\n  "type": "object",\n  "properties": {\n    "lines"', '{\n  "properties": {\n    "lines"'),
    ),
    "no count": (('count = "spec.count"\n', ""),),
}


@pytest.fixture(scope="module")
async def datasets(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Datasets]:
    table = catalogue_table(tmp_path_factory.mktemp("catalogue"))
    async with Datasets({"catalogue": table}).open() as opened:
        yield opened


@pytest.fixture(scope="module")
def kinds(datasets: Datasets, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DeclaredKind]:
    folder = tmp_path_factory.mktemp("kinds")
    return {name: declared(folder, number, name, datasets) for number, name in enumerate(VARIANTS)}


def declared(folder: Path, number: int, name: str, datasets: Datasets) -> DeclaredKind:
    text = QUOTE.read_text()
    for old, new in VARIANTS[name]:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"quote{number}.toml"
    path.write_text(text)
    return DeclaredKind(path, datasets, QUIET)


async def passes(kind: DeclaredKind, artifact: Any, spec: dict[str, Any]) -> Findings:
    findings = Findings(100)
    text = canonicalize(json.dumps(artifact))
    await kind.validate(parse_json(text), Spec("quote", None, print_canonical(spec)), findings)
    return findings


async def test_the_verdict_on_generated_quotes_is_the_oracles(kinds: dict[str, DeclaredKind]) -> None:
    rows = products()
    skus = list(rows)
    draws = random.Random(1)
    verdicts = []
    for _ in range(QUOTES):
        spec = a_spec(draws)
        quote = a_quote(draws, spec, rows, skus)
        right = is_right(quote, spec, rows)
        findings = await passes(kinds["as it is"], quote, spec)
        assert right != findings.any, (quote, spec, findings.kept)
        verdicts.append(right)
    # Neither verdict is rare: an oracle that says no to all proves nothing.
    assert QUOTES / 4 < sum(verdicts) < QUOTES * 3 / 4


@pytest.mark.parametrize("name", VARIANTS)
@campaign(4)
@given(data=st.data())
async def test_what_fits_the_candidates_schema_is_accepted(
    kinds: dict[str, DeclaredKind], name: str, data: st.DataObject
) -> None:
    kind, draws = kinds[name], random.Random(data.draw(st.integers(0, 1 << 32)))
    spec = a_spec(draws)
    spec.pop("total", None)  # of a rule no schema knows
    named = " ".join(draws.sample(list(products()), draws.randint(0, 4)))
    task = Task(f"Quote {named}, please.", draws.choice((3, 10, 50)), data.draw(st.text(max_size=5)))
    asked = Spec("quote", None, print_canonical(spec))
    brief = await kind.brief(asked, task)
    if name == "a name that the schema narrows" and not brief.candidates_schema_json:
        return  # too few of those that were drawn can be named
    assert brief.candidates_schema_json, brief
    schema = json.loads(brief.candidates_schema_json)
    validator = jsonschema_rs.Draft202012Validator(schema)
    fitted = 0
    for _ in range(20):
        artifact = an_instance(schema, schema, draws)
        if not validator.is_valid(artifact):
            continue
        fitted += 1
        findings = await passes(kind, artifact, spec)
        # Where there are no slots, one row may be chosen twice; nothing else may be wrong.
        others = [
            each for each in findings.kept if each.code != "DUPLICATE" or "prefixItems" in brief.candidates_schema_json
        ]
        assert not others, (artifact, others)
    assert fitted > 10


@campaign(10)
@given(data=st.data())
async def test_what_passes_fits_the_form(kinds: dict[str, DeclaredKind], data: st.DataObject) -> None:
    draws = random.Random(data.draw(st.integers(0, 1 << 32)))
    rows = products()
    for name, kind in kinds.items():
        spec = a_spec(draws)
        quote = a_quote(draws, spec, rows, list(rows))
        if name == "prices as text":
            quote = json.loads(json.dumps(quote), parse_float=str)
        brief = await kind.brief(Spec("quote", None, print_canonical(spec)), Task())
        if not (await passes(kind, quote, spec)).any:
            assert jsonschema_rs.Draft202012Validator(json.loads(brief.form_schema_json)).is_valid(quote)


def an_instance(node: Any, root: Any, draws: random.Random) -> Any:
    """Something that most often fits `node`."""
    if node is True or node == {}:
        return draws.choice((None, 1, "x"))
    if "$ref" in node:
        target = root
        for step in node["$ref"].split("/")[1:]:
            target = target[step]
        return an_instance(target, root, draws)
    if "const" in node:
        return node["const"]
    if "anyOf" in node:
        return an_instance(draws.choice(node["anyOf"]), root, draws)
    if "properties" in node:
        required = node.get("required", [])
        made = {
            name: an_instance(each, root, draws)
            for name, each in node["properties"].items()
            if each is not False and (name in required or draws.random() < 0.5)
        }
        if node.get("additionalProperties") is not False and draws.random() < 0.3:
            made["further"] = 1
        return made
    if node.get("type") == "array":
        if "prefixItems" in node:
            return [an_instance(each, root, draws) for each in node["prefixItems"]]
        count = draws.randint(node.get("minItems", 0), node.get("maxItems", 3))
        return [an_instance(node["items"], root, draws) for _ in range(min(count, 8))]
    if node.get("type") == "integer":
        return draws.choice((node.get("minimum", 0), 5))
    return draws.choice(("x", "", 1.5))
