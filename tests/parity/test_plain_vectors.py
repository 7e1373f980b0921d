"""The vectors of parity/ by the short way through the parser and by the strict one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from parity.python.fixture import read_json, text_of
from parity.run import FIXTURES

from lakehouse.strict_json.parser import BYTES_MAX, DEPTH_MAX, canonicalize, parse_json, print_canonical
from lakehouse.strict_json.plain import read_plain
from parity import make_fixtures

TEXTS = [
    (path.stem, name, text_of(fixture[name]))
    for path in sorted(FIXTURES.glob("*.json"))
    for fixture in (read_json(path),)
    for name in ("spec", "artifact")
    if name in fixture
]


@pytest.mark.parametrize(("fixture", "name", "text"), TEXTS, ids=[f"{each[0]}-{each[1]}" for each in TEXTS])
def test_a_vector_is_read_alike_both_ways(fixture: str, name: str, text: Any) -> None:
    strict = print_canonical(parse_json(text))
    for each in (text, strict):
        plain = read_plain(each, BYTES_MAX, DEPTH_MAX)
        if plain is not None:
            assert plain[1] == strict == canonicalize(text)
            assert print_canonical(plain[0]) == strict


def test_the_short_way_takes_a_good_part_of_the_vectors() -> None:
    assert len(TEXTS) > 40
    taken = [read_plain(canonicalize(text), BYTES_MAX, DEPTH_MAX) is not None for _, _, text in TEXTS]
    assert sum(taken) > len(TEXTS) // 2, json.dumps(taken)


def test_no_refused_vector_is_taken() -> None:
    for case in make_fixtures.refusals():
        assert read_plain(text_of(case["text"]), BYTES_MAX, DEPTH_MAX) is None, case
