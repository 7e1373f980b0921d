"""``AnswerParts``: an answer as it grows, with its bounds; and what is done to every answer at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chatd.completion import ANSWER_BYTES_MAX, Completion, Delta, FinishReason, ToolCall, Usage, fits
from chatd.providers.json_text import mend_surrogates
from chatd.providers.thinking import (
    ThinkingSplitter,
    json_in,
    may_begin_thinking,
    may_end_thinking,
    split_late,
    split_thinking,
)
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason

_NO_ERROR: Final = frozenset({"", "0", "200", "ok", "success", "none", "null", "no error"})
COUNT_MAX: Final = 2**31 - 1


class UnreadableAnswerError(Exception):
    """The endpoint's answer is JSON, and still no answer; the text says why, without quoting it."""


class ErrorInAnswerError(Exception):
    """The endpoint put an error where the answer should be."""

    def __init__(self, words: Mapping[str, Any], *, begun: bool) -> None:
        """`words`: the error, in any of its forms; `begun`: whether a part of an answer stands before it."""
        super().__init__("an error in place of the answer")
        self.words = words
        self.begun = begun


def says_something(error: object) -> bool:
    """Whether what stands in the place of an error is one: some endpoints always send it, with nothing in it, or with
    the code 0 and "success"."""
    values = error.values() if isinstance(error, dict) else [error]
    return any(value and str(value).strip().lower() not in _NO_ERROR for value in values)


class AnswerParts:
    """Text, reasoning and tool calls, each bounded by ANSWER_BYTES_MAX. Raises UnreadableAnswerError beyond it."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._text_half = ""
        self._text_chars = 0
        self._reasoning: list[str] = []
        self._reasoning_half = ""
        self._reasoning_chars = 0
        self._calls: list[ToolCall] = []
        self._call_chars = 0
        self._fresh: list[Delta] = []
        self._splitter = ThinkingSplitter()

    @property
    def has_text(self) -> bool:
        """Whether any of the answer's text has come."""
        return bool(self._text)

    @property
    def begun(self) -> bool:
        """Whether the model has begun to answer, be it by reasoning or a tool call."""
        return bool(self._text_chars or self._reasoning_chars or self._calls or self._call_chars)

    def add_text(self, text: str) -> None:
        """Grow the answer; thinking between marks at its head goes to the reasoning."""
        if not text:
            return
        self._text_chars = _grown(self._text_chars, text)
        if self._text_half or not text.isascii():
            text, self._text_half = _join_halves(self._text_half + text)
        self._take(*self._splitter.feed(text))

    def add_reasoning(self, text: str) -> None:
        """Grow the reasoning."""
        if not text:
            return
        self._reasoning_chars = _grown(self._reasoning_chars, text)
        if self._reasoning_half or not text.isascii():
            text, self._reasoning_half = _join_halves(self._reasoning_half + text)
        self._take("", text)

    def count_tool_call_chars(self, chars: int) -> None:
        """Bound arguments that are still growing."""
        self._call_chars += chars
        if self._call_chars > ANSWER_BYTES_MAX:
            raise UnreadableAnswerError("the tool calls are too large")

    def add_tool_call(self, call: ToolCall) -> None:
        """Add a whole tool call."""
        self._calls.append(call)

    def take_deltas(self) -> list[Delta]:
        """Return the pieces since the last time; neighbours of one kind are one piece."""
        fresh, self._fresh = self._fresh, []
        if len(fresh) < 2:
            return fresh
        merged: list[Delta] = []
        for delta in fresh:
            last = merged[-1] if merged else None
            if last is None or bool(last.text) != bool(delta.text):
                merged.append(delta)
            else:
                merged[-1] = Delta(last.text + delta.text, last.reasoning + delta.reasoning)
        return merged

    def completion(
        self, *, model: str, usage: Usage, finish_reason: FinishReason, sent: float, first_token: float
    ) -> Completion:
        """Return the whole answer, see `settled`. Deltas that its end has made clear wait in `take_deltas`."""
        if self._reasoning_half:
            self._take("", "\ufffd")
        if self._text_half:
            self._take(*self._splitter.feed("\ufffd"))
        self._take(*self._splitter.rest())
        completion = settled(
            Completion(
                text="".join(self._text),
                model=mend_surrogates(model),
                sent=sent,
                first_token=first_token,
                reasoning="".join(self._reasoning),
                tool_calls=tuple(self._calls),
                usage=usage,
                finish_reason=finish_reason,
            ),
            thought_in_text=self._splitter.thought,
        )
        if completion.text_from_reasoning:
            self._fresh.append(Delta(text=completion.text))
        return completion

    def _take(self, text: str, reasoning: str) -> None:
        if reasoning:
            self._reasoning.append(reasoning)
            self._fresh.append(Delta(reasoning=reasoning))
        if text:
            self._text.append(text)
            self._fresh.append(Delta(text=text))


