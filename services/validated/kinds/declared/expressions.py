"""Conditions in CEL, by the library `cel-expr-python`: compiled and looked at once, when a declaration is loaded, so
that each evaluation is bounded, and says yes, no, or that it cannot be said.

The library checks types, and stops after 10,000 steps of comprehensions; it has no other bound on cost and holds the
interpreter while it evaluates. What is refused here is what could be dear, or go wrong without an error: see
docs/adr/0013-rules-in-cel.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final

from lakehouse.strict_json.parser import JsonValue
from validated.findings import quoted
from validated.kinds.declared.expression_tree import Node, read_tree

CHARS_MAX: Final = 1000
ELEMENTS_MAX: Final = 1000
TEXT_CHARS_MAX: Final = 4000
INTEGER_MAX: Final = 1 << 53
_NODES_MAX: Final = 200
# So many characters are taken over in the time of a number.
_CHARS_OF_A_VALUE: Final = 100
_ARITHMETIC_MAX: Final = 8
_COMPREHENSIONS_MAX: Final = 6
# So no chain of the few operations that there may be leaves the doubles for infinity, which no comparison reports.
_DIVISOR_MIN: Final = 1e-6

_VARIABLES: Final = ("artifact", "spec")
_ELEMENT_VARIABLES: Final = ("item", "row")
_ERROR: Final = "ERROR"
_STATUS: Final = re.compile(r"\b[A-Z_]{5,}: |<input>:-1:-1: ")
_ACCUMULATOR: Final = "@result"
_ARITHMETIC: Final = ("_+_", "_-_", "_*_", "_/_", "-_")
_EQUALITY: Final = ("_==_", "_!=_")
_NO_OPERANDS: Final = ("int", "uint", "string", "bytes", "list", "map", "bool")
_OPERATORS: Final = frozenset(
    (*_ARITHMETIC, *_EQUALITY, "_<_", "_<=_", "_>_", "_>=_", "_&&_", "_||_", "!_", "_?_:_", "@in", "_[_]",
     "@not_strictly_false")
)  # fmt: skip
FUNCTIONS: Final = ("size", "startsWith", "endsWith", "contains", "double", "timestamp", "duration", "sum", "abs")
"""What an expression may call, beside operators and the comprehensions all, exists, exists_one, filter, map."""


class ExpressionError(ValueError):
    """An expression cannot be used; the text says why and what to do."""


class UnknownError(Exception):
    """An expression has no value for what it was evaluated on; the text says why."""


class Expression:
    """One condition."""

    def __init__(self, text: str, *, of_element: bool) -> None:
        """`of_element`: it is about one element and its row (`item`, `row`) beside `artifact` and `spec`. Raises
        ExpressionError.
        """
        if len(text) > CHARS_MAX:
            raise ExpressionError(f"is longer than {CHARS_MAX} characters; make several rules of it")
        env = _environment(of_element=of_element)
        try:
            self._compiled = env.compile(text)
            tree = read_tree(self._compiled.serialize())
        except RuntimeError as error:
            raise ExpressionError(f"{_said(error)}; {_advice(error)}") from None
        if tree.type not in ("bool", "dyn"):
            raise ExpressionError(f"is of type {tree.type}; it must be a condition, true where all is well")
        _Check(of_element=of_element).check(tree)
        self.tree: Final = tree
        names = frozenset(node.text for node in tree.walk() if node.what == "name")
        self.members: Final[Mapping[str, frozenset[str] | None]] = {
            name: _members(tree, name) for name in (*_VARIABLES, *_ELEMENT_VARIABLES) if name in names
        }
        """The variables that it looks at, each with those of its members that it names; None where it takes the
        variable as a whole."""

    def holds(self, data: Mapping[str, JsonValue]) -> bool:
        """Whether it is true of `data`, made by `values`. Raises UnknownError where it is neither true nor false."""
        try:
            found = self._compiled.eval(data={name: self._given(name, data) for name in self.members})
            value, type_ = found.value(), found.type().name()
        except RuntimeError as error:
            raise UnknownError(_said(error)) from None
        if isinstance(value, bool):
            return value
        raise UnknownError(_said(value) if type_ == _ERROR else "it is neither true nor false")

    def common_size(self, data: Mapping[str, JsonValue]) -> int:
        """Return how many values of `artifact` and `spec` each evaluation has to take over; see `holds`."""
        return sum(_size(self._given(name, data)) for name in self.members if name in _VARIABLES)

    def _given(self, name: str, data: Mapping[str, JsonValue]) -> JsonValue:
        value, members = data[name], self.members[name]
        if members is None or not isinstance(value, dict):
            return value
        # What it does not look at need not become a value of CEL.
        return {each: value[each] for each in members if each in value}


class UnusableValueError(Exception):
    """An artifact holds what no rule can be held against: (its path, what it is)."""

    def __init__(self, path: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.path = path


def values(value: JsonValue, path: tuple[str | int, ...] = ()) -> JsonValue:
    """`value` as expressions have it: each number a double. Raises UnusableValueError."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise UnusableValueError(path, "is a number beyond 2^53")
        return float(value)
    if isinstance(value, str):
        if len(value) > TEXT_CHARS_MAX:
            raise UnusableValueError(path, f"is longer than {TEXT_CHARS_MAX} characters")
        return value
    if isinstance(value, list):
        if len(value) > ELEMENTS_MAX:
            raise UnusableValueError(path, f"has more than {ELEMENTS_MAX} elements")
        return [values(each, (*path, at)) for at, each in enumerate(value)]
    return {name: values(each, (*path, name)) for name, each in value.items()}


