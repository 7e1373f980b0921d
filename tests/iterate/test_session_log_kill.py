"""Real processes on one log, killed at random; bench/session_log_kill.py runs the same at full size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import iterate.session_log.logger

REPOSITORY = Path(__file__).parents[2]


def test_killed_writers_leave_one_whole_row_for_every_session(tmp_path: Path) -> None:
    arguments = ["--processes", "3", "--rows", "50", "--kills", "4", "--kill-every-ms", "100", "--seed", "7"]
    run = subprocess.run(
        [sys.executable, REPOSITORY / "bench" / "session_log_kill.py", *arguments, "--folder", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(iterate.session_log.logger.__file__).parents[1])},
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(run.stdout)
    assert report["kills"] >= 1, "no process was killed: nothing was shown"
    assert report["sessions_begun"] >= 3 * 50
    assert report["rows"] >= report["sessions_begun"]
    assert report["sessions_without_row"] == 0
    assert report["sessions_with_two_rows"] == 0
    assert report["answers_contradicted"] == 0
    assert report["interleaved_rows"] == 0
    assert report["torn_rows"] <= report["kills"]
