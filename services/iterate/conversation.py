"""What the model reads: the instructions, the task, and after each attempt what was wrong with it.

The rule that keeps a conversation within `context_bytes_max` (UTF-8 bytes over all messages): the instructions, the
task and the newest answer with its feedback always stay; of the rest the oldest answer-and-feedback pairs are left out
first. If that is still too long, the newest answer is cut in the middle, with a mark.

Many endpoints refuse an assistant's turn without words, and two user's turns in a row. An attempt that gave nothing to
send back (empty, thinking alone, a refusal) has no turn: its feedback joins the user's turn before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lakehouse.server.specs import Spec

_FINDINGS_MAX = 20
_CUT_MARK = "\n[… cut …]\n"
_BETWEEN = "\n\n"

_INSTRUCTIONS = (
    "Answer with exactly one JSON object and nothing else: no prose, no code fence. A program checks your answer "
    "against the ground truth. Use only facts that you were given; never make up a person, an id or a value."
)
_SHAPES = {
    "fill": (
        'The object is {"workers": [{"worker_id": "…", "name": "…"}, …]} with exactly as many workers as asked, '
        "each of them once, each with the id and the name that the roster has for them."
    ),
    "email": 'The object is {"to_worker_id": "…", "subject": "…", "body": "…"}.',
    "json_schema": "The object must be valid by the JSON Schema of the task.",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str

    @property
    def size(self) -> int:
        """UTF-8 bytes."""
        return len(self.content.encode("utf-8", "surrogatepass"))


class FindingLike(Protocol):
    """What the feedback needs of a finding; both the proto message and the record have it."""

    @property
    def code(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def message(self) -> str: ...


class Conversation:
    """The turns of one session."""

    def __init__(self, *, prompt: str, spec: Spec, context_bytes_max: int) -> None:
        shape = _SHAPES.get(spec.kind, "")
        task = prompt if spec.text is None else f"{prompt}\n\nWhat is asked for, as JSON:\n{spec.text}"
        self._opening = (Turn("system", f"{_INSTRUCTIONS} {shape}".rstrip()), Turn("user", task))
        self._pairs: list[tuple[Turn | None, Turn]] = []
        self._context_bytes_max = context_bytes_max

    def add(self, answer: str, feedback: str) -> None:
        """Append an attempt's answer and what was wrong with it; what has no visible character is no answer
        to send back."""
        if any(each.isprintable() and not each.isspace() for each in answer):
            self._pairs.append((Turn("assistant", answer), Turn("user", feedback)))
            return
        if self._pairs and self._pairs[-1][0] is None:
            # The one before it says nothing that this one does not.
            self._pairs.pop()
        self._pairs.append((None, Turn("user", feedback)))

    @property
    def last(self) -> str:
        """What the model is asked to answer now."""
        return self._pairs[-1][1].content if self._pairs else self._opening[1].content

    def turns(self) -> list[Turn]:
        """The messages to send, oldest first, within the context; user and assistant by turns."""
        room = self._context_bytes_max - sum(turn.size for turn in self._opening)
        kept: list[tuple[Turn | None, Turn]] = []
        for answer, feedback in reversed(self._pairs):
            size = feedback.size + (len(_BETWEEN) if answer is None else answer.size)
            if size > room:
                if not kept:
                    kept.append((answer and _cut(answer, max(room - feedback.size, 0)), feedback))
                break
            kept.append((answer, feedback))
            room -= size
        turns = [*self._opening]
        for answer, feedback in reversed(kept):
            if answer is None:
                turns[-1] = Turn("user", f"{turns[-1].content}{_BETWEEN}{feedback.content}")
            else:
                turns += (answer, feedback)
        return turns


def rejected_feedback(findings: Sequence[FindingLike], left_out: int = 0) -> str:
    """The turn after validated rejected an artifact: what was wrong, where, and what is allowed."""
    lines = [
        f"{number}. {finding.code} at {finding.path or 'the whole answer'}: {finding.message}"
        for number, finding in enumerate(findings[:_FINDINGS_MAX], start=1)
    ]
    more = max(len(findings) - _FINDINGS_MAX, 0) + left_out
    if more:
        lines.append(f"… and {more} more.")
    return (
        "Your answer was checked against the ground truth and rejected:\n"
        + "\n".join(lines)
        + "\nAnswer again with the whole JSON object, corrected. What is not named above may stay as it was."
    )


def unparsable_feedback(problem: str) -> str:
    """What is said after an answer from which no artifact could be read."""
    return f"Your answer could not be read: {problem}. Answer with exactly one JSON object and nothing else."


def refused_feedback() -> str:
    """What is said after the model refused; what it said in refusing is not shown to it again."""
    return (
        "You refused to answer. If the task can be answered as it is asked, answer it now with exactly one JSON object "
        "and nothing else."
    )


def _cut(turn: Turn, bytes_max: int) -> Turn:
    data = turn.content.encode("utf-8", "replace")
    half = max((bytes_max - len(_CUT_MARK.encode())) // 2, 0)
    head = data[:half].decode("utf-8", "ignore")
    tail = data[len(data) - half :].decode("utf-8", "ignore")
    return Turn(turn.role, f"{head}{_CUT_MARK}{tail}")
