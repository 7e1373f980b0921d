"""``CandidatePool``: which candidates a rejected answer can be met with, each at most once.

It knows no kind: a candidate is an object of facts, and an object of the artifact names it if the two agree in all that
both of them state, and no other candidate does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from lakehouse.strict_json.parser import JsonBreach, JsonValue, canonicalize, parse_json, print_canonical
from lakehouse.strict_json.plain import read_plain

# So many objects of an artifact are looked at: more than the longest answer that can pass has.
_OBJECTS_MAX: Final = 2000
_OFFER_BYTES_MAX: Final = 16 * 1024


class CandidatePool:
    """The candidates of one session, and which of them were used or offered."""

    def __init__(self, candidates: Sequence[Mapping[str, JsonValue]]) -> None:
        self._texts = [print_canonical(dict(each)) for each in candidates]
        # Of each fact, the candidates that have it, as bits.
        self._holders: dict[tuple[str, str], int] = {}
        for at, facts in enumerate(candidates):
            for name, value in facts.items():
                if isinstance(value, str):
                    self._holders[name, value] = self._holders.get((name, value), 0) | 1 << at
        self._names = frozenset(name for name, _ in self._holders)
        self._spent: set[str] = set()
        """Facts that an answer has used or that were offered for one."""

    def offer(self, artifact: str, suggested: Iterable[str], count: int) -> list[str]:
        """At most `count` candidates that neither `artifact` nor an earlier one names and that were not offered before:
        whom the artifact nearly names, then `suggested`, then the others. Each is its facts as canonical JSON text."""
        meant = self._note(artifact)
        offered: list[str] = []
        size = 0
        for text in (*(self._texts[at] for at in _bits(meant)), *_canonical(suggested), *self._texts):
            if text in self._spent:
                continue
            size += len(text.encode("utf-8", "replace"))
            if len(offered) == count or size > _OFFER_BYTES_MAX:
                break
            self._spent.add(text)
            offered.append(text)
        return offered

    def _note(self, artifact: str) -> int:
        """Count as spent whom the artifact names; whom it nearly names, by a fact that nobody else has, as bits."""
        named = meant = 0
        for each in _objects(artifact) if self._names else ():
            agreeing, known = -1, 0
            for name, value in each.items():
                if name in self._names and isinstance(value, str):
                    holders = self._holders.get((name, value), 0)
                    agreeing &= holders
                    if holders.bit_count() == 1:
                        known |= holders
            if agreeing > 0 and agreeing.bit_count() == 1:
                named |= agreeing
            else:
                meant |= known
        self._spent.update(self._texts[at] for at in _bits(named))
        return meant & ~named


def _objects(artifact: str) -> Iterator[dict[str, JsonValue]]:
    bytes_max = len(artifact) * 4
    plain = read_plain(artifact, bytes_max, bytes_max)
    pending: list[JsonValue] = [parse_json(artifact, bytes_max=bytes_max) if plain is None else plain[0]]
    seen = 0
    while pending and seen < _OBJECTS_MAX:
        value = pending.pop()
        if isinstance(value, dict):
            seen += 1
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(reversed(value))


def _canonical(suggested: Iterable[str]) -> Iterator[str]:
    for text in suggested:
        try:
            read = canonicalize(text)
        except JsonBreach:
            continue
        if read.startswith("{"):
            yield read


def _bits(number: int) -> Iterator[int]:
    while number:
        yield (number & -number).bit_length() - 1
        number &= number - 1
