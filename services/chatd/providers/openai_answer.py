"""OpenAI's answers, whole and streamed, as a ``Completion``. Reads what the compatible endpoints really send."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from chatd.completion import Completion, Delta, FinishReason, ToolCall, Usage
from chatd.providers.answer_parts import (
    AnswerParts,
    ErrorInAnswerError,
    UnreadableAnswerError,
    is_plain,
    says_something,
    settled_whole,
)
from chatd.providers.finish_reasons import finish_word, is_broken, read_finish_reason
from chatd.providers.http_faults import OLLAMAS_OWN
from chatd.providers.json_text import mend_surrogates, print_json
from chatd.providers.openai_tool_calls import ToolCalls
from chatd.providers.openai_usage import find_usage, read_usage
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason

DONE: Final = b"[DONE]"
_PLAIN_REASONS: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_REASONING: Final = ("reasoning_content", "reasoning", "thinking", "reasoning_text")
_PLAIN_CHOICE: Final = frozenset({"index", "message", "finish_reason", "logprobs"})
_PLAIN_MESSAGE: Final = frozenset({"role", "content"})


def read_answer(answer: Mapping[str, Any], asked_model: str, sent: float) -> Completion:
    """Return the completion in a whole `chat.completion` object. Raises UnreadableAnswerError, ErrorInAnswerError."""
    plain = _read_plain(answer, sent)
    if plain is not None:
        return plain
    choice = _first_choice(answer)
    message = choice.get("message")
    if not isinstance(message, dict):
        # The form of OpenAI's older endpoint, and of servers that answer a stream's form in one piece.
        message = {"content": choice["text"]} if isinstance(choice.get("text"), str) else choice.get("delta")
    word = finish_word(choice)
    if not isinstance(message, dict):
        _raise_broken(choice, word, begun=False)
        raise UnreadableAnswerError("no message")
    turn = _read_turn(message)
    calls = _read_calls(message)
    _raise_broken(choice, word, begun=bool(turn.text or turn.reasoning or calls))
    return settled_whole(
        Completion(
            text=turn.text,
            model=_model(answer, asked_model),
            sent=sent,
            first_token=time.monotonic(),
            reasoning=turn.reasoning,
            tool_calls=calls,
            usage=read_usage(find_usage(answer, choice)),
            finish_reason=_finish_reason(word, refused=turn.refused),
        )
    )


def _read_plain(answer: Mapping[str, Any], sent: float) -> Completion | None:
    """Return the short way, for one choice with a text and nothing else; None for every other answer. What it reads,
    the long way reads the same."""
    choices, model = answer.get("choices"), answer.get("model")
    if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
        return None
    choice = choices[0]
    message, usage = choice.get("message"), answer.get("usage")
    word = choice.get("finish_reason")
    reason = _PLAIN_REASONS.get(word) if type(word) is str else None
    if reason is None or type(message) is not dict or type(usage) is not dict or type(model) is not str:
        return None
    for key, value in choice.items():
        if value and key not in _PLAIN_CHOICE:
            return None
    for key, value in message.items():
        if value and key not in _PLAIN_MESSAGE:
            return None
    text = message.get("content")
    if type(text) is not str or not model.isascii() or not 0 < len(model) <= 256 or not is_plain(text):
        return None
    return Completion(
        text=text,
        model=model,
        sent=sent,
        first_token=time.monotonic(),
        usage=read_usage(usage),
        finish_reason=reason,
    )


class StreamedAnswer:
    """Puts `chat.completion.chunk` objects together; see ``http.AnswerStream``."""

    def __init__(self, asked_model: str, sent: float) -> None:
        """`sent` is when the request was sent, `time.monotonic()`."""
        self._sent = sent
        self._parts = AnswerParts()
        self._calls = ToolCalls()
        self._usage = Usage()
        self._model = asked_model
        self._finish_word: object = None
        self._refused = False
        self._first_token: float | None = None
        self.done = False

    @property
    def finished(self) -> bool:
        """Whether a finish reason came: the answer is whole."""
        return self._finish_word is not None

    @property
    def begun(self) -> bool:
        """Whether any of the answer has come."""
        return self._parts.begun

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take one chunk in. Raises UnreadableAnswerError, ErrorInAnswerError."""
        self._model = _model(chunk, self._model)
        choices = chunk.get("choices")
        if not choices and isinstance(chunk.get("done"), bool):
            raise UnreadableAnswerError(OLLAMAS_OWN)
        if not choices:
            # The chunk with the usage has no choices, nor has Azure's first one.
            self._take_usage(find_usage(chunk))
            return
        if not isinstance(choices, list):
            raise UnreadableAnswerError("choices are no list")
        for choice in choices:
            if not isinstance(choice, dict):
                raise UnreadableAnswerError("a choice is no object")
            if not _number(choice.get("index")):
                self._add_choice(choice)
                self._take_usage(find_usage(chunk, choice))

    def take_deltas(self) -> list[Delta]:
        """Return the pieces since the last time, in the order in which they came."""
        return self._parts.take_deltas()

    def finish(self) -> Completion:
        """Return the whole answer. Raises UnreadableAnswerError."""
        for call in self._calls.done():
            self._parts.add_tool_call(call)
        return self._parts.completion(
            model=self._model,
            usage=self._usage,
            finish_reason=_finish_reason(self._finish_word, refused=self._refused),
            sent=self._sent,
            first_token=time.monotonic() if self._first_token is None else self._first_token,
        )

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            # Servers that stream in the form of a whole answer; some repeat that whole at the end.
            delta = choice.get("message") if not self.begun else None
        if isinstance(delta, dict):
            turn = _read_turn(delta)
            self._refused = self._refused or turn.refused
            self._parts.add_reasoning(turn.reasoning)
            self._parts.add_text(turn.text)
            for each in _calls_of(delta):
                self._parts.count_tool_call_chars(self._calls.add_piece(each))
        elif isinstance(choice.get("text"), str):
            self._parts.add_text(choice["text"])
        if self._first_token is None and self._parts.has_text:
            self._first_token = time.monotonic()
        word = finish_word(choice)
        _raise_broken(choice, word, begun=self.begun)
        if word:
            self._finish_word = word

    def _take_usage(self, usage: Mapping[str, Any] | None) -> None:
        if usage:
            self._usage = read_usage(usage)


