"""From a model's answer to its artifact: find the one JSON object, read it strictly, print it canonically.

The canonical text is what validated checks, what the caller gets and what the row holds. Which object is taken when
an answer holds several does not matter to the gate, since the one that is taken is the one that is checked; the last
one is, as models reason first and answer at the end.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from lakehouse.strict_json.parser import JsonBreach, canonicalize

# A fence that starts a line, with or without a language.
_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
# Inside an object: a string as one token (so that its braces do not count), or a brace.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}]', re.DOTALL)

_JSON_OPENER = re.compile(r'\{\s*["}]')

_DEPTH_MAX = 100
_SPANS_MAX = 16
# Bounds the scan of hostile text (braces that never close, over and over): about 50 ms of one core.
_TOKENS_MAX = 300_000


class Unparsable(Exception):  # noqa: N818  the verdict's name
    """The answer holds no JSON object that can be read. `problem` says why, for the model and for people."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def read_artifact(answer: str, *, bytes_max: int) -> str:
    """Return the canonical text of the JSON object that `answer` holds, bare, in a code fence or within prose.

    Raises Unparsable.
    """
    text = answer.strip()
    if not text:
        raise Unparsable("the answer is empty")
    problem: Unparsable | None = None
    for candidate in _candidates(text):
        try:
            return _read(candidate, bytes_max)
        except Unparsable as error:
            problem = problem or error
    raise problem or Unparsable(_no_object(text))


def _read(text: str, bytes_max: int) -> str:
    try:
        artifact = canonicalize(text, bytes_max=bytes_max)
    except JsonBreach as breach:
        raise Unparsable(breach.problem) from None
    if not artifact.startswith("{"):
        raise Unparsable("the answer is JSON, but not an object: answer with one object, {…}")
    return artifact


def _no_object(text: str) -> str:
    if text[0] in '[0123456789"-' or text in {"null", "true", "false"}:
        return "the answer is not a JSON object: answer with one object, {…}"
    if _JSON_OPENER.search(text):
        return "the answer's JSON object is not complete"
    return "the answer holds no JSON object"


def _candidates(text: str) -> Iterator[str]:
    """Texts that may be the object, the most likely first: all of it, then fenced blocks and spans of braces, each
    from the end."""
    if text[0] == "{" and text[-1] == "}":
        yield text
    fences = (match[1].strip() for match in _FENCE.finditer(text))
    yield from reversed(deque((block for block in fences if block.startswith("{")), maxlen=_SPANS_MAX))
    yield from reversed(deque(_spans(text), maxlen=_SPANS_MAX))


def _spans(text: str) -> Iterator[str]:
    """Yield the outermost `{…}` of `text`, in order.

    A brace of prose that never closes is passed over. One that opens JSON and does not close, or goes too deep, ends
    the search: what stands inside it is a piece of a broken answer, not an answer.
    """
    budget = _TOKENS_MAX
    start = text.find("{")
    while start >= 0:
        depth = 0
        end = -1
        for token in _TOKEN.finditer(text, start):
            budget -= 1
            if budget < 0:
                return
            brace = token[0]
            if brace == "{":
                depth += 1
                if depth > _DEPTH_MAX:
                    return
            elif brace == "}":
                depth -= 1
                if depth == 0:
                    end = token.end()
                    break
        if end >= 0:
            yield text[start:end]
            start = text.find("{", end)
        elif _JSON_OPENER.match(text, start):
            return
        else:
            start = text.find("{", start + 1)