class _Check:
    """Refuses what is not bounded. `item` is to a rule of elements what its variable is to a comprehension."""

    def __init__(self, *, of_element: bool) -> None:
        self._of_element = of_element
        self._nodes = self._arithmetic = self._comprehensions = 0

    def check(self, tree: Node) -> None:
        self._check(tree, "item" if self._of_element else "", is_within=self._of_element)

    def _check(self, node: Node, variable: str, *, is_within: bool) -> None:
        self._nodes += 1
        if self._nodes > _NODES_MAX:
            raise ExpressionError("is too large; make several rules of it")
        if node.what == "comprehension":
            self._check_comprehension(node, is_within=is_within)
            return
        if node.what == "literal" and node.type in ("int", "double") and abs(Decimal(node.text)) > INTEGER_MAX:
            raise ExpressionError(f"holds {node.text}, a number beyond 2^53; take a smaller one")
        if node.what == "map" or node.type in ("bytes", "uint"):
            raise ExpressionError("holds a map, bytes or an unsigned number; compare members one by one")
        if node.what == "call":
            self._check_call(node, variable, is_within=is_within)
        for each in node.inner:
            self._check(each, variable, is_within=is_within)

    def _check_comprehension(self, node: Node, *, is_within: bool) -> None:
        if is_within:
            where = "in a rule of elements" if self._of_element else "within another"
            raise ExpressionError(f"a comprehension (all, exists, filter, map) stands {where}; one level is the most")
        self._comprehensions += 1
        if self._comprehensions > _COMPREHENSIONS_MAX:
            raise ExpressionError(f"has more than {_COMPREHENSIONS_MAX} comprehensions; make several rules of it")
        over, *parts = node.inner
        self._check(over, "", is_within=False)
        for each in parts:
            self._check(each, node.text, is_within=True)

    def _check_call(self, node: Node, variable: str, *, is_within: bool) -> None:
        name, inner = node.text, node.inner
        if name not in _OPERATORS and name not in FUNCTIONS:
            shown = "%" if name == "_%_" else quoted(name)
            advice = "; say it by `pattern` in schema" if name == "matches" else ""
            raise ExpressionError(f"calls {shown}; a rule may call {', '.join(FUNCTIONS)}{advice}")
        if any(each.what == "name" and each.text == _ACCUMULATOR for each in inner):
            return  # what a comprehension is made of
        if name in _ARITHMETIC:
            self._check_arithmetic(node)
        if name in ("timestamp", "duration", "double"):
            wanted = ("int",) if name == "double" else ("string", "dyn")
            if len(inner) != 1 or inner[0].type not in wanted:
                text = "is for size(…) alone: numbers are doubles already" if name == "double" else "takes a text"
                raise ExpressionError(f"{name}(…) {text}")
        if is_within and name in _EQUALITY and not any(_is_small(each, variable) for each in inner):
            text = f"compares two values that are not of {variable}"
            raise ExpressionError(f"{text}, once for each element; compare with a literal or a member of {variable}")
        if is_within and name == "@in" and not (_is_small(inner[1], variable) or _root(inner[1]) in ("spec", "row")):
            text = f'looks "in" something that is not of {variable}, once for each element'
            raise ExpressionError(f"{text}; say it by `unique`, or look in a list or in spec")

    def _check_arithmetic(self, node: Node) -> None:
        self._arithmetic += 1
        if self._arithmetic > _ARITHMETIC_MAX:
            raise ExpressionError(f"has more than {_ARITHMETIC_MAX} sums and products; make several rules of it")
        if all(each.type == "int" for each in node.inner) and node.text != "_/_":
            return  # of positions and sizes: out of range is an error
        for each in node.inner:
            if each.type in _NO_OPERANDS:
                raise ExpressionError(
                    f"calculates with {'a whole number' if each.type == 'int' else f'a {each.type}'}; numbers are "
                    "doubles: write 2.0 for 2, double(size(…)) for size(…)"
                )
        if node.text == "_/_":
            by = node.inner[1]
            if by.what != "literal" or by.type != "double" or abs(float(by.text)) < _DIVISOR_MIN:
                raise ExpressionError("divides by what may be 0; multiply the other side, or divide by a literal")


