"""Brief and ListKinds over a real socket: what is refused, what the log and the span say, kinds from outside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from outside_kinds import install_kinds
from rosters import POSTGRES, small_table
from validated_server import Client, serving

from lakehouse.clients import AsyncValidateClient, ValidateClient
from lakehouse.errors import Fault, Reason
from lakehouse.server import call as call_module
from lakehouse.strict_json.parser import canonicalize
from lakehouse.trace_context import trace_metadata
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.validated.v1 import validated_pb2
from validated.config import LimitsTable, RosterTable

SPEC: dict[str, Any] = {"role": "forklift operator", "count": 2}
# Each level doubles the work of the one before.
SLOW = {
    "$ref": "#/$defs/a0",
    "$defs": {
        **{f"a{at}": {"allOf": [{"$ref": f"#/$defs/a{at + 1}"}, {"$ref": f"#/$defs/a{at + 1}"}]} for at in range(40)},
        "a40": {"type": "object"},
    },
}


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    limits = LimitsTable(schema_ms=300)
    async with serving(roster=small_table(tmp_path_factory.mktemp("brief")), limits=limits) as running:
        yield running


async def test_every_json_of_the_answer_is_canonical_and_its_counts_agree(client: Client) -> None:
    response = await client.brief("fill", asked={"prompt": "Łukasz Żak", "seed": "s"}, **SPEC)
    for text in (response.form_schema_json, response.candidates_schema_json, response.candidates_json):
        assert canonicalize(text) == text
    candidates = json.loads(response.candidates_json)
    assert candidates[0]["name"] == "Łukasz Żak"
    assert (len(candidates), response.candidates_total, response.candidates_total_is_floor) == (6, 6, False)
    assert (response.needed, response.infeasible, len(response.findings)) == (2, False, 0)
    assert response.roster.row_count == 8
    assert response.roster == (await client.validate("fill", {"workers": []}, **SPEC)).roster


async def test_what_fits_the_candidates_passes(client: Client) -> None:
    response = await client.brief("fill", asked={"seed": "s"}, **SPEC)
    slots = json.loads(response.candidates_schema_json)["properties"]["workers"]["prefixItems"]
    workers = [{name: value["const"] for name, value in slot["anyOf"][-1]["properties"].items()} for slot in slots]
    assert (await client.validate("fill", {"workers": workers}, **SPEC)).passed
    assert jsonschema_rs.is_valid(json.loads(response.form_schema_json), {"workers": workers})


@pytest.mark.parametrize(
    ("kind", "asked", "spec", "reason", "field"),
    [
        ("fil", {}, {}, Reason.UNKNOWN_KIND, "kind"),
        ("", {}, {}, Reason.UNKNOWN_KIND, "kind"),
        ("fill", {}, {}, Reason.KIND_SPEC_MISMATCH, "fill"),
        ("fill", {}, {"role": "", "count": 1}, Reason.BAD_REQUEST, "fill.role"),
        ("fill", {}, {"role": "welder", "count": 1001}, Reason.BAD_REQUEST, "fill.count"),
        ("email", {}, {"worker_ids": []}, Reason.KIND_SPEC_MISMATCH, "email"),
        ("email", {}, {"worker_ids": [" "]}, Reason.BAD_REQUEST, "email.worker_ids[0]"),
        ("fill", {"candidates_max": 201}, SPEC, Reason.BAD_REQUEST, "candidates_max"),
        ("fill", {"candidates_max": -1}, SPEC, Reason.BAD_REQUEST, "candidates_max"),
        ("fill", {"seed": "s" * 201}, SPEC, Reason.BAD_REQUEST, "seed"),
        ("fill", {"prompt": "\u00e9" * 600_000}, SPEC, Reason.BAD_REQUEST, "prompt"),
        ("json_schema", {}, {"schema_json": "{"}, Reason.BAD_REQUEST, "json_schema.schema_json"),
        ("json_schema", {}, {"schema_json": '{"type": 7}'}, Reason.BAD_REQUEST, "json_schema.schema_json"),
        ("json_schema", {}, {"schema_json": '{"$ref": "http://x/y"}'}, Reason.BAD_REQUEST, "json_schema.schema_json"),
        ("json_schema", {}, {"schema_json": json.dumps(SLOW)}, Reason.BAD_REQUEST, "json_schema.schema_json"),
        ("json_schema", {}, {"schema_json": '{"pattern": "(?=a)"}'}, Reason.BAD_REQUEST, "json_schema.schema_json"),
        (
            "json_schema",
            {},
            {"schema_json": '{"name": "a", "schema": {"type": "object"}}'},
            Reason.BAD_REQUEST,
            "json_schema.schema_json",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused_by_field_as_by_validate(
    client: Client, kind: str, asked: dict[str, Any], spec: dict[str, Any], reason: Reason, field: str
) -> None:
    # An empty list makes no difference to proto: the member is then not set.
    given = {} if spec.get("worker_ids") == [] else spec
    fault = await client.brief_fault(kind, asked=asked, **given)
    assert (fault.reason, fault.code) == (reason, "INVALID_ARGUMENT")
    assert [violation.field for violation in fault.violations] == [field]
    if not asked:
        verdict = await client.fault(kind, {}, **given)
        assert verdict.violations == fault.violations


async def test_the_form_of_a_schema_is_the_schema_in_canonical_text(client: Client) -> None:
    text = '{"type" : "object", "required": ["b"], "maximum": 123456789012345678901234567890}'
    response = await client.brief("json_schema", schema_json=text)
    assert response.form_schema_json == canonicalize(text)
    assert response.instructions
    assert (response.candidates_json, response.candidates_schema_json, response.needed) == ("", "", 0)
    assert not response.HasField("roster")


async def test_a_roster_that_is_away_matters_where_candidates_are_asked_for_alone(tmp_path: Path) -> None:
    async with serving(roster=RosterTable(path=tmp_path / "absent.csv", index_dir=tmp_path / "i")) as client:
        for kind, spec in (("fill", SPEC), ("email", {"worker_ids": ["W-1"]})):
            fault = await client.brief_fault(kind, **spec)
            assert (fault.reason, fault.code) == (Reason.ROSTER_UNAVAILABLE, "UNAVAILABLE")
            assert fault.retry_delay_ms
            response = await client.brief(kind, asked={"candidates_max": 0}, **spec)
            assert response.form_schema_json
            assert not response.HasField("roster")


async def test_list_kinds_says_what_each_spec_looks_like(client: Client) -> None:
    kinds = await client.list_kinds()
    assert list(kinds) == ["email", "fill", "json_schema"]
    assert [kind.has_candidates for kind in kinds.values()] == [True, True, False]
    for name, kind in kinds.items():
        schema = json.loads(kind.spec_schema_json)
        assert canonicalize(kind.spec_schema_json) == kind.spec_schema_json
        jsonschema_rs.meta.validate(schema)
        assert kind.description.endswith(".")
        member: Any = validated_pb2.BriefRequest.DESCRIPTOR.fields_by_name[name].message_type
        assert set(schema["properties"]) == {field.name for field in member.fields}
    fill = jsonschema_rs.validator_for(json.loads(kinds["fill"].spec_schema_json))
    place = {"city": "Toledo", "state": "OH"}
    assert fill.is_valid({**SPEC, "allowed_locations": [place], "site": {"latitude": 41}, "max_distance_km": 5.5})
    assert not fill.is_valid({"role": "welder"})
    assert not fill.is_valid({**SPEC, "allowed_locations": place})
    assert not fill.is_valid({**SPEC, "town": "Toledo"})


KINDS = """
from validated.kinds.validator import Brief

