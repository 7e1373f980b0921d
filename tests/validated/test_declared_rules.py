"""[[rules]]: conditions in CEL that are checked when they are loaded, bounded, and never pass by an error."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from catalogue import QUOTE, catalogue_table, products
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import Fault
from lakehouse.strict_json.parser import print_canonical
from validated.config import LimitsTable
from validated.datasets.loaded_dataset import Datasets
from validated.findings import Finding, Findings
from validated.kinds.declared.declaration import DeclarationError
from validated.kinds.declared.expressions import Expression, ExpressionError, UnknownError, values
from validated.kinds.declared.kind import DeclaredKind
from validated.kinds.spec import Spec

DECLARED = """
description = "A quote without a form."
schema = '{"type": "object"}'

[[references]]
at = "/lines/*"
dataset = "catalogue"
key = { sku = "sku" }
optional = true

[brief]
columns = ["sku", "price"]
"""
RULE = """
[[rules]]
code = "MINE"
check = 'CHECK'
message = "no: {spec.a}"
path = "/total"
"""
OF_ELEMENTS = """
[[rules]]
code = "CHEAP"
check = "item.price >= row.price * 0.9 && row.stock > 0"
message = "{item.sku} for {item.price} is too cheap: {row.price}"
path = "/price"
reference = 0
"""


@pytest.fixture(scope="module")
async def datasets(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Datasets]:
    table = catalogue_table(tmp_path_factory.mktemp("catalogue"))
    async with Datasets({"catalogue": table}).open() as opened:
        yield opened


@pytest.fixture
def declared(datasets: Datasets, tmp_path: Path) -> Callable[[str], DeclaredKind]:
    def make(rules: str, text: str = DECLARED) -> DeclaredKind:
        path = tmp_path / "mine.toml"
        path.write_text(text + rules)
        return DeclaredKind(path, datasets, LimitsTable())

    return make


async def found(kind: DeclaredKind, artifact: Any, spec: Any = None) -> list[Finding]:
    findings = Findings(100)
    await kind.validate(artifact, Spec("mine", None, print_canonical(spec or {})), findings)
    return findings.kept


def rule(check: str) -> str:
    return RULE.replace("CHECK", check)


async def test_a_rule_that_is_false_is_a_finding_with_its_code_its_words_and_its_path(
    declared: Callable[[str], DeclaredKind],
) -> None:
    kind = declared(rule("artifact.total <= spec.a"))
    assert await found(kind, {"total": 2}, {"a": 2}) == []
    assert await found(kind, {"total": 2.5}, {"a": 2}) == [Finding("MINE", "/total", "no: 2")]


@pytest.mark.parametrize(
    ("artifact", "why"),
    [
        ({}, "Key not found"),
        ({"total": "1"}, "No matching overloads"),
        ({"total": None}, "No matching overloads"),
        ({"total": [1]}, "No matching overloads"),
        ({"total": {"a": 1}}, "No matching overloads"),
    ],
)
async def test_an_evaluation_that_fails_is_a_finding_and_never_a_pass(
    declared: Callable[[str], DeclaredKind], artifact: Any, why: str
) -> None:
    for check in ("artifact.total < 5.0", "!(artifact.total > 5.0)", "artifact.total > -5.0 ? true : true"):
        (finding,) = await found(declared(rule(check)), artifact, {"a": 1})
        assert (finding.code, finding.path) == ("MINE", "/total")
        assert why in finding.message


async def test_what_is_neither_true_nor_false_is_a_finding(declared: Callable[[str], DeclaredKind]) -> None:
    kind = declared(rule("artifact.total"))
    assert await found(kind, {"total": True}) == []
    for value in ("true", 1, None, [True], {"a": True}, "x" * 3000):
        (finding,) = await found(kind, {"total": value})
        assert finding.message.endswith("it is neither true nor false")


@pytest.mark.parametrize(
    ("artifact", "path"),
    [
        ({"total": 1, "lines": [], "n": 2**53 + 1}, "/n"),
        ({"total": 1, "lines": [], "n": [{"m": -(2**60)}]}, "/n/0/m"),
        ({"total": 1, "lines": [], "n": 1e300}, "/n"),
        ({"total": 1, "lines": [], "n": 10**400}, "/n"),
        ({"total": 1, "lines": [], "n": [0] * 1001}, "/n"),
        ({"total": 1, "lines": [], "n": "x" * 4001}, "/n"),
    ],
)
async def test_what_a_rule_cannot_be_held_against_is_a_finding(
    declared: Callable[[str], DeclaredKind], artifact: Any, path: str
) -> None:
    (finding,) = await found(declared(rule("artifact.total < 5.0")), artifact)
    assert (finding.code, finding.path) == ("SCHEMA", path)
    assert "rules of this kind" in finding.message
    # A kind without rules does not mind.
    assert await found(declared(""), artifact) == []


async def test_the_largest_values_are_held_against_the_rules(declared: Callable[[str], DeclaredKind]) -> None:
    artifact = {"total": 2**53, "lines": [], "n": ["x" * 4000] * 60, "m": [-(2**53)] * 1000}
    assert await found(declared(rule("artifact.total == 9007199254740992.0")), artifact) == []


async def test_debits_and_credits_balance_and_the_last_element_is_found(
    declared: Callable[[str], DeclaredKind],
) -> None:
    balance = "abs(sum(artifact.p.map(p, p.d, p.a)) - sum(artifact.p.map(p, !p.d, p.a))) < 0.005"
    kind = declared(rule(balance) + rule("artifact.p[size(artifact.p) - 1].d == false"))
    postings = [{"d": True, "a": 0.1}, {"d": True, "a": 0.2}, {"d": False, "a": 0.3}]
    assert await found(kind, {"p": postings}) == []
    assert [each.code for each in await found(kind, {"p": postings[:2]})] == ["MINE", "MINE"]
    assert [each.code for each in await found(kind, {"p": []})] == ["MINE"]  # there is no last one
    assert [each.code for each in await found(declared(rule("abs(artifact.p) > 0.0")), {"p": "x"})] == ["MINE"]


async def test_a_spec_that_no_rule_can_be_held_against_is_refused(declared: Callable[[str], DeclaredKind]) -> None:
    with pytest.raises(Fault) as refused:
        await found(declared(rule("artifact.total < spec.a")), {"total": 1}, {"a": 2**60})
    assert refused.value.violations[0].field == "spec_json"
    assert "2^53" in refused.value.violations[0].description


async def test_a_rule_of_elements_sees_the_element_and_its_row(declared: Callable[[str], DeclaredKind]) -> None:
    kind = declared(OF_ELEMENTS)
    one, two = [row for row in products().values() if int(row["stock"]) > 0][:2]
    lines = [{"sku": each["sku"], "price": float(each["price"])} for each in (one, two)]
    assert await found(kind, {"lines": lines}) == []
    lines[1]["price"] = 0.5
    (finding,) = await found(kind, {"lines": lines})
    assert (finding.code, finding.path) == ("CHEAP", "/lines/1/price")
    assert finding.message == f"{two['sku']} for 0.5 is too cheap: {float(two['price']):g}"
    # What the dataset has is for those who may see it.
    assert finding.unrestricted_message == f"{two['sku']} for 0.5 is too cheap: (as the dataset has it)"
    # Who names no row has a finding already.
    codes = [each.code for each in await found(kind, {"lines": [{"sku": "none", "price": 1}]})]
    assert codes == ["NOT_IN_DATASET"]


async def test_more_elements_than_a_rule_looks_at_are_a_finding(declared: Callable[[str], DeclaredKind]) -> None:
    text = DECLARED.replace("/lines/*", "/pages/*/*")
    path_rule = OF_ELEMENTS.replace("item.price >= row.price * 0.9 && row.stock > 0", "row.price > 0.0")
    sku = next(iter(products()))
    pages = [[{"sku": sku, "price": 1}] * 600] * 2
    found_ = await found(declared(path_rule, text), {"pages": pages})  # type: ignore[call-arg]
    assert [each.code for each in found_] == ["CHEAP"]
    assert "more than 1000 elements" in found_[0].message


async def test_rules_are_quiet_where_the_schema_has_spoken(declared: Callable[[str], DeclaredKind]) -> None:
    text = DECLARED.replace('{"type": "object"}', '{"type": "object", "required": ["total"]}')
    codes = [each.code for each in await found(declared(rule("artifact.total < 5.0"), text), {})]  # type: ignore[call-arg]
    assert codes == ["SCHEMA"]


BROKEN: dict[str, tuple[str, str]] = {
    "no expression": ("artifact.total <", "Syntax error"),
    "a name that is none": ("artefact.total < 1.0", "undeclared reference"),
    "a function that is none": ("artifact.total.abs() < 1.0", "undeclared reference"),
    "types that do not fit": ('artifact.total < 1.0 && "a" < 1.0', "no matching overload"),
    "a value that is no condition": ('"true"', "it must be a condition"),
    "a whole number in a product": ("artifact.total * 2 < 4.0", "write 2.0 for 2"),
    "a product beside a whole number": ("artifact.total * 2.0 < 4", "write 2.0 for 2"),
    "a size in a sum": ("size(artifact.lines) + artifact.total < 4.0", "double(size"),
    "a division of sizes": ("size(artifact.lines) / 2 < 4", "whole number"),
    "a remainder": ("artifact.total % 2 == 0", "calls %"),
    "a division by what may be zero": ("1.0 / artifact.total > 0.0", "may be 0"),
    "a division by next to zero": ("artifact.total / 0.0000000000000000001 > 0.0", "may be 0"),
    "a number beyond 2^53": ("artifact.total < 1e300", "beyond 2^53"),
    "a text as a number": ('double(artifact.total) == double("nan")', "for size"),
    "two levels": ("artifact.lines.all(a, artifact.lines.all(b, a != b))", "one level"),
    "three levels": ("artifact.a.all(a, artifact.b.exists(b, artifact.c.exists(c, c == a)))", "one level"),
    "a level in a level's range": ("artifact.a.all(a, a.b.filter(b, b > 1.0).size() > 1)", "one level"),
    "many comprehensions": (" && ".join(["artifact.a.all(a, a > 1.0)"] * 7), "comprehensions"),
    "a dear comparison": ("artifact.a.all(a, artifact == artifact)", "once for each element"),
    "a dear comparison in disguise": ("artifact.a.all(a, (a ? artifact : spec) == artifact)", "once for each element"),
    "a dear search": ("artifact.a.all(a, a in artifact.a)", "once for each element"),
    "a dear search in disguise": ("artifact.a.all(a, a in (true ? artifact.a : []))", "once for each element"),
    "a growing text": (" + ".join(["artifact.t"] * 12) + ' == "x"', "sums and products"),
    "a regex bomb": ('artifact.t.matches("((a{100}){100}){100}")', "pattern"),
    "a regex of the artifact": ("artifact.t.matches(artifact.u)", "pattern"),
    "a map": ('{"a": artifact}.a == 1.0', "holds a map"),
    "bytes": ('b"a" == b"a"', "holds a map, bytes"),
    "an unsigned number": ("1u == 1u", "unsigned"),
    "a type": ("type(artifact.a) == string", "calls type"),
    "deep brackets": ("(" * 200 + "true" + ")" * 200, "recursion"),
    "a deep path": ("artifact" + ".a" * 400 + " == 1.0", "recursion"),
    "many conditions": (" && ".join(["true"] * 120), "too large"),
    "a long one": ("true || " * 200 + "true", "at most 1000"),
    "the accumulator": ("@result == 1.0", "Syntax error"),
    "an item of nothing": ("item.sku == 1.0", "undeclared reference"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_rule_that_is_broken_or_dear_is_refused_at_its_line(
    declared: Callable[[str], DeclaredKind], name: str
) -> None:
    check, words = BROKEN[name]
    text = rule("true").replace("'true'", f"'''{check}'''")
    started = time.monotonic()
    with pytest.raises(DeclarationError) as refused:
        declared(text)
    assert time.monotonic() - started < 2
    line = (DECLARED + text)[: (DECLARED + text).index("check =")].count("\n") + 1
    assert f"mine.toml:{line}: rules.0.check: " in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('code = "CHEAP"', 'code = "NOT_ALLOWED"', "a code of references"),
        ('code = "CHEAP"', 'code = "cheap"', "pattern"),
        ("row.stock", "row.stok", 'catalogue has no column "stok"'),
        ("row.stock > 0", "row == item", "row as a whole"),
        ("row.stock > 0", "[row.price].all(a, a > 0.0)", "one level"),
        ("row.stock > 0", "artifact == spec", "once for each element"),
        ("{row.price}", "{row.stock}", "models may not see"),
        ("{row.price}", "{rows.price}", "a place is written"),
        ("reference = 0", "", "undeclared reference"),
        ("reference = 0", "reference = 1", "there are 1 references"),
        ('path = "/price"', 'path = "price"', "begin with"),
        ('path = "/price"', 'path = "/*/price"', "without *"),
        ('path = "/price"', "weight = 3", "remove it"),
        ('message = "', 'message = ""\nwords = "', "at least 1"),
    ],
)
def test_a_rule_is_checked_against_what_it_names(
    declared: Callable[[str], DeclaredKind], old: str, new: str, words: str
) -> None:
    assert old in OF_ELEMENTS
    with pytest.raises(DeclarationError) as refused:
        declared(OF_ELEMENTS.replace(old, new))
    assert words in str(refused.value)


def test_a_rule_on_a_closed_spec_names_what_the_spec_has(declared: Callable[..., DeclaredKind]) -> None:
    text = QUOTE.read_text().replace("!has(spec.total)", "!has(spec.sum)")
    with pytest.raises(DeclarationError, match=r'spec_schema has no property "sum"; it has budget, category'):
        declared("", text)


DEAR = (
    "artifact.a.all(x, x.k + x.k + x.k + x.k + x.k + x.k + x.k + x.k + x.k != x)",
    "artifact.a.all(x, x == x) && artifact.a.exists(x, x != x) == false && artifact.a.all(x, x.k != 1.0)",
    'artifact.a.all(x, artifact.t + artifact.t + artifact.t + artifact.t != x.k && artifact.t.contains("y") == false)',
    "sum(artifact.a.map(x, x.n * x.n)) > 0.0 && artifact == artifact",
    "[artifact, artifact, artifact, artifact, artifact, artifact].all(x, x in [x, x, x, x, x])",
)


@pytest.mark.parametrize("check", DEAR)
def test_the_dearest_rules_that_are_allowed_are_bounded(check: str) -> None:
    given_ = values({"a": [{"k": "x" * 150, "n": 2.0**52, "m": [1, 2, 3]}] * 1000, "t": "x" * 4000})
    started = time.monotonic()
    Expression(check, of_element=False).holds({"artifact": given_, "spec": {}})
    assert time.monotonic() - started < 2


@settings(max_examples=100, deadline=None)
@given(
    a=st.floats(-(2.0**53), 2.0**53), b=st.floats(-(2.0**53), 2.0**53), c=st.integers(-(2**53), 2**53),
)  # fmt: skip
def test_arithmetic_is_that_of_doubles(a: float, b: float, c: int) -> None:
    data = {"artifact": values({"a": a, "b": b, "c": c}), "spec": {}}
    expected = {
        "artifact.a + artifact.b <= artifact.c": a + b <= float(c),
        "artifact.a * artifact.b == artifact.c": a * b == float(c),
        "artifact.a - artifact.b > 0.5": a - b > 0.5,
        "artifact.a / 3.0 < artifact.b": a / 3.0 < b,
        "sum([artifact.a, artifact.c]) >= artifact.b": a + float(c) >= b,
    }
    for text, holds in expected.items():
        assert Expression(text, of_element=False).holds(data) is holds, text


@given(st.text(alphabet="artifcspe.lx()[]!&|<>=+*/'\"01 ,?:-", max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_is_refused_or_answers(text: str) -> None:
    try:
        expression = Expression(text, of_element=False)
    except ExpressionError as error:
        assert str(error)
        return
    try:
        assert expression.holds({"artifact": {"l": [1.0]}, "spec": {}}) in (True, False)
    except UnknownError as error:
        assert str(error)


def test_the_example_has_a_budget_rule() -> None:
    assert "[[rules]]" in QUOTE.read_text()
    assert json.dumps("OVER_BUDGET") in QUOTE.read_text()