def _is_small(node: Node, variable: str) -> bool:
    """Whether comparing something with `node` costs no more, for all elements together, than the artifact is large."""
    if node.what == "literal" or node.type in ("bool", "int", "double", "timestamp", "duration"):
        return True
    if node.what == "list":
        return all(_is_small(each, variable) for each in node.inner)
    return _root(node) == variable


def _root(node: Node) -> str:
    """Return the variable that a path begins with; empty where it is no path."""
    while node.what == "select" or (node.what == "call" and node.text == "_[_]"):
        node = node.inner[0]
    return node.text if node.what == "name" else ""


def _members(tree: Node, variable: str) -> frozenset[str] | None:
    def is_variable(node: Node) -> bool:
        return node.what == "name" and node.text == variable

    members = [node.text for node in tree.walk() if node.what == "select" and is_variable(node.inner[0])]
    return frozenset(members) if len(members) == sum(map(is_variable, tree.walk())) else None


def _size(value: JsonValue) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_size, value))
    return 1 + len(value) // _CHARS_OF_A_VALUE if isinstance(value, str) else 1


def _said(error: object) -> str:
    """Return what the library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if not line.lstrip().startswith("|")]
    text = " ".join(line for line in lines if line)
    text = _STATUS.sub("", text.replace("<input>:1:", "column "))
    return text.split(" [", maxsplit=1)[0][:200]


def _advice(error: object) -> str:
    if "(double, int)" in str(error) or "(int, double)" in str(error):
        return "numbers are doubles: write 2.0 for 2, double(size(…)) for size(…)"
    return "mend it"


def _sum(given: Sequence[object]) -> float:
    numbers = [each for each in given if isinstance(each, float)]
    if len(numbers) != len(given):
        raise ValueError("sum is for numbers")
    return math.fsum(numbers)


@cache
def _environment(*, of_element: bool) -> Any:
    # Some 15 MB, for kinds with rules alone.
    from cel_expr_python import cel  # type: ignore[import-untyped]  # noqa: PLC0415

    of_names = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    variables = {"artifact": cel.Type.DYN, "spec": of_names}
    if of_element:
        variables |= {"item": cel.Type.DYN, "row": of_names}
    overload = cel.Overload("sum_list", cel.Type.DOUBLE, [cel.Type.List(cel.Type.DYN)], False, _sum)  # noqa: FBT003
    absolute = cel.Overload("abs_double", cel.Type.DOUBLE, [cel.Type.DOUBLE], False, abs)  # noqa: FBT003
    functions = [cel.FunctionDecl("sum", [overload]), cel.FunctionDecl("abs", [absolute])]
    return cel.NewEnv(variables=variables, functions=functions)
