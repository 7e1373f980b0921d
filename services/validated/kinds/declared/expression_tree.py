"""What a compiled expression consists of, read out of the form in which the CEL library writes it down
(`cel.expr.CheckedExpr`, cel/expr/checked.proto); the library itself shows no tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_INT64: Final = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_SCALARS: Final = {
    "int64": _INT64,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "double": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
}
# The fields that are read, each with its number and its type; a star is a repeated one.
_FORM: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = {
    "Any": {"value": (2, "bytes")},
    "CheckedExpr": {"types": (3, "TypeEntry*"), "expr": (4, "Expr")},
    "TypeEntry": {"key": (1, "int64"), "value": (2, "Type")},
    "Type": {"primitive": (3, "int64"), "well_known": (5, "int64"), "list": (6, "bytes"), "map": (7, "bytes")},
    "Expr": {
        "id": (2, "int64"),
        "const": (3, "Constant"),
        "ident": (4, "Ident"),
        "select": (5, "Select"),
        "call": (6, "Call"),
        "list": (7, "List"),
        "struct": (8, "bytes"),
        "comprehension": (9, "Comprehension"),
    },
    "Constant": {
        "int64": (3, "int64"),
        "uint64": (4, "int64"),
        "double": (5, "double"),
        "string": (6, "string"),
        "bytes": (7, "bytes"),
    },
    "Ident": {"name": (1, "string")},
    "Select": {"operand": (1, "Expr"), "field": (2, "string")},
    "Call": {"target": (1, "Expr"), "function": (2, "string"), "args": (3, "Expr*")},
    "List": {"elements": (1, "Expr*")},
    "Comprehension": {
        "variable": (1, "string"),
        "range": (2, "Expr"),
        "start": (4, "Expr"),
        "condition": (5, "Expr"),
        "step": (6, "Expr"),
        "result": (7, "Expr"),
    },
}
_PRIMITIVES: Final = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}
_WELL_KNOWN: Final = {2: "timestamp", 3: "duration"}


class Node(NamedTuple):
    """A part of an expression."""

    what: str
    """literal, name, select, call, list, map, comprehension."""
    text: str
    """The name, the field, the function, the variable of a comprehension, or a literal as text."""
    inner: tuple[Node, ...]
    """Of a call its target and its arguments; of a comprehension what it runs over, then its parts."""
    type: str
    """bool, int, uint, double, string, bytes, timestamp, duration, list, map; dyn: known when it is evaluated."""

    def walk(self) -> Iterator[Node]:
        """Yield this part and all within it."""
        yield self
        for each in self.inner:
            yield from each.walk()


def read_tree(serialized: bytes) -> Node:
    """Return the tree of an expression that the library wrote down. Raises google.protobuf.message.DecodeError."""
    wrapped = _message("Any").FromString(serialized)
    checked = _message("CheckedExpr").FromString(wrapped.value)
    return _node(checked.expr, {entry.key: _type(entry.value) for entry in checked.types})


def _node(expr: Any, types: Mapping[int, str]) -> Node:
    def made(what: str, text: str, *inner: Any) -> Node:
        return Node(what, text, tuple(_node(each, types) for each in inner), types.get(expr.id, "dyn"))

    if expr.HasField("ident"):
        return made("name", expr.ident.name)
    if expr.HasField("select"):
        return made("select", expr.select.field, expr.select.operand)
    if expr.HasField("call"):
        call = expr.call
        return made("call", call.function, *([call.target] if call.HasField("target") else []), *call.args)
    if expr.HasField("list"):
        return made("list", "", *expr.list.elements)
    if expr.HasField("comprehension"):
        it = expr.comprehension
        return made("comprehension", it.variable, it.range, it.start, it.condition, it.step, it.result)
    if expr.HasField("struct"):
        return made("map", "")
    return Node("literal", _literal(expr.const), (), types.get(expr.id, "dyn"))


def _literal(const: Any) -> str:
    for name in ("int64", "uint64", "double", "string"):
        if const.HasField(name):
            return str(getattr(const, name))
    return ""


def _type(type_: Any) -> str:
    if type_.HasField("primitive"):
        return _PRIMITIVES.get(type_.primitive, "dyn")
    if type_.HasField("well_known"):
        return _WELL_KNOWN.get(type_.well_known, "dyn")
    return "list" if type_.HasField("list") else "map" if type_.HasField("map") else "dyn"


@cache
def _message(name: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="expression_tree.proto", package="expression_tree", syntax="proto2")
    for message, fields in _FORM.items():
        made = file.message_type.add(name=message)
        for field, (number, type_) in fields.items():
            bare = type_.removesuffix("*")
            label = made.field.add(name=field, number=number)
            label.label = label.LABEL_REPEATED if type_ != bare else label.LABEL_OPTIONAL
            if bare in _SCALARS:
                label.type = _SCALARS[bare]
            else:
                label.type, label.type_name = label.TYPE_MESSAGE, f".expression_tree.{bare}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"expression_tree.{name}"))