class Mute:
    def __init__(self, tools):
        pass

    async def validate(self, artifact, spec, findings):
        return None

class Haiku(Mute):
    description = "Three lines."
    spec_schema_json = '{"type":"object"}'
    has_candidates = True

    async def brief(self, spec, task):
        return Brief(
            instructions=f"three lines of {spec.text}, {task.prompt}, {task.candidates_max}, {task.seed}",
            candidates=[{"word": "frog"}], candidates_total=1,
        )
"""


async def test_a_kind_from_outside_may_have_a_brief_and_works_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {"haiku": "song_kinds:Haiku", "mute": "song_kinds:Mute"}
    install_kinds(tmp_path, monkeypatch, points, module="song_kinds", code=KINDS)
    async with serving(roster=small_table(tmp_path)) as client:
        haiku = await client.brief("haiku", asked={"prompt": "a frog", "seed": "s"}, spec_json='{"b": 1.0, "a": 2}')
        assert haiku.instructions == 'three lines of {"a":2,"b":1}, a frog, 50, s'
        assert (haiku.candidates_json, haiku.candidates_total) == ('[{"word":"frog"}]', 1)
        assert await client.brief("mute") == validated_pb2.BriefResponse()
        assert (await client.brief_fault("mute", spec_json="[]")).reason is Reason.BAD_REQUEST
        assert (await client.brief_fault("mute", asked={"fill": SPEC})).reason is Reason.KIND_SPEC_MISMATCH
        kinds = await client.list_kinds()
    assert list(kinds) == ["email", "fill", "haiku", "json_schema", "mute"]
    assert kinds["haiku"] == validated_pb2.Kind(
        name="haiku", description="Three lines.", spec_schema_json='{"type":"object"}', has_candidates=True
    )
    assert kinds["mute"] == validated_pb2.Kind(name="mute")


async def test_the_typed_clients_ask_for_briefs_and_kinds(client: Client) -> None:
    request = validated_pb2.BriefRequest(kind="fill", fill=SPEC)
    async with AsyncValidateClient(client.address) as typed:
        assert (await typed.brief(request, timeout_s=10)).candidates_total == 6
        assert len((await typed.list_kinds(timeout_s=10)).kinds) == 3
        with pytest.raises(Fault):
            await typed.brief(validated_pb2.BriefRequest(kind="song"), timeout_s=10)


def test_the_sync_client_has_the_same_methods() -> None:
    assert {"brief", "list_kinds"} <= set(dir(ValidateClient))


async def test_the_calls_log_line_says_how_many_of_which_roster(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []
    original = call_module.Call

    def recorded(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        seen.append(made.facts)
        return made

    monkeypatch.setattr("lakehouse.server.interceptor.Call", recorded)
    await client.brief("fill", asked={"prompt": "Ana Silva"}, **SPEC)
    await client.brief("fill", role="pilot", count=1)
    await client.brief("fill", asked={"candidates_max": 0}, **SPEC)
    found, infeasible, form = seen
    roster: Any = found.pop("roster")
    assert roster["row_count"] == 8
    assert found == {"kind": "fill", "candidates": 6, "candidates_total": 6, "candidates_total_is_floor": False}
    assert infeasible["infeasible"] is True
    assert infeasible["codes"] == ["COUNT", "WRONG_ROLE"]
    assert form == {"kind": "fill", "candidates": 0}
    assert "Ana" not in json.dumps(seen)


@pytest.mark.parametrize("mask_keys", [["password"], ["worker_id"]])
async def test_the_retriever_span_says_what_was_asked_and_who_was_found(tmp_path: Path, mask_keys: list[str]) -> None:
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with TraceReceiver() as receiver:
        tracing = {"host": receiver.url, "public_key": "pk-lf-1", "secret_key": "sk-lf-1", "mask_keys": mask_keys}
        async with serving(roster=small_table(tmp_path), tracing=tracing) as client:
            metadata = trace_metadata(trace_id, parent, "s-1")
            asked = {"prompt": "Omar Khan", "seed": "s-1"}
            version = (await client.brief("fill", asked=asked, metadata=metadata, **SPEC)).roster.version
            with pytest.raises(Fault):
                await client.brief("json_schema", metadata=metadata, schema_json='{"type": 7}')
        tree = receiver.tree(trace_id)
    assert tree is not None
    # The refused one began no session.
    (brief,) = [node.span for node in tree.tops]
    assert (brief.name, brief.type, brief.parent_span_id) == ("brief", "retriever", parent)
    shown = json.loads(str(brief.attributes["langfuse.observation.input"]))
    assert shown == {
        "kind": "fill", "candidates_max": 50, "prompt": "Omar Khan", "spec": {"count": 2, "role": "forklift operator"},
    }  # fmt: skip
    output = json.loads(str(brief.attributes["langfuse.observation.output"]))
    assert '"Omar Khan" does not qualify' in output["instructions"]
    assert (output["candidates_count"], output["candidates_total"], output["infeasible"]) == (6, 6, False)
    ids = {"[masked]"} if "worker_id" in mask_keys else {f"W-00000{at}" for at in (1, 2, 5, 6, 7)} | {"w-000001"}
    assert {each["worker_id"] for each in output["candidates"]} == ids
    assert "419" not in json.dumps(output)
    metadata_of = "langfuse.observation.metadata."
    assert str(brief.attributes[metadata_of + "roster_version"]).strip('"') == version
    assert brief.level not in ("WARNING", "ERROR")


async def test_the_retriever_span_of_a_roster_that_is_away_is_an_error(tmp_path: Path) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319d"
    with TraceReceiver() as receiver:
        tracing = {"host": receiver.url, "public_key": "pk-lf-1", "secret_key": "sk-lf-1"}
        async with serving(roster=small_table(tmp_path, path=tmp_path / "away.csv"), tracing=tracing) as client:
            with pytest.raises(Fault):
                await client.brief("fill", metadata=trace_metadata(trace_id, "b7ad6b7169203331", "s-1"), **SPEC)
        tree = receiver.tree(trace_id)
    assert tree is not None
    (failed,) = [node.span for node in tree.tops]
    assert (failed.name, failed.level) == ("brief", "ERROR")


@pytest.mark.skipif(not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set")
async def test_a_database_that_is_away_is_roster_unavailable(tmp_path: Path) -> None:
    table = RosterTable.model_validate(
        {"backend": "postgres", "postgres": {"conninfo": "host=127.0.0.1 port=1", "connect_timeout_ms": 200}}
    )
    async with serving(roster=table) as client:
        assert (await client.brief_fault("fill", **SPEC)).reason is Reason.ROSTER_UNAVAILABLE
        assert (await client.brief("fill", asked={"candidates_max": 0}, **SPEC)).form_schema_json
