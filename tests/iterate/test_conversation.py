"""Goal: the model reads what was wrong, where and what is allowed, and the conversation stays within its bound."""

from __future__ import annotations

from typing import Any

import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st

from iterate.attempt import ModelAnswer
from iterate.brief import Brief
from iterate.conversation import Conversation, Turn
from iterate.feedback import Feedback, unparsable_feedback
from iterate.knowledge import Knowledge
from lakehouse.validated.v1.validated_pb2 import Finding

SPEC = '{"count":1,"role":"welder"}'
FACTS = '[{"name":"Ann Li","worker_id":"W-1"},{"name":"Bo Yu","worker_id":"W-2"}]'
FORM = Brief(grounding="form", knowledge=Knowledge(instructions="Name one worker."), brief_ms=1)
CANDIDATES = Brief(
    grounding="candidates",
    knowledge=Knowledge(instructions="Name one worker.", candidates_json=FACTS),
    candidates=({"worker_id": "W-1", "name": "Ann Li"}, {"worker_id": "W-2", "name": "Bo Yu"}),
    brief_ms=1,
)


def conversation(context_bytes_max: int = 100_000, brief: Brief | None = None) -> Conversation:
    return Conversation(prompt="Fill the shift", spec=SPEC, brief=brief, context_bytes_max=context_bytes_max)


def said(feedback: str) -> Turn:
    return Turn("user", feedback)


def test_it_opens_with_instructions_and_the_task_with_its_spec() -> None:
    turns = conversation().turns()

    assert [turn.role for turn in turns] == ["system", "user"]
    assert "one JSON object" in turns[0].content
    assert "Fill the shift" in turns[1].content
    assert SPEC in turns[1].content
    assert [turn.restricted for turn in turns] == ["", ""]


def test_the_form_is_instructions_that_every_model_may_read() -> None:
    ungrounded, turns = conversation().turns(), conversation(brief=FORM).turns()

    assert turns[0] == Turn("system", f"{ungrounded[0].content}\n\nName one worker.")
    assert turns[1] == ungrounded[1]


def test_candidates_stand_in_the_restricted_text_of_the_task_alone() -> None:
    turns = conversation(brief=CANDIDATES).turns()

    assert turns[0] == conversation(brief=FORM).turns()[0]
    assert turns[1].content == conversation().turns()[1].content
    assert turns[1].restricted.startswith(turns[1].content)
    assert turns[1].restricted.endswith(FACTS)
    assert "Ann Li" not in "".join(turn.content for turn in turns)


def test_a_turn_that_joins_another_keeps_both_texts_of_both() -> None:
    talk = conversation(brief=CANDIDATES)
    task = talk.turns()[1]
    talk.add("", said("that was empty"))

    joined = talk.turns()[1]

    assert joined.content == f"{task.content}\n\nthat was empty"
    assert joined.restricted == f"{task.restricted}\n\nthat was empty"


def test_an_answer_of_who_saw_candidates_and_what_was_wrong_with_it_are_for_such_alone() -> None:
    talk = conversation(brief=CANDIDATES)
    opening = talk.turns()
    talk.add(
        '{"name": "Ann Li"}', Turn("user", "Ann Li is no welder", "Ann Li is no welder; Bo Yu is"), restricted=True
    )
    talk.add("seen by all", said("wrong"))
    talk.add("", said("empty, of Ann Li"), restricted=True)

    turns = talk.turns()

    assert turns[:2] == opening
    assert turns[2:4] == [
        Turn("assistant", "", '{"name": "Ann Li"}'),
        Turn("user", "", "Ann Li is no welder; Bo Yu is"),
    ]
    assert turns[4:] == [Turn("assistant", "seen by all"), Turn("user", "wrong", "wrong\n\nempty, of Ann Li")]
    shown_to_others = [turn.role for turn in turns if turn.content]
    assert shown_to_others == ["system", "user", "assistant", "user"]


def test_feedback_is_the_next_turn_of_the_conversation() -> None:
    talk = conversation()
    talk.add("my answer", said("your findings"))

    assert [(turn.role, turn.content) for turn in talk.turns()[2:]] == [
        ("assistant", "my answer"),
        ("user", "your findings"),
    ]
    assert talk.last == "your findings"


def test_findings_say_what_where_and_what_is_right() -> None:
    phantom = Finding(code="PHANTOM_WORKER", path="/workers/1/worker_id", message="W-9 is not in the roster")
    text = Feedback(None).rejected("{}", [phantom]).content

    assert "PHANTOM_WORKER" in text
    assert "/workers/1/worker_id" in text
    assert "W-9 is not in the roster" in text


def test_a_flood_of_findings_is_cut_and_counted() -> None:
    findings = [Finding(code="SHAPE", path=f"/workers/{n}", message="m") for n in range(50)]
    text = Feedback(None).rejected("{}", findings, left_out=7).content

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
    talk.add(empty, said("that was empty"))
    first = talk.turns()
    talk.add("my answer", said("your findings"))
    talk.add(empty, said("empty again"))
    talk.add(empty, said("and once more"))
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
        talk.add(f"answer {number} " + "x" * 300, said(f"feedback {number}"))

    contents = [turn.content for turn in talk.turns()]

    assert contents[-1] == "feedback 9"
    assert contents[2].startswith("answer ")
    assert "feedback 0" not in contents


@campaign(80)
@given(
    st.lists(
        st.tuples(st.text(max_size=3000), st.text(min_size=1, max_size=100), st.text(max_size=200), st.booleans()),
        max_size=12,
    ),
    st.integers(2000, 8000),
    st.sampled_from([None, FORM, CANDIDATES]),
)
def test_any_conversation_keeps_task_and_newest_feedback_and_its_bound(
    pairs: list[tuple[str, str, str, bool]], context_bytes_max: int, brief: Brief | None
) -> None:
    talk = conversation(context_bytes_max, brief)
    for answer, feedback, restricted, saw in pairs:
        talk.add(answer, Turn("user", feedback, restricted), restricted=saw)

    turns = talk.turns()

    assert sum(turn.size for turn in turns) <= context_bytes_max
    assert [turn.role for turn in turns[:2]] == ["system", "user"]
    assert [turn.role for turn in turns[2:]] == ["assistant", "user"] * ((len(turns) - 2) // 2)
    assert all((turn.content or turn.restricted).strip() for turn in turns if turn.role == "assistant")
    # Whoever may not see candidates gets user and assistant by turns as well.
    others = [turn.role for turn in turns if turn.content]
    assert others[2:] == ["assistant", "user"] * ((len(others) - 2) // 2)
    if pairs:
        # What joins a turn that others do not get is lost to them.
        assert turns[-1].content.endswith(pairs[-1][1]) or pairs[-1][3] or not turns[-1].content
        assert (turns[-1].restricted or turns[-1].content).endswith(pairs[-1][2] or pairs[-1][1])
