"""Who is suggested in a stranger's place: the nearest of all who would qualify, whatever it takes to find them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from rapidfuzz import fuzz
from rosters import LIMITS, MISSPELT_ANA, judge, people, small_table, write_csv

from lakehouse.validated.v1.validated_pb2 import FillSpec
from validated.config import LimitsTable
from validated.datasets import index
from validated.datasets.file import FileRoster
from validated.datasets.near import plain_id
from validated.datasets.texts import fold
from validated.datasets.worker import Candidates, Criteria, Found, RosterVersion, Wanted, Worker
from validated.findings import SUGGESTIONS_MAX, Findings
from validated.kinds.fill import FillValidator
from validated.kinds.fill_terms import FillTerms
from validated.kinds.suggestions import suggest
from validated.kinds.validator import Tools

SPEC: dict[str, Any] = {"role": "forklift operator", "count": 1, "city": "TOLEDO", "state": "oh"}
TERMS = FillTerms.read(FillSpec(role="welder", count=1))


class Pool:
    """An Answer whose candidates are given."""

    version = RosterVersion("", "", 0, "")
    found: Mapping[str, Found] = MappingProxyType({})
    namesakes: Sequence[Worker] = ()

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers

    async def near(self, wanted: Sequence[Wanted], criteria: Criteria) -> Candidates:
        return Candidates.of([Found(worker) for worker in self.workers])


async def suggested(
    workers: Sequence[Worker], strangers: Sequence[Wanted], taken: Sequence[str] = (), limits: LimitsTable = LIMITS
) -> list[tuple[str, list[str]]]:
    """Return the message and the suggested ids of each stranger."""
    findings = Findings(100)
    for _ in strangers:
        findings.add("PHANTOM_WORKER", "", "")
    await suggest(findings, dict(enumerate(strangers)), Pool(workers), TERMS, taken=taken, limits=limits)
    return [(finding.message, [each.worker_id for each in finding.suggestions]) for finding in findings.kept]


def by_the_rule(workers: Sequence[Worker], strangers: Sequence[Wanted], taken: Sequence[str]) -> list[list[str]]:
    """Return the same ids by comparing everybody with everybody."""
    told: list[list[str]] = []
    given: set[str] = set()
    for wanted in strangers:
        order = []
        for worker in workers:
            name = fuzz.ratio(fold(wanted.name), fold(worker.name)) if wanted.name else 0.0
            id_ = fuzz.ratio(plain_id(wanted.worker_id), worker.worker_id) - 5
            score = max(name, id_) + min(name, id_) / 100
            order.append((score < 80 and worker.worker_id in given, -score, worker.worker_id))
        fit = {worker.worker_id for worker in workers if worker.active}
        fit -= {each for each in taken if each != wanted.worker_id}
        told.append([worker_id for _, _, worker_id in sorted(order) if worker_id in fit][:SUGGESTIONS_MAX])
        given.update(told[-1])
    return told


NAMES = ("ana silva", "Ana Silva", "anna silva", "Omar Khan", "Łukasz Żak", "x", "Nobody Atall")


@pytest.mark.parametrize("seed", range(150))
async def test_they_are_those_who_come_first_when_everybody_is_compared(seed: int) -> None:
    draw = random.Random(seed)

    def some_id() -> str:
        return f"W-{draw.randrange(600):05d}"

    fit = draw.choice((0.05, 0.5, 0.95))
    people_ = {some_id(): draw.choice(NAMES) for _ in range(draw.choice((3, 25, 60, 300)))}
    workers = [Worker(id_, name, "welder", active=draw.random() < fit) for id_, name in people_.items()]
    strangers = [Wanted(some_id(), draw.choice((*NAMES, "", "Ana Khan"))) for _ in range(draw.randrange(1, 6))]
    taken = [some_id() for _ in range(draw.choice((0, 15, 200)))]
    found = await suggested(workers, strangers, taken)
    assert [ids for _, ids in found] == by_the_rule(workers, strangers, taken)


async def test_one_who_qualifies_is_found_among_thousands_who_do_not() -> None:
    workers = [Worker(f"W-{number:05d}", "Ana Silva", "welder", active=number == 2900) for number in range(3000)]
    assert await suggested(workers, [Wanted("W-00001", "Ana Silva")]) == [
        ("; did you mean W-02900 Ana Silva?", ["W-02900"])
    ]


async def test_strangers_of_one_artifact_are_given_different_people_unless_somebody_is_meant() -> None:
    workers = [Worker(f"W-{number:05d}", f"{chr(97 + number)}" * 6, "welder") for number in range(10)]
    far = [Wanted("X", "zzzz")] * 2
    first, second = [ids for _, ids in await suggested(workers, far)]
    assert sorted(first + second) == [worker.worker_id for worker in workers]
    meant = [ids[0] for _, ids in await suggested(workers, [Wanted("X", "aaaaaa")] * 2)]
    assert meant == ["W-00000", "W-00000"]


async def test_where_nobody_has_the_role_nobody_is_suggested(tmp_path: Path) -> None:
    assert await suggested([], [Wanted("W-2", "Ana Silva")]) == [("", [])]
    async with FileRoster(small_table(tmp_path), near_ms=5000).open() as roster:
        gate = FillValidator(Tools(roster, LIMITS))
        phantom = {"worker_id": "W-000010", "name": "Ana Silva"}
        findings, _ = await judge(gate, {"workers": [phantom]}, role="astronaut", count=1)
    assert [(finding.code, finding.suggestions) for finding in findings.kept] == [("PHANTOM_WORKER", ())]


async def test_past_its_time_nobody_is_suggested() -> None:
    workers = [Worker("W-1", "Ana Silva", "welder")]
    limits = LimitsTable.model_construct(suggestions_strangers_max=5, suggestions_ms=-1)
    assert await suggested(workers, [Wanted("W-2", "Ana Silva")], limits=limits) == [("", [])]


@pytest.fixture(scope="module")
async def cut(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FillValidator]:
    """Yield a gate whose roster takes three people of a role for too many to compare with them all."""
    crowd = [{**people()[0], "worker_id": f"A-{number:06d}", "name": f"Crowd {number}"} for number in range(40)]
    folder = tmp_path_factory.mktemp("roster")
    table = small_table(folder, path=write_csv(folder / "crowd.csv", [*crowd, *people()]))
    async with FileRoster(table, near_ms=5000).open() as roster:
        gate = FillValidator(Tools(roster, LIMITS))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(index, "_POOL_ROWS_MAX", 3)
            # The roster keeps what was drawn; the bound itself goes back at once, since others have rosters, too.
            await judge(gate, {"workers": [{"worker_id": "W-999999", "name": "Nobody Atall"}]}, **SPEC)
        yield gate


@pytest.mark.parametrize(("worker_id", "name"), MISSPELT_ANA)
async def test_who_was_meant_is_found_where_a_role_has_too_many_workers_to_compare(
    cut: FillValidator, worker_id: str, name: str
) -> None:
    findings, _ = await judge(cut, {"workers": [{"worker_id": worker_id, "name": name}]}, **SPEC)
    (finding,) = findings.kept
    assert finding.code == "PHANTOM_WORKER"
    assert finding.suggestions[0].worker_id in ("W-000001", "W-000007")
    assert "did you mean W-00000" in finding.message


async def test_places_that_overlap_name_nobody_twice(tmp_path: Path) -> None:
    spec: dict[str, Any] = {**SPEC, "allowed_locations": [{"city": "Toledo", "state": "OH"}, {"state": "OH"}]}
    async with FileRoster(small_table(tmp_path), near_ms=5000).open() as roster:
        gate = FillValidator(Tools(roster, LIMITS))
        findings, _ = await judge(gate, {"workers": [{"worker_id": "W-1", "name": "Ana Silva"}]}, **spec)
    ids = [each.worker_id for each in findings.kept[0].suggestions]
    assert ids[:2] == ["W-000001", "W-000007"]
    assert len(set(ids)) == len(ids) == 5


@pytest.mark.parametrize(
    ("worker", "code", "unrestricted"),
    [
        ({"worker_id": "W-000010", "name": "Anna Silva"}, "PHANTOM_WORKER", True),
        ({"worker_id": "W-000003", "name": "Omar Khan"}, "INACTIVE_WORKER", True),
        ({"worker_id": "W-000003", "name": "Omar Kahn"}, "NAME_MISMATCH", True),
        ({"worker_id": "W-000001", "name": "Ana Silva", "city": "Detroit"}, "STATED_FACT_MISMATCH", False),
    ],
)
async def test_a_finding_has_words_that_name_nobody_but_those_of_the_artifact(
    fill: FillValidator, worker: dict[str, str], code: str, *, unrestricted: bool
) -> None:
    findings, _ = await judge(fill, {"workers": [worker, worker]}, **{**SPEC, "count": 3})
    said = {finding.code: finding for finding in reversed(findings.kept)}
    assert bool(said[code].unrestricted_message) is unrestricted
    for finding in findings.kept:
        words = finding.unrestricted_message or finding.message
        assert words
        for person in people():
            assert person["name"] not in words or person["name"] == worker["name"], (finding, person)
            assert person["worker_id"] not in words or person["worker_id"] == worker["worker_id"], (finding, person)
