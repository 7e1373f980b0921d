"""Only what begins like a name of the roster is read, and that loses no name: however names are spelt, and whatever
stands between their words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from campaigns import campaign
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from rosters import write_csv

from validated.config import RosterTable
from validated.datasets.file import FileRoster
from validated.datasets.names import beginnings, name_key
from validated.datasets.worker import Found, Question, Worker
from validated.kinds.mentions import Mentions
from validated.kinds.message_names import NameSearch
from validated.kinds.message_text import views

WORDS = (  # noqa: SIM905  seventy lines otherwise
    "Rosa|Robert|Ana-Lucia|José|María|O'Neil|O\u2019Brien|Mary|Bob|Jean|Luc|Núñez|Øystein|Zoë|李|娜|欧阳|สม|ชาย|अमित|Ян|a|A|J|"
    "K.|B|X.|Jr|Sr.|III|PhD|de|la|van|der|Straße|Æsa|May|April|Will|Mark|The|And|To|ROSA|robert|Jo|Li|Wu|Kim's|James'|\ufb01ona|"
    "\uff32osa|\u211dobert|3rd|R2|Jackson|Brown|Silva|Khan|Smith-Jones|McDonald|Mc|Donald|Nguyễn|Müller|Ö|王|明|ดี"
).split("|")
FILL = (  # noqa: SIM905  as above
    "the|shift|in|Toledo|for|and|please|send|07:00|W-000123|ID|worker|it's|Mr.|St.|OH|Will|you|2|2026|5th"
).split("|")
BETWEEN = [
    *[" "] * 12,
    *(
        ", ",
        ",",
        " , ",
        "\n",
        "\r\n",
        "\r",
        "  ",
        "\t",
        "-",
        "'",
        "\u2019s ",
        "'s ",
        ". ",
        "; ",
        "/",
        " (",
        ") ",
        '" ',
        "_",
    ),
    *("*", "**", "~", "`", "<b>", "</b>", "<br/>", "<!-- -->", "&amp;", "&nbsp;", "%20", "%2C", "[x](y)", "](a) "),
    *(
        "\u00ad",
        "\u200b",
        "\u00a0",
        "\u2028",
        "\u3000",
        "\uff0c",
        "\u3001",
        "\u2026",
        "\u3002",
        "@",
        "-\n",
        "\x1c",
        "\x0b",
        "²",
    ),
]
names = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)


@st.composite
def spelt(draw: st.DrawFn, name: str) -> str:
    """Spell the name as somebody may write it."""
    parts = name.split()
    at = draw(st.integers(0, len(parts)))
    turned = [*parts[at:], *parts[:at]]
    suffix = f" {parts[-1]}" if draw(st.booleans()) else ""
    ways = [
        name,
        " ".join(parts[at:]) + draw(st.sampled_from([", ", ",", "\uff0c"])) + " ".join(parts[:at]),
        f"{parts[-2] if len(parts) > 1 else parts[0]}, {parts[0]}{suffix}",
        " ".join(turned),
        draw(st.sampled_from(BETWEEN)).join(parts),
        name.upper(),
        name.lower(),
        " ".join([*parts[:at], draw(st.sampled_from(["B.", "(Bob)", '"Bob"', "J", "K. L.", "(Ann Bo)"])), *parts[at:]]),
        name + draw(st.sampled_from(["'s", "\u2019s", "'", "s"])),
        "".join(parts),
    ]
    return draw(st.sampled_from(ways))


@st.composite
def tasks(draw: st.DrawFn) -> tuple[list[str], str]:
    """Make a roster's names, and a prompt that has some of them in it."""
    roster = draw(st.lists(names, min_size=1, max_size=6))
    part = st.one_of(st.sampled_from(roster).flatmap(spelt), st.sampled_from(FILL), st.sampled_from(WORDS))
    parts = draw(st.lists(st.tuples(part, st.sampled_from(BETWEEN)), min_size=1, max_size=12))
    return roster, "".join(text for pair in parts for text in pair) * draw(st.sampled_from([1, 1, 1, 2, 6]))


def anything(start: str) -> bool:
    return True


def people(roster: list[str]) -> list[Found]:
    return [Found(Worker(f"Q-{at}", name)) for at, name in enumerate(roster)]


