"""Validate over a real socket: hostile artifacts, what a caller reads in a refusal, what the log and the span say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rosters import small_table
from validated_server import Client, serving

from lakehouse.errors import Fault, Reason
from lakehouse.server import call as call_module
from lakehouse.trace_context import trace_metadata
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.validated.v1 import validated_pb2

ANA = {"worker_id": "W-000001", "name": "Ana Silva"}
SPEC: dict[str, Any] = {"role": "forklift operator", "count": 1}


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with serving(roster=small_table(tmp_path_factory.mktemp("rpc"))) as running:
        yield running


async def test_the_answer_holds_the_canonical_text_that_was_checked(client: Client) -> None:
    response = await client.validate(
        "fill", '{ "workers" : [ {"name":"Ana Silv\\u0061" , "worker_id":"W-000001"} ] }', **SPEC
    )
    assert response.passed
    assert response.artifact_json == '{"workers":[{"name":"Ana Silva","worker_id":"W-000001"}]}'
    assert response.grounded_in_roster
    assert response.roster.row_count == 8
    assert response.roster.source.endswith("workers.csv")
    assert response.roster.loaded_at.endswith("Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        '{"workers": [' + "[" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        '{"workers": [{"worker_id": "W-000001", "worker_id": "W-999999", "name": "Ana Silva"}]}',
        '{"workers": [{"worker_id": "W-000001", "name": "Ana Silva"}], "\\u0077orkers": []}',
        '{"workers": NaN}',
        '{"workers": [{"worker_id": -Infinity, "name": "Ana Silva"}]}',
        '{"workers": [{"worker_id": 1e999, "name": "Ana Silva"}]}',
        '{"workers": [{"worker_id": ' + "9" * 5000 + ', "name": "Ana Silva"}]}',
        '\ufeff{"workers": []}',
        '{"workers": []} {"workers": []}',
        '{"workers": [],}',
        " " * 300_000 + "{}",
    ],
)
async def test_what_cannot_be_read_as_one_json_value_is_refused(client: Client, text: str) -> None:
    fault = await client.fault("fill", text, **SPEC)
    assert fault.reason is Reason.BAD_REQUEST
    assert fault.code == "INVALID_ARGUMENT"
    (violation,) = fault.violations
    assert violation.field == "artifact_json"
    assert len(violation.description) < 300


@pytest.mark.parametrize(
    "worker",
    [
        {**ANA, "worker_id": "w-000001"},
        {**ANA, "worker_id": " W-000001"},
        {**ANA, "worker_id": "W-000001 "},
        {**ANA, "worker_id": "W-000001\u0000"},
        {**ANA, "worker_id": "W-0000\u200b01"},
        {**ANA, "worker_id": "\u202eW-000001"},
        {**ANA, "worker_id": "\u051c-000001"},
        {**ANA, "worker_id": "W\u2011000001"},
        {**ANA, "worker_id": "\uff37-000001"},
        {**ANA, "worker_id": "W-00000\u0661"},
        {**ANA, "worker_id": "\ud800W-000001"},
        {**ANA, "worker_id": 1},
        {**ANA, "worker_id": ["W-000001"]},
        {**ANA, "worker_id": {"W-000001": "W-000001"}},
        {**ANA, "worker_id": None},
        {**ANA, "worker_id": True},
        {**ANA, "worker_id": "W-000001' OR '1'='1"},
        {**ANA, "worker_id": "%"},
        {**ANA, "name": "Ana Silva\u200b"},
        {**ANA, "name": "\u0410na Silva"},
        {**ANA, "name": "Ana  Silva"},
        {**ANA, "name": "ANA SILVA"},
        {**ANA, "backup": ANA},
        {**ANA, "worker_id ": "W-999999"},
    ],
)
async def test_an_almost_right_worker_never_passes(client: Client, worker: Any) -> None:
    response = await client.validate("fill", {"workers": [worker]}, **SPEC)
    assert not response.passed
    assert response.findings
    for finding in response.findings:
        assert finding.message.isprintable()


async def test_ten_thousand_phantoms_get_a_bounded_answer_while_others_are_served(tmp_path: Path) -> None:
    workers = [{"worker_id": f"W-{number}", "name": f"N {number}"} for number in range(10_000)]
    limits = {"artifact_bytes_max": 1_000_000}
    async with serving(roster=small_table(tmp_path), limits=limits) as client:
        big = asyncio.create_task(client.validate("fill", {"workers": workers}, role="welder", count=1000))
        served = 0
        while not big.done():
            assert (await client.validate("fill", {"workers": [ANA]}, **SPEC)).passed
            served += not big.done()
        assert served > 0
        response = await big
        assert len(response.findings) == 100
        assert response.findings_left_out == 9901
        assert sum(bool(finding.suggestions) for finding in response.findings) <= 20


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (validated_pb2.ValidateRequest(kind="fil", artifact_json="{}"), Reason.UNKNOWN_KIND, "kind"),
        (validated_pb2.ValidateRequest(kind="fill", artifact_json="{}"), Reason.KIND_SPEC_MISMATCH, "fill"),
        (
            validated_pb2.ValidateRequest(kind="fill", fill={"role": "", "count": 0}, artifact_json="{}"),
            Reason.BAD_REQUEST,
            "fill.role",
        ),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_by_field(
    client: Client, request_: Any, reason: Reason, field: str
) -> None:
    with pytest.raises(Fault) as caught:
        await client.send(request_)
    assert caught.value.reason is reason
    assert caught.value.violations[0].field == field


async def test_the_calls_log_line_says_which_roster_gave_which_verdict(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []
    original = call_module.Call

    def recorded(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        seen.append(made.facts)
        return made

    monkeypatch.setattr("lakehouse.server.interceptor.Call", recorded)
    await client.validate("fill", {"workers": [{"worker_id": "W-9", "name": "X"}]}, **SPEC)
    (facts,) = seen
    assert facts["kind"] == "fill"
    assert facts["passed"] is False
    assert facts["findings"] == 1
    assert facts["codes"] == ["PHANTOM_WORKER"]
    roster: Any = facts["roster"]
    assert set(roster) == {"source", "version", "row_count", "loaded_at"}
    assert roster["row_count"] == 8


async def test_the_guardrail_span_says_what_was_found_and_by_which_roster(tmp_path: Path) -> None:
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    phantom = {"workers": [{"worker_id": "W-9", "name": "X"}]}
    with TraceReceiver() as receiver:
        tracing = {"host": receiver.url, "public_key": "pk-lf-1", "secret_key": "sk-lf-1"}
        async with serving(roster=small_table(tmp_path), tracing=tracing) as client:
            metadata = trace_metadata(trace_id, parent, "s-1")
            version = (await client.validate("fill", phantom, metadata=metadata, **SPEC)).roster.version
            await client.validate("fill", {"workers": [ANA]}, metadata=metadata, **SPEC)
            with pytest.raises(Fault):
                await client.validate("json_schema", {}, metadata=metadata, schema_json='{"type": 7}')
        tree = receiver.tree(trace_id)
    assert tree is not None
    refused, passed, failed = sorted((node.span for node in tree.tops), key=lambda span: span.start_unix_ns)
    assert {(span.name, span.type, span.parent_span_id) for span in (refused, passed, failed)} == {
        ("validate", "guardrail", parent)
    }
    assert (refused.level, refused.status_message) == ("WARNING", "1 finding: PHANTOM_WORKER")
    assert json.loads(str(refused.attributes["langfuse.observation.input"])) == phantom
    output = json.loads(str(refused.attributes["langfuse.observation.output"]))
    assert (output["passed"], output["findings"][0]["code"]) == (False, "PHANTOM_WORKER")
    metadata_of = "langfuse.observation.metadata."
    assert str(refused.attributes[metadata_of + "roster_version"]).strip('"') == version
    assert str(refused.attributes[metadata_of + "roster_source"]).strip('"').endswith("workers.csv")
    assert passed.level not in ("WARNING", "ERROR")
    assert json.loads(str(passed.attributes["langfuse.observation.output"]))["passed"] is True
    assert failed.level == "ERROR"
