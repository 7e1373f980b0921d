"""Goal: a kind takes the member of ``oneof spec`` that has its name, else ``spec_json``, wherever requests are built.

Method: the descriptors of both requests are walked, so that a member which is added later is tested too; specs are
written as the session row writes them and read back.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from lakehouse.iterate.v1.iterate_pb2 import IterateRequest
from lakehouse.spec_member import SpecError, set_spec, spec_member
from lakehouse.validated.v1.validated_pb2 import FillSpec, ValidateRequest

REQUESTS: tuple[type[Message], ...] = (IterateRequest, ValidateRequest)
MEMBERS = [
    (request, field.name)
    for request in REQUESTS
    for field in request.DESCRIPTOR.oneofs_by_name["spec"].fields
    if field.message_type is not None
]
SCHEMA = {"type": "object", "properties": {"schema": {"const": 12345678901234567890}}}


def filled(message: Message, depth: int = 0) -> Message:
    """`message` with something in every field."""
    for field in message.DESCRIPTOR.fields:
        value: Any
        if field.message_type is not None:
            if depth < 3:
                child = getattr(message, field.name)
                filled(child.add() if hasattr(child, "add") else child, depth + 1)
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            value = json.dumps(SCHEMA) if field.name.endswith("_json") else "x"
        else:
            value = field.enum_type.values[-1].number if field.enum_type is not None else 1
        existing = getattr(message, field.name)
        if hasattr(existing, "append"):
            existing.append(value)
        else:
            setattr(message, field.name, value)
    return message


def row_text(spec: Message) -> str:
    """`spec` as the session row holds it."""
    values = MessageToDict(spec, preserving_proto_field_name=True)
    for name in [name for name in values if name.endswith("_json")]:
        values[name.removesuffix("_json")] = json.loads(values.pop(name))
    return json.dumps(values)


def test_both_requests_take_the_same_members() -> None:
    iterate, validate = (
        {field.name: field.message_type and field.message_type.full_name for field in fields}
        for fields in (request.DESCRIPTOR.oneofs_by_name["spec"].fields for request in REQUESTS)
    )

    assert iterate == validate
    assert len(iterate) >= 4


@pytest.mark.parametrize(("request_type", "kind"), MEMBERS)
def test_a_kind_takes_the_member_of_its_name(request_type: type[Message], kind: str) -> None:
    request = request_type()
    spec = filled(getattr(request_type(), kind))

    set_spec(request, kind, spec)

    assert spec_member(request, kind).name == kind == request.WhichOneof("spec")
    assert getattr(request, kind) == spec


@pytest.mark.parametrize(("request_type", "kind"), MEMBERS)
def test_the_text_of_a_row_gives_the_message_that_it_was_made_of(request_type: type[Message], kind: str) -> None:
    request = request_type()
    spec = filled(getattr(request_type(), kind))

    set_spec(request, kind, row_text(spec))

    assert getattr(request, kind) == spec


@pytest.mark.parametrize("request_type", REQUESTS)
@pytest.mark.parametrize("kind", ["chore", "spec_json", "", "kind", "prompt", "artifact_json"])
def test_any_other_kind_takes_spec_json_as_it_is(request_type: type[Message], kind: str) -> None:
    request: Any = request_type()

    set_spec(request, kind, " {} ")

    assert request.WhichOneof("spec") == "spec_json"
    assert request.spec_json == " {} "


def test_unwrapped_the_one_json_text_of_a_message_is_given_itself() -> None:
    request = ValidateRequest()

    set_spec(request, "json_schema", '{"schema": 1}', unwrapped=True)
    assert request.json_schema.schema_json == '{"schema": 1}'

    set_spec(request, "fill", '{"role": "welder", "count": 2}', unwrapped=True)
    assert request.fill == FillSpec(role="welder", count=2)


def test_a_spec_goes_over_the_one_before_it() -> None:
    request = ValidateRequest(fill=FillSpec(role="welder", required_certifications=["osha-10"]))

    set_spec(request, "fill", '{"count": 2}')

    assert request.fill == FillSpec(count=2)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"colour": 1}', '{"count": "many"}', "[" * 100_000])
def test_a_text_that_does_not_fit_is_refused_and_changes_nothing(text: str) -> None:
    request = ValidateRequest(fill=FillSpec(role="welder"))

    with pytest.raises(SpecError):
        set_spec(request, "fill", text)

    assert request.fill == FillSpec(role="welder")
