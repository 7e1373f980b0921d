"""Whom a prompt names: which readings of its words count, what the search may cost, and what is never quoted of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosters import LIMITS, judge, read, write_csv

from validated.config import RosterTable
from validated.datasets.file import FileRoster
from validated.datasets.worker import Found, Worker
from validated.kinds import mentions
from validated.kinds.fill import FillValidator
from validated.kinds.mentions import Mentions, search
from validated.kinds.message_ids import _ASCII_PARTS, _PARTS
from validated.kinds.message_names import NameSearch
from validated.kinds.message_text import _ASCII_WORD, _WORD, split_words
from validated.kinds.name_runs import Bounds
from validated.kinds.validator import Brief, Task, Tools

RAISED = "\u2074\u00b9\u2079\u2075\u2075\u2075\u2070\u00b9\u2079\u2079"
WIDE = "\uff14\uff11\uff19.555.0199"
CIRCLED = "\u2463\u2460\u2468\u2464\u2464\u2464\u24ea\u2460\u2468\u2468"
NUMBERS = ["419-555-0199", "(419) 555 0199", RAISED, WIDE, CIRCLED]
LONG = "Juan Carlos María de la Vega Ruiz"


@contextlib.asynccontextmanager
async def roster_of(folder: Path, rows: list[dict[str, str]]) -> AsyncIterator[FileRoster]:
    folder.mkdir(parents=True, exist_ok=True)
    table = RosterTable(path=write_csv(folder / "workers.csv", rows), index_dir=folder / "indexes")
    async with FileRoster(table, near_ms=500).open() as roster:
        yield roster


def ids_of(brief: Brief) -> list[str]:
    return [str(facts["worker_id"]) for facts in brief.candidates]


ODD = "ab1A '`-_./#,\n\t!\u00e9\u0301\u2019\u2013\u2026\u4e2d\u0e01\ud55c\uff19\u2010\u00df"


@given(
    st.lists(st.one_of(st.text(ODD, max_size=6), st.sampled_from(["word", "W-000012", "o'neil's", "x_y"])), max_size=12)
)
def test_words_are_those_of_the_pattern_however_many_of_them_are_ascii(tokens: list[str]) -> None:
    text = " ".join(tokens)
    for ascii_words, words in ((_ASCII_WORD, _WORD), (_ASCII_PARTS, _PARTS)):
        assert split_words(text, ascii_words, words) == words.split(text)


def worker(worker_id: str, name: str) -> Found:
    return Found(Worker(worker_id, name), None, False)


def anything(start: str) -> bool:
    """Says of everything that a name begins so, as a roster does of which that is not known."""
    return True


def named(prompt: str, *names: str) -> list[str]:
    """Return the names of those of `names` whom the prompt names, in order."""
    known = [worker(f"Q-{at}", name) for at, name in enumerate(names)]
    return [found.worker.name for mention in Mentions(prompt).among(known) for found in mention.workers]


@pytest.mark.parametrize(
    "prompt",
    [
        "Björn Collins, Tyrone Harris",
        "We would like Björn Collins, Tyrone Harris if they are free.",
        "Björn Collins and Harris, Tyrone Harris",
        "Björn Collins Tyrone Harris",
        "Tyrone Harris\nBjörn Collins, Tyrone Harris",
    ],
)
def test_two_names_in_a_row_make_no_third(prompt: str) -> None:
    people = ("Björn Collins", "Tyrone Harris", "Tyrone Collins")
    assert sorted(named(prompt, *people)) == ["Björn Collins", "Tyrone Harris"]


@pytest.mark.parametrize("prompt", ["Collins, Tyrone", "Send Collins, Tyrone please", "COLLINS, Tyrone; Björn Collins"])
def test_a_family_name_before_the_comma_is_read_where_no_other_name_stands(prompt: str) -> None:
    assert "Tyrone Collins" in named(prompt, "Björn Collins", "Tyrone Harris", "Tyrone Collins", "Tyrone")


async def test_who_is_read_out_of_two_names_is_neither_put_first_nor_refused(tmp_path: Path) -> None:
    names = ["Björn Collins", "Tyrone Harris", "Tyrone Collins", *(f"Ana Silva{at}" for at in range(9))]
    rows = [{"worker_id": f"W-{at}", "name": name, "role": "welder"} for at, name in enumerate(names)]
    other = [{**row, "role": "driver"} if row["worker_id"] == "W-2" else row for row in rows]
    for folder, people in (("qualifies", rows), ("does not", other)):
        async with roster_of(tmp_path / folder, people) as roster:
            fill = FillValidator(Tools(roster, LIMITS))
            task = Task("Björn Collins, Tyrone Harris", 12, "s")
            brief = await fill.brief(read("fill", role="welder", count=2), task)
        assert set(ids_of(brief)[:2]) == {"W-0", "W-1"}
        assert "does not qualify" not in brief.instructions


@pytest.mark.parametrize("prompt", [LONG, f"take {LONG} for it", f"{LONG}'s shift"])
def test_names_of_seven_words_are_found(prompt: str) -> None:
    assert named(prompt, LONG) == [LONG]


@pytest.mark.parametrize("prompt", ["take W-20. and go", "W-20.", '("W-20.", W-21)', "W-20.."])
def test_an_id_may_end_in_a_mark(prompt: str) -> None:
    assert "W-20." in Mentions(prompt).worker_ids
    assert "W-20" in Mentions(prompt).worker_ids


@pytest.mark.parametrize(
    "part", ["x ", "x, ", "Ab ", "Ann Bo, Cy ", "X's ", "\u4e00", "\u0e01", "<b>x</b>", "a (x) ", "\ufdfa", "W-1 "]
)
def test_what_a_hostile_prompt_costs_is_bounded(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    class Counted(NameSearch):
        def read(self, begins: Callable[[str], bool], bounds: Bounds | None = None) -> Iterator[str]:
            nonlocal made
            keys = list(super().read(begins, bounds))
            made += len(keys)
            return iter(keys)

    monkeypatch.setattr(mentions, "NameSearch", Counted)
    found = Mentions(part * (20_000 // len(part)))
    found.keys(anything)
    # Each text is read a few times, however often it stands there.
    assert 0 < made < 1000
    assert len(found.worker_ids) < 1000


def test_names_in_a_prompt_of_ordinary_length_are_found_to_its_end() -> None:
    prose = " ".join(f"please call the {at}th person of our list" for at in range(480))
    assert 19_000 < len(prose) < 20_000 - 30
    assert named(f"{prose} and Rosa Jackson", "Rosa Jackson") == ["Rosa Jackson"]


def test_a_search_that_is_stopped_looks_no_further() -> None:
    stop = threading.Event()
    stop.set()
    found = Mentions("Rosa Jackson W-000001 " * 500, stop)
    assert not found.keys(anything)
    assert not found.worker_ids


async def test_a_call_that_ends_stops_its_search(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = threading.Event(), threading.Event()

    def slow(_: str, stop: threading.Event) -> None:
        began.set()
        if stop.wait(10):
            ended.set()

    monkeypatch.setattr(mentions, "Mentions", slow)

    async def searched() -> None:
        async with search("x" * 10_000):
            pass

    call = asyncio.create_task(searched())
    assert await asyncio.to_thread(began.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(ended.wait, 10)


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_number_in_the_roster_stands_in_no_finding_and_no_instruction(tmp_path: Path, number: str) -> None:
    private = f"Anna {number}"
    rows = [
        {"worker_id": "W-1", "name": private, "role": "driver", "city": "Lima", "state": "OH"},
        {"worker_id": "W-2", "name": "Omar Khan", "role": f"call {number}", "city": f"Lima {number}", "state": "OH"},
        {"worker_id": "W-3", "name": "Mia Wong", "role": "welder", "city": "Toledo", "state": "OH"},
    ]
    terms: dict[str, Any] = {"role": "welder", "count": 2, "city": "Toledo", "state": "OH"}
    async with roster_of(tmp_path, rows) as roster:
        fill = FillValidator(Tools(roster, LIMITS))
        said = ""
        for name in ("Anna", private):
            workers = [{"worker_id": "W-1", "name": name}, {"worker_id": "W-2", "name": name, "role": "x", "city": "x"}]
            findings, _ = await judge(fill, {"workers": workers}, **terms)
            assert {"NAME_MISMATCH", "WRONG_ROLE", "WRONG_CITY", "STATED_FACT_MISMATCH"} <= set(findings.codes())
            said += repr(findings.kept)
            if name == "Anna":
                assert "W-1 is another person in the roster" in findings.kept[0].message
        brief = await fill.brief(read("fill", **terms), Task(f"{private} and W-2 and W-1", 5, "s"))
    said += brief.instructions
    for text in (number, "0199", RAISED[-4:], CIRCLED[-4:]):
        assert text not in said
    assert '"W-2" does not qualify' in brief.instructions
