"""The rules of a declared kind: conditions in CEL, each with a code, a message and the path that it blames."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from lakehouse.strict_json.parser import JsonValue, print_canonical
from validated.datasets.dataset_index import Row
from validated.findings import Finding, Findings, pointer, quoted
from validated.kinds.declared.declaration import Rule
from validated.kinds.declared.expressions import (
    Expression,
    ExpressionError,
    UnknownError,
    UnusableValueError,
    values,
)
from validated.kinds.declared.judgement import EVALUATED_MAX, Judgement
from validated.kinds.declared.places import path_steps
from validated.kinds.declared.shown import Shown
from validated.kinds.declared.terms import BoundReference
from validated.kinds.declared.values import written

_OWN_CODES: Final = ("NOT_IN_DATASET", "FACT_MISMATCH", "NOT_ALLOWED", "DUPLICATE", "COUNT", "SCHEMA")
_NAMES: Final = r"(?:\.[A-Za-z_][A-Za-z0-9_]{0,62})"
_PLACE: Final = re.compile(rf"\{{((?:spec|artifact|item|row){_NAMES}{{1,5}}|item)\}}")
_TAKEN_MAX: Final = 400_000
_NOT_SHOWN: Final = "(as the dataset has it)"


class UnusableRuleError(ValueError):
    """A rule cannot be used: (the key within it, what is wrong and what to do)."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(text)
        self.where = where


class BoundRule:
    """One rule with its condition, known to be usable."""

    def __init__(
        self,
        declared: Rule,
        references: Sequence[BoundReference],
        shows: Sequence[Shown],
        spec_names: frozenset[str] | None,
    ) -> None:
        """Raise UnusableRuleError where it cannot be used. `shows` says what a model may see of each reference;
        `spec_names` the names that the spec may have; None: any.
        """
        self.code: Final = declared.code
        self.reference: Final = declared.reference
        self._message = declared.message
        if declared.code in _OWN_CODES:
            raise UnusableRuleError("code", f'"{declared.code}" is a code of references; take one of your own')
        if declared.reference is not None and declared.reference >= len(references):
            raise UnusableRuleError("reference", f"there are {len(references)} references, counted from 0")
        of = None if declared.reference is None else references[declared.reference]
        self._steps = _steps(declared.path)
        try:
            self._expression = Expression(declared.check, of_element=of is not None)
        except ExpressionError as error:
            raise UnusableRuleError("check", str(error)) from None
        self.columns: Final = frozenset() if of is None else self._columns(of)
        self.condition: Final = self._expression.tree
        named = self._expression.members.get("spec") or frozenset()
        _check_names("check", named, spec_names, "spec_schema has no property")
        self._shows = None if declared.reference is None else shows[declared.reference]
        self._check_places(of, spec_names)

    def _columns(self, of: BoundReference) -> frozenset[str]:
        if "row" not in self._expression.members:
            return frozenset()
        members = self._expression.members["row"]
        if members is None:
            raise UnusableRuleError("check", "takes row as a whole; name its columns, row.price")
        _check_names("check", members, frozenset(of.types), f"{of.dataset} has no column")
        return members

    def _check_places(self, of: BoundReference | None, spec_names: frozenset[str] | None) -> None:
        visible = () if self._shows is None else self._shows.columns
        if "{" in (rest := _PLACE.sub("", self._message)) or "}" in rest:
            raise UnusableRuleError("message", "a place is written {spec.name}, {item.name}, …; mend it")
        for place in _PLACE.findall(self._message):
            variable, *names = place.split(".")
            if variable in ("item", "row") and of is None:
                raise UnusableRuleError("message", f"{{{place}}} is there for a rule with `reference` alone; remove it")
            if variable == "row" and names[0] not in visible:
                text = f"{{{place}}}: models may not see that column; they may see {', '.join(visible)}"
                raise UnusableRuleError("message", text)
            if variable == "spec":
                _check_names("message", {names[0]}, spec_names, "spec_schema has no property")

    def common_size(self, data: Mapping[str, JsonValue]) -> int:
        """See Expression."""
        return self._expression.common_size(data)

    def judge(
        self, data: dict[str, JsonValue], path: Sequence[str | int], findings: Findings, row: Row | None = None
    ) -> None:
        """Add a finding where the condition is not true of `data` (see `values`), which stands at `path`; `row` is that
        of a rule of elements.
        """
        at = pointer((*path, *self._steps))
        try:
            if self._expression.holds(data):
                return
        except UnknownError as error:
            findings.add(self.code, at, f"cannot be judged by the rule {self.code}: {quoted(str(error))}")
            return
        if findings.full:
            findings.left_out += 1
            return
        known = None if row is None or self._shows is None else self._shows.facts(row)
        message, guarded = self._said(data | {"row": known}), self._said(data, with_rows=False)
        findings.kept.append(Finding(self.code, at, message, (), guarded if guarded != message else ""))

    def _said(self, data: Mapping[str, JsonValue], *, with_rows: bool = True) -> str:
        def shown(place: re.Match[str]) -> str:
            variable, *names = place[1].split(".")
            if variable == "row" and not with_rows:
                return _NOT_SHOWN
            value = data[variable]
            for name in names:
                value = value.get(name) if isinstance(value, dict) else None
            return quoted(value if isinstance(value, str) else print_canonical(value))

        return _PLACE.sub(shown, self._message)


