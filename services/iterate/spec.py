"""What is asked for, as it goes to validated, to the model and into the row; what it means is validated's to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from lakehouse.errors import Violation, bad_request
from lakehouse.iterate.v1.iterate_pb2 import IterateRequest
from lakehouse.spec_member import JSON_SUFFIX, holds_json
from lakehouse.strict_json.parser import JsonBreach, JsonValue, parse_json, print_canonical
from lakehouse.validated.v1.validated_pb2 import BriefRequest, ValidateRequest


@dataclass(frozen=True, slots=True)
class Spec:
    """The member of ``oneof spec`` that a request has set, whichever it is."""

    member: str = ""
    """Its name; empty: none is set."""
    value: Message | str = ""
    text: str | None = None
    """Canonical JSON text as the session row holds it: proto field names, unset fields left out, a `…_json` field
    embedded as JSON without `_json` in its name. None where no member is set."""

    def copy_to(self, request: BriefRequest | ValidateRequest) -> None:
        """Set the same member there."""
        if isinstance(self.value, Message):
            getattr(request, self.member).CopyFrom(self.value)
        elif self.member:
            setattr(request, self.member, self.value)


def read_spec(request: IterateRequest) -> Spec:
    """Return the spec that `request` holds. Whether it fits the kind, and can be used, Brief says.

    Raises Fault, BAD_REQUEST, where a JSON text in it cannot be read: a row could not hold it.
    """
    member = request.WhichOneof("spec")
    if member is None:
        return Spec()
    value: Message | str = getattr(request, member)
    if isinstance(value, str):
        parsed = _parsed(member, value)
        if not isinstance(parsed, dict):
            raise bad_request(Violation(member, "must be one JSON object"))
        return Spec(member, value, print_canonical(parsed))
    fields: dict[str, JsonValue] = MessageToDict(value, preserving_proto_field_name=True)
    for name in _json_fields(value):
        if name in fields:
            fields[name.removesuffix(JSON_SUFFIX)] = _parsed(f"{member}.{name}", str(fields.pop(name)))
    return Spec(member, value, print_canonical(fields))


def _json_fields(message: Message) -> Iterator[str]:
    fields: Iterable[Any] = message.DESCRIPTOR.fields
    return (field.name for field in fields if holds_json(field))


def _parsed(field: str, text: str) -> JsonValue:
    try:
        # One level less than the limit: the row embeds the value in the spec object.
        return parse_json(text, depth_max=99)
    except JsonBreach as breach:
        raise bad_request(Violation(field, breach.problem)) from None
