"""Briefs of fills and messages: who is drawn, who comes first, how many, and what is said where too few qualify."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from postgres_rosters import table_of
from random_rosters import random_companions, random_people, random_table
from rosters import LIMITS, POSTGRES, judge, people, read, small_table, write_csv
from validated_server import serving

from validated.config import CANDIDATE_FACTS, LimitsTable, RosterTable
from validated.datasets.file import FileRoster
from validated.datasets.postgres import PostgresRoster
from validated.kinds.candidates import choice, limit_of
from validated.kinds.email import EmailValidator
from validated.kinds.fill import FillValidator
from validated.kinds.validator import Brief, Task, Tools

WELDERS = 700
TOLEDO = {"city": "Toledo", "state": "OH"}


def welders(count: int, **facts: str) -> list[dict[str, str]]:
    """Welders whose names, and ids, are in the order of the alphabet."""
    return [
        {"worker_id": f"W-{at:05d}", "name": f"{chr(65 + at * 26 // count)}na Silva{at}", "role": "welder", **facts}
        for at in range(count)
    ]


@contextlib.asynccontextmanager
async def roster_of(folder: Path, rows: list[dict[str, str]], **changes: Any) -> AsyncIterator[FileRoster]:
    folder.mkdir(parents=True, exist_ok=True)
    table = RosterTable(path=write_csv(folder / "workers.csv", rows), **{"index_dir": folder / "indexes", **changes})
    async with FileRoster(table, near_ms=500).open() as roster:
        yield roster


@pytest.fixture(scope="module")
async def large(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FillValidator]:
    async with roster_of(tmp_path_factory.mktemp("large"), welders(WELDERS, **TOLEDO)) as roster:
        yield FillValidator(Tools(roster, LIMITS))


def ids_of(brief: Brief) -> list[str]:
    return [str(facts["worker_id"]) for facts in brief.candidates]


def slots_of(brief: Brief) -> list[set[str]]:
    """Return the ids of each slot; none where the candidates are pairs."""
    workers = json.loads(brief.candidates_schema_json)["properties"]["workers"]
    return [
        {pair["properties"]["worker_id"]["const"] for pair in slot["anyOf"]} for slot in workers.get("prefixItems", ())
    ]


async def test_the_same_seed_and_files_give_the_same_list_on_each_machine(tmp_path: Path) -> None:
    briefs = []
    for folder in ("one", "other"):
        async with FileRoster(random_table(tmp_path / folder, 7, 400), near_ms=500).open() as roster:
            fill = FillValidator(Tools(roster, LIMITS))
            spec = read("fill", role="welder", count=2)
            briefs.append([(await fill.brief(spec, Task("", 20, seed)))[:4] for seed in ("s-1", "s-2", "")])
    assert briefs[0] == briefs[1]
    assert briefs[0][0][3] != briefs[0][1][3]


async def test_nobody_is_favoured_by_the_alphabet_or_by_the_size_of_a_chunk(large: FillValidator) -> None:
    spec = read("fill", role="welder", count=1)
    drawn: Counter[str] = Counter()
    firsts: Counter[str] = Counter()
    rounds = 300
    for number in range(rounds):
        ids = ids_of(await large.brief(spec, Task("", 50, f"session-{number}")))
        assert len(ids) == len(set(ids)) == 50
        drawn.update(ids)
        firsts[ids[0]] += 1
    expected = rounds * 50 / WELDERS
    # Eight equal parts of the alphabet, of which the last stands in a chunk of its own: five sigmas.
    for part in range(8):
        ids = [f"W-{at:05d}" for at in range(part * WELDERS // 8, (part + 1) * WELDERS // 8)]
        mean = sum(drawn[each] for each in ids) / len(ids)
        assert abs(mean - expected) < 5 * (expected / len(ids)) ** 0.5, part
    assert len(firsts) > rounds / 2


async def test_a_pool_that_is_not_looked_at_to_its_end_is_a_floor(large: FillValidator) -> None:
    brief = await large.brief(read("fill", role="welder", count=1), Task("", 50, "s"))
    assert (brief.candidates_total_is_floor, brief.infeasible) == (True, False)
    assert 50 <= brief.candidates_total < WELDERS
    whole = await large.brief(read("fill", role="welder", count=800), Task("", 50, "s"))
    assert (whole.candidates_total, whole.candidates_total_is_floor, whole.infeasible) == (WELDERS, False, True)


@pytest.mark.parametrize(
    ("candidates_max", "needed", "limit"),
    [(50, 1, 50), (50, 50, 50), (50, 51, 102), (200, 200, 200), (50, 200, 400), (50, 201, 400), (50, 400, 400),
     (50, 401, 0), (1, 2, 4), (200, 1000, 0)],
)  # fmt: skip
async def test_twice_the_need_is_given_and_never_more_than_four_hundred(
    large: FillValidator, candidates_max: int, needed: int, limit: int
) -> None:
    assert limit_of(candidates_max, needed) == limit
    brief = await large.brief(read("fill", role="welder", count=needed), Task("", candidates_max, "s"))
    assert len(brief.candidates) == limit
    assert bool(brief.candidates_schema_json) == (limit > 0)
    if limit:
        slots = slots_of(brief)
        assert len(slots) == (needed if limit >= 2 * needed else 0)
        assert not slots or sum(map(len, slots)) == len(set().union(*slots)) == limit


async def test_whom_the_prompt_names_comes_first_and_stands_in_a_slot_of_its_own(large: FillValidator) -> None:
    names = {f"W-{at:05d}": f"{chr(65 + at * 26 // WELDERS)}na Silva{at}" for at in (3, 350, 699)}
    prompt = f"Three welders for Saturday. {names['W-00350']} and {names['W-00699'].upper()} know the site; (W-00003)."
    brief = await large.brief(read("fill", role="welder", count=3), Task(prompt, 10, "s"))
    assert set(ids_of(brief)[:3]) == set(names)
    assert [len(slot & set(names)) for slot in slots_of(brief)] == [1, 1, 1]
    # More are named than needed: any of them may be chosen, so there are no slots.
    few = await large.brief(read("fill", role="welder", count=2), Task(prompt, 10, "s"))
    assert slots_of(few) == []
    assert set(ids_of(few)[:3]) == set(names)
    assert "not qualify" not in brief.instructions + few.instructions


async def test_a_name_beyond_the_first_twenty_thousand_characters_is_not_looked_for(tmp_path: Path) -> None:
    table = RosterTable(path=write_csv(tmp_path / "w.csv", welders(300)), index_dir=tmp_path / "indexes")
    async with serving(roster=table) as client:
        for fill, first in ((19_980, True), (20_000, False)):
            asked = {"prompt": "x " * (fill // 2) + "W-00299", "seed": "s", "candidates_max": 3}
            brief = await client.brief("fill", asked=asked, role="welder", count=1)
            assert (json.loads(brief.candidates_json)[0]["worker_id"] == "W-00299") is first


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("Omar  Khan, please", '"Omar Khan" does not qualify'),
        ("send OMAR KHAN", '"OMAR KHAN" does not qualify'),
        ("send W-000003", '"W-000003" does not qualify'),
        ("worker W-000004 or mia wong", '"mia wong" does not qualify'),
    ],
)
async def test_who_is_named_and_does_not_qualify_is_said_in_the_prompts_own_words_without_a_reason(
    fill: FillValidator, prompt: str, says: str
) -> None:
    spec = read("fill", role="forklift operator", count=1)
    brief = await fill.brief(spec, Task(prompt, 50, "s"))
    assert says in brief.instructions
    added = brief.instructions.removeprefix((await fill.brief(spec, Task())).instructions)
    for reason in ("active", "role", "welder", "Wong" if "Wong" not in prompt else "@"):
        assert reason not in added


async def test_a_name_that_somebody_who_qualifies_bears_as_well_is_not_refused(fill: FillValidator) -> None:
    brief = await fill.brief(
        read("fill", role="forklift operator", count=1, client_id="acme"), Task("Ana Silva", 50, "s")
    )
    assert "does not qualify" not in brief.instructions
    assert ids_of(brief)[0] == "W-000007"
    assert "W-000001" not in ids_of(brief)


@pytest.mark.parametrize("prompt", ["12 welders, 3 shifts", "Toledo, OH 43604", "in 2026 at 0700", "", " \n", "\u202e"])
async def test_counts_and_places_name_nobody(tmp_path: Path, prompt: str) -> None:
    rows = [
        {"worker_id": each, "name": f"Ana N{each}", "role": "pilot"} for each in ("12", "3", "43604", "2026", "0700")
    ]
    async with roster_of(tmp_path, rows) as roster:
        brief = await FillValidator(Tools(roster, LIMITS)).brief(
            read("fill", role="welder", count=1), Task(prompt, 5, "")
        )
    assert "does not qualify" not in brief.instructions


@pytest.mark.parametrize(
    ("spec", "count", "codes", "says"),
    [
        ({"role": "pilot", "count": 1}, 0, ["COUNT", "WRONG_ROLE"], '"pilot"'),
        ({"role": "welder", "count": 2}, 1, ["COUNT", "WRONG_ROLE"], 'the role "welder": 1 hold it'),
        ({**TOLEDO, "count": 5}, 4, ["COUNT", "WRONG_CITY"], "without it 2 more would qualify"),
        ({"city": "Perrysburg", "count": 2}, 1, ["COUNT", "WRONG_CITY"], "without it 5 more would qualify"),
        ({"city": "Paris", "count": 2}, 0, ["COUNT", "WRONG_CITY"], "without it 6 more would qualify"),
        ({"required_certifications": ["OSHA-10"], "count": 3}, 2, ["COUNT", "MISSING_CERTIFICATION"], '"OSHA-10"'),
        ({"required_certifications": ["OSHA-10", "TWIC"], "count": 1}, 0, ["COUNT", "MISSING_CERTIFICATION"], '"TWIC"'),
        (
            {"required_certifications": ["OSHA-10", "TWIC"], "count": 1},
            0,
            ["COUNT", "MISSING_CERTIFICATION"],
            "no worker of the roster qualifies under all terms, 1 asked for",
        ),
        ({"count": 7}, 6, ["COUNT", "INACTIVE_WORKER"], "must be active: without it 1 more would qualify"),
        (
            {
                "count": 6,
                "shift_start": "2026-12-05T07:00:00-05:00",
                "shift_end": "2026-12-05T15:00:00-05:00",
            },
            5,
            ["COUNT", "INACTIVE_WORKER"],
            "more would qualify",
        ),
        (
            {"count": 6, "site": {"latitude": 41.6528, "longitude": -83.5379}, "max_distance_km": 1.0},
            4,
            ["COUNT"],
            "only 4",
        ),
    ],
)
async def test_where_too_few_qualify_it_is_said_how_many_and_which_demand_shuts_most_out(
    fill: FillValidator, spec: dict[str, Any], count: int, codes: list[str], says: str
) -> None:
    given = {"role": "forklift operator", **spec}
    brief = await fill.brief(read("fill", **given), Task("", 50, "s"))
    assert (brief.infeasible, brief.candidates_total, brief.candidates_total_is_floor) == (True, count, False)
    assert brief.candidates_schema_json == ""
    assert len(brief.candidates) == count, "those few are facts all the same"
    assert [each.code for each in brief.findings][: len(codes)] == codes
    text = " ".join(each.message for each in brief.findings)
    assert says in text.replace(" shuts most out", "")
    assert not any(person["name"] in text or person["worker_id"] in text for person in people())


async def test_a_cut_pool_is_never_infeasible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of so many only these are looked at; two who qualify may be among the others.
    monkeypatch.setattr("validated.datasets.sample.EXAMINED_MAX", 320)
    monkeypatch.setattr("validated.datasets.file.EXAMINED_MAX", 320)
    rows = [*welders(400, certifications=""), *welders(402, certifications="TWIC")[400:]]
    async with roster_of(tmp_path, rows) as roster:
        fill = FillValidator(Tools(roster, LIMITS))
        spec = read("fill", role="welder", count=3, required_certifications=["TWIC"])
        brief = await fill.brief(spec, Task("", 50, "s"))
    assert (brief.infeasible, brief.candidates_total_is_floor, brief.findings) == (False, True, ())
    assert brief.candidates_schema_json == ""


async def test_nothing_is_read_where_no_candidates_are_wanted() -> None:
    class Untouchable:
        """Whatever is asked of it fails."""

    roster: Any = Untouchable()
    tools = Tools(roster, LIMITS)
    fill = await FillValidator(tools).brief(read("fill", role="welder", count=2), Task("Ana Silva", 0, "s"))
    email = await EmailValidator(tools).brief(read("email", worker_ids=["W-1"]), Task("Ana Silva", 0, "s"))
    for brief in (fill, email):
        assert brief.instructions
        assert brief.form_schema_json
        assert brief[2:6] == ("", (), 0, False)
        assert brief.roster is None
    assert (fill.needed, email.needed) == (2, 0)


@pytest.mark.parametrize("names", [(), ("name", "city"), CANDIDATE_FACTS])
async def test_a_candidate_has_id_and_name_and_the_facts_that_were_chosen(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    async with FileRoster(small_table(tmp_path), near_ms=500).open() as roster:
        fill = FillValidator(Tools(roster, LIMITS, candidate_facts=names))
        brief = await fill.brief(read("fill", role="forklift operator", count=1), Task("W-000001", 50, "s"))
        findings, _ = await judge(
            fill, {"workers": [{"worker_id": "W-9", "name": "Ana Silva"}]}, role="forklift operator", count=1
        )
    whole = {"worker_id": "W-000001", "name": "Ana Silva", "role": "Forklift operator", "city": "Toledo", "state": "OH",
             "certifications": ["forklift", "OSHA-10"]}  # fmt: skip
    kept = {name: value for name, value in whole.items() if name in {"worker_id", "name", *names}}
    assert brief.candidates[0] == kept
    suggested = {each.worker_id: json.loads(each.facts_json) for each in findings.kept[0].suggestions}
    assert suggested["W-000001"] == kept


async def test_a_number_is_no_fact_wherever_the_roster_holds_it(tmp_path: Path) -> None:
    rows = [
        {
            "worker_id": "W-1",
            "name": "Ana Silva",
            "phone": "+1-419-555-0107",
            "certifications": "TWIC;call 419.555.0107",
        },
        {"worker_id": "W-2", "name": "Omar 419-555-0108", "phone": "+1-419-555-0108", "certifications": ""},
        {"worker_id": "4195550109", "name": "Mia Wong", "phone": "(419) 555-0109", "certifications": ""},
        {"worker_id": "2125550110", "name": "Ida Ng", "phone": "+1-419-555-0199", "certifications": "until 2026-12-31"},
    ]
    async with roster_of(tmp_path, [{"role": "welder", **row} for row in rows]) as roster:
        fill = FillValidator(Tools(roster, LIMITS))
        brief = await fill.brief(read("fill", role="welder", count=1), Task("", 50, "s"))
        findings, _ = await judge(fill, {"workers": [{"worker_id": "W-3", "name": "Omar"}]}, role="welder", count=1)
    facts = {str(each["worker_id"]): each for each in brief.candidates}
    assert facts.keys() == {"W-1", "2125550110"}, "an id may look like a number, and be nobody's"
    assert facts["W-1"]["certifications"] == ["TWIC"]
    assert facts["2125550110"]["certifications"] == ["until 2026-12-31"]
    assert brief.candidates_total == 4
    assert {each.worker_id for each in findings.kept[0].suggestions} == facts.keys()


async def test_the_facts_have_room_in_an_artifact(tmp_path: Path) -> None:
    rows = [{"worker_id": f"W-{at}", "name": "N" * 150 + str(at), "role": "welder"} for at in range(60)]
    async with roster_of(tmp_path, rows) as roster:
        fill = FillValidator(Tools(roster, LimitsTable(artifact_bytes_max=4096)))
        brief = await fill.brief(read("fill", role="welder", count=3), Task("", 50, "s"))
    assert 3 <= len(brief.candidates) < 30
    assert len(json.dumps(brief.candidates).encode()) <= 4096


async def test_a_message_knows_the_workers_of_its_fill_and_no_number(email: EmailValidator) -> None:
    spec = {"worker_ids": ["W-000004", "W-000007", "W-999999", "W-000007"], "subject_chars_max": 40}
    brief = await email.brief(read("email", **spec), Task("for Mia Wong", 50, "s"))
    assert ids_of(brief) == ["W-000004", "W-000007"]
    assert brief.candidates_total == 2
    assert "419" not in json.dumps(brief.candidates)
    schema = json.loads(brief.candidates_schema_json)
    assert schema["properties"]["to_worker_id"]["enum"] == ["W-000004", "W-000007"]
    assert schema["properties"]["subject"]["maxLength"] == 40
    assert json.loads(brief.form_schema_json)["properties"]["to_worker_id"]["enum"] == [
        "W-000004", "W-000007", "W-999999",
    ]  # fmt: skip
    to = await email.brief(read("email", **spec, to_worker_id="W-000007"), Task("", 1, "s"))
    assert ids_of(to) == ["W-000007"]
    assert '"W-000007"' in to.instructions


def test_slots_part_the_candidates() -> None:
    facts: list[dict[str, Any]] = [{"worker_id": str(at), "name": f"N{at}"} for at in range(7)]
    slots: Any = choice(facts, 2, 3)["prefixItems"]
    ids = [[pair["properties"]["worker_id"]["const"] for pair in slot["anyOf"]] for slot in slots]
    assert ids == [["0", "3", "6"], ["1", "4"], ["2", "5"]]
    assert "prefixItems" not in choice(facts, 4, 3)
    assert "prefixItems" not in choice(facts, 0, 4)


@pytest.mark.skipif(not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set")
async def test_a_table_is_drawn_from_by_the_seed_and_is_infeasible_only_where_that_is_certain() -> None:
    rows = random_people(11, 300)
    async with (
        table_of(rows, *random_companions(11, rows)) as table,
        PostgresRoster(table, POSTGRES, near_ms=500).open() as roster,
    ):
        fill = FillValidator(Tools(roster, LIMITS))
        spec = read("fill", role="welder", count=2)
        one, again, other = [await fill.brief(spec, Task("", 10, seed)) for seed in ("a", "a", "b")]
        assert ids_of(one) == ids_of(again)
        assert set(ids_of(one)) != set(ids_of(other))
        # The database's own comparison finds nobody for this; the gate's does.
        odd = await fill.brief(read("fill", role="\uff57\uff45\uff4c\uff44\uff45\uff52", count=2), Task("", 10, "a"))
        assert (odd.infeasible, len(odd.candidates)) == (False, 10)
        none = await fill.brief(read("fill", role="pilot", count=2), Task("", 10, "a"))
        assert (none.infeasible, none.candidates_total_is_floor) == (True, False)
        assert [each.code for each in none.findings] == ["COUNT", "WRONG_ROLE"]


@pytest.mark.skipif(not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set")
@pytest.mark.parametrize(
    ("spec", "count", "says"),
    [
        ({"city": "Toledo"}, 3, "the place (Toledo) shuts most out: without it at least 2 more would qualify"),
        ({"required_certifications": ["TWIC"]}, 4, 'the certification "TWIC" shuts most out: without it 1 more'),
        ({"required_certifications": ["OSHA-10"]}, 0, 'the certification "OSHA-10" shuts most out'),
    ],
)
async def test_a_table_says_how_many_qualify_and_which_demand_shuts_most_out(
    spec: dict[str, Any], count: int, says: str
) -> None:
    rows = [
        {
            "worker_id": f"W-{at}",
            "name": f"Ana {at}",
            "role": "welder",
            "city": "Toledo" if at < 3 else "Lima",
            "state": "OH",
            "active": "true",
            "certifications": "" if at == 0 else "TWIC",
            **dict.fromkeys(("latitude", "longitude", "phone"), ""),
        }
        for at in range(5)
    ]
    async with table_of(rows, [], []) as table, PostgresRoster(table, POSTGRES, near_ms=5000).open() as roster:
        brief = await FillValidator(Tools(roster, LIMITS)).brief(
            read("fill", role="welder", count=5, **spec), Task("Ana 1", 10, "a")
        )
    assert (brief.infeasible, brief.candidates_total, brief.candidates_total_is_floor) == (True, count, False)
    assert says in " ".join(each.message for each in brief.findings)


@pytest.mark.skipif(not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set")
@pytest.mark.parametrize("role", ["\uff37elder", "welder ", "WELDER\t", "\u212aeg  welder"])
async def test_whom_the_databases_comparison_misses_is_looked_for_before_it_is_called_infeasible(role: str) -> None:
    wanted = "keg welder" if "eg" in role else "welder"
    rows = [{**each, "role": role, "active": "true", "city": "T\u014dledo"} for each in random_people(11, 2)]
    async with table_of(rows, [], []) as table, PostgresRoster(table, POSTGRES, near_ms=500).open() as roster:
        fill = FillValidator(Tools(roster, LIMITS))
        brief = await fill.brief(read("fill", role=wanted, city="t\u014cledo", count=2), Task("", 10, "a"))
    assert (brief.infeasible, brief.candidates_total, brief.candidates_total_is_floor) == (False, 2, False)
