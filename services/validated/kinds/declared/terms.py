"""What one spec demands of the rows of one reference: read once, for candidates, suggestions and verdicts alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from lakehouse.errors import Violation, bad_request
from lakehouse.strict_json.parser import JsonValue
from validated.datasets.dataset_index import DatasetIndex, Row, Value
from validated.datasets.loaded_dataset import DatasetShape
from validated.findings import quoted
from validated.kinds.declared.declaration import Agreement, Condition, Reference
from validated.kinds.declared.values import equal, typed

COUNT_MAX: Final = 1000
_FIELD: Final = "spec_json"
_ORDERED: Final = ("integer", "decimal", "date", "instant")
_VALUES_MAX: Final = 200
_STEPS_MAX: Final = 10
_STARS_MAX: Final = 3


class UnusableReferenceError(ValueError):
    """A reference cannot be used: (the key within it, what is wrong and what to do)."""

    def __init__(self, where: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.where = where


class Demand(NamedTuple):
    """A condition with its value read."""

    condition: Condition
    values: tuple[Value, ...]

    def met_by(self, row: Row) -> bool:
        """Whether the row's value is as demanded."""
        # Of one type, which was looked at when the value was read; ordered where the operator needs it.
        held: Any = row.values[self.condition.column]
        value: Any = self.values[0]
        if held is None:
            return False
        folded, op = self.condition.compare == "folded", self.condition.op
        if op == "equals" and not folded:
            return bool(held == value)
        if op == "at_least":
            return bool(held >= value)
        if op == "at_most":
            return bool(held <= value)
        if op == "contains":
            return any(equal(value, each, folded=folded) for each in held)
        if op == "not_equals":
            return not equal(value, held, folded=folded)
        return any(equal(each, held, folded=folded) for each in self.values)

    def words(self) -> str:
        """Return what is demanded, for people and models."""
        ops = {
            "equals": "must be", "not_equals": "must not be", "at_least": "must be at least",
            "at_most": "must be at most", "one_of": "must be one of", "contains": "must contain",
        }  # fmt: skip
        # As a model would write them: true, not True.
        values = [str(each).lower() if isinstance(each, bool) else str(each) for each in self.values[:5]]
        shown = ", ".join(map(quoted, values))
        return f"{self.condition.column} {ops[self.condition.op]} {shown}"


class Terms(NamedTuple):
    """What one spec demands of one reference."""

    demands: tuple[Demand, ...]
    needed: int | None
    """How many elements there must be; None: any number."""
    name: tuple[Any, ...]
    """Equal for equal demands."""
    missed: WeakKeyDictionary[DatasetIndex, dict[str, list[Demand]]]

    def missed_by(self, index: DatasetIndex) -> dict[str, list[Demand]]:
        """Return what the rows of `index` that were looked at do not meet, by key: the same each time."""
        found = self.missed.get(index)
        if found is None:
            found = self.missed[index] = {}
        return found

    def met_by(self, row: Row) -> bool:
        """Whether the row meets every demand."""
        return all(demand.met_by(row) for demand in self.demands)


