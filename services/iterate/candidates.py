"""``CandidatePool``: which candidates a rejected answer can be met with, each at most once.

It knows no kind: a candidate is an object of facts, and an object of the artifact names it if the two agree in all that
both of them state, and no other candidate does.

An offer is to be copied, and the form of an answer may not have all names that the facts have: of each offer those are
left out which an element of the answer cannot hold, where the schemas say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from lakehouse.strict_json.parser import JsonBreach, JsonValue, parse_json, print_canonical
from lakehouse.strict_json.plain import read_plain

# So many objects of an artifact are looked at: more than the longest answer that can pass has.
_OBJECTS_MAX: Final = 2000
_OFFER_BYTES_MAX: Final = 16 * 1024
_VALUES: Final = frozenset({"const", "enum", "default", "examples"})


class CandidatePool:
    """The candidates of one session, and which of them were used or offered."""

    def __init__(
        self, candidates: Sequence[Mapping[str, JsonValue]], *, form_schema: str = "", candidates_schema: str = ""
    ) -> None:
        """`form_schema`, `candidates_schema`: what the models are held to, as JSON text; empty: nothing. With the
        second one nobody else is offered: a model that is held to it can name nobody else."""
        self._is_closed = bool(candidates_schema)
        self._forms = _element_forms(candidates_schema or form_schema)
        self._texts = [print_canonical(self._as_element(each)) for each in candidates]
        self._own = frozenset(self._texts)
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
        whom the artifact nearly names, then `suggested`, then the others. Each is canonical JSON text: an element of
        the answer where its facts make one, else its facts."""
        meant = self._note(artifact)
        offered: list[str] = []
        size = 0
        for text in (*(self._texts[at] for at in _bits(meant)), *self._suggested(suggested), *self._texts):
            if text in self._spent or (self._is_closed and text not in self._own):
                continue
            size += len(text.encode("utf-8", "replace"))
            if len(offered) == count or size > _OFFER_BYTES_MAX:
                break
            self._spent.add(text)
            offered.append(text)
        return offered

    def _suggested(self, suggested: Iterable[str]) -> Iterator[str]:
        for text in suggested:
            try:
                facts = parse_json(text, bytes_max=len(text) * 4)
            except JsonBreach:
                continue
            if isinstance(facts, dict):
                yield print_canonical(self._as_element(facts))

    def _as_element(self, facts: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """`facts` without the names that an element cannot hold; whole, where they make no element."""
        fitting = (form.names & facts.keys() for form in self._forms if form.required <= facts.keys())
        names = max(fitting, key=len, default=facts.keys())
        return {name: value for name, value in facts.items() if name in names}

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
    pending = [_read(artifact)]
    seen = 0
    while pending and seen < _OBJECTS_MAX:
        value = pending.pop()
        if isinstance(value, dict):
            seen += 1
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(reversed(value))


class _Form(NamedTuple):
    """Which names an element of an answer can have, and which of them it must."""

    names: frozenset[str]
    required: frozenset[str]


def _element_forms(schema: str) -> frozenset[_Form]:
    """Of every object that `schema` (JSON text; empty: none) describes and that must have something."""
    try:
        pending = [_read(schema)] if schema else []
    except JsonBreach:
        return frozenset()
    forms: set[_Form] = set()
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        if not isinstance(node, dict):
            continue
        properties, required = node.get("properties"), node.get("required")
        if isinstance(properties, dict) and isinstance(required, list) and required:
            # False: whatever is said under this name is wrong.
            names = frozenset(name for name, value in properties.items() if value is not False)
            forms.add(_Form(names, frozenset(name for name in required if isinstance(name, str))))
        for keyword, value in node.items():
            # A property may be named as a keyword is, and values are no schemas.
            if keyword == "properties" and isinstance(value, dict):
                pending.extend(value.values())
            elif keyword not in _VALUES:
                pending.append(value)
    return frozenset(forms)


def _read(text: str) -> JsonValue:
    """Raise JsonBreach."""
    bytes_max = len(text) * 4
    # Depth is counted in brackets there: a long list is not deep.
    plain = read_plain(text, bytes_max, bytes_max)
    return parse_json(text, bytes_max=bytes_max) if plain is None else plain[0]


def _bits(number: int) -> Iterator[int]:
    while number:
        yield (number & -number).bit_length() - 1
        number &= number - 1
