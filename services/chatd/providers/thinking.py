"""``ThinkingSplitter``: thinking at the head of a text, between the tags of whoever made the model, is no answer.

Models that reason write `<think>…</think>` before they answer, and an endpoint without a reasoning parser leaves it
there. A draft in it must not count as the answer.
"""

from __future__ import annotations

import json
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
    # gpt-oss, where nothing reads its channels.
    "<|channel|>analysis<|message|>": "<|end|>",
    "<|start|>assistant<|channel|>analysis<|message|>": "<|end|>",
}
# Models open by the one and close by the other, and write attributes and spaces into the tags.
_THINK: Final = "think(?:ing)?"
# Of gpt-oss: what the answer begins with, whether or not the thinking before it was ended.
_FINAL: Final = r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>"
_WITH_ATTRIBUTES: Final = re.compile(rf"<({_THINK})\s[^<>]{{0,100}}>", re.IGNORECASE | re.ASCII)
_MAY_GET_ATTRIBUTES: Final = re.compile(rf"<{_THINK}\s[^<>]{{0,100}}", re.IGNORECASE | re.ASCII)
_MAY_CLOSE: Final = re.compile(r"<(?:/[a-z:]{0,20}\s{0,8})?\Z", re.IGNORECASE | re.ASCII)
_TAIL_CHARS_MAX: Final = 32


def _closing(opening: str) -> re.Pattern[str]:
    if "<|channel|>" in opening:
        return re.compile(rf"<\|end\|>|(?={_FINAL})", re.IGNORECASE | re.ASCII)
    mark = re.escape(_TAGS[opening])
    if mark.startswith("</"):
        name = _THINK if opening in {"<think>", "<thinking>"} else mark[2:-1]
        mark = rf"</{name}\s{{0,8}}>"
    return re.compile(mark, re.IGNORECASE | re.ASCII)


_CLOSING: Final = {opening: _closing(opening) for opening in _TAGS}
# What such models put before the answer itself.
_WRAPPERS: Final = (
    "<|begin_of_solution|>",
    "<|start_response|>",
    "<|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
)
_MARK_CHARS_MAX: Final = max(map(len, (*_TAGS, *_WRAPPERS)))
_MARK_STARTS: Final = frozenset("<[◁ \t\r\n")
_UNOPENED: Final = re.compile(
    rf"</(?:{_THINK}|reasoning)\s{{0,8}}>|\[/think\]|◁/think▷|{_FINAL}", re.IGNORECASE | re.ASCII
)
_OPENED: Final = re.compile(
    rf"<(?:{_THINK}|reasoning)(?:\s[^<>]{{0,100}})?>|\[think\]|◁think▷", re.IGNORECASE | re.ASCII
)
# Bounds the look for objects in hostile text.
_OBJECTS_MAX: Final = 32
_DECODER: Final = json.JSONDecoder(strict=False)
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
        """Return what is clear now."""
        if self.answering:
            return Split(piece)
        held, self._held = self._held + piece, ""
        thoughts: list[str] = []
        while held:
            if self._opening:
                found = _CLOSING[self._opening].search(held)
                if found is None:
                    kept = _held_back(held, _TAGS[self._opening])
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
            tagged = _WITH_ATTRIBUTES.match(bare)
            if tagged:
                self.thought, self._opening = True, f"<{tagged[1].lower()}>"
                held = bare[tagged.end() :]
                continue
            wrapper = next((each for each in _WRAPPERS if head.startswith(each)), "")
            if wrapper:
                held = bare[len(wrapper) :]
            elif _may_become_mark(head) or _MAY_GET_ATTRIBUTES.fullmatch(bare):
                self._held = held
                break
            self.answering = True
            return Split(held, "".join(thoughts))
        return Split("", "".join(thoughts))

    def rest(self) -> Split:
        """Return what was held back, at the end."""
        held, self._held = self._held, ""
        return Split(reasoning=held) if self._opening else Split(held)


def may_begin_thinking(text: str) -> bool:
    """Whether `split_thinking` may find anything; one look tells for most answers that it cannot."""
    return text[:1] in _MARK_STARTS


def may_end_thinking(text: str) -> bool:
    """Whether `split_late` may find anything."""
    # One character is found ten times as fast as a word.
    return ("<" in text or ("/" in text and "[/" in text) or "◁" in text) and bool(
        _UNOPENED.search(text) or _OPENED.search(text)
    )


def split_thinking(text: str) -> Split:
    """Return the split of a whole text."""
    splitter = ThinkingSplitter()
    first, last = splitter.feed(text), splitter.rest()
    return Split(first.text + last.text, first.reasoning + last.reasoning)


def split_late(text: str) -> Split:
    """Thinking that no mark at the head shows: its opening mark stood in the prompt, or it follows the answer. Only a
    whole text can tell.

    All before the last closing mark is thinking, and where nothing follows that, what an opening mark begins. An
    opening mark that nothing closes counts right behind an object or a fence alone. A mark inside a JSON object is a
    part of that object.
    """
    if not may_end_thinking(text):
        return Split(text)
    objects = _objects(text)
    closed = _last_outside(_UNOPENED, text, objects)
    if closed is not None and text[closed.end() :].strip():
        return Split(text[closed.end() :].lstrip(), text[: closed.start()])
    end = len(text) if closed is None else closed.start()
    opened = _last_outside(_OPENED, text[:end], objects)
    before = "" if opened is None else text[: opened.start()].rstrip()
    if opened is not None and before.endswith(("}", "```") if closed is None else ("",)) and before:
        return Split(before, text[opened.end() : end])
    return Split(text) if closed is None else Split("", text[:end])


def json_in(reasoning: str) -> str:
    """Return the JSON object that `reasoning` is as a whole, thinking at its head and a code fence aside; "" where it
    is none."""
    if "{" not in reasoning:
        return ""
    text = split_late(split_thinking(reasoning.lstrip()).text).text.strip()
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


def _objects(text: str) -> list[range]:
    """Where the outermost JSON objects of `text` stand; the first `_OBJECTS_MAX` that may be one are looked at."""
    found: list[range] = []
    start = text.find("{")
    for _ in range(_OBJECTS_MAX):
        if start < 0:
            break
        try:
            end = _DECODER.raw_decode(text, start)[1]
        except (ValueError, RecursionError):
            end = start + 1
        else:
            found.append(range(start, end))
        start = text.find("{", end)
    return found


def _last_outside(mark: re.Pattern[str], text: str, objects: list[range]) -> re.Match[str] | None:
    found = None
    for each in mark.finditer(text):
        if not any(each.start() in span for span in objects):
            found = each
    return found


def _held_back(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of the closing `mark`."""
    if mark.startswith("</"):
        found = _MAY_CLOSE.search(text[-_TAIL_CHARS_MAX:])
        return len(found[0]) if found else 0
    # What ends gpt-oss's thinking may be the end of it or the beginning of the answer.
    marks = (mark, *_WRAPPERS[2:]) if mark == "<|end|>" else (mark,)
    return max(_overlap(text, each) for each in marks)


def _overlap(text: str, mark: str) -> int:
    tail = text[-(len(mark) - 1) :].lower()
    return next((n for n in range(min(len(tail), len(mark) - 1), 0, -1) if mark.startswith(tail[-n:])), 0)