class _Turn(NamedTuple):
    text: str
    reasoning: str
    refused: bool


def _read_turn(turn: Mapping[str, Any]) -> _Turn:
    """Return the text and the reasoning of a message, or of a piece of one.

    A piece that holds both tells the reasoning first: it is what the model did first.
    """
    content = turn.get("content")
    thoughts = ""
    refusal = _text(turn.get("refusal"))
    if isinstance(content, str):
        text = content
    elif content is None:
        text = ""
    elif isinstance(content, list | dict):
        text, thoughts, refused = _read_parts(content if isinstance(content, list) else [content])
        refusal = refusal or refused
    else:
        raise UnreadableAnswerError("content is neither text nor parts")
    # Reasoning stands in a field of its own: `reasoning_content` (DeepSeek, vLLM, llama.cpp), `reasoning`
    # (OpenRouter, Groq, Ollama), `thinking`, `reasoning_text` (Copilot). An
    # endpoint that sends both says the same twice.
    reasoning = next((turn[name] for name in _REASONING if turn.get(name)), None)
    if not isinstance(reasoning, str):
        reasoning = _details(reasoning or turn.get("reasoning_details"))
    # `refusal`: the model's own words when it declines; they are its answer.
    if refusal and text != refusal:
        text += refusal
    return _Turn(text, reasoning + thoughts, bool(refusal))


