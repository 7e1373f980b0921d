"""A JSON value line by line: what changed since the value before it, and each finding at the place that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from lakehouse.sessions.record import FindingRecord
from lakehouse.strict_json.parser import JsonValue, print_canonical

LINES_MAX: Final = 600
TEXT_CHARS_MAX: Final = 2000

Change = Literal["", "added", "changed", "removed"]


class _Absent:
    """Stands for a value that is not there."""


_ABSENT: Final = _Absent()
_Old: TypeAlias = "JsonValue | _Absent"


@dataclass(slots=True)
class ArtifactLine:
    """One line of a printed value."""

    pointer: str
    """JSON Pointer of the value that begins here; of the value that is closed, for a line that closes one."""
    indent: int
    text: str
    change: Change = ""
    before: str = ""
    """Of a ``changed`` line: what stood in its place."""
    closes: bool = False
    findings: list[PlacedFinding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PlacedFinding:
    finding: FindingRecord
    is_exact: bool
    """False where the artifact has nothing at the finding's path: it stands at the next place above."""


@dataclass(frozen=True, slots=True)
class PrintedArtifact:
    lines: list[ArtifactLine]
    is_cut: bool
    """Whether more than ``LINES_MAX`` lines would follow."""
    has_changes: bool


def print_artifact(
    value: JsonValue, findings: Sequence[FindingRecord] = (), *, before: JsonValue | None = None
) -> PrintedArtifact:
    """Print ``value``, marking what is not as in ``before``: members by their names, elements by their positions.

    Every finding is placed, at a line that is printed. A value that is None has one line, as has any scalar.
    """
    printer = _Printer()
    try:
        printer.value(value, value if before is None else before, "", "", 0, "")
        is_cut = False
    except _FullError:
        is_cut = True
    for finding in findings:
        line, is_exact = _place(printer.at, finding.path)
        line.findings.append(PlacedFinding(finding, is_exact))
    return PrintedArtifact(printer.lines, is_cut, any(line.change for line in printer.lines))


class _FullError(Exception):
    """As many lines as may be are printed."""


class _Printer:
    def __init__(self) -> None:
        self.lines: list[ArtifactLine] = []
        self.at: dict[str, ArtifactLine] = {}

    def value(self, value: JsonValue, old: _Old, pointer: str, prefix: str, indent: int, comma: str) -> None:
        change, before = _change(value, old)
        if not isinstance(value, dict | list) or not value:
            self._add(ArtifactLine(pointer, indent, f"{prefix}{_flat(value)}{comma}", change, before))
            if isinstance(value, dict | list) and type(old) is type(value):
                self._children(value, old, pointer, indent)
            return
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        self._add(ArtifactLine(pointer, indent, prefix + opening, change, before))
        self._children(value, old, pointer, indent)
        closed: Change = "added" if change == "added" else ""
        self._add(ArtifactLine(pointer, indent, closing + comma, closed, closes=True))

    def _children(self, value: dict[str, JsonValue] | list[JsonValue], old: _Old, pointer: str, indent: int) -> None:
        """Print the members or elements, and behind them those that were there before."""
        children, were = _items(value), _items(old) if type(old) is type(value) else {}
        # Below a value that took another's place nothing is compared; below a new one all is new.
        compared = type(old) is type(value) or old is _ABSENT
        for number, (name, child) in enumerate(children.items(), 1):
            comma = "," if number < len(children) else ""
            old_child: _Old = were.get(name, _ABSENT) if compared else child
            self.value(child, old_child, f"{pointer}/{_token(name)}", _prefix(name), indent + 1, comma)
        for name, child in were.items():
            if name not in children:
                line = f"{_prefix(name)}{_flat(child)}"
                self._add(ArtifactLine(f"{pointer}/{_token(name)}", indent + 1, line, "removed"))

    def _add(self, line: ArtifactLine) -> None:
        if len(self.lines) >= LINES_MAX:
            raise _FullError
        self.lines.append(line)
        if line.change != "removed" and not line.closes:
            self.at.setdefault(line.pointer, line)


def _change(value: JsonValue, old: _Old) -> tuple[Change, str]:
    if isinstance(old, _Absent):
        return "added", ""
    if isinstance(value, dict | list) and type(value) is type(old):
        # What differs stands further down; an empty one has no further down but what was removed.
        return "", ""
    text, was = _flat(value), _flat(old)
    return ("", "") if text == was and type(value) is type(old) else ("changed", was)


def _items(value: object) -> dict[str | int, JsonValue]:
    if isinstance(value, dict):
        return dict(value)
    return dict(enumerate(value)) if isinstance(value, list) else {}


def _token(name: str | int) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def _prefix(name: str | int) -> str:
    return f"{print_canonical(name[:TEXT_CHARS_MAX])}: " if isinstance(name, str) else ""


def _flat(value: JsonValue) -> str:
    """Return the value in one line, of bounded length whatever it holds."""
    if isinstance(value, str) and len(value) > TEXT_CHARS_MAX:
        return f"{print_canonical(value[:TEXT_CHARS_MAX])[:-1]}…"
    text = print_canonical(value)
    return text if len(text) <= 2 * TEXT_CHARS_MAX else text[: 2 * TEXT_CHARS_MAX] + "…"


def _place(at: dict[str, ArtifactLine], path: str) -> tuple[ArtifactLine, bool]:
    """Return the line of this path, or of the nearest place above it, and whether it is the very one."""
    place = path
    while place not in at and place:
        place = place.rpartition("/")[0]
    return at[place], place == path
