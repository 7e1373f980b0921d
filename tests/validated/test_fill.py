"""The rules of kind fill, one by one, on the small roster."""

from __future__ import annotations

from typing import Any

import pytest
from rosters import MISSPELT_ANA, judge

from validated.datasets.texts import difference, is_same_without_case
from validated.kinds.fill import FillValidator

ANA = {"worker_id": "W-000001", "name": "Ana Silva"}
LUKASZ = {"worker_id": "W-000002", "name": "Łukasz Żak"}
JOSE = {"worker_id": "W-000005", "name": "José Núñez"}
OTHER_ANA = {"worker_id": "W-000007", "name": "Ana Silva"}
SPEC: dict[str, Any] = {"role": "forklift operator", "count": 1, "city": "TOLEDO", "state": "oh"}
SITE: dict[str, Any] = {"latitude": 41.6528, "longitude": -83.5379}
SATURDAY: dict[str, Any] = {"shift_start": "2026-12-05T07:00:00-05:00", "shift_end": "2026-12-05T15:00:00-05:00"}


async def _found(fill: FillValidator, *workers: Any, **spec: Any) -> list[tuple[str, str]]:
    findings, _ = await judge(fill, {"workers": list(workers)}, **{**SPEC, "count": len(workers), **spec})
    return [(finding.code, finding.path) for finding in findings.kept]


async def test_workers_who_meet_the_spec_pass_and_are_grounded(fill: FillValidator) -> None:
    stated = {**LUKASZ, "role": "FORKLIFT operator", "city": "Toledo", "state": "OH"}
    findings, ground = await judge(fill, {"workers": [ANA, stated]}, **{**SPEC, "count": 2})
    assert not findings.any
    assert ground is not None
    assert ground.roster is not None
    assert ground.grounded is True
    assert ground.roster.row_count == 8
    assert ground.roster.version.startswith("sha256:")


@pytest.mark.parametrize(
    ("worker", "spec", "code", "path"),
    [
        ({"worker_id": "W-000003", "name": "Omar Khan"}, {}, "INACTIVE_WORKER", "worker_id"),
        ({"worker_id": "W-000004", "name": "Mia Wong"}, {}, "WRONG_ROLE", "worker_id"),
        (JOSE, {}, "WRONG_CITY", "worker_id"),
        ({"worker_id": "W-000006", "name": "Emma Clark"}, {"city": ""}, "WRONG_STATE", "worker_id"),
        ({"worker_id": "W-000002", "name": "Ana Silva"}, {}, "NAME_MISMATCH", "name"),
        ({"worker_id": "W-000001", "name": "ana silva"}, {}, "NAME_MISMATCH", "name"),
        ({"worker_id": "W-000009", "name": "Ana Silva"}, {}, "PHANTOM_WORKER", "worker_id"),
        ({**ANA, "city": "Perrysburg"}, {}, "STATED_FACT_MISMATCH", "city"),
        ({**ANA, "role": ""}, {}, "STATED_FACT_MISMATCH", "role"),
        ({**ANA, "city": "Toledo\n"}, {}, "STATED_FACT_MISMATCH", "city"),
        ({**ANA, "city": " Toledo"}, {}, "STATED_FACT_MISMATCH", "city"),
        ({**ANA, "role": "Forklift operator\x1c"}, {}, "STATED_FACT_MISMATCH", "role"),
        ({**ANA, "role": "Forklift  operator"}, {}, "STATED_FACT_MISMATCH", "role"),
        ({**ANA, "role": "For\u212alift operator"}, {}, "STATED_FACT_MISMATCH", "role"),
        ({**ANA, "city": "T0ledo"}, {}, "STATED_FACT_MISMATCH", "city"),
        ({**ANA, "city": "\uff34\uff4f\uff4c\uff45\uff44\uff4f"}, {}, "STATED_FACT_MISMATCH", "city"),
        ({**ANA, "city": "\U0001d413oledo"}, {}, "STATED_FACT_MISMATCH", "city"),
        ({**ANA, "state": "\U0001d40e\U0001d407"}, {}, "STATED_FACT_MISMATCH", "state"),
        (LUKASZ, {"required_certifications": ["osha-10", "Forklift"]}, "MISSING_CERTIFICATION", "worker_id"),
        (LUKASZ, SATURDAY, "SHIFT_OVERLAP", "worker_id"),
        (ANA, {"client_id": "acme"}, "DO_NOT_SEND", "worker_id"),
        (JOSE, {"site": SITE, "max_distance_km": 12.0}, "TOO_FAR", "worker_id"),
        (OTHER_ANA, {"site": SITE, "max_distance_km": 12.0}, "NO_COORDINATES", "worker_id"),
        ({**ANA, "note": "x"}, {}, "SHAPE", "note"),
        ({"worker_id": "W-000001"}, {}, "SHAPE", "name"),
        ({**ANA, "role": None}, {}, "SHAPE", "role"),
    ],
)
async def test_one_wrong_thing_gives_exactly_its_finding(
    fill: FillValidator, worker: Any, spec: Any, code: str, path: str
) -> None:
    assert await _found(fill, worker, **spec) == [(code, f"/workers/0/{path}")]


