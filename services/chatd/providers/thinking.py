"""``ThinkingSplitter``: thinking at the head of a text, between the tags of whoever made the model, is no answer.

Models that reason write `<think>…</think>` before they answer, and an endpoint without a reasoning parser leaves it
there. A draft in it must not count as the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson

# Opening and closing marks, in lower case; any case is read.
_TAGS: Final[Mapping[str, str]] = {
    **{f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "thoughts", "reasoning", "reason")},
    **{f"<{name}>": f"</{name}>" for name in ("reflection", "scratchpad", "analysis", "seed:think", "antml:thinking")},
    "[think]": "[/think]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi
    "<|start_thinking|>": "<|end_thinking|>",  # Cohere
    "<|begin_of_thought|>": "<|end_of_thought|>",  # Sky-T1
    "<unused94>": "<unused95>",  # MedGemma
    "<|channel|>analysis<|message|>": "<|end|>",  # gpt-oss, where nothing reads its channels
}
_CLOSING: Final = {opening: re.compile(re.escape(each), re.IGNORECASE | re.ASCII) for opening, each in _TAGS.items()}
# What such models put before the answer itself.
_WRAPPERS: Final = (
    "<|begin_of_solution|>",
    "<|start_response|>",
    "<|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
)
_MARK_CHARS_MAX: Final = max(map(len, (*_TAGS, *_WRAPPERS)))
_MARK_STARTS: Final = frozenset("<[◁ \t\r\n")
_UNOPENED: Final = re.compile(r"</think(?:ing)?>|\[/think\]|◁/think▷", re.IGNORECASE)
# White space before a mark; more of it is a model that has lost its way, and is not gathered.
_SPACE_CHARS_MAX: Final = 1000
_FENCE: Final = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL | re.IGNORECASE)


class Split(NamedTuple):
    """What a piece of text has turned out to be."""

    text: str = ""
    reasoning: str = ""


class ThinkingSplitter:
    """Feed it the text in pieces; the same text gives the same split, wherever it is cut.

    Thinking ends with its closing mark, and never if that never comes. White space after the mark goes with it. What
    may still become a mark is held back until it is clear; `rest` gives what is held at the end.
    """

    def __init__(self) -> None:
        self._held = ""
        self._opening = ""
        self.answering = False
        """Whether the answer has begun: all that follows is text, and need not come here."""
        self.thought = False
        """Whether there was thinking."""

    def feed(self, piece: str) -> Split:
        """What is clear now."""
        if self.answering:
            return Split(piece)
        held, self._held = self._held + piece, ""
        thoughts: list[str] = []
        while held:
            if self._opening:
                found = _CLOSING[self._opening].search(held)
                if found is None:
                    kept = _overlap(held, _TAGS[self._opening])
                    thoughts.append(held[: len(held) - kept])
                    self._held = held[len(held) - kept :]
                    break
                thoughts.append(held[: found.start()])
                held = held[found.end() :]
                self._opening = ""
                continue
            bare = held.lstrip()
            if self.thought:
                held = bare
            elif len(held) - len(bare) > _SPACE_CHARS_MAX:
                self.answering = True
                return Split(held)
            head = bare[:_MARK_CHARS_MAX].lower()
            self._opening = next((each for each in _TAGS if head.startswith(each)), "")
            if self._opening:
                self.thought = True
                held = bare[len(self._opening) :]
                continue
            wrapper = next((each for each in _WRAPPERS if head.startswith(each)), "")
            if wrapper:
                held = bare[len(wrapper) :]
            elif _may_become_mark(head):
                self._held = held
                break
            self.answering = True
            return Split(held, "".join(thoughts))
        return Split("", "".join(thoughts))

    def rest(self) -> Split:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return Split(reasoning=held) if self._opening else Split(held)


def may_begin_thinking(text: str) -> bool:
    """Whether `split_thinking` may find anything; one look tells for most answers that it cannot."""
    return text[:1] in _MARK_STARTS


def may_end_thinking(text: str) -> bool:
    """Whether `split_unopened` may find anything."""
    # One character is found ten times as fast as a word.
    return "/" in text and ("/think" in text or "/THINK" in text)


def split_thinking(text: str) -> Split:
    """The split of a whole text."""
    splitter = ThinkingSplitter()
    first, last = splitter.feed(text), splitter.rest()
    return Split(first.text + last.text, first.reasoning + last.reasoning)


def split_unopened(text: str) -> Split:
    """Thinking whose opening mark stood in the prompt: all before the closing mark. Only a whole text can tell.

    A text that is JSON as a whole is never taken apart.
    """
    found = _UNOPENED.search(text) if may_end_thinking(text) else None
    if found is None or is_json(text):
        return Split(text)
    return Split(text[found.end() :].lstrip(), text[: found.start()])


def json_in(reasoning: str) -> str:
    """The JSON object that `reasoning` is as a whole, thinking at its head and a code fence aside; "" where it is
    none."""
    if "{" not in reasoning:
        return ""
    text = split_unopened(split_thinking(reasoning.lstrip()).text).text.strip()
    fenced = _FENCE.fullmatch(text)
    text = fenced[1].strip() if fenced else text
    return text if text.startswith("{") and is_json(text) else ""


def is_json(text: str | bytes) -> bool:
    """Whether `text` is JSON as a whole."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _may_become_mark(head: str) -> bool:
    return len(head) < _MARK_CHARS_MAX and any(each.startswith(head) for each in (*_TAGS, *_WRAPPERS))


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    tail = text[-(len(mark) - 1) :].lower()
    return next((n for n in range(min(len(tail), len(mark) - 1), 0, -1) if mark.startswith(tail[-n:])), 0)
