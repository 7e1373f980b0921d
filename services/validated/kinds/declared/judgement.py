"""The verdict on what an artifact names of a dataset."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from rapidfuzz import fuzz, process

from lakehouse.strict_json.parser import JsonValue, print_canonical
from validated.config import LimitsTable
from validated.datasets.dataset_index import SCANNED_MAX, DatasetIndex, Row
from validated.datasets.index_keys import FIELD
from validated.findings import SUGGESTIONS_MAX, Finding, Findings, Suggestion, pointer, quoted
from validated.kinds.declared.shown import Shown
from validated.kinds.declared.terms import BoundReference, Terms
from validated.kinds.declared.values import equal, key_text, typed, written

_MISSED_KEPT: Final = 4096
ELEMENTS_MAX: Final = 10_000
"""Of one reference in one artifact."""
EVALUATED_MAX: Final = 1000
"""Of one reference in one artifact, for a rule of elements."""
_LIKE: Final = 12
_COMPARED_MAX: Final = 24
_NEAR: Final = 80.0
_SAID_MAX: Final = 3

_UNREAD: Final[Any] = object()

_Path = tuple[str | int, ...]


class Element(NamedTuple):
    """What an artifact has where a reference looks."""

    path: _Path
    value: JsonValue


class Judgement:
    """Judges one reference in one artifact, by one version of its dataset."""

    def __init__(
        self,
        reference: BoundReference,
        terms: Terms,
        index: DatasetIndex,
        findings: Findings,
        *,
        shown: Shown,
        limits: LimitsTable,
        keeps_found: bool = False,
    ) -> None:
        """`shown` says what a model may see; `keeps_found`: whether `found` is wanted."""
        self._reference = reference
        self._terms = terms
        self._index = index
        self._findings = findings
        self._shown = shown
        self._missed = terms.missed_by(index)
        self._limits = limits
        name, type_ = reference.key[0]
        self._text_name = name if len(reference.key) == 1 and name and type_ == "text" else None
        self.wanted: dict[int, str] = {}
        """What suggestions are wanted for: the position of a finding, and the key that is to be liked."""
        self.grounded = True
        """Whether every element that was found names a row."""
        self.count = 0
        """How many elements there are."""
        self._keeps_found = keeps_found
        self.found: list[tuple[Element, Row]] = []
        """The elements that name a row, with it; up to one more than a rule looks at."""

    def judge(self, artifact: JsonValue) -> None:
        """Add what is wrong."""
        first: dict[str, _Path] = {}
        for element in self._elements(artifact):
            self.count += 1
            if self.count > ELEMENTS_MAX:
                self.grounded = False
                at = self._reference.declared.at
                self._findings.add("SCHEMA", "", f"{at} names more than {ELEMENTS_MAX} elements")
                return
            row = self._row(element)
            if row is None:
                self.grounded = False
                continue
            if self._keeps_found and len(self.found) <= EVALUATED_MAX:
                self.found.append((element, row))
            if self._reference.declared.unique:
                before = first.setdefault(row.key, element.path)
                if before is not element.path:
                    text = f'"{quoted(_shown(row.key))}" stands at {self._key_path(before)} already'
                    self._findings.add("DUPLICATE", self._key_path(element.path), text)
            self._judge_facts(element, row)
            self._judge_demands(element, row)
        wanted = self._terms.needed
        if wanted is not None and self.count != wanted:
            at = pointer(step for step in self._reference.steps if step is not None)
            self._findings.add("COUNT", at, f"has {self.count} elements, must have exactly {wanted}")

    def _elements(self, artifact: JsonValue) -> Iterator[Element]:
        yield from self._below((), artifact, self._reference.steps)

    def _below(self, path: _Path, value: JsonValue, steps: Sequence[str | None]) -> Iterator[Element]:
        if not steps:
            yield Element(path, value)
            return
        step, rest = steps[0], steps[1:]
        if step is None:
            if isinstance(value, list):
                for at, each in enumerate(value):
                    yield from self._below((*path, at), each, rest)
                return
            self._missing(path, "must be an array")
        elif isinstance(value, dict):
            if step in value:
                yield from self._below((*path, step), value[step], rest)
            elif not self._reference.declared.optional:
                self._missing((*path, step), "is missing")
        else:
            self._missing(path, "must be an object")

    def _missing(self, path: _Path, text: str) -> None:
        self.grounded = False
        self._findings.add("SCHEMA", pointer(path), text)

    def _texts(self, value: JsonValue) -> list[str] | None:
        texts: list[str] = []
        for name, type_ in self._reference.key:
            member = value if not name else value.get(name) if isinstance(value, dict) else None
            text = key_text(type_, member)
            if text is None:
                return None
            texts.append(text)
        return texts

    def _find(self, texts: Sequence[str]) -> tuple[Row | None, bool]:
        """Return the row of a key; and whether several are alike where none is the same to the letter."""
        row = self._index.row(FIELD.join(texts))
        if row is not None or self._reference.declared.compare == "exact":
            return row, False
        rows = self._index.rows_folded(texts)
        return (rows[0], False) if len(rows) == 1 else (None, bool(rows))

    def _row(self, element: Element) -> Row | None:
        if self._text_name is not None and isinstance(element.value, dict):
            # The common case, in short: what is no text, or holds what no key may, is in no index.
            text = element.value.get(self._text_name)
            row = self._index.row(text) if isinstance(text, str) else None
            if row is not None:
                return row
        texts = self._texts(element.value)
        if texts is None:
            if not self._findings.full:
                path = self._key_path(element.path)
                names = ", ".join(f"{name or 'a value'} ({type_})" for name, type_ in self._reference.key)
                self._add("NOT_IN_DATASET", path, f"names nothing of {self._reference.dataset}: it needs {names}")
            else:
                self._findings.left_out += 1
            return None
        row, is_alike = self._find(texts)
        if row is None:
            path = self._key_path(element.path)
            if self._findings.full:
                self._findings.left_out += 1
                return None
            shown = quoted(", ".join(texts))
            message = f'"{shown}" does not stand in {self._reference.dataset}'
            if is_alike:
                message = f'"{shown}" is like several rows of {self._reference.dataset}; write the one that is meant'
            self._add("NOT_IN_DATASET", path, message, near=FIELD.join(texts))
        return row

    def _judge_facts(self, element: Element, row: Row) -> None:
        value = element.value
        if not isinstance(value, dict):
            return
        for name, (agreement, tolerance) in self._reference.agree.items():
            if name not in value:
                continue
            stated = value[name]
            column = agreement.column
            plain = row.forms.get(column, _UNREAD)
            if plain is _UNREAD:
                known = row.values[column]
                plain = row.forms[column] = None if known is None else written(known)[0]
            # What has the plainest form of the very value agrees with it: most that is right has.
            if type(stated) is type(plain) and stated == plain:
                continue
            held = row.values[column]
            if held is None:
                if stated is None:
                    continue
            else:
                read = typed(self._reference.types[agreement.column], stated)
                if equal(read, held, folded=agreement.compare == "folded", tolerance=tolerance):
                    continue
            if self._findings.full:
                self._findings.left_out += 1
                continue
            said = f"{quoted(print_canonical(stated))} is not what {self._reference.dataset} has"
            path = pointer((*element.path, name))
            if self._shown.has(row, (agreement.column,)):
                right = "no value (null)" if held is None else quoted(print_canonical(written(held)[0]))
                self._findings.kept.append(Finding("FACT_MISMATCH", path, f"{said}: {right}", (), said))
            else:
                self._findings.add("FACT_MISMATCH", path, said)

    def _judge_demands(self, element: Element, row: Row) -> None:
        missed = self._missed.get(row.key)
        if missed is None:
            missed = [demand for demand in self._terms.demands if not demand.met_by(row)]
            if len(self._missed) < _MISSED_KEPT:
                self._missed[row.key] = missed
        for number, demand in enumerate(missed):
            if self._findings.full:
                self._findings.left_out += 1
                continue
            message = f'"{quoted(_shown(row.key))}" is not allowed: {demand.words()}'
            near = row.key if not number else None
            self._add("NOT_ALLOWED", self._key_path(element.path), message, near=near)

    def _key_path(self, path: _Path) -> str:
        return pointer((*path, *self._reference.key_path))

    def _used(self, artifact: JsonValue) -> set[str]:
        """Return the keys that the artifact has already: no suggestion where each may stand once."""
        if not self._reference.declared.unique:
            return set()
        quiet = Findings(0)
        silent = Judgement(self._reference, self._terms, self._index, quiet, shown=self._shown, limits=self._limits)
        used: set[str] = set()
        for number, element in enumerate(silent._elements(artifact)):
            if number >= ELEMENTS_MAX:
                break
            texts = self._texts(element.value)
            row = None if texts is None else self._find(texts)[0]
            if row is not None:
                used.add(row.key)
        return used

    def _add(self, code: str, path: str, message: str, near: str | None = None) -> None:
        if near is not None and len(self.wanted) < self._limits.suggestions_strangers_max:
            self.wanted[len(self._findings.kept)] = near
        self._findings.kept.append(Finding(code, path, message))

    def suggest(self, artifact: JsonValue) -> None:
        """Give the findings of `wanted` rows that exist and qualify. Takes at most about `limits.suggestions_ms`."""
        ends_at = time.monotonic() + self._limits.suggestions_ms / 1000
        used = self._used(artifact)
        for position, near in self.wanted.items():
            if time.monotonic() > ends_at:
                return
            rows = self._nearest(near, used)
            if not rows:
                continue
            finding = self._findings.kept[position]
            shown = ", ".join(f'"{quoted(_shown(row.key))}"' for row in rows[:_SAID_MAX])
            meant = finding.code == "NOT_IN_DATASET" and fuzz.ratio(near, rows[0].key) >= _NEAR
            text = f"did you mean {shown}?" if meant else f"what would do: {shown}"
            self._findings.kept[position] = finding._replace(
                message=f"{finding.message}; {text}",
                suggestions=tuple(Suggestion("", "", print_canonical(self._shown.facts(row))) for row in rows),
                unrestricted_message=finding.message,
            )

    def _nearest(self, key: str, used: set[str]) -> list[Row]:
        """Rows that exist and qualify, the likest first."""
        keys: dict[str, None] = dict.fromkeys(self._index.like(key, _LIKE))
        if self._index.row_count <= SCANNED_MAX:
            qualified = self._index.qualified(self._terms.name, self._terms.met_by)
            like: Any = process.extract(key, qualified, scorer=fuzz.ratio, processor=None, limit=_COMPARED_MAX)
            keys |= dict.fromkeys(each for each, _, _ in like)
        else:
            keys |= dict.fromkeys(self._index.sample(key, self._terms.met_by, SUGGESTIONS_MAX))
        rows = [
            row
            for each in keys
            if each not in used
            and (row := self._index.row(each)) is not None
            and self._terms.met_by(row)
            and self._shown.facts(row) is not None
        ]
        rows.sort(key=lambda row: (-fuzz.ratio(key, row.key), row.key))
        return rows[:SUGGESTIONS_MAX]


def _shown(key: str) -> str:
    return key.replace(FIELD, ", ")