@pytest.mark.parametrize(
    ("worker", "spec"),
    [
        (LUKASZ, {"required_certifications": ["osha-10"]}),
        (LUKASZ, {**SATURDAY, "shift_start": "2026-12-05T14:00:00-05:00"}),
        (LUKASZ, {"shift_start": "2026-12-05T04:00:00-06:00", "shift_end": "2026-12-05T05:00:00-06:00"}),
        (ANA, {"client_id": "other"}),
        (JOSE, {"allowed_locations": [{"city": "perrysburg", "state": "OH"}]}),
        ({"worker_id": "W-000006", "name": "Emma Clark"}, {"allowed_locations": [{"state": "MI"}]}),
        (JOSE, {"site": SITE, "max_distance_km": 15.0}),
        (JOSE, {"city": "", "state": ""}),
    ],
)
async def test_a_worker_just_inside_a_rule_passes(fill: FillValidator, worker: Any, spec: Any) -> None:
    assert await _found(fill, worker, **spec) == []


async def test_too_few_and_too_many_workers_are_counted(fill: FillValidator) -> None:
    assert await _found(fill, ANA, count=2) == [("COUNT", "/workers")]
    assert await _found(fill, ANA, LUKASZ, count=1) == [("COUNT", "/workers")]
    assert await _found(fill, count=1) == [("COUNT", "/workers")]


async def test_a_worker_named_twice_is_a_duplicate_where_he_stands_again(fill: FillValidator) -> None:
    assert await _found(fill, ANA, LUKASZ, ANA) == [("DUPLICATE_WORKER", "/workers/2/worker_id")]


@pytest.mark.parametrize(
    ("artifact", "path"),
    [
        ([], ""),
        ("5", ""),
        ({}, "/workers"),
        ({"workers": {}}, "/workers"),
        ({"workers": [ANA], "standby": [{"worker_id": "W-999999", "name": "X"}]}, "/standby"),
        ({"workers": [7]}, "/workers/0"),
        ({"workers": [{**ANA, "worker_id": 1}]}, "/workers/0/worker_id"),
        ({"workers": [{**ANA, "worker_id": ""}]}, "/workers/0/worker_id"),
        ({"workers": [{**ANA, "a/b~c": 1}]}, "/workers/0/a~1b~0c"),
    ],
)
async def test_a_wrong_shape_is_told_by_json_pointer(fill: FillValidator, artifact: Any, path: str) -> None:
    findings, ground = await judge(fill, artifact, **SPEC)
    assert ("SHAPE", path) in [(finding.code, finding.path) for finding in findings.kept]
    assert ground is not None
    assert ground.grounded is not True


async def test_grounded_comes_from_the_roster_and_not_from_the_verdict(fill: FillValidator) -> None:
    omar = {"worker_id": "W-000003", "name": "Omar Khan"}
    findings, ground = await judge(fill, {"workers": [omar]}, **SPEC)
    assert findings.any
    assert ground is not None
    assert ground.grounded is True
    _, ground = await judge(fill, {"workers": [ANA, {"worker_id": "W-1", "name": "No One"}]}, **SPEC)
    assert ground is not None
    assert ground.grounded is False
    _, ground = await judge(fill, {"workers": []}, **SPEC)
    assert ground is not None
    assert ground.grounded is None


