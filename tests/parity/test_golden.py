"""Python, the encoder that iterate uses, gives the committed bytes; this needs neither Go nor Rust."""

from __future__ import annotations

import json

import pytest
from parity.compare import blanked
from parity.python.fixture import DAEMON, RefusedError, read_json, record_of, text_of
from parity.run import FIXTURES, GOLDEN, REFUSALS, golden_of

from lakehouse.sessions.row import encode_row
from lakehouse.sessions.row_reading import decode_row
from lakehouse.strict_json.parser import JsonBreach, canonicalize
from parity import make_fixtures

NAMES = sorted(path.stem for path in FIXTURES.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_python_prints_the_golden_row(name: str) -> None:
    row = encode_row(record_of(read_json(FIXTURES / f"{name}.json")))
    assert row.endswith(b"\n")
    assert blanked(row[:-1], DAEMON) == golden_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_row_decodes_to_a_record_that_encodes_to_it(name: str) -> None:
    golden = (GOLDEN / f"{name}.jsonl").read_bytes()
    assert encode_row(decode_row(golden)) == golden


def test_the_committed_fixtures_are_the_ones_that_the_script_makes() -> None:
    assert len(NAMES) >= 40
    assert {name: read_json(FIXTURES / f"{name}.json") for name in NAMES} == make_fixtures.fixtures()
    assert json.loads(REFUSALS.read_bytes()) == make_fixtures.refusals()
    assert {path.stem for path in GOLDEN.iterdir()} == set(NAMES)


def test_python_refuses_every_text_of_the_second_set_by_its_kind() -> None:
    for case in make_fixtures.refusals():
        with pytest.raises(JsonBreach) as caught:
            canonicalize(text_of(case["text"]))
        assert caught.value.kind == case["kind"], case


def test_a_session_with_a_refused_artifact_has_no_row() -> None:
    with pytest.raises(RefusedError) as caught:
        record_of(make_fixtures.session(artifact='{"a":1,"a":2}'))
    assert (caught.value.key, caught.value.kind) == ("artifact", "duplicate_name")