class BoundReference:
    """A reference with its dataset, known to be usable."""

    def __init__(
        self, declared: Reference, datasets: Mapping[str, DatasetShape], spec_names: frozenset[str] | None
    ) -> None:
        """`spec_names` are the names that the spec may have; None: any. Raises UnusableReferenceError."""
        self.declared: Final = declared
        self.steps: Final = _steps(declared.at)
        shape = datasets.get(declared.dataset)
        if shape is None:
            known = ", ".join(datasets) or "none"
            text = f'"{declared.dataset[:80]}" is not configured; add [validated.datasets.<name>] (there: {known})'
            raise UnusableReferenceError(("dataset",), text)
        self.types: Final[Mapping[str, str]] = shape.columns
        self.dataset: Final = declared.dataset
        if sorted(declared.key.values()) != sorted(shape.key):
            text = f"must name each key column of {declared.dataset} once: {', '.join(shape.key)}"
            raise UnusableReferenceError(("key",), text)
        by_column = {column: name for name, column in declared.key.items()}
        self.key: Final = tuple((by_column[column], self.types[column]) for column in shape.key)
        if "" in declared.key and (len(declared.key) > 1 or declared.agree):
            raise UnusableReferenceError(("key",), 'the name "" is the element itself: it stands alone, without agree')
        self.agree: Final = {name: self._agreement(name, each) for name, each in declared.agree.items()}
        for at, condition in enumerate(declared.require):
            self._check_condition(at, condition, spec_names)
        if isinstance(declared.count, str):
            _check_spec(("count",), declared.count, spec_names)
        if declared.count is not None and len([step for step in self.steps if step is None]) != 1:
            raise UnusableReferenceError(("count",), "is for an `at` with one *; say it in schema, or change `at`")

    @property
    def named_columns(self) -> Sequence[str]:
        """The columns that an artifact states: those of the key and of `agree`."""
        agree = [agreement.column for agreement, _ in self.agree.values()]
        return tuple(dict.fromkeys([*self.declared.key.values(), *agree]))

    @property
    def key_path(self) -> tuple[str, ...]:
        """Where a row is named, within the element."""
        return (self.key[0][0],) if len(self.key) == 1 and self.key[0][0] else ()

    def terms(self, spec: JsonValue) -> Terms:
        """Return what `spec` demands. Raises Fault (BAD_REQUEST) where a value of it does not fit its column."""
        demands: list[Demand] = []
        violations: list[Violation] = []
        for condition in self.declared.require:
            value: object = condition.value
            if condition.spec is not None:
                value = spec_value(spec, condition.spec)
                if value is None:
                    continue
            values = _values(condition, self.types[condition.column], value)
            if values is None:
                wanted = f"{condition.spec} must fit the column {condition.column} ({self.types[condition.column]})"
                violations.append(Violation(_FIELD, wanted))
            else:
                demands.append(Demand(condition, values))
        count = self.declared.count
        if isinstance(count, str):
            given = typed("integer", spec_value(spec, count))
            if given is None and spec_value(spec, count) is None:
                count = None
            elif not isinstance(given, int) or not 0 <= given <= COUNT_MAX:
                violations.append(Violation(_FIELD, f"{count} must be a whole number from 0 to {COUNT_MAX}"))
                count = None
            else:
                count = given
        if violations:
            raise bad_request(*violations)
        name = (self.dataset, tuple((*each.condition.model_dump().items(), each.values) for each in demands))
        return Terms(tuple(demands), count, (repr(name),), WeakKeyDictionary())

    def _agreement(self, name: str, agreement: Agreement) -> tuple[Agreement, Decimal]:
        type_ = self._type(("agree", name), agreement.column)
        if agreement.tolerance != "0" and type_ not in ("integer", "decimal"):
            raise UnusableReferenceError(
                ("agree", name), f"tolerance is for numbers, {agreement.column} is {type_}; remove it"
            )
        if agreement.compare == "folded" and type_ not in ("text", "labels"):
            raise UnusableReferenceError(
                ("agree", name), f"folded is for texts, {agreement.column} is {type_}; remove it"
            )
        if name in self.declared.key:
            raise UnusableReferenceError(("agree", name), "is of the key already; remove it")
        return agreement, Decimal(agreement.tolerance)

    def _type(self, where: tuple[str | int, ...], column: str) -> str:
        type_ = self.types.get(column)
        if type_ is None:
            known = ", ".join(self.types)
            raise UnusableReferenceError(where, f'"{column}" is no column of {self.dataset}; they are {known}')
        return type_

    def _check_condition(self, at: int, condition: Condition, spec_names: frozenset[str] | None) -> None:
        where: tuple[str | int, ...] = ("require",)
        type_ = self._type(where, condition.column)
        said = f"of {condition.column}"
        if (condition.value is None) == (condition.spec is None):
            raise UnusableReferenceError(where, f"{said}: give value or spec, one of them")
        if condition.op in ("at_least", "at_most") and type_ not in _ORDERED:
            raise UnusableReferenceError(
                where, f"{said}: {condition.op} is for {', '.join(_ORDERED)}; the column is {type_}"
            )
        if (condition.op == "contains") != (type_ == "labels"):
            raise UnusableReferenceError(
                where, f"{said}: contains is for labels, and they have no other; the column is {type_}"
            )
        if condition.compare == "folded" and type_ not in ("text", "labels"):
            raise UnusableReferenceError(where, f"{said}: folded is for texts, the column is {type_}; remove it")
        if condition.spec is not None:
            _check_spec(where, condition.spec, spec_names)
        elif _values(condition, type_, condition.value) is None:
            raise UnusableReferenceError(where, f"{said}: the value does not fit a column of type {type_}; mend it")


def spec_value(spec: JsonValue, path: str) -> JsonValue:
    """Return what stands at "spec.a.b"; None where nothing does."""
    value = spec
    for name in path.split(".")[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _values(condition: Condition, type_: str, value: object) -> tuple[Value, ...] | None:
    one = "text" if type_ == "labels" else type_
    given: Sequence[object] = (value,)
    if condition.op == "one_of":
        if not isinstance(value, (list, tuple)) or not 0 < len(value) <= _VALUES_MAX:
            return None
        given = value
    elif one == "text" and isinstance(value, str) and len(value) > 1000:
        return None
    read = tuple(typed(one, each) for each in given)
    return None if None in read else read


def _check_spec(where: tuple[str | int, ...], path: str, spec_names: frozenset[str] | None) -> None:
    name = path.split(".")[1]
    if spec_names is not None and name not in spec_names:
        known = ", ".join(sorted(spec_names)) or "none"
        raise UnusableReferenceError(where, f'{path}: spec_schema has no property "{name}"; it has {known}')


def _steps(at: str) -> tuple[str | None, ...]:
    """Return the steps of a pointer; None is each element of an array."""
    if at and not at.startswith("/"):
        raise UnusableReferenceError(("at",), 'must be empty or begin with "/", such as "/lines/*"')
    raw = at.split("/")[1:]
    if len(raw) > _STEPS_MAX or raw.count("*") > _STARS_MAX:
        raise UnusableReferenceError(
            ("at",), f"has at most {_STEPS_MAX} steps, {_STARS_MAX} of them *; make it shorter"
        )
    for step in raw:
        if re.search("~(?![01])", step):
            raise UnusableReferenceError(
                ("at",), 'in a pointer "~" is written "~0", and "/" within a name "~1"; mend it'
            )
        if step.isdecimal():
            raise UnusableReferenceError(("at",), f'"{step}": elements of an array are named by *; change it')
    return tuple(None if step == "*" else step.replace("~1", "/").replace("~0", "~") for step in raw)
