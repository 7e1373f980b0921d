"""The Messages API's answers, whole and streamed, as a ``Completion``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatd.completion import Completion, Delta, FinishReason, ToolCall, Usage
from chatd.providers.answer_parts import AnswerParts, UnreadableAnswerError, token_count
from chatd.providers.finish_reasons import read_finish_reason
from chatd.providers.json_text import mend_surrogates, print_json

_BLOCKS_MAX: Final = 1000


def read_message(answer: Mapping[str, Any], asked_model: str, sent: float) -> Completion:
    """Return the completion in a whole `message` object. Raises UnreadableAnswerError."""
    content = answer.get("content")
    if not isinstance(content, list):
        raise UnreadableAnswerError("no content")
    parts = AnswerParts()
    for block in content:
        if not isinstance(block, dict):
            raise UnreadableAnswerError("a block is no object")
        match block.get("type"):
            case "text":
                parts.add_text(_text(block.get("text")))
            case "thinking":
                parts.add_reasoning(_text(block.get("thinking")))
            case "tool_use":
                arguments = print_json(block.get("input") or {})
                parts.count_tool_call_chars(len(arguments))
                parts.add_tool_call(_tool_call(block, arguments))
            case _:
                # Redacted thinking, citations, results of the endpoint's own tools: no part of the answer's text.
                pass
    return parts.completion(
        model=_text(answer.get("model"))[:256] or asked_model,
        usage=_Counts().take(answer.get("usage")).usage(),
        finish_reason=read_finish_reason(answer.get("stop_reason")),
        sent=sent,
        first_token=time.monotonic(),
    )


class StreamedMessage:
    """Puts the events of a streamed message together; see ``http.AnswerStream``."""

    def __init__(self, asked_model: str, sent: float) -> None:
        """`sent` is when the request was sent, `time.monotonic()`."""
        self._sent = sent
        self._model = asked_model
        self._parts = AnswerParts()
        self._calls: dict[int, tuple[Mapping[str, Any], list[str]]] = {}
        self._counts = _Counts()
        self._finish_reason = FinishReason.UNSPECIFIED
        self._first_token: float | None = None
        self.done = False
        self.finished = False
        """Whether a stop reason came: the answer is whole."""

    @property
    def begun(self) -> bool:
        """Whether any of the answer has come."""
        return self._parts.begun or bool(self._calls)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event's data in. Raises UnreadableAnswerError."""
        match event.get("type"):
            case "message_start":
                message = _object(event.get("message"))
                self._model = _text(message.get("model"))[:256] or self._model
                self._counts.take(message.get("usage"))
            case "content_block_start":
                self._start_block(event)
            case "content_block_delta":
                self._grow_block(event)
            case "message_delta":
                self._counts.take(event.get("usage"))
                stop_reason = _object(event.get("delta")).get("stop_reason")
                if stop_reason:
                    self._finish_reason = read_finish_reason(stop_reason)
                    self.finished = True
            case "message_stop":
                self.done = self.finished = True
            case _:
                # ping, content_block_stop, and kinds that the API may add: its documentation says to skip them.
                pass

    def take_deltas(self) -> list[Delta]:
        """Return the pieces since the last time, in the order in which they came."""
        return self._parts.take_deltas()

    def finish(self) -> Completion:
        """Return the whole answer. Raises UnreadableAnswerError."""
        for index in sorted(self._calls):
            block, arguments = self._calls[index]
            # Some endpoints give the input whole with the block's start.
            whole = "".join(arguments) or print_json(block.get("input") or {})
            self._parts.add_tool_call(_tool_call(block, whole))
        return self._parts.completion(
            model=self._model,
            usage=self._counts.usage(),
            finish_reason=self._finish_reason,
            sent=self._sent,
            first_token=time.monotonic() if self._first_token is None else self._first_token,
        )

    def _start_block(self, event: Mapping[str, Any]) -> None:
        block = _object(event.get("content_block"))
        match block.get("type"):
            case "tool_use":
                if len(self._calls) >= _BLOCKS_MAX:
                    raise UnreadableAnswerError("too many tool calls")
                self._calls[_index(event)] = (block, [])
            case "text":
                self._add_text(_text(block.get("text")))
            case "thinking":
                self._parts.add_reasoning(_text(block.get("thinking")))
            case _:
                pass

    def _grow_block(self, event: Mapping[str, Any]) -> None:
        delta = _object(event.get("delta"))
        match delta.get("type"):
            case "text_delta":
                self._add_text(_text(delta.get("text")))
            case "thinking_delta":
                self._parts.add_reasoning(_text(delta.get("thinking")))
            case "input_json_delta":
                call = self._calls.get(_index(event))
                if call is not None:
                    arguments = _text(delta.get("partial_json"))
                    self._parts.count_tool_call_chars(len(arguments))
                    call[1].append(arguments)
            case _:
                pass

    def _add_text(self, text: str) -> None:
        self._parts.add_text(text)
        if self._first_token is None and self._parts.has_text:
            self._first_token = time.monotonic()


@dataclass(slots=True)
class _Counts:
    """Usage in the API's words. A stream tells it twice, the second time for what has changed."""

    counted: dict[str, int] = field(default_factory=dict)

    def take(self, usage: object) -> _Counts:
        if isinstance(usage, dict):
            for name in (
                "input_tokens",
                "cache_read_input_tokens",
                "cache_creation_input_tokens",
                "output_tokens",
            ):
                if usage.get(name) is not None:
                    self.counted[name] = token_count(usage[name])
            details = _object(usage.get("output_tokens_details"))
            if details.get("thinking_tokens") is not None:
                self.counted["thinking_tokens"] = token_count(details["thinking_tokens"])
        return self

    def usage(self) -> Usage:
        # The API's input_tokens leave out what was read from and written to the cache.
        counted = self.counted.get
        cached, written = counted("cache_read_input_tokens", 0), counted("cache_creation_input_tokens", 0)
        total = token_count(counted("input_tokens", 0) + cached + written)
        return Usage(total, counted("output_tokens", 0), cached, counted("thinking_tokens", 0), written)


def _tool_call(block: Mapping[str, Any], arguments: str) -> ToolCall:
    name = _text(block.get("name"))
    if not name:
        raise UnreadableAnswerError("a tool call has no name")
    return ToolCall(mend_surrogates(_text(block.get("id"))), mend_surrogates(name), mend_surrogates(arguments))


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    if not isinstance(index, int):
        raise UnreadableAnswerError("a block has no index")
    return index


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