@pytest.mark.parametrize(("worker_id", "name"), MISSPELT_ANA)
async def test_a_phantom_is_answered_with_who_was_meant(fill: FillValidator, worker_id: str, name: str) -> None:
    findings, _ = await judge(fill, {"workers": [{"worker_id": worker_id, "name": name}]}, **SPEC)
    (finding,) = findings.kept
    assert finding.code == "PHANTOM_WORKER"
    assert finding.suggestions[0].worker_id in ("W-000001", "W-000007")
    assert "did you mean W-00000" in finding.message
    assert finding.message.isprintable()


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("Jose\u0301 Nu\u0301n\u0303ez", "U+0065 U+0301 U+0020 where the roster has U+00E9 U+0020 U+004E"),
        ("J\u043es\u00e9 N\u00fa\u00f1ez", "from character 2 on: U+043E"),
        ("Jos\u00e9 N\u00fa\u00f1ez\u200b", "U+200B where the roster has nothing"),
    ],
)
async def test_names_that_look_the_same_are_answered_with_the_code_points_that_differ(
    fill: FillValidator, written: str, says: str
) -> None:
    findings, _ = await judge(fill, {"workers": [{**JOSE, "name": written}]}, role="forklift operator", count=1)
    (finding,) = findings.kept
    assert finding.code == "NAME_MISMATCH"
    assert says in finding.message


@pytest.mark.parametrize(
    ("worker", "spec", "code"),
    [
        ({"worker_id": "W-000003", "name": "Omar Khan"}, {}, "INACTIVE_WORKER"),
        ({"worker_id": "W-000004", "name": "Mia Wong"}, {}, "WRONG_ROLE"),
        (JOSE, {}, "WRONG_CITY"),
        ({"worker_id": "W-000006", "name": "Emma Clark"}, {"city": ""}, "WRONG_STATE"),
        (LUKASZ, {"required_certifications": ["osha-10", "Forklift"]}, "MISSING_CERTIFICATION"),
        (LUKASZ, SATURDAY, "SHIFT_OVERLAP"),
        (ANA, {"client_id": "acme"}, "DO_NOT_SEND"),
        (JOSE, {"site": SITE, "max_distance_km": 12.0}, "TOO_FAR"),
        (OTHER_ANA, {"site": SITE, "max_distance_km": 12.0}, "NO_COORDINATES"),
    ],
)
async def test_whoever_cannot_stay_is_answered_with_people_who_qualify(
    fill: FillValidator, worker: Any, spec: Any, code: str
) -> None:
    findings, _ = await judge(fill, {"workers": [worker]}, **{**SPEC, **spec})
    (finding,) = findings.kept
    assert finding.code == code
    assert finding.suggestions
    for each in finding.suggestions:
        instead = {"worker_id": each.worker_id, "name": each.name}
        assert not (await judge(fill, {"workers": [instead]}, **{**SPEC, **spec}))[0].any


async def test_missing_workers_are_answered_with_people_who_qualify_and_are_not_used_yet(fill: FillValidator) -> None:
    findings, _ = await judge(fill, {"workers": [ANA, LUKASZ]}, **{**SPEC, "count": 4})
    (finding,) = findings.kept
    assert {each.worker_id for each in finding.suggestions} == {"W-000007", "w-000001"}
    assert "no answer can pass" not in finding.message
    findings, _ = await judge(fill, {"workers": [ANA, ANA]}, **{**SPEC, "count": 2})
    assert {each.worker_id for each in findings.kept[0].suggestions} == {"W-000002", "W-000007", "w-000001"}
    findings, _ = await judge(fill, {"workers": [ANA, LUKASZ]}, **{**SPEC, "count": 1})
    assert findings.kept[0].suggestions == ()


