"""The promise of the gate, on artifacts that nobody thought of: bench/validated.py --gate runs many more of them."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from campaigns import TIMES, campaign
from fill_edits import edited, is_right
from hypothesis import given
from hypothesis import strategies as st
from rosters import EXAMPLES, example_rows, judge, load_files, people, write_csv

from lakehouse.strict_json.parser import JsonBreach, parse_json
from validated.config import LimitsTable, RosterTable
from validated.datasets.build import RosterFiles
from validated.datasets.file import FileRoster
from validated.datasets.index import RosterIndex
from validated.datasets.nobody import is_odd
from validated.kinds.fill import FillValidator
from validated.kinds.validator import Tools

CASES = 1000 * TIMES


async def test_exactly_the_artifacts_that_are_right_are_accepted() -> None:
    rows = [row for row in example_rows() if row["role"] == "picker packer" and row["active"] == "true"]
    known = {row["worker_id"]: row for row in example_rows()}
    random_ = random.Random(6)
    limits = LimitsTable(suggestions_strangers_max=0)
    accepted = 0
    async with FileRoster(RosterTable(path=EXAMPLES / "workers.csv"), near_ms=0).open() as roster:
        gate = FillValidator(Tools(roster, limits))
        for _ in range(CASES):
            text = edited(random_, rows)
            artifact = json.loads(text)
            size = len(artifact.get("workers", [])) if isinstance(artifact, dict) else 1
            count = min(max(size, 1), 1000)
            findings, ground = await judge(gate, text, role="picker packer", count=count)
            assert is_right(text, known, count, "picker packer") is not findings.any, text
            if not findings.any:
                accepted += 1
                assert ground is not None
                assert ground.grounded is True
            elif ground is not None and ground.grounded:
                assert all(known[each["worker_id"]]["name"] == each["name"] for each in artifact["workers"]), text
    # Were everything refused, or nothing, the test would say nothing.
    assert CASES // 10 < accepted < CASES * 9 // 10


async def test_every_untouched_artifact_of_the_roster_is_accepted(fill: FillValidator) -> None:
    for person in people():
        if person["role"] == "Forklift operator" and person["active"] == "true":
            worker = {name: person[name] for name in ("worker_id", "name", "role", "city", "state")}
            findings, _ = await judge(fill, {"workers": [worker]}, role="forklift operator", count=1)
            assert not findings.any, worker


# What is no id or no name is refused; what has no letter is none, and what holds a semicolon.
_TEXTS = (
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zs", "Zl", "Zp", "Cn", "Co")), min_size=1, max_size=12)
    .map("x".__add__)
    .filter(lambda text: not is_odd(text, is_id=True) and not is_odd(text, is_id=False))
)


@campaign(4)
@given(st.dictionaries(_TEXTS, _TEXTS, min_size=20, max_size=60), st.lists(_TEXTS, max_size=40))
def test_the_index_finds_exactly_the_ids_that_are_in_it(known: dict[str, str], others: list[str]) -> None:
    index = _index(known)
    for worker_id, name in known.items():
        worker = index.worker(worker_id)
        assert worker is not None
        assert (worker.worker_id, worker.name) == (worker_id, name)
    for other in others:
        assert index.has(other) == (other in known)


def _index(known: dict[str, str]) -> RosterIndex:
    with tempfile.TemporaryDirectory() as folder:
        path = write_csv(Path(folder) / "w.csv", [{"worker_id": key, "name": value} for key, value in known.items()])
        report, index = load_files(RosterFiles.read({"workers": str(path)}))
    assert index is not None, report["problems"]
    return index


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(["workers", "worker_id", "name"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@campaign(100)
@given(_JSON)
async def test_any_json_gets_a_verdict_and_none_of_it_passes(fill: FillValidator, value: object) -> None:
    try:
        parse_json(json.dumps(value))
    except JsonBreach:
        return
    findings, _ = await judge(fill, json.dumps(value), role="forklift operator", count=1)
    assert findings.any
