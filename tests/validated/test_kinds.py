"""Kinds from outside the repository."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from outside_kinds import install_kinds
from rosters import small_table
from validated_server import serving

from lakehouse.errors import Fault, Reason
from lakehouse.server.listener import StartError

KIND = """
import asyncio

from validated.kinds.validator import Ground

class Haiku:
    def __init__(self, tools):
        self.tools = tools

    async def validate(self, artifact, spec, findings):
        if artifact != {"lines": 3}:
            findings.add("NOT_A_HAIKU", "/lines", f"three lines; asked was {spec.text}")
        return None

class Patient:
    def __init__(self, tools):
        Patient.begun, Patient.cleaned_up = asyncio.Event(), asyncio.Event()

    async def validate(self, artifact, spec, findings):
        Patient.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            Patient.cleaned_up.set()
"""


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, name: str, value: str) -> None:
    install_kinds(folder, monkeypatch, {name: value}, module="haiku_kind", code=KIND)


async def test_a_kind_from_an_entry_point_decides_and_takes_spec_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, monkeypatch, name="haiku", value="haiku_kind:Haiku")
    async with serving(roster=small_table(tmp_path)) as client:
        assert (await client.validate("haiku", {"lines": 3})).passed
        response = await client.validate("haiku", {"lines": 4}, spec_json='{"b": 1.0, "a": 2}')
        assert [finding.code for finding in response.findings] == ["NOT_A_HAIKU"]
        assert '{"a":2,"b":1}' in response.findings[0].message
        assert not response.HasField("roster")
        assert not response.HasField("grounded_in_roster")
        fault = await client.fault("limerick", {})
        assert fault.reason is Reason.UNKNOWN_KIND
        assert "fill, email, json_schema, haiku" in fault.violations[0].description


async def test_a_validation_that_waits_past_the_deadline_is_cancelled_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, monkeypatch, name="patience", value="haiku_kind:Patient")
    async with serving(roster=small_table(tmp_path)) as client:
        with pytest.raises(Fault) as caught:
            await client.validate("patience", {}, timeout_s=0.3)
        await asyncio.wait_for(sys.modules["haiku_kind"].Patient.cleaned_up.wait(), 5)
    assert (caught.value.reason, caught.value.where) == (Reason.DEADLINE, "validated")
    assert "trace_id" in caught.value.metadata, "the service's own status, not the one that gRPC gives by itself"


async def test_a_validation_whose_caller_leaves_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, name="patience", value="haiku_kind:Patient")
    async with serving(roster=small_table(tmp_path)) as client:
        call = asyncio.ensure_future(client.validate("patience", {}, timeout_s=30))
        await asyncio.wait_for(sys.modules["haiku_kind"].Patient.begun.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(sys.modules["haiku_kind"].Patient.cleaned_up.wait(), 5)


@pytest.mark.parametrize(("name", "value"), [("fill", "haiku_kind:Haiku"), ("haiku", "haiku_kind:Absent")])
async def test_a_kind_that_cannot_be_loaded_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    _install(tmp_path, monkeypatch, name=name, value=value)
    with pytest.raises(StartError, match=f'kind "{name}"'):
        async with serving(roster=small_table(tmp_path)):
            pass
