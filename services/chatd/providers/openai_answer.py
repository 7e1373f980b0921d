"""OpenAI's answers, whole and streamed, as a ``Completion``. Reads what the compatible endpoints really send."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from chatd.completion import Completion, Delta, FinishReason, ToolCall, Usage
from chatd.providers.answer_parts import AnswerParts, UnreadableAnswerError, checked, token_count

__all__ = ["StreamedAnswer", "UnreadableAnswerError", "read_answer"]

_FINISH: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_TOOL_CALLS_MAX: Final = 128


def read_answer(answer: Mapping[str, Any], asked_model: str, sent: float) -> Completion:
    """The completion in a whole `chat.completion` object. Raises UnreadableAnswerError."""
    choice = _first_choice(answer)
    if choice is None:
        raise UnreadableAnswerError("no choices")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UnreadableAnswerError("no message")
    text, reasoning = _read_turn(message)
    calls = message.get("tool_calls")
    return checked(
        Completion(
            text=text,
            model=_model(answer, asked_model),
            sent=sent,
            first_token=time.monotonic(),
            reasoning=reasoning,
            tool_calls=tuple(_ToolCallParts().add(each).done() for each in _list(calls)) if calls else (),
            usage=read_usage(answer.get("usage")),
            finish_reason=_finish_reason(choice.get("finish_reason")),
        )
    )


class StreamedAnswer:
    """Puts `chat.completion.chunk` objects together."""

    def __init__(self, asked_model: str, sent: float) -> None:
        """`sent` is when the request was sent, `time.monotonic()`."""
        self._sent = sent
        self._parts = AnswerParts()
        self._calls: dict[int, _ToolCallParts] = {}
        self._usage = Usage()
        self._model = asked_model
        self._finish_reason = FinishReason.UNSPECIFIED
        self._first_token: float | None = None
        self.finished = False
        """Whether a finish reason came: the answer is whole."""

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take one chunk in. Raises UnreadableAnswerError."""
        self._model = _model(chunk, self._model)
        if isinstance(chunk.get("usage"), dict):
            self._usage = read_usage(chunk["usage"])
        choice = _first_choice(chunk)
        if choice is None:
            # The chunk with the usage has no choices, nor has Azure's first one.
            return
        delta = choice.get("delta")
        if isinstance(delta, dict):
            text, reasoning = _read_turn(delta)
            self._parts.add_reasoning(reasoning)
            self._parts.add_text(text)
            for each in _list(delta.get("tool_calls")):
                self._add_call(each)
        if self._first_token is None and self._parts.has_text:
            self._first_token = time.monotonic()
        reason = choice.get("finish_reason")
        if reason:
            self._finish_reason = _finish_reason(reason)
            self.finished = True

    def take_deltas(self) -> list[Delta]:
        """The pieces since the last time, in the order in which they came."""
        return self._parts.take_deltas()

    def finish(self) -> Completion:
        """The whole answer. Raises UnreadableAnswerError."""
        for index in sorted(self._calls):
            self._parts.add_tool_call(self._calls[index].done())
        return self._parts.completion(
            model=self._model,
            usage=self._usage,
            finish_reason=self._finish_reason,
            sent=self._sent,
            first_token=time.monotonic() if self._first_token is None else self._first_token,
        )

    def _add_call(self, call: object) -> None:
        index = call.get("index") if isinstance(call, dict) else None
        if not isinstance(index, int):
            index = len(self._calls)
        if index not in self._calls and len(self._calls) >= _TOOL_CALLS_MAX:
            raise UnreadableAnswerError("too many tool calls")
        before = self._calls.setdefault(index, _ToolCallParts())
        self._parts.count_tool_call_chars(before.add(call).take_grown())


def read_usage(usage: object) -> Usage:
    """Usage in OpenAI's words; what is missing or no count is 0."""
    if not isinstance(usage, dict):
        return Usage()
    asked = usage.get("prompt_tokens_details")
    answered = usage.get("completion_tokens_details")
    return Usage(
        input_tokens=token_count(usage.get("prompt_tokens")),
        output_tokens=token_count(usage.get("completion_tokens")),
        cached_input_tokens=token_count(asked.get("cached_tokens")) if isinstance(asked, dict) else 0,
        reasoning_tokens=token_count(answered.get("reasoning_tokens")) if isinstance(answered, dict) else 0,
    )


@dataclass(slots=True)
class _ToolCallParts:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    grown: int = 0

    def add(self, call: object) -> _ToolCallParts:
        if not isinstance(call, dict):
            raise UnreadableAnswerError("a tool call is no object")
        function = call.get("function")
        if not isinstance(function, dict):
            function = {}
        self.id = self.id or _text(call.get("id"))
        self.name = self.name or _text(function.get("name"))
        arguments = function.get("arguments")
        # Ollama once sent the arguments as an object.
        text = orjson.dumps(arguments).decode() if isinstance(arguments, dict) else _text(arguments)
        self.arguments.append(text)
        self.grown += len(text)
        return self

    def take_grown(self) -> int:
        grown, self.grown = self.grown, 0
        return grown

    def done(self) -> ToolCall:
        if not self.name:
            raise UnreadableAnswerError("a tool call has no name")
        return ToolCall(self.id, self.name, "".join(self.arguments))


def _read_turn(turn: Mapping[str, Any]) -> tuple[str, str]:
    """The text and the reasoning of a message, or of a piece of one.

    A piece that holds both tells the reasoning first: it is what the model did first.
    """
    content = turn.get("content")
    if isinstance(content, str):
        text, thoughts = content, ""
    elif isinstance(content, list):
        text, thoughts = _read_parts(content)
    elif content is None:
        text = thoughts = ""
    else:
        raise UnreadableAnswerError("content is neither text nor parts")
    # Reasoning stands in a field of its own: `reasoning_content` (DeepSeek, vLLM, llama.cpp), `reasoning`
    # (OpenRouter, Groq, Ollama). An endpoint that sends both says the same twice.
    reasoning = _text(turn.get("reasoning_content")) or _text(turn.get("reasoning"))
    # `refusal`: the model's own words when it declines; they are its answer.
    return text + _text(turn.get("refusal")), reasoning + thoughts


def _read_parts(parts: Sequence[Any]) -> tuple[str, str]:
    text: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        if not isinstance(part, dict):
            raise UnreadableAnswerError("a part of the content is no object")
        if part.get("type") == "thinking":
            thoughts += (_text(each.get("text")) for each in _list(part.get("thinking")) if isinstance(each, dict))
        else:
            text.append(_text(part.get("text")))
    return "".join(text), "".join(thoughts)


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    choice = choices[0]
    if not isinstance(choice, dict):
        raise UnreadableAnswerError("a choice is no object")
    if choice.get("finish_reason") == "error" or choice.get("error"):
        raise UnreadableAnswerError("the choice is an error")
    return choice


def _finish_reason(value: object) -> FinishReason:
    return _FINISH.get(value, FinishReason.UNSPECIFIED) if isinstance(value, str) else FinishReason.UNSPECIFIED


def _model(answer: Mapping[str, Any], otherwise: str) -> str:
    return _text(answer.get("model"))[:256] or otherwise


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
