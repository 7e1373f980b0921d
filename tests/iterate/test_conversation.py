"""Goal: the model reads what was wrong, where and what is allowed, and the conversation stays within its bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iterate.attempt import ModelAnswer
from iterate.conversation import Conversation, rejected_feedback, unparsable_feedback
from lakehouse.server.specs import Spec
from lakehouse.sessions.record import FindingRecord

SPEC = Spec(kind="fill", message=None, text='{"count":1,"role":"welder"}')


def conversation(context_bytes_max: int = 100_000) -> Conversation:
    return Conversation(prompt="Fill the shift", spec=SPEC, context_bytes_max=context_bytes_max)


def test_it_opens_with_instructions_and_the_task_with_its_spec() -> None:
    turns = conversation().turns()

    assert [turn.role for turn in turns] == ["system", "user"]
    assert "one JSON object" in turns[0].content
    assert "Fill the shift" in turns[1].content
    assert SPEC.text is not None
    assert SPEC.text in turns[1].content


def test_feedback_is_the_next_turn_of_the_conversation() -> None:
    talk = conversation()
    talk.add("my answer", "your findings")

    assert [(turn.role, turn.content) for turn in talk.turns()[2:]] == [
        ("assistant", "my answer"),
        ("user", "your findings"),
    ]
    assert talk.last == "your findings"


def test_findings_say_what_where_and_what_is_right() -> None:
    text = rejected_feedback([FindingRecord("PHANTOM_WORKER", "/workers/1/worker_id", "W-9 is not in the roster")])

    assert "PHANTOM_WORKER" in text
    assert "/workers/1/worker_id" in text
    assert "W-9 is not in the roster" in text


def test_a_flood_of_findings_is_cut_and_counted() -> None:
    text = rejected_feedback([FindingRecord("SHAPE", f"/workers/{n}", "m") for n in range(50)], left_out=7)

    assert "/workers/19:" in text
    assert "/workers/20:" not in text
    assert "37 more" in text


def test_an_answer_cut_at_the_token_limit_is_told_so() -> None:
    cut = ModelAnswer(text='{"a":', provider="p", model="m", input_tokens=1, output_tokens=1, end="cut_short")

    assert "token limit" in cut.read_problem("not complete")
    assert "token limit" in unparsable_feedback(cut.read_problem("not complete"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"text": ""}, "empty"),
        ({"text": " \n\t"}, "empty"),
        ({"text": "", "reasoned": True}, "reasoning did not end"),
        ({"text": "", "reasoned": True, "end": "cut_short"}, "token limit while the model was still reasoning"),
        ({"text": "", "calls_tools": True}, "called a tool"),
        ({"text": "I can't", "end": "refused"}, "refused"),
        ({"text": '{"a":1}', "end": "malformed"}, "no valid output"),
    ],
)
def test_an_answer_that_is_none_says_why(answer: dict[str, Any], words: str) -> None:
    assert words in ModelAnswer(provider="p", model="m", input_tokens=1, output_tokens=1, **answer).problem


def test_an_answer_with_words_is_read() -> None:
    for end in ("whole", "cut_short", "filtered"):
        answer = ModelAnswer(text="x", provider="p", model="m", input_tokens=1, output_tokens=1, reasoned=True, end=end)
        assert answer.problem == ""


@pytest.mark.parametrize("empty", ["", "  \n", "\u2003\u00a0", "\u200b", "\ufeff\n", "\x00"])
def test_an_empty_turn_is_never_sent_and_its_feedback_joins_the_turn_before(empty: str) -> None:
    talk = conversation()
    talk.add(empty, "that was empty")
    first = talk.turns()
    talk.add("my answer", "your findings")
    talk.add(empty, "empty again")
    talk.add(empty, "and once more")
    turns = talk.turns()

    assert [turn.role for turn in first] == ["system", "user"]
    assert first[1].content.startswith("Fill the shift")
    assert first[1].content.endswith("\n\nthat was empty")
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[3].content == "your findings\n\nand once more"
    assert talk.last == "and once more"


def test_beyond_the_context_the_oldest_pairs_are_left_out_first() -> None:
    talk = conversation(context_bytes_max=2000)
    for number in range(10):
        talk.add(f"answer {number} " + "x" * 300, f"feedback {number}")

    contents = [turn.content for turn in talk.turns()]

    assert contents[-1] == "feedback 9"
    assert contents[2].startswith("answer ")
    assert "feedback 0" not in contents


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3000), st.text(max_size=100)), max_size=12), st.integers(1500, 8000))
def test_any_conversation_keeps_task_and_newest_feedback_and_its_bound(
    pairs: list[tuple[str, str]], context_bytes_max: int
) -> None:
    talk = conversation(context_bytes_max)
    for answer, feedback in pairs:
        talk.add(answer, feedback)

    turns = talk.turns()

    assert sum(turn.size for turn in turns) <= context_bytes_max
    assert [turn.role for turn in turns[:2]] == ["system", "user"]
    assert [turn.role for turn in turns[2:]] == ["assistant", "user"] * ((len(turns) - 2) // 2)
    assert all(turn.content.strip() for turn in turns if turn.role == "assistant")
    if pairs:
        assert turns[-1].content.endswith(pairs[-1][1])
