from __future__ import annotations

import pytest
from campaigns import campaign
from hypothesis import example, given
from hypothesis import strategies as st

from chatd.providers.thinking import _TAGS, _WRAPPERS, ThinkingSplitter, split_thinking

MARKS = [
    *_TAGS,
    *_TAGS.values(),
    *_WRAPPERS,
    "<think",
    "</",
    "<",
    "[",
    "\n",
    " ",
    "\t",
    '{"a": 1}',
    "hm",
    *map(chr, (0x130, 0x212A, 0x17F)),
]
texts = st.lists(st.sampled_from(MARKS) | st.text(max_size=5), max_size=8).map("".join)


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkingSplitter()
    told = [*(splitter.feed(piece) for piece in pieces), splitter.rest()]
    return "".join(each.text for each in told), "".join(each.reasoning for each in told)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    ends = sorted(min(cut, len(text)) for cut in cuts)
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


@campaign(200)
@given(texts, st.lists(st.integers(0, 60), max_size=12))
@example("<think>hm</think>\n{}", [3, 9, 12])
def test_the_split_is_the_same_wherever_the_text_is_cut(text: str, cuts: list[int]) -> None:
    whole = split([text])

    assert split(pieces_of(text, cuts)) == whole
    assert split(list(text)) == whole
    assert tuple(split_thinking(text)) == whole


@campaign(120)
@given(texts)
def test_text_without_an_opening_mark_at_its_head_is_not_touched(text: str) -> None:
    head = text.lstrip().lower()
    if head.startswith((*_TAGS, *_WRAPPERS)):
        return

    assert split([text]) == (text, "")


@campaign(120)
@given(st.sampled_from(list(_TAGS)), st.text(alphabet="abc {}\n", max_size=20), texts, st.booleans())
def test_nothing_between_the_marks_reaches_the_text(opening: str, thoughts: str, rest: str, upper: bool) -> None:
    begin = opening.upper() if upper else opening
    text, reasoning = split([begin + thoughts + _TAGS[opening] + rest])

    assert reasoning.startswith(thoughts)
    assert text == split_thinking(rest.lstrip()).text


@pytest.mark.parametrize("count", [10, 5000, 300_000])
def test_a_flood_of_white_space_is_neither_gathered_nor_slow(count: int) -> None:
    text, reasoning = split([*(" " for _ in range(count)), "{}"])

    assert (text.strip(), reasoning) == ("{}", "")


def test_thinking_after_a_flood_of_white_space_is_text_however_it_is_cut() -> None:
    flood = " " * 5000 + "<think>hm</think>"

    assert split([flood]) == split(list(flood)) == (flood, "")
