"""Rosters with a known truth, one thing changed in most: never somebody whom the truth keeps out. The long form, with
tables as well, is bench/roster_truth.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import TIMES
from roster_truth import judge, make
from rosters import load_files

from validated.datasets.build import RosterFiles

ROSTERS = 18 * TIMES


@pytest.mark.parametrize("block", range(6))
def test_nobody_passes_whom_the_truth_keeps_out_and_every_refusal_names_its_place(tmp_path: Path, block: int) -> None:
    loaded = refused = 0
    for seed in range(block * ROSTERS, (block + 1) * ROSTERS):
        case = make(seed, tmp_path)
        report, index = load_files(RosterFiles.read(case.files))
        assert judge(case, report, index) == [], f"seed {seed}, {case.change}"
        loaded += index is not None
        refused += index is None
    # Of both sorts, or the test says nothing.
    assert loaded
    assert refused
