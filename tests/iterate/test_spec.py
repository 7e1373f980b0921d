"""Goal: a spec goes to validated as it came, and into the row as canonical JSON, whichever member it is."""

from __future__ import annotations

import pytest

from iterate.spec import Spec, read_spec
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1.iterate_pb2 import IterateRequest
from lakehouse.spec_member import set_spec
from lakehouse.validated.v1.validated_pb2 import (
    BriefRequest,
    Coordinates,
    EmailSpec,
    FillSpec,
    JsonSchemaSpec,
    ValidateRequest,
)

REQUESTS = [
    IterateRequest(kind="fill", fill=FillSpec(role="welder", count=2, site=Coordinates(latitude=41.5))),
    IterateRequest(kind="email", email=EmailSpec(worker_ids=["W-1"])),
    IterateRequest(kind="json_schema", json_schema=JsonSchemaSpec(schema_json='{"type": "object", "a": 1.0}')),
    IterateRequest(kind="song", spec_json='{"b": 1, "a": 12345678901234567890}'),
    # What does not fit its kind is copied all the same: validated says so.
    IterateRequest(kind="song", fill=FillSpec(role="welder")),
]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("kind", [BriefRequest, ValidateRequest])
def test_the_member_that_is_set_is_copied(request_: IterateRequest, kind: type[BriefRequest | ValidateRequest]) -> None:
    member = request_.WhichOneof("spec")
    assert member is not None
    copy = kind()

    read_spec(request_).copy_to(copy)

    assert copy.WhichOneof("spec") == member
    assert getattr(copy, member) == getattr(request_, member)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (REQUESTS[0], '{"count":2,"role":"welder","site":{"latitude":41.5}}'),
        (REQUESTS[1], '{"worker_ids":["W-1"]}'),
        (REQUESTS[2], '{"schema":{"a":1,"type":"object"}}'),
        (REQUESTS[3], '{"a":12345678901234567890,"b":1}'),
        (REQUESTS[4], '{"role":"welder"}'),
    ],
)
def test_its_text_is_canonical_and_embeds_json(request_: IterateRequest, text: str) -> None:
    assert read_spec(request_).text == text


@pytest.mark.parametrize("request_", REQUESTS[:4])
def test_a_replay_reads_its_text_back(request_: IterateRequest) -> None:
    text = read_spec(request_).text
    assert text is not None
    again = IterateRequest(kind=request_.kind)

    set_spec(again, request_.kind, text)

    assert read_spec(again).text == text


def test_no_spec_is_none() -> None:
    copy = BriefRequest()
    read_spec(IterateRequest(kind="song")).copy_to(copy)

    assert read_spec(IterateRequest(kind="song")) == Spec()
    assert copy == BriefRequest()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (IterateRequest(kind="song", spec_json=""), "spec_json"),
        (IterateRequest(kind="song", spec_json="[1]"), "spec_json"),
        (IterateRequest(kind="song", spec_json='{"a":1,"a":2}'), "spec_json"),
        (IterateRequest(kind="song", spec_json='{"a":' * 100 + "1" + "}" * 100), "spec_json"),
        (
            IterateRequest(kind="json_schema", json_schema=JsonSchemaSpec(schema_json='{"type": NaN}')),
            "json_schema.schema_json",
        ),
    ],
)
def test_json_that_no_row_could_hold_is_refused(request_: IterateRequest, field: str) -> None:
    with pytest.raises(Fault) as caught:
        read_spec(request_)

    assert caught.value.reason is Reason.BAD_REQUEST
    assert [each.field for each in caught.value.violations] == [field]


def test_a_schema_that_is_not_given_is_left_to_validated() -> None:
    assert read_spec(IterateRequest(kind="json_schema", json_schema=JsonSchemaSpec())).text == "{}"