@campaign(50, suppress_health_check=[HealthCheck.too_slow])
@given(tasks())
def test_what_begins_like_no_name_names_nobody(task: tuple[list[str], str]) -> None:
    roster, prompt = task
    begins = beginnings(roster).__contains__

    def named(begins: Callable[[str], bool]) -> list[tuple[str, list[str]]]:
        mentions = Mentions(prompt)
        mentions.keys(begins)
        among = mentions.among(people(roster))
        return [(words, [found.worker.worker_id for found in workers]) for words, workers in among]

    assert named(begins) == named(anything)
    bearers = {name_key(name): [Worker("Q", name)] for name in roster}
    for view in views(prompt):
        few, all_ = NameSearch(view), NameSearch(view)
        kept = set(few.read(begins))
        assert kept <= set(all_.read(anything))
        assert few.strangers(bearers, ("Rosa Brown",)) == all_.strangers(bearers, ("Rosa Brown",))


async def test_a_roster_says_how_its_names_begin(tmp_path: Path) -> None:
    people = ["Rosa Jackson", "O'Neil", "李娜", "José Núñez", "x" * 150, "Ro"]
    rows = [{"worker_id": f"W-{at}", "name": name, "role": "driver"} for at, name in enumerate(people)]
    table = RosterTable(path=write_csv(tmp_path / "workers.csv", rows), index_dir=tmp_path / "indexes")
    starts = beginnings(people)
    asked: list[str] = []

    class Asker:
        chars = 10

        def keys(self, begins: Callable[[str], bool]) -> list[str]:
            for start in (*starts, "", "rosaj", "rosak", "rp", "李", "王", "z", "\ud800", "x" * 200, "rosajackson\x00"):
                # The second time it is remembered.
                asked.extend(start for _ in range(2) if begins(start))
            return []

    async with FileRoster(table, near_ms=500).open() as roster:
        await roster.look_up(Question((), Asker()))
    # What is longer than the index tells apart is looked at.
    assert set(asked) - starts <= {"x" * 200, "rosajackson\x00"}
    assert starts <= set(asked)


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("Robert Brown Jr", "Brown, Robert Jr and"),
        ("Robert Brown", "ask Brown, J. Robert"),
        ("Ana Silva", "ask Silva Ana or"),
        ("Ana Silva", "ask Silva J Ana or"),
        ("Ana Silva", "ask Ana (Lu) Silva or"),
        ("Ana Silva", "ask Ana B. Silva or"),
        ("Ana Silva", "Silva's, Ana"),
        ("Ana Brown", "Brown, Ana's shift"),
        ("Ana Silva", "ask ana b silva or"),
        ("Ana Silva", "Ana Silva's shift"),
        ("Ana de la Vega", "de la Vega, Ana"),
        ("Ana", "to Ana."),
        ("McDonald", "Mc Donald, or"),
        ("O'Neil", "o\u2019neil@example.com O Neil"),
        ("李娜", "请 李 娜 来"),
    ],
)
def test_a_name_is_found_in_each_way_of_writing_it(name: str, prompt: str) -> None:
    mentions = Mentions(prompt)
    keys = mentions.keys(beginnings([name]).__contains__)
    assert name_key(name) in keys
    assert [words for words, _ in mentions.among(people([name]))]
    assert [key for key in Mentions(prompt).keys(anything) if key in beginnings([name])]


@pytest.mark.parametrize("prompt", ["take Ana Silva", "Silva, Ana", "ANA SILVA's shift", "<b>Ana</b> Silva"])
def test_what_begins_no_name_is_not_looked_up(prompt: str) -> None:
    mentions = Mentions(f"We need two forklift operators on Saturday. {prompt} and somebody else, please.")
    keys = mentions.keys(beginnings(["Ana Silva", "Omar Khan"]).__contains__)
    assert "anasilva" in keys
    assert len(keys) <= 6


def test_an_initial_that_the_roster_lacks_hides_nobody_and_one_that_it_has_is_part_of_the_name() -> None:
    for prompt, name, is_named in (
        ("Mary B. Jones", "Mary Jones", True),
        ("Mary Jones", "Mary B. Jones", False),
        ("Mary B. Jones", "Mary B. Jones", True),
    ):
        assert bool(Mentions(prompt).among(people([name]))) == is_named
