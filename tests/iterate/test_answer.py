"""Goal: whatever a model says around, inside or instead of its JSON, the artifact is found or the problem is named.

Method: examples of what models do, then arbitrary and hostile text.
"""

from __future__ import annotations

import json
import time

import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.strict_json.answer import Unparsable, read_artifact

BYTES_MAX = 256 * 1024


def read(answer: str) -> str:
    return read_artifact(answer, bytes_max=BYTES_MAX)


@pytest.mark.parametrize(
    "answer",
    [
        '{"a": 1}',
        ' \n{"a":1}\t',
        'Sure, here it is:\n```json\n{"a": 1}\n```\nAnything else?',
        '```\n{"a": 1}\n```',
        'The answer is {"a": 1}.',
        'Use braces {like this} and then: {"a": 1}',
        'First I thought {"a": 0}, but no: {"a": 1}',
        '{"a": 0}\n\nOn reflection:\n\n```json\n{"a": 1}\n```',
        '<think>{"draft": {"a": 2}}</think>{"a": 1}',
        'a single { brace of prose, then {"a": 1}',
    ],
)
def test_the_object_is_found_bare_fenced_or_within_prose(answer: str) -> None:
    assert read(answer) == '{"a":1}'


def test_braces_inside_strings_do_not_end_the_object() -> None:
    assert read('Here: {"a": "}{\\"}", "b": "{"} done') == '{"a":"}{\\"}","b":"{"}'


def test_integers_keep_all_their_digits() -> None:
    assert read('{"id": 123456789012345678901234567890}') == '{"id":123456789012345678901234567890}'


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("I cannot do that.", "no JSON object"),
        ("[1, 2]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a": 1', "not complete"),
        ('The workers: {"workers": [{"worker_id": "W-1", "name": "A"}', "not complete"),
        ('{"a": 1, "a": 2}', "duplicate"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1,}', ""),
        ('{"a":' * 101 + "1" + "}" * 101, "deep"),
    ],
)
def test_what_cannot_be_read_is_named(answer: str, problem: str) -> None:
    with pytest.raises(Unparsable) as caught:
        read(answer)

    assert problem.lower() in caught.value.problem.lower()
    assert len(caught.value.problem) < 300


def test_a_piece_of_a_broken_answer_is_not_taken_for_the_answer() -> None:
    # The inner object is whole, the answer is not: to judge the piece would be to judge what was not said.
    with pytest.raises(Unparsable):
        read('{"workers": [{"worker_id": "W-1", "name": "A"}, {"worker_id"')
    with pytest.raises(Unparsable):
        read("{" + '"a":{' * 150 + "}" * 151)


def test_an_artifact_above_the_limit_is_refused() -> None:
    with pytest.raises(Unparsable):
        read(json.dumps({"a": "x" * BYTES_MAX}))


def test_an_artifact_that_grows_past_the_limit_in_canonical_form_is_refused() -> None:
    # 1e20 is printed with 21 digits: what validated would refuse as too large is no artifact here either.
    with pytest.raises(Unparsable):
        read('{"a":[' + "1e20," * 30_000 + "1]}")


@pytest.mark.parametrize(
    "hostile",
    [
        "{" * 1_000_000,
        '{"a":' * 200_000,
        '{"a" ' * 200_000,
        "{}" * 500_000,
        "{ " + "{}" * 400_000,
        "```json\n" * 100_000,
        '{"' + "\\" * 900_000,
        '"' * 1_000_000,
    ],
)
def test_hostile_text_of_a_megabyte_costs_bounded_work(hostile: str) -> None:
    started = time.process_time()
    try:
        read(hostile)
    except Unparsable as error:
        assert error.problem

    # Quadratic work on a megabyte would take minutes; the bound is far above what a slow machine needs.
    assert time.process_time() - started < 10


@campaign(80)
@given(st.text())
def test_any_text_is_an_object_or_a_named_problem(answer: str) -> None:
    try:
        artifact = read(answer)
    except Unparsable as error:
        assert error.problem
    else:
        assert isinstance(json.loads(artifact), dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@campaign(80)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.sampled_from(["", "Here you are: ", "```json\n"]))
def test_any_object_is_found_behind_any_opening(value: dict[str, object], opening: str) -> None:
    closing = "\n```" if opening.startswith("`") else ""

    assert json.loads(read(opening + json.dumps(value) + closing)) == value
