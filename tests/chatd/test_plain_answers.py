"""The short way of reading a whole answer reads what it takes as the long way does."""

from __future__ import annotations

from typing import Any

import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st

from chatd.completion import Completion
from chatd.providers import openai_answer
from chatd.providers.answer_parts import ErrorInAnswerError, UnreadableAnswerError
from chatd.providers.openai_answer import read_answer
from chatd.upstream_fault import UpstreamFault

TEXTS = st.sampled_from(
    ["Hello.", "", " ", "<think>a</think>b", "a</think>b", "[THINK]a[/THINK]b", "a [/b", "a/b", '{"a":1}', "é"]
)
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", [], {}, False, 0, 1, "x", ["x"], [{"text": "y"}], {"message": "no"}]
)
COUNTS = st.sampled_from([0, 1, 7, -1, 2**31, 1.5, True, None, "3"])
TURNS = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXTS | ODD},
    optional=dict.fromkeys(("refusal", "tool_calls", "function_call", "reasoning", "reasoning_content", "audio"), ODD),
)
WORDS = st.sampled_from(["stop", "length", "STOP", "tool_calls", "error", "content_filter", None, "", 1]) | ODD
CHOICES = st.fixed_dictionaries(
    {"message": TURNS | ODD, "finish_reason": WORDS},
    optional=dict.fromkeys(("index", "logprobs", "error", "native_finish_reason", "usage", "delta", "text"), ODD),
)
USAGES = ODD | st.fixed_dictionaries(
    {"prompt_tokens": COUNTS, "completion_tokens": COUNTS},
    optional={"total_tokens": COUNTS, "prompt_tokens_details": ODD, "completion_tokens_details": ODD},
)
ANSWERS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, max_size=2) | ODD, "model": st.sampled_from(["m", "mé", "", "m" * 300, None, 1])},
    optional={"usage": USAGES, "x_groq": ODD, "eval_count": COUNTS},
)


def _read(answer: Any) -> Any:
    try:
        return read_answer(answer, "asked", 1.0)._replace(first_token=0.0)
    except (ErrorInAnswerError, UnreadableAnswerError, UpstreamFault) as error:
        return repr(error)


@campaign(150)
@given(ANSWERS)
def test_the_short_way_and_the_long_way_read_the_same(answer: dict[str, Any]) -> None:
    short = _read(answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_answer, "_read_plain", lambda *_: None)
        assert _read(answer) == short


def test_the_usual_answer_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreached(_: Any) -> Any:
        raise AssertionError("the long way")

    monkeypatch.setattr(openai_answer, "_first_choice", unreached)
    message = {"role": "assistant", "content": '{"a": 1}', "refusal": None, "tool_calls": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}

    read = read_answer({"model": "m", "choices": [choice], "usage": usage}, "asked", 1.0)

    assert isinstance(read, Completion)
    assert (read.text, read.usage.input_tokens, read.usage.output_tokens) == ('{"a": 1}', 3, 4)