def settled_whole(completion: Completion) -> Completion:
    """As `settled`, for an answer whose text came whole: thinking at its head goes to the reasoning."""
    if not may_begin_thinking(completion.text):
        return settled(completion, thought_in_text=False)
    split = split_thinking(completion.text)
    # Marks with nothing between them leave no reasoning, and are gone all the same.
    thought = split.text != completion.text
    if thought:
        completion = completion._replace(text=split.text, reasoning=completion.reasoning + split.reasoning)
    return settled(completion, thought_in_text=thought)


def is_plain(text: str) -> bool:
    """Whether `settled_whole` would leave an answer of this text alone as it is."""
    return bool(text) and len(text) * 4 <= ANSWER_BYTES_MAX and not (may_begin_thinking(text) or may_end_thinking(text))


def settled(completion: Completion, *, thought_in_text: bool) -> Completion:
    """`completion` as it is handed on: within its bounds, and an answer.

    Where no text came and the endpoint's own field for reasoning holds one JSON object, that object is the answer: some
    endpoints file the whole of it there. Never after thinking in the text, nor where the answer was cut short: then it
    is a draft.

    Raises UnreadableAnswerError beyond ANSWER_BYTES_MAX of text, of reasoning, or of tool calls together, and
    UpstreamFault (CONTENT_FILTERED) where a filter has left nothing of it.
    """
    if may_end_thinking(completion.text):
        split = split_late(completion.text)
        # After thinking at the head another mark may be a word of the answer, unless the answer's form says otherwise.
        if split.text != completion.text and (not thought_in_text or split.text.startswith(("{", "[", "```"))):
            completion = completion._replace(text=split.text, reasoning=completion.reasoning + split.reasoning)
            thought_in_text = True
    if completion.reasoning and not (completion.text.strip() or completion.tool_calls or thought_in_text):
        found = json_in(completion.reasoning) if completion.finish_reason in _WHOLE else ""
        if found:
            completion = completion._replace(text=found, text_from_reasoning=True)
    # A character is at most four bytes: nearly every answer fits on sight.
    if completion.tool_calls or (len(completion.text) + len(completion.reasoning)) * 4 > ANSWER_BYTES_MAX:
        _check_sizes(completion)
    if completion.finish_reason is FinishReason.CONTENT_FILTER and not (completion.text or completion.tool_calls):
        raise UpstreamFault(Reason.CONTENT_FILTERED, billed=True, detail="the filter left no answer")
    return completion


# Ends of an answer that the model itself made.
_WHOLE: Final = frozenset({FinishReason.STOP, FinishReason.UNSPECIFIED})


def _check_sizes(completion: Completion) -> None:
    calls = "".join(call.arguments_json for call in completion.tool_calls)
    for what, each in (("text", completion.text), ("reasoning", completion.reasoning), ("tool calls", calls)):
        if not fits(each):
            raise UnreadableAnswerError(f"more than {ANSWER_BYTES_MAX} bytes of {what}")


def token_count(value: object) -> int:
    """Return a count as an endpoint gave it: 0 where it is none, at most what an int32 holds."""
    if type(value) is int and 0 <= value <= COUNT_MAX:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return int(min(value, COUNT_MAX))


def _join_halves(text: str) -> tuple[str, str]:
    """`text` with its surrogate pairs joined, and the half at its end that waits for the other."""
    half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
    return mend_surrogates(text.removesuffix(half)) if half else mend_surrogates(text), half


def _grown(chars: int, text: str) -> int:
    chars += len(text)
    if chars > ANSWER_BYTES_MAX:
        raise UnreadableAnswerError(f"more than {ANSWER_BYTES_MAX} characters")
    return chars