def _read_parts(parts: Sequence[Any]) -> tuple[str, str, str]:
    """Text, reasoning and refusal."""
    text: list[str] = []
    thoughts: list[str] = []
    refusal: list[str] = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
            continue
        if not isinstance(part, dict):
            raise UnreadableAnswerError("a part of the content is no object")
        kind = part.get("type")
        if kind in {"thinking", "reasoning", "reasoning_content"}:
            inner = next((part[name] for name in ("thinking", "reasoning", "text", "content") if part.get(name)), "")
            thoughts.append(_text(inner) or _details(inner))
        elif kind == "refusal":
            refusal.append(_text(part.get("refusal")))
        elif isinstance(part.get("text"), str):
            text.append(part["text"])
        elif isinstance(part.get("text"), dict):
            text.append(_text(part["text"].get("value")))
        elif "type" not in part:
            # A server that has parsed the model's JSON already.
            text.append(print_json(part))
    return "".join(text), "".join(thoughts), "".join(refusal)


def _details(value: object) -> str:
    """Return the text in a list of pieces of reasoning: OpenRouter's `reasoning_details`, Mistral's `thinking`."""
    pieces = value if isinstance(value, list) else [value]
    return "".join(
        _text(each.get("text")) or _text(each.get("summary")) or _text(each.get("content"))
        for each in pieces
        if isinstance(each, dict)
    )


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the choice with the lowest index; one without an index has its place in the list."""
    choices = answer.get("choices")
    if isinstance(choices, dict):
        choices = [choices]
    if not isinstance(choices, list) or not choices:
        _raise_blocked(answer)
        if isinstance(answer.get("done"), bool) and "model" in answer:
            raise UnreadableAnswerError(OLLAMAS_OWN)
        raise UnreadableAnswerError("no choices")
    if len(choices) == 1 and isinstance(choices[0], dict):
        return choices[0]
    if not all(isinstance(each, dict) for each in choices):
        raise UnreadableAnswerError("a choice is no object")
    found = min(range(len(choices)), key=lambda at: _number(choices[at].get("index"), otherwise=at))
    return choices[found]  # type: ignore[no-any-return]


def _raise_blocked(answer: Mapping[str, Any]) -> None:
    """Gemini's way of refusing a prompt: no choices, and why."""
    feedback = answer.get("promptFeedback") or answer.get("prompt_feedback")
    if isinstance(feedback, dict) and (feedback.get("blockReason") or feedback.get("block_reason")):
        raise UpstreamFault(Reason.CONTENT_FILTERED, billed=False, detail="the endpoint blocked the prompt")


def _raise_broken(choice: Mapping[str, Any], word: object, *, begun: bool) -> None:
    """Raise where the choice is an error, by an object or by its finish reason alone."""
    error = choice.get("error")
    error = error if error and says_something(error) else None
    if error or is_broken(word):
        words = {"error": error} if error else {"message": f"finish_reason {word}"}
        raise ErrorInAnswerError(words, begun=begun)


def _finish_reason(word: object, *, refused: bool) -> FinishReason:
    return FinishReason.REFUSAL if refused else read_finish_reason(word)


def _read_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    found = _calls_of(message)
    if not found:
        return ()
    calls = ToolCalls()
    for each in found:
        calls.add_whole(each)
    return calls.done()


def _calls_of(turn: Mapping[str, Any]) -> Sequence[Any]:
    calls = turn.get("tool_calls")
    if isinstance(calls, dict) and calls:
        # One call without its list.
        return [calls]
    if isinstance(calls, list) and calls:
        return calls if None not in calls else [each for each in calls if each is not None]
    # OpenAI's first form of tool calls: one, without an id.
    call = turn.get("function_call")
    return [{"function": call}] if isinstance(call, dict) else ()


def _number(index: object, *, otherwise: int = 0) -> int:
    """Return an index, which some write as text."""
    if isinstance(index, str) and index.isdecimal() and len(index) < 10:
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) else otherwise


def _model(answer: Mapping[str, Any], otherwise: str) -> str:
    model = answer.get("model")
    return mend_surrogates(model[:256]) if isinstance(model, str) and model else otherwise


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
