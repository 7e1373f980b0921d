"""Goal: the committed stubs are what protos/ gives, and the protos keep to the style that buf holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_committed_stubs_are_fresh(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts/gen_protos.py", "--out", tmp_path], check=True, capture_output=True)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*.py*")}
    committed = {
        path.relative_to(ROOT / "services"): path.read_text()
        for path in (ROOT / "services/lakehouse").glob("*/v1/*")
        if path.suffix in {".py", ".pyi"}
    }

    assert set(made) == set(committed)
    stale = [str(path) for path in made if made[path] != committed[path]]
    assert stale == [], "run `make protos`"


@pytest.mark.parametrize("command", [["lint"], ["format", "--diff", "--exit-code"]])
def test_buf_finds_nothing_to_mend(command: list[str]) -> None:
    buf = Path(sys.executable).parent / "buf"

    done = subprocess.run([buf, *command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
