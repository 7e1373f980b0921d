"""What a validator finds, bounded however much is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SUGGESTIONS_MAX: Final = 5
_POINTER_CHARS_MAX = 200
_QUOTE_CHARS_MAX = 80


class Suggestion(NamedTuple):
    """A worker of the roster who would pass where another did not."""

    worker_id: str
    name: str
    facts_json: str
    """What a model may know of the worker: one JSON object, canonical JSON, with worker_id and name at least."""


class Finding(NamedTuple):
    """One thing that is wrong. The codes are documented in validated.proto and do not change."""

    code: str
    path: str
    """JSON Pointer (RFC 6901) into the artifact."""
    message: str
    """One sentence for a person and for the model; quotes are made by `quoted`."""
    suggestions: tuple[Suggestion, ...] = ()
    unrestricted_message: str = ""
    """`message` without names of the ground truth that the artifact does not hold. Empty: it holds none."""


@dataclass(slots=True)
class Findings:
    """Collects findings in the order of the artifact; past `findings_max` they are only counted."""

    findings_max: int
    kept: list[Finding] = field(default_factory=list)
    left_out: int = 0

    def add(self, code: str, path: str, message: str, unrestricted_message: str = "") -> None:
        """Add one finding."""
        if self.full:
            self.left_out += 1
        else:
            self.kept.append(Finding(code, path, message, (), unrestricted_message))

    @property
    def full(self) -> bool:
        """Whether further findings are only counted: then their texts need not be made."""
        return len(self.kept) >= self.findings_max

    @property
    def any(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.kept)

    def codes(self) -> list[str]:
        """Return the distinct codes, in order of appearance."""
        return list(dict.fromkeys(finding.code for finding in self.kept))


def pointer(steps: Iterable[str | int]) -> str:
    """Return the JSON Pointer of `steps`, cut before a step that would make it longer than 200 characters or not
    printable."""
    text = ""
    for step in steps:
        text_next = f"{text}/{str(step).replace('~', '~0').replace('/', '~1')}"
        if len(text_next) > _POINTER_CHARS_MAX or not text_next.isprintable():
            break
        text = text_next
    return text


def quoted(text: str) -> str:
    """`text` for a message to a person: at most 80 characters, each that does not print shown as U+XXXX."""
    if len(text) <= _QUOTE_CHARS_MAX and text.isprintable():
        return text
    shown: list[str] = []
    length = 0
    for character in text[: _QUOTE_CHARS_MAX + 1]:
        # isprintable is false for control, format (zero-width, bidi), surrogate, private and unassigned characters and
        # for every separator but the space.
        piece = character if character.isprintable() else f"U+{ord(character):04X}"
        length += len(piece)
        if length > _QUOTE_CHARS_MAX:
            return "".join(shown) + "…"
        shown.append(piece)
    return "".join(shown)
