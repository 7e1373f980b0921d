"""What the model reads: the instructions, the task, what the brief says of it, and after each attempt what was wrong.

A turn that holds facts of the ground truth has a second text without them: iterate does not know who answers, and chatd
sends each target what it may see. An answer of a model that saw such facts may repeat them, and what was wrong with it
quotes it: the second texts of those two are empty, and who may not see candidates does not get the turns at all.

The rule that keeps a conversation within `context_bytes_max` (UTF-8 bytes over all messages): the instructions, the
task and the newest answer with its feedback always stay; of the rest the oldest answer-and-feedback pairs are left out
first. If that is still too long, the newest answer is cut in the middle, with a mark.

Many endpoints refuse an assistant's turn without words, and two user's turns in a row. An attempt that gave nothing to
send back (empty, thinking alone, a refusal) has no turn: its feedback joins the user's turn before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iterate.brief import Brief

_CUT_MARK = "\n[… cut …]\n"
_BETWEEN = "\n\n"

_INSTRUCTIONS = (
    "Answer with exactly one JSON object and nothing else: no prose, no code fence. A program checks your answer "
    "against the ground truth. Use only facts that you were given; never make up a person, an id or a value."
)
_FACTS = "Facts of the ground truth that your answer may use, as JSON:"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str
    restricted: str = ""
    """What is read in place of `content` by those who may see candidates; empty: the same. Without a `content` the turn
    is for them alone."""

    @property
    def size(self) -> int:
        """UTF-8 bytes, of the longer text."""
        return max(_size(self.content), _size(self.restricted))

    def followed_by(self, other: Turn) -> Turn:
        """Return the two as one turn of this one's role."""
        content = f"{self.content}{_BETWEEN}{other.content}" if self.content and other.content else self.content
        restricted = ""
        if self.restricted or other.restricted:
            restricted = f"{self.restricted or self.content}{_BETWEEN}{other.restricted or other.content}"
        return Turn(self.role, content, restricted)

    def kept_apart(self) -> Turn:
        """Return the turn for those alone who may see candidates."""
        return Turn(self.role, "", self.restricted or self.content)


class Conversation:
    """The turns of one session."""

    def __init__(self, *, prompt: str, spec: str | None, brief: Brief | None, context_bytes_max: int) -> None:
        """`spec` is JSON text; `brief` is None where the model gets to know nothing but the two."""
        instructions = brief.knowledge.instructions if brief is not None else ""
        facts = brief.knowledge.candidates_json if brief is not None and brief.candidates else ""
        task = prompt if spec is None else f"{prompt}\n\nWhat is asked for, as JSON:\n{spec}"
        self._opening = (
            Turn("system", f"{_INSTRUCTIONS}\n\n{instructions}" if instructions else _INSTRUCTIONS),
            Turn("user", task, f"{task}\n\n{_FACTS}\n{facts}" if facts else ""),
        )
        self._pairs: list[tuple[Turn | None, Turn]] = []
        self._context_bytes_max = context_bytes_max

    def add(self, answer: str, feedback: Turn, *, restricted: bool = False) -> None:
        """Append an attempt's answer and what was wrong with it; what has no visible character is no answer
        to send back. `restricted`: its model saw what others may not see."""
        if restricted:
            feedback = feedback.kept_apart()
        if any(each.isprintable() and not each.isspace() for each in answer):
            turn = Turn("assistant", answer)
            self._pairs.append((turn.kept_apart() if restricted else turn, feedback))
            return
        if self._pairs and self._pairs[-1][0] is None:
            # The one before it says nothing that this one does not.
            self._pairs.pop()
        self._pairs.append((None, feedback))

    @property
    def last(self) -> str:
        """What the model is asked to answer now, without facts of the ground truth where there is a text without."""
        last = self._pairs[-1][1] if self._pairs else self._opening[1]
        return last.content or last.restricted

    def turns(self) -> list[Turn]:
        """Return the messages to send, oldest first, within the context; user and assistant by turns."""
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
                turns[-1] = turns[-1].followed_by(feedback)
            else:
                turns += (answer, feedback)
        return turns


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _cut(turn: Turn, bytes_max: int) -> Turn:
    data = (turn.content or turn.restricted).encode("utf-8", "replace")
    half = max((bytes_max - len(_CUT_MARK.encode())) // 2, 0)
    head = data[:half].decode("utf-8", "ignore")
    tail = data[len(data) - half :].decode("utf-8", "ignore")
    cut = Turn(turn.role, f"{head}{_CUT_MARK}{tail}")
    return cut if turn.content else cut.kept_apart()
