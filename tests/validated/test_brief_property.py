"""The promises of a brief, on rosters, specs, prompts and artifacts that nobody thought of.

Sound: what fits the candidates schema of a fill passes the gate. Complete: what passes the gate fits the form. Never a
wrong "infeasible". No phone number. The gate itself says who qualifies: it judges an artifact that names everybody.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st
from postgres_rosters import table_of
from random_rosters import random_companions, random_people, random_spec, random_table
from rosters import LIMITS, POSTGRES, judge, read

from validated.config import LimitsTable
from validated.datasets.file import FileRoster
from validated.datasets.postgres import PostgresRoster
from validated.kinds.email import EmailValidator
from validated.kinds.fill import FillValidator
from validated.kinds.json_schema import JsonSchemaValidator
from validated.kinds.validator import Brief, Task, Tools

SIZES = ((1, 1), (2, 12), (3, 60), (4, 300))
BACKENDS = ["file"] + ["postgres"] * bool(POSTGRES)


class Place(NamedTuple):
    """A roster with the kinds that ask it."""

    people: list[dict[str, str]]
    fill: FillValidator
    email: EmailValidator
    gate: FillValidator
    """The same as `fill`, but that it suggests nobody: that takes long where many are wrong."""


@pytest.fixture(scope="module", params=BACKENDS)
async def places(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Place]]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number, count in SIZES:
            people = random_people(number, count)
            roster: Any
            if request.param == "file":
                folder = tmp_path_factory.mktemp("random") / str(number)
                roster = await stack.enter_async_context(
                    FileRoster(random_table(folder, number, count), near_ms=500).open()
                )
            else:
                table = await stack.enter_async_context(table_of(people, *random_companions(number, people)))
                roster = await stack.enter_async_context(PostgresRoster(table, POSTGRES, near_ms=500).open())
            tools = Tools(roster, LIMITS)
            gate = FillValidator(Tools(roster, LimitsTable(suggestions_strangers_max=0)))
            made.append(Place(people, FillValidator(tools), EmailValidator(tools), gate))
        yield made


def fits(schema: str, artifact: object) -> bool:
    return bool(jsonschema_rs.validator_for(json.loads(schema)).is_valid(artifact))


def prompt_of(random_: random.Random, people: list[dict[str, str]]) -> str:
    """Words with some people in them, by id or name."""
    some = random_.sample(people, min(len(people), random_.choice((0, 0, 1, 2, 5))))
    return "We need people. Prefer " + " and ".join(each[random_.choice(("worker_id", "name"))] for each in some) + "."


async def who_qualifies(place: Place, spec: dict[str, Any]) -> list[dict[str, str]]:
    """Those of whom the gate has nothing to say when an artifact names everybody."""
    everybody = [{name: each[name] for name in ("worker_id", "name")} for each in place.people]
    terms = {**spec, "count": len(everybody)}
    findings, _ = await judge(place.gate, {"workers": everybody}, findings_max=10_000, **terms)
    wrong = {int(each.path.split("/")[2]) for each in findings.kept}
    return [each for at, each in enumerate(place.people) if at not in wrong]


def chosen(random_: random.Random, brief: Brief) -> list[dict[str, str]]:
    """Workers as a decoder that knows the schema alone would draw them."""
    workers = json.loads(brief.candidates_schema_json)["properties"]["workers"]
    slots = workers.get("prefixItems") or [workers["items"]] * workers["minItems"]
    picked = (random_.choice(slot["anyOf"])["properties"] for slot in slots)
    return [{name: value["const"] for name, value in each.items()} for each in picked]


def tampered(
    random_: random.Random, workers: list[dict[str, str]], people: list[dict[str, str]]
) -> list[dict[str, str]]:
    """Return the same with somebody else in it, or with more said of somebody, or with more or fewer."""
    workers = [dict(each) for each in workers]
    at, other = random_.randrange(len(workers)), random_.choice(people)
    edit = random_.randrange(6)
    if edit == 0:
        workers[at] = {name: other[name] for name in ("worker_id", "name")}
    elif edit == 1:
        workers[at]["name"] = other["name"]
    elif edit == 2:
        fact = random_.choice(("role", "city", "state"))
        workers[at][fact] = random_.choice((other[fact], other[fact].upper(), ""))
    elif edit == 3:
        workers.append(dict(workers[at]))
    elif edit == 4:
        workers.pop()
    else:
        own = next(each for each in people if each["worker_id"] == workers[at]["worker_id"])
        workers[at] |= {fact: own[fact].swapcase() for fact in ("role", "city", "state")}
    return workers


@campaign(90)
@given(st.integers(0, 2**32), st.sampled_from(range(len(SIZES))))
async def test_what_fits_the_candidates_passes_and_what_passes_fits_the_form(
    places: list[Place], number: int, which: int
) -> None:
    random_ = random.Random(number)
    place, spec = places[which], random_spec(random_)
    task = Task(prompt_of(random_, place.people), random_.choice((1, 3, 10, 50, 200)), f"s{number}")
    brief = await place.fill.brief(read("fill", **spec), task)
    fit = await who_qualifies(place, spec)
    good = {each["worker_id"] for each in fit}

    assert {facts["worker_id"] for facts in brief.candidates} <= good
    assert brief.candidates_total <= len(good)
    assert brief.candidates_total_is_floor or brief.candidates_total == len(good)
    assert not brief.infeasible or len(good) < spec["count"]
    if brief.roster is not None and brief.roster.row_count:
        # Files are looked at to the end: nothing is left open.
        assert brief.infeasible == (len(good) < spec["count"])
    drafts = []
    if brief.candidates_schema_json:
        drafts = [chosen(random_, brief) for _ in range(3)]
        slots = "prefixItems" in json.loads(brief.candidates_schema_json)["properties"]["workers"]
        for draft in drafts:
            findings, _ = await judge(place.gate, {"workers": draft}, **spec)
            assert set(findings.codes()) <= (set() if slots else {"DUPLICATE_WORKER"}), (spec, draft)
            assert fits(brief.candidates_schema_json, {"workers": draft})
    else:
        some = random_.sample(fit, min(len(fit), spec["count"])) or place.people[:1]
        drafts = [[{name: each[name] for name in ("worker_id", "name")} for each in some]]
    for draft in drafts:
        artifact = {"workers": tampered(random_, draft, place.people)}
        findings, _ = await judge(place.gate, artifact, **spec)
        if brief.candidates_schema_json and fits(brief.candidates_schema_json, artifact):
            assert set(findings.codes()) <= {"DUPLICATE_WORKER"}, (spec, artifact)
        if not findings.any:
            assert fits(brief.form_schema_json, artifact), artifact


@campaign(25)
@given(st.integers(0, 2**32), st.sampled_from(range(len(SIZES))))
async def test_no_phone_number_and_no_stranger_is_in_a_brief(places: list[Place], number: int, which: int) -> None:
    random_ = random.Random(number)
    place, spec = places[which], random_spec(random_)
    prompt = prompt_of(random_, place.people)
    brief = await place.fill.brief(read("fill", **spec), Task(prompt, 200, str(number)))
    said = json.dumps([*brief[:4], [list(each) for each in brief.findings]], ensure_ascii=False)
    assert "555-0" not in said
    for person in place.people:
        assert person["phone"][-7:].replace("-", "") not in said.replace("-", ""), person
        # Findings and instructions name nobody whom the caller has not named.
        words = brief.instructions + "".join(each.message for each in brief.findings)
        assert person["worker_id"] not in words or person["worker_id"] in prompt
    ids = [each["worker_id"] for each in random_.sample(place.people, min(3, len(place.people)))]
    message = await place.email.brief(read("email", worker_ids=ids), Task(prompt, 50, str(number)))
    assert message.candidates_total == len(ids)
    assert "555-0" not in json.dumps(message[:4], ensure_ascii=False)


_TEXT = st.text(max_size=12) | st.sampled_from(["W-0001", " ", "\n", "\U0001f600" * 6, "a" * 10, "a" * 11])


@campaign(60)
@given(
    st.fixed_dictionaries(
        {}, optional={"to_worker_id": _TEXT | st.sampled_from(["w-0001", "E00001x"]), "subject": _TEXT, "body": _TEXT}
    ),
    st.booleans(),
)
async def test_a_message_that_passes_fits_its_form(
    places: list[Place], artifact: dict[str, str], for_one: bool
) -> None:
    place = places[1]
    ids = [each["worker_id"] for each in place.people[:3]]
    spec: dict[str, Any] = {"worker_ids": [*ids, ids[0]], "subject_chars_max": 10, "body_chars_max": 11}
    if for_one:
        spec["to_worker_id"] = ids[1]
    brief = await place.email.brief(read("email", **spec), Task(candidates_max=0))
    for to in (artifact.get("to_worker_id"), *ids):
        message = artifact if to is None else {**artifact, "to_worker_id": to}
        findings, _ = await judge(place.email, message, kind="email", **spec)
        if not findings.any:
            assert fits(brief.form_schema_json, message)


_SCHEMAS: list[Any] = [
    True,
    {},
    {"type": "object", "properties": {"a": {"type": "integer", "maximum": 10**30}}, "required": ["a"]},
    {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]},
    {"enum": [1.0, "a", {"b": 1e300}]},
]


@campaign(25)
@given(
    st.sampled_from(_SCHEMAS),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=3)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        max_leaves=3,
    ),
)
async def test_the_form_of_a_schema_is_the_schema(schemas: JsonSchemaValidator, schema: Any, artifact: Any) -> None:
    text = json.dumps(schema)
    brief = await schemas.brief(read("json_schema", schema_json=text), Task())
    assert json.loads(brief.form_schema_json) == schema
    findings, _ = await judge(schemas, json.dumps(artifact), kind="json_schema", schema_json=text)
    if not findings.any:
        assert fits(brief.form_schema_json, artifact)


@pytest.fixture(scope="module")
async def schemas() -> AsyncIterator[JsonSchemaValidator]:
    class NoRoster:
        pass

    roster: Any = NoRoster()
    validator = JsonSchemaValidator(Tools(roster, LIMITS))
    yield validator
    await validator.aclose()


@pytest.mark.skipif(not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set")
async def test_a_row_that_shares_its_id_with_another_is_no_candidate() -> None:
    people = random_people(5, 6)
    for each in people:
        each |= {"role": "welder", "active": "true", "city": "Toledo", "state": "OH"}
    twin = {**people[0], "role": "forklift operator", "name": "Somebody Else"}
    async with (
        table_of([*people, twin], [], []) as table,
        PostgresRoster(table, POSTGRES, near_ms=500).open() as roster,
    ):
        fill = FillValidator(Tools(roster, LIMITS))
        brief = await fill.brief(read("fill", role="welder", count=1), Task("", 50, "s"))
        named = await fill.brief(read("fill", role="welder", count=1), Task(people[0]["name"], 50, "s"))
    assert f'"{people[0]["name"]}" does not qualify' in named.instructions
    assert people[0]["worker_id"] not in {facts["worker_id"] for facts in brief.candidates}
    assert len(brief.candidates) == 5
