"""The pages about datasets and declared kinds are true: the tutorial runs word for word, the reference is that of the
types.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from catalogue import ROOT

from validated.config import DatasetTable

_FILE = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PIECE = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_tutorial_runs_word_for_word(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "first-kind.md").read_text(encoding="utf-8")
    for name, text in _FILE.findall(page):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    (console,) = _CONSOLE.findall(page)
    steps = [step for step in console.split("$ ") if step]
    assert len(steps) == 5
    for step in steps:
        command, _, wanted = step.partition("\n")
        result = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        said = [line for line in result.stdout.splitlines() if not line.startswith("dataset ")]
        assert said == wanted.splitlines(), (command, result.stdout, result.stderr)


def test_every_other_piece_of_the_tutorial_is_a_configuration() -> None:
    page = (ROOT / "docs" / "first-kind.md").read_text(encoding="utf-8")
    pieces = _PIECE.findall(page)
    assert pieces
    for piece in pieces:
        for table in tomllib.loads(piece)["validated"]["datasets"].values():
            DatasetTable.model_validate(table)


def test_every_key_of_the_reference_has_its_words() -> None:
    page = (ROOT / "docs" / "kinds-reference.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_reference_is_that_of_the_types() -> None:
    script = ROOT / "scripts" / "kinds_reference.py"
    written = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "kinds-reference.md").read_text(encoding="utf-8") == written
