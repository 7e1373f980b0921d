"""The rows that qualify for one spec: those whom the prompt names first, then a sample drawn by the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from validated.datasets.dataset_index import SCANNED_MAX, DatasetIndex, Row
from validated.datasets.index_keys import FIELD
from validated.findings import Finding
from validated.kinds.declared.terms import BoundReference, Terms

_MARKS: Final = ".,;:!?()[]{}<>\"'`\u2018\u2019\u201c\u201d"
_WORDS_MAX: Final = 5
_RUNS_MAX: Final = 20_000
_STRANGERS_MAX: Final = 20


class Drawn(NamedTuple):
    """What was drawn."""

    rows: Sequence[Row]
    """Rows that qualify, the first `named` of them those that the prompt names."""
    named: int
    strangers: Sequence[str]
    """The prompt's words that name rows which do not qualify."""
    total: int
    """How many qualify."""
    is_whole: bool
    """Whether no others do."""


class Pool:
    """The rows of one reference and one spec, in one version of the dataset."""

    def __init__(self, index: DatasetIndex, reference: BoundReference, terms: Terms) -> None:
        self._index = index
        self._reference = reference
        self._terms = terms

    def draw(self, prompt: str, seed: str, limit: int) -> Drawn:
        """At most `limit` rows."""
        is_whole = self._index.row_count <= SCANNED_MAX
        named: dict[str, Row] = {}
        strangers: dict[str, None] = {}
        for words, row in self._named(prompt):
            if self._terms.met_by(row):
                named.setdefault(row.key, row)
            else:
                strangers.setdefault(words)
        if is_whole:
            keys = self._index.qualified(self._terms.name, self._terms.met_by)
            drawn = random.Random(seed).sample(keys, min(limit, len(keys)))  # noqa: S311  fair, not secret
            total = len(keys)
        else:
            drawn = list(self._index.sample(seed, self._terms.met_by, limit))
            total = len(named | dict.fromkeys(drawn))
        rows = dict(named)
        for key in drawn:
            if key not in rows and (found := self._index.row(key)) is not None:
                rows[key] = found
        first = list(rows.values())[:limit]
        return Drawn(first, min(len(named), limit), list(strangers)[:_STRANGERS_MAX], total, is_whole)

    def shortage(self, total: int, needed: int, at: str) -> list[Finding]:
        """Return what is said where only `total` qualify. Names no row."""
        qualify = "row qualifies" if total < 2 else "rows qualify"
        few = f"only {total}" if total else "no"
        text = f"{few} {qualify} in {self._reference.dataset}, {needed} needed: no answer can pass"
        findings = [Finding("COUNT", at, text)]
        alone = [0] * len(self._terms.demands)
        for row in self._index.rows():
            missed = [number for number, demand in enumerate(self._terms.demands) if not demand.met_by(row)]
            if len(missed) == 1:
                alone[missed[0]] += 1
        if any(alone):
            most = max(range(len(alone)), key=alone.__getitem__)
            text = f"{self._terms.demands[most].words()}: without that {alone[most]} more would qualify"
            findings.append(Finding("NOT_ALLOWED", at, text))
        return findings

    def _named(self, prompt: str) -> Iterator[tuple[str, Row]]:
        """Yield the rows whose key the prompt holds; keys of several columns are not looked for."""
        if len(self._reference.key) != 1:
            return
        folded = self._reference.declared.compare == "folded"
        for text in _runs(prompt):
            row = self._index.row(text)
            if row is None and folded:
                rows = self._index.rows_folded((text,))
                row = rows[0] if len(rows) == 1 else None
            if row is not None:
                yield text, row


def _runs(prompt: str) -> Iterator[str]:
    """Words and runs of words, each once, without the marks around them."""
    words = prompt.split()
    seen: set[str] = set()
    for at in range(len(words)):
        for count in range(1, _WORDS_MAX + 1):
            raw = " ".join(words[at : at + count])
            for text in (raw, raw.strip(_MARKS)):
                if text and FIELD not in text and text not in seen:
                    seen.add(text)
                    yield text
                    if len(seen) >= _RUNS_MAX:
                        return
