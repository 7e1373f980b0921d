"""What a validator finds, bounded however much is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SUGGESTIONS_MAX: Final = 5
_POINTER_CHARS_MAX = 200


class Suggestion(NamedTuple):
    """A worker of the roster who would pass where another did not."""

    worker_id: str
    name: str


class Finding(NamedTuple):
    """One thing that is wrong. The codes are documented in validated.proto and do not change."""

    code: str
    path: str
    """JSON Pointer (RFC 6901) into the artifact."""
    message: str
    """One sentence for a person and for the model; quotes are made by `lakehouse.server.specs.quoted`."""
    suggestions: tuple[Suggestion, ...] = ()


@dataclass(slots=True)
class Findings:
    """Collects findings in the order of the artifact; past `findings_max` they are only counted."""

    findings_max: int
    kept: list[Finding] = field(default_factory=list)
    left_out: int = 0

    def add(self, code: str, path: str, message: str) -> None:
        """Add one finding."""
        if self.full:
            self.left_out += 1
        else:
            self.kept.append(Finding(code, path, message))

    @property
    def full(self) -> bool:
        """Whether further findings are only counted: then their texts need not be made."""
        return len(self.kept) >= self.findings_max

    @property
    def any(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.kept)

    def codes(self) -> list[str]:
        """The distinct codes, in order of appearance."""
        return list(dict.fromkeys(finding.code for finding in self.kept))


def pointer(steps: Iterable[str | int]) -> str:
    """The JSON Pointer of `steps`, cut before a step that would make it longer than 200 characters or not printable."""
    text = ""
    for step in steps:
        text_next = f"{text}/{str(step).replace('~', '~0').replace('/', '~1')}"
        if len(text_next) > _POINTER_CHARS_MAX or not text_next.isprintable():
            break
        text = text_next
    return text
