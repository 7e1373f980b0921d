"""``set_fields``: a proto message from values that a person wrote, with every problem said in words.

``json_format`` stops at its first problem and speaks of itself; whoever typed a request needs all of them, by the names
that the protos have. Imports protobuf alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from lakehouse.near_names import did_you_mean

_QUOTE_CHARS_MAX: Final = 60
_PROBLEMS_MAX: Final = 20
_32_BITS: Final = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
_UNSIGNED: Final = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
_INTEGERS: Final = (*_32_BITS, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FLOATS: Final = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


class FieldsError(ValueError):
    """Values that do not fit a message. Its text has a line for each problem, at most 20.

    Attributes:
        problems: The lines: `fill.count: must be a whole number, is "three"`.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems[:_PROBLEMS_MAX]
        if len(problems) > _PROBLEMS_MAX:
            self.problems.append(f"and {len(problems) - _PROBLEMS_MAX} more")
        super().__init__("\n".join(self.problems))


def set_fields(message: Message, values: Mapping[str, Any]) -> None:
    """Set the fields of `message` that `values` holds, as ProtoJSON: proto field names, or their lowerCamelCase forms.

    Raises FieldsError, with every problem that was found.
    """
    problems = list(_problems(cast("Descriptor", message.DESCRIPTOR), values, ""))
    if problems:
        raise FieldsError(problems)
    try:
        json_format.ParseDict(dict(values), message)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        # What the rules above let through, such as the text of a timestamp.
        raise FieldsError([f"does not fit {message.DESCRIPTOR.name}: {error}"]) from None


def _problems(descriptor: Descriptor, values: Mapping[str, Any], path: str) -> Iterator[str]:
    fields = {field.name: field for field in descriptor.fields}
    by_camel_case = {field.json_name: field for field in descriptor.fields}
    members: dict[str, list[str]] = {}
    for name, value in values.items():
        field = fields.get(name) or by_camel_case.get(name)
        where = f"{path}{_short(str(name))}"
        if field is None:
            known = ", ".join(fields)
            near = did_you_mean(str(name), fields)
            yield f"{where}: no such field{near or f'; the fields are {known}'}"
            continue
        if value is None:
            continue
        yield from _value_problems(field, value, f"{path}{field.name}")
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
            members.setdefault(field.containing_oneof.name, []).append(field.name)
    for oneof, names in members.items():
        if len(names) > 1:
            yield f"{path}{' and '.join(names)}: set one of them alone: there is one {oneof}"


def _value_problems(field: FieldDescriptor, value: Any, path: str) -> Iterator[str]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            yield f"{path}: must be an object, is {_said(value)}"
        return
    if not field.is_repeated:
        yield from _one_problem(field, value, path)
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _one_problem(field, each, f"{path}[{index}]")
    else:
        yield f"{path}: must be a list, is {_said(value)}"


def _one_problem(field: FieldDescriptor, value: Any, path: str) -> Iterator[str]:
    if field.message_type is not None:
        if field.message_type.full_name.startswith("google.protobuf."):
            return  # They have forms of their own: a timestamp is a text.
        if isinstance(value, Mapping):
            yield from _problems(field.message_type, value, f"{path}.")
        else:
            yield f"{path}: must be an object, is {_said(value)}"
    elif field.enum_type is not None:
        names = [each.name for each in field.enum_type.values]
        if isinstance(value, str) and value not in names:
            yield f"{path}: {_said(value)} is none of {', '.join(names)}{did_you_mean(value, names)}"
        elif isinstance(value, bool) or not isinstance(value, (str, int)):
            yield f"{path}: must be one of {', '.join(names)}, is {_said(value)}"
    else:
        problem = _SCALARS[field.cpp_type](field, value)
        if problem:
            yield f"{path}: {problem}, is {_said(value)}"


def _integer_problem(field: FieldDescriptor, value: Any) -> str:
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        return "must be a whole number"
    bits = 32 if field.cpp_type in _32_BITS else 64
    unsigned = field.cpp_type in _UNSIGNED
    least, most = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return "" if least <= number <= most else f"must be from {least} to {most}"


def _float_problem(_: FieldDescriptor, value: Any) -> str:
    number = _number(value)
    return "" if number is not None and math.isfinite(number) else "must be a number"


def _bool_problem(_: FieldDescriptor, value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _string_problem(_: FieldDescriptor, value: Any) -> str:
    if not isinstance(value, str):
        return "must be a text"
    return "must not hold a lone surrogate" if _LONE_SURROGATE.search(value) else ""


_SCALARS: Final[Mapping[int, Callable[[FieldDescriptor, Any], str]]] = {
    **dict.fromkeys(_INTEGERS, _integer_problem),
    **dict.fromkeys(_FLOATS, _float_problem),
    FieldDescriptor.CPPTYPE_BOOL: _bool_problem,
    FieldDescriptor.CPPTYPE_STRING: _string_problem,
}


def _number(value: Any) -> int | float | None:
    """Return a number, or a text of one, which ProtoJSON takes as well."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str) and len(value) <= _QUOTE_CHARS_MAX and value == value.strip():
        for read in (int, float):
            try:
                return read(value)
            except ValueError:
                continue
    return None


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, str):
        return f'"{_short(value)}"'
    return _short(json.dumps(value, default=str))


def _short(text: str) -> str:
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:_QUOTE_CHARS_MAX])
    return shown if len(text) <= _QUOTE_CHARS_MAX else f"{shown}…"
