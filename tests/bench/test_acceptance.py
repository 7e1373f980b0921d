"""The statistics of bench/acceptance, without a model."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from bench.acceptance.arms import ARMS, order
from bench.acceptance.chart import draw
from bench.acceptance.figures import Share, chance
from bench.acceptance.report import Report, write
from bench.acceptance.run import Offered, Ran, session_id
from bench.acceptance.servers import ROSTER
from bench.acceptance.sessions import ArmFigures, read
from bench.acceptance.tasks import Task, Wish, Worker, draw_tasks, is_scarce, read_workers
from bench.stack.proc import Machine
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from rosters import EXAMPLES
from session_rows import attempt, record
from validated_server import Client, serving

from lakehouse.sessions.record import FindingRecord, SessionAttemptRecord
from lakehouse.sessions.row import encode_row
from lakehouse.validated.v1.validated_pb2 import FillSpec
from validated.config import RosterTable

SEED = 16
CONTINUE, STOP = "CANDIDATES, no schema, continue", "CANDIDATES, no schema, stop"


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    # Newcombe 1998, table I, method 3 (81/263, 15/148, 0/20, 1/29), and one from its mirror.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_an_interval_is_wilsons(hits: int, of: int, low: float, high: float) -> None:
    assert Share(hits, of).interval == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_an_interval_holds_its_share_and_stays_within_0_and_1(counted: tuple[int, int]) -> None:
    share = Share(*counted)
    low, high = share.interval

    assert 0 <= low <= share.value <= high <= 1
    assert high - low < 1


def test_of_nothing_nothing_is_said() -> None:
    assert Share(0, 0).interval == (0.0, 1.0)
    assert str(Share(0, 0)) == "none"
    assert str(Share(11, 12)) == "11 of 12, 92 % (65 to 99)"


@given(st.lists(st.booleans(), min_size=1, max_size=16), st.data())
def test_chance_is_the_mean_of_all_choices_of_one_from_each_slot(meets: list[bool], data: st.DataObject) -> None:
    slots = data.draw(st.integers(1, min(len(meets), 4)))
    dealt = [[each for at, each in enumerate(meets) if at % slots == slot] for slot in range(slots)]

    # Every choice from every slot is as likely as any other of it.
    expected = sum(sum(slot) / len(slot) for slot in dealt) / slots

    assert chance(meets, slots) == pytest.approx(expected)


def test_chance_of_slots_is_not_that_of_one_list_where_they_are_of_different_sizes() -> None:
    meets = [True, False, False]

    assert chance(meets, 1) == pytest.approx(1 / 3)
    # The first slot has the first and the third, the second the second.
    assert chance(meets, 2) == pytest.approx(1 / 4)


@pytest.fixture(scope="module")
def workers() -> list[Worker]:
    return read_workers(ROSTER)


@pytest.fixture(scope="module")
def tasks(workers: list[Worker]) -> list[Task]:
    return draw_tasks(workers, 24, SEED, candidates=16)


def test_a_seed_draws_the_same_tasks_and_a_short_drawing_begins_a_long_one(
    workers: list[Worker], tasks: list[Task]
) -> None:
    assert draw_tasks(workers, 5, SEED, candidates=16) == tasks[:5]
    assert draw_tasks(workers, 5, SEED + 1, candidates=16) != tasks[:5]


def test_tasks_ask_for_one_to_five_and_wish_what_nothing_demands(tasks: list[Task]) -> None:
    assert {task.spec.count for task in tasks} == {1, 2, 3, 4, 5}
    for task in tasks:
        assert task.prompt.endswith(task.wish.words)
        assert task.wish.certification not in task.spec.required_certifications
        assert not (task.wish.city and task.spec.city)
    assert {bool(task.wish.city) for task in tasks} == {True, False}


@pytest.fixture(scope="module")
async def gate() -> AsyncIterator[Client]:
    roster = RosterTable(path=EXAMPLES / "workers.csv", assignments_path=EXAMPLES / "assignments.csv")
    async with serving(roster=roster) as running:
        yield running


async def test_the_gate_has_for_each_task_whom_the_drawing_meant(
    gate: Client, workers: list[Worker], tasks: list[Task]
) -> None:
    for task in tasks:
        asked = {"prompt": task.prompt, "seed": session_id(task, SEED), "candidates_max": 16}
        spec = MessageToDict(task.spec, preserving_proto_field_name=True)
        brief = await gate.brief("fill", asked=asked, **spec)
        candidates = json.loads(brief.candidates_json)
        slots = json.loads(brief.candidates_schema_json)["properties"]["workers"].get("prefixItems", [])

        assert len(slots) == (0 if is_scarce(task.number) else task.spec.count)
        assert len(candidates) == min(brief.candidates_total, 16) > task.spec.count
        met = [task.wish.met_by(each["city"], each.get("certifications", ())) for each in candidates]
        assert any(met), task
        assert not all(met), task


def test_each_with_candidates_is_first_by_turns_and_a_twin_never_before_its_own() -> None:
    first = [order(number, 1)[2].provider for number in range(4)]

    assert first == ["words", "schema", "words", "schema"]
    for number in range(2):
        arms = order(number, 1)
        assert sorted(arm.name for arm in arms) == sorted(arm.name for arm in ARMS)
        assert all(arms.index(arm.twin) < arms.index(arm) for arm in arms if arm.twin is not None)


def test_a_thinned_run_asks_without_a_schema_for_some_tasks_alone() -> None:
    asked = [number for number in range(7) if any(arm.provider == "words" for arm in order(number, 3))]

    assert asked == [0, 3, 6]
    assert all({"NONE", "FORM"} <= {arm.name for arm in order(number, 3)} for number in range(7))


def session(task: Task, *answers: list[tuple[str, str]] | str, **fields: Any) -> bytes:
    """Return a row of those answers: the workers of an accepted one, else the code of its finding."""
    attempts: list[SessionAttemptRecord] = []
    artifact = None
    for number, answer in enumerate(answers, start=1):
        if isinstance(answer, str):
            finding = FindingRecord(answer, "/workers/0", "no")
            attempts.append(attempt(number, verdict="rejected", findings=(finding, finding), chat_ms=1000 * number))
        else:
            attempts.append(attempt(number, chat_ms=1000 * number))
            artifact = json.dumps({"workers": [{"name": name, "worker_id": identity} for identity, name in answer]})
    verdict = "accepted" if artifact else "max_iter_exhausted"
    values = {"session_id": session_id(task, SEED), "attempts": tuple(attempts), "artifact": artifact} | fields
    return encode_row(record(final_verdict=verdict, **values))


PEOPLE = [
    Worker(f"W-{at}", f"Name {at}", "welder", "Toledo", "OH", frozenset(["MIG"] * (at % 2)), True) for at in range(8)
]


def made_tasks(count: int) -> tuple[Task, ...]:
    wish = Wish("Prefer somebody certified for MIG welding.", certification="MIG")
    return tuple(Task(number, "Fill", FillSpec(role="welder", count=2), wish) for number in range(count))


def made_figures(folder: Path) -> dict[str, ArmFigures]:
    """Two tasks: the first was accepted at once by the arm that continues, so that its twin asked for the second."""
    tasks = made_tasks(2)
    facts = tuple(
        {"worker_id": each.worker_id, "city": each.city, **({"certifications": ["MIG"]} if each.certifications else {})}
        for each in PEOPLE
    )
    logs = {arm.name: arm.log_in(folder) for arm in ARMS}
    told_less = [arm for arm in ARMS if arm.name not in (CONTINUE, STOP)]
    for arm in told_less:
        logs[arm.name].write_bytes(b"".join(session(task, "PHANTOM_WORKER") for task in tasks))
    at_once = session(tasks[0], [("W-1", "Name 1"), ("W-2", "Name 2")], duration_ms=3000)
    later = session(tasks[1], "COUNT", [("W-3", "Name 3"), ("W-5", "Somebody else")], duration_ms=5000)
    logs[CONTINUE].write_bytes(at_once + later)
    logs[STOP].write_bytes(session(tasks[1], "COUNT", "COUNT", no_progress=True, duration_ms=2000))
    cpu = {(task.number, arm.name): 0.5 for task in tasks for arm in ARMS if (task.number, arm.name) != (0, STOP)}
    offered = {0: Offered(facts[:3], 2), 1: Offered(facts[:3], 1)}
    ran = Ran(tasks, 1, offered, cpu, 60.0)
    return {each.arm.name: each for each in read(ran, [folder / "empty", folder], PEOPLE, SEED)}


def test_the_logs_say_what_was_accepted_and_when(tmp_path: Path) -> None:
    figures = made_figures(tmp_path)

    assert (figures[CONTINUE].at_first, figures[CONTINUE].in_all) == (Share(1, 2), Share(2, 2))
    assert (figures["NONE"].at_first, figures["NONE"].in_all) == (Share(0, 2), Share(0, 2))
    assert figures["NONE"].per_accepted(12.0) is None
    assert figures[CONTINUE].per_accepted(12.0) == 6.0
    # A code counts once an attempt, however often it was found.
    assert figures[CONTINUE].findings == {"COUNT": 1}
    assert figures[STOP].findings == {"COUNT": 2}


def test_what_was_accepted_at_once_counts_for_the_twin_that_did_not_ask_again(tmp_path: Path) -> None:
    stop = made_figures(tmp_path)[STOP]

    assert (stop.at_first, stop.in_all) == (Share(1, 2), Share(1, 2))
    assert stop.cpu_s == 1.0
    assert [row.no_progress for row in stop.rows] == [False, True]


def test_an_accepted_worker_whom_the_roster_does_not_have_by_that_name_is_a_phantom(tmp_path: Path) -> None:
    figures = made_figures(tmp_path)

    assert figures[CONTINUE].phantoms == 1
    assert figures[STOP].phantoms == 0


def test_choices_are_counted_by_slots_and_by_pairs_beside_their_chance(tmp_path: Path) -> None:
    figures = made_figures(tmp_path)[CONTINUE]
    slots, pairs = figures.of(slots=True).choice, figures.of(slots=False).choice

    # Of W-0, W-1 and W-2 the second alone is certified, and has a slot of her own; she and W-2 were chosen.
    assert (slots.met, slots.by_chance) == (Share(1, 2), 0.5)
    # One list of the same three; those who were chosen were not offered, and meet nothing that is known.
    assert pairs.met == Share(0, 2)
    assert pairs.by_chance == pytest.approx(1 / 3)
    assert math.isnan(made_figures(tmp_path)["NONE"].choice.by_chance)


def test_tables_take_the_place_of_those_before_and_leave_the_rest(tmp_path: Path) -> None:
    figures = list(made_figures(tmp_path).values())
    machine = Machine("a processor", 2, 8.0, "6.1", 0.5)
    text = Report(figures, {}, machine, "2026-11-27", SEED, 16, 1, 2, "llama-cpp-python 0").text()
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\nwords\n", encoding="utf-8")

    write("the tables of before", results)
    write(text, results)

    written = results.read_text(encoding="utf-8")
    assert written.startswith("# Results\n\nwords\n\n<!--")
    assert text in written
    assert "of before" not in written
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table if line.startswith((f"| {CONTINUE}", "| arm"))} <= {6, 7, 8}
    assert ET.fromstring(draw(figures)).tag.endswith("svg")
