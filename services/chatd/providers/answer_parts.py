"""``AnswerParts``: an answer as it grows, with its bounds; and the bounds of an answer that came whole."""

from __future__ import annotations

from chatd.completion import ANSWER_BYTES_MAX, Completion, Delta, FinishReason, ToolCall, Usage, fits
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason

_COUNT_MAX = 2**31 - 1


class UnreadableAnswerError(Exception):
    """The endpoint's answer is JSON, and still no answer; the text says why, without quoting it."""


class AnswerParts:
    """Text, reasoning and tool calls, each bounded by ANSWER_BYTES_MAX. Raises UnreadableAnswerError beyond it."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._text_chars = 0
        self._reasoning: list[str] = []
        self._reasoning_chars = 0
        self._calls: list[ToolCall] = []
        self._call_chars = 0
        self._fresh: list[Delta] = []

    @property
    def has_text(self) -> bool:
        """Whether any of the answer's text has come."""
        return self._text_chars > 0

    def add_text(self, text: str) -> None:
        """Grow the answer."""
        if text:
            self._text_chars = _grown(self._text_chars, text)
            self._text.append(text)
            self._fresh.append(Delta(text=text))

    def add_reasoning(self, text: str) -> None:
        """Grow the reasoning."""
        if text:
            self._reasoning_chars = _grown(self._reasoning_chars, text)
            self._reasoning.append(text)
            self._fresh.append(Delta(reasoning=text))

    def count_tool_call_chars(self, chars: int) -> None:
        """Bound arguments that are still growing."""
        self._call_chars += chars
        if self._call_chars > ANSWER_BYTES_MAX:
            raise UnreadableAnswerError("the tool calls are too large")

    def add_tool_call(self, call: ToolCall) -> None:
        """Add a whole tool call."""
        self._calls.append(call)

    def take_deltas(self) -> list[Delta]:
        """The pieces since the last time; neighbours of one kind are one piece."""
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
        """The whole answer, see `checked`."""
        return checked(
            Completion(
                text="".join(self._text),
                model=model,
                sent=sent,
                first_token=first_token,
                reasoning="".join(self._reasoning),
                tool_calls=tuple(self._calls),
                usage=usage,
                finish_reason=finish_reason,
            )
        )


def checked(completion: Completion) -> Completion:
    """`completion`, which is within its bounds and holds an answer.

    Raises UnreadableAnswerError beyond ANSWER_BYTES_MAX of text, of reasoning, or of tool calls together, and
    UpstreamFault (CONTENT_FILTERED) where a filter has left nothing of it.
    """
    # A character is at most four bytes: nearly every answer fits on sight.
    if completion.tool_calls or (len(completion.text) + len(completion.reasoning)) * 4 > ANSWER_BYTES_MAX:
        _check_sizes(completion)
    if completion.finish_reason is FinishReason.CONTENT_FILTER and not (completion.text or completion.tool_calls):
        raise UpstreamFault(Reason.CONTENT_FILTERED, billed=True, detail="the filter left no answer")
    return completion


def _check_sizes(completion: Completion) -> None:
    calls = "".join(call.arguments_json for call in completion.tool_calls)
    for what, each in (("text", completion.text), ("reasoning", completion.reasoning), ("tool calls", calls)):
        if not fits(each):
            raise UnreadableAnswerError(f"more than {ANSWER_BYTES_MAX} bytes of {what}")


def token_count(value: object) -> int:
    """A count as an endpoint gave it: 0 where it is none, at most what an int32 holds."""
    if type(value) is int and 0 <= value <= _COUNT_MAX:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return int(min(value, _COUNT_MAX))


def _grown(chars: int, text: str) -> int:
    chars += len(text)
    if chars > ANSWER_BYTES_MAX:
        raise UnreadableAnswerError(f"more than {ANSWER_BYTES_MAX} characters")
    return chars
