"""A regression run in words, as JSON and as JUnit XML, whatever number of sessions it had."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self
from xml.sax.saxutils import quoteattr

from lakehouse.cli.replay_comparison import Replayed
from lakehouse.sessions.query.inert_text import escaped, one_line

SHOWN_MAX: Final = 10_000
"""Sessions that are not the same, kept to be shown; of more the number is."""
_FAILURES: Final = {"different": "failure", "refused": "failure", "failed": "error", "skipped": "skipped"}
_TEXT_CHARS_MAX: Final = 2000


@dataclass
class ReplayReport:
    """Takes the results as they come; a context manager, since it keeps JUnit's test cases in a file."""

    counts: Counter[str] = field(default_factory=Counter)
    shown: list[Replayed] = field(default_factory=list)
    """Those that are not the same."""
    duration_s: float = 0.0
    roster: str | None = None
    """The version that judged."""
    _cases: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cases.close()

    def add(self, result: Replayed) -> None:
        """Take one result."""
        self.counts[result.outcome] += 1
        self.duration_s += result.duration_s
        self.roster = result.roster_now or self.roster
        if result.outcome != "same" and len(self.shown) < SHOWN_MAX:
            self.shown.append(result)
        self._cases.write(_case(result).encode())

    @property
    def compared(self) -> int:
        return self.counts["same"] + self.differing

    @property
    def differing(self) -> int:
        """Sessions of which today's gate says something else, or that it does not take."""
        return self.counts["different"] + self.counts["refused"]

    def summary(self) -> str:
        """Return the numbers in a sentence."""
        text = f"{self.compared} sessions judged again: {self.counts['same']} the same, {self.differing} different"
        for outcome, words in (("skipped", "skipped (nothing to judge again)"), ("failed", "not judged (a fault)")):
            if self.counts[outcome]:
                text += f"; {self.counts[outcome]} {words}"
        return f"{text}. Roster now: {self.roster}" if self.roster else text

    def table(self) -> list[tuple[str, ...]]:
        """Return a line a difference, oldest session first: session, ended, kind, model, what."""
        return [
            (result.session_id, result.timestamp[:19] + "Z", result.kind, result.model, difference)
            for result in sorted(self.shown, key=lambda each: (each.timestamp, each.session_id))
            if result.outcome != "skipped"
            for difference in result.differences()
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, and the sessions that are not the same, ``SHOWN_MAX`` at most."""
        outcomes = ("same", "different", "refused", "skipped", "failed")
        return {
            **{outcome: self.counts[outcome] for outcome in outcomes},
            "sessions": self.counts.total(),
            "roster": self.roster,
            "not_same": [
                each.as_json() for each in sorted(self.shown, key=lambda each: (each.timestamp, each.session_id))
            ],
        }

    def write_junit(self, path: Path) -> None:
        """Write all results: a test case a session, its class the kind. Raises OSError."""
        numbers = " ".join(
            f'{name}="{number}"'
            for name, number in (
                ("tests", self.counts.total()),
                ("failures", self.differing),
                ("errors", self.counts["failed"]),
                ("skipped", self.counts["skipped"]),
            )
        )
        self._cases.seek(0)
        with path.open("wb") as file:
            file.write(
                b'<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n'
                + f'<testsuite name="lakehouse sessions replay" {numbers} time="{self.duration_s:.3f}">\n'.encode()
            )
            shutil.copyfileobj(self._cases, file)
            file.write(b"</testsuite>\n</testsuites>\n")


def _case(result: Replayed) -> str:
    names = f"classname={_attribute(result.kind)} name={_attribute(result.session_id)}"
    head = f'<testcase {names} time="{result.duration_s:.3f}"'
    element = _FAILURES.get(result.outcome)
    if element is None:
        return f"{head}/>\n"
    differences = result.differences()
    message = _attribute("; ".join(differences))
    return f"{head}><{element} type={_attribute(result.outcome)} message={message}/></testcase>\n"


def _attribute(text: str) -> str:
    """Return a text as an attribute of XML, which has no control characters."""
    return quoteattr(one_line(escaped(text), _TEXT_CHARS_MAX))
