"""examples/roster is what its script makes, and has enough people for the demo's task."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from rosters import EXAMPLES, ROOT, example_rows


def test_the_script_makes_the_committed_files(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_roster", ROOT / "examples" / "make_roster.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.make(3000, tmp_path)
    for name in ("workers.csv", "assignments.csv", "do_not_send.csv"):
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes(), name


def test_the_roster_is_small_and_can_fill_the_demo() -> None:
    assert sum(path.stat().st_size for path in EXAMPLES.iterdir()) < 600_000
    rows = example_rows()
    fit = [row for row in rows if (row["role"], row["city"], row["active"]) == ("forklift operator", "Toledo", "true")]
    assert len(fit) > 50
    assert any(not row["name"].isascii() for row in fit)
    assert all("-555-01" in row["phone"] for row in rows)
