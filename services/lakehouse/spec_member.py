"""Which member of a request's ``oneof spec`` a kind takes: the one of its name, else ``spec_json``.

Read off the protos, so that a new member needs no further line in iterate, the CLI or a replay. Imports the client
half alone.
"""

from __future__ import annotations

import json
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lakehouse.message_fields import FieldsError, set_fields

_ANY_KIND: Final = "spec_json"
JSON_SUFFIX: Final = "_json"


class SpecError(ValueError):
    """A spec's text is no JSON, or does not fit its kind's member; the exception's text says what is wrong."""


def spec_member(request: Message, kind: str) -> FieldDescriptor:
    """Return the member of `request`'s ``oneof spec`` that `kind` takes: a message, or the string ``spec_json``."""
    members: dict[str, Any] = {field.name: field for field in request.DESCRIPTOR.oneofs_by_name["spec"].fields}
    member: FieldDescriptor = members.get(kind, members[_ANY_KIND])
    return member


def set_spec(request: Message, kind: str, spec: Message | str, *, unwrapped: bool = False) -> None:
    """Set the member that `kind` takes, in place of whichever was set.

    `spec` is the member's message, or JSON text as a session row holds it: proto field names, the value of a field
    `x_json` under the name `x`. With `unwrapped`, for people who type it: where such a field is all that the message
    has, the text is that field's.

    Raises SpecError where the text is not one JSON object (see `read_object`) or does not fit the
    message. A text for ``spec_json`` is not read here.
    """
    member = spec_member(request, kind)
    if isinstance(spec, Message):
        getattr(request, member.name).CopyFrom(spec)
        return
    if member.message_type is None:
        setattr(request, member.name, spec)
        return
    fields = member.message_type.fields
    if unwrapped and len(fields) == 1 and holds_json(fields[0]):
        values: dict[str, Any] = {fields[0].name: spec}
    else:
        values = read_object(spec)
        for field in fields:
            embedded = field.name.removesuffix(JSON_SUFFIX)
            if holds_json(field) and embedded in values:
                values[field.name] = json.dumps(values.pop(embedded), ensure_ascii=False)
    # Not in place: a breach must leave the request as it was, and a repeated field of before must not stay.
    read = getattr(request, member.name).__class__()
    try:
        set_fields(read, values)
    except FieldsError as error:
        raise SpecError(str(error)) from None
    getattr(request, member.name).CopyFrom(read)


def holds_json(field: FieldDescriptor) -> bool:
    """Whether a field of a spec message is JSON text: a row holds its value under the name without `_json`."""
    return field.type == FieldDescriptor.TYPE_STRING and field.name.endswith(JSON_SUFFIX)


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object that a person wrote. Raises SpecError: for a name that is there twice as well, of which
    one would be lost in silence, and for NaN and Infinity, which are no JSON.
    """
    if not text.strip():
        raise SpecError("is empty: one JSON object is needed")
    try:
        value = json.loads(text, object_pairs_hook=_members, parse_constant=_refused_constant)
    except SpecError:
        raise
    except RecursionError:
        raise SpecError("nested too deep") from None
    except ValueError as error:
        raise SpecError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise SpecError("one JSON object is needed")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise SpecError(f"the name {name[:60]!a} is there twice in one object")
        members[name] = value
    return members


def _refused_constant(token: str) -> Any:
    raise SpecError(f"not JSON: {token} is no number of JSON")