async def test_a_worker_with_several_faults_gets_his_suggestions_with_each_and_their_words_once(
    fill: FillValidator,
) -> None:
    omar = {"worker_id": "W-000003", "name": "Omar Khan"}
    findings, _ = await judge(fill, {"workers": [omar]}, **{**SPEC, "required_certifications": ["forklift"]})
    assert [finding.code for finding in findings.kept] == ["INACTIVE_WORKER", "MISSING_CERTIFICATION"]
    assert len({finding.suggestions for finding in findings.kept}) == 1
    assert ["would qualify" in finding.message for finding in findings.kept] == [True, False]


async def test_that_too_few_qualify_is_said_once_with_numbers(fill: FillValidator) -> None:
    findings, _ = await judge(fill, {"workers": [ANA, LUKASZ]}, **{**SPEC, "count": 5})
    (finding,) = findings.kept
    assert "only 4 workers of the roster qualify under all terms, 5 asked for" in finding.message
    omar = {"worker_id": "W-000003", "name": "Omar Khan"}
    terms = {**SPEC, "count": 2, "required_certifications": ["forklift"]}
    findings, _ = await judge(fill, {"workers": [omar, LUKASZ]}, **terms)
    said = ["only 1 worker of the roster qualifies" in finding.message for finding in findings.kept]
    assert said == [True] + [False] * (len(said) - 1)
    findings, _ = await judge(fill, {"workers": [omar]}, **{**SPEC, "role": "astronaut"})
    assert 'nobody in the roster is "astronaut"' in findings.kept[0].message


async def test_suggestions_name_only_workers_who_would_qualify(fill: FillValidator) -> None:
    spec = {**SPEC, "client_id": "acme", "required_certifications": ["OSHA-10"], **SATURDAY}
    phantom = {"worker_id": "W-000008", "name": "Ana Silva"}
    findings, _ = await judge(fill, {"workers": [phantom]}, **spec)
    assert findings.kept[0].suggestions == ()
    findings, _ = await judge(fill, {"workers": [phantom]}, **SPEC)
    assert {each.worker_id for each in findings.kept[0].suggestions} <= {"W-000001", "W-000002", "W-000007", "w-000001"}


async def test_a_worker_whom_the_artifact_names_already_is_not_suggested(fill: FillValidator) -> None:
    findings, _ = await judge(
        fill, {"workers": [ANA, {"worker_id": "W-000008", "name": "Ana Silva"}]}, **{**SPEC, "count": 2}
    )
    assert findings.kept[0].suggestions[0].worker_id == "W-000007"


async def test_findings_are_bounded_and_the_rest_is_counted(fill: FillValidator) -> None:
    workers = [{"worker_id": f"P-{number}", "name": "x"} for number in range(500)]
    findings, ground = await judge(fill, {"workers": workers}, **{**SPEC, "count": 500})
    assert len(findings.kept) == 100
    assert findings.left_out == 400
    assert ground is not None
    assert ground.grounded is False


async def test_quotes_are_cut_and_hold_nothing_that_does_not_print(fill: FillValidator) -> None:
    worker = {"worker_id": "W\u202e-" + "9" * 5000, "name": "a\x00\u200b" + "b" * 5000, "\u202e" * 3000: 1}
    findings, _ = await judge(fill, {"workers": [worker]}, **SPEC)
    for finding in findings.kept:
        assert finding.message.isprintable()
        assert finding.path.isprintable()
        assert len(finding.message) < 700
    assert any("U+202E" in finding.message for finding in findings.kept)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [("STRA\u1e9eBURG", "Stra\u00dfburg", True), ("STRASSBURG", "Stra\u00dfburg", False), ("\u212a", "K", False),
     ("TOLEDO", "Toledo", True), ("T\u0130LE", "tile", False)],
)  # fmt: skip
def test_case_alone_is_no_difference(one: str, other: str, *, is_same: bool) -> None:
    assert is_same_without_case(one, other) is is_same


def test_a_zero_in_place_of_a_letter_is_named() -> None:
    assert "U+0030" in difference("T0ledo", "Toledo", any_case=True)
