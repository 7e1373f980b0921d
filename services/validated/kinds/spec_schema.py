"""What a kind's spec looks like, as a JSON Schema: read off its proto message, so that no field is left out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lakehouse.strict_json.parser import print_canonical

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# Spec messages hold no 64-bit integers, bytes or enums: ProtoJSON would write those as strings.
_TYPES: Final = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_INT32: "integer",
    FieldDescriptor.TYPE_UINT32: "integer",
    FieldDescriptor.TYPE_DOUBLE: "number",
    FieldDescriptor.TYPE_FLOAT: "number",
    FieldDescriptor.TYPE_BOOL: "boolean",
}


def schema_of_message(message: type[Message], required: Collection[str] = ()) -> str:
    """Return the schema (2020-12, canonical JSON) of a message's ProtoJSON with proto field names. Proto knows no
    `required`: the kind names those fields that its rules do not let be empty.
    """
    return print_canonical({"$schema": _DIALECT, **_object(message.DESCRIPTOR, required)})


def _object(descriptor: Any, required: Collection[str] = ()) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "title": descriptor.name,
        "properties": {field.name: _field(field) for field in descriptor.fields},
        "additionalProperties": False,
    }
    if required:
        schema["required"] = sorted(required)
    return schema


def _field(field: Any) -> dict[str, Any]:
    value = _object(field.message_type) if field.message_type is not None else {"type": _TYPES[field.type]}
    return {"type": "array", "items": value} if field.is_repeated else value