class Rules:
    """All rules of one kind."""

    def __init__(self, bound: Sequence[BoundRule]) -> None:
        self._of_all = [each for each in bound if each.reference is None]
        self._of_elements = [each for each in bound if each.reference is not None]
        self.references: Final = frozenset(each.reference for each in bound)
        """Whose elements are looked at, by position."""

    def judge(self, artifact: JsonValue, spec: JsonValue, judgements: Sequence[Judgement], findings: Findings) -> None:
        """Add what is wrong with an artifact that fits the schema. `judgements` are those of its references."""
        try:
            data: dict[str, JsonValue] = {"artifact": values(artifact), "spec": spec}
        except UnusableValueError as error:
            text = f"{error}: the rules of this kind cannot be held against it"
            findings.add("SCHEMA", pointer(error.path), text)
            return
        for rule in self._of_all:
            rule.judge(data, (), findings)
        left = _TAKEN_MAX
        for rule in self._of_elements:
            found = judgements[rule.reference or 0].found
            # Each element takes over anew what the rule looks at of the whole: the square of a long artifact.
            left -= rule.common_size(data) * len(found)
            if left < 0:
                text = f"{len(found)} elements are too many for the rule {rule.code}, which looks at the whole for each"
                findings.add(rule.code, "", f"{text}: it is not held against them; write fewer")
                continue
            if len(found) > EVALUATED_MAX:
                findings.add(rule.code, "", f"more than {EVALUATED_MAX} elements: the rule is not held against them")
                continue
            for element, row in found:
                try:
                    of_row = {name: _of_column(row, name) for name in rule.columns}
                except UnusableValueError as error:
                    findings.add(rule.code, pointer(element.path), f"the row that it names {error}")
                    continue
                rule.judge(data | {"item": values(element.value), "row": of_row}, element.path, findings, row)


def _of_column(row: Row, name: str) -> JsonValue:
    held = row.values[name]
    return None if held is None else values(written(held)[0])


def _check_names(where: str, names: frozenset[str] | set[str], known: frozenset[str] | None, text: str) -> None:
    for name in sorted(names):
        if known is not None and name not in known:
            raise UnusableRuleError(where, f'{text} "{name}"; it has {", ".join(sorted(known)) or "none"}')


def _steps(path: str) -> list[str]:
    steps = path.split("/")
    if path and steps[0]:
        raise UnusableRuleError("path", 'must be empty or begin with "/", such as "/lines"')
    if "*" in steps:
        raise UnusableRuleError("path", "names one place, without *; give `reference` for a rule of elements")
    return path_steps(path)
