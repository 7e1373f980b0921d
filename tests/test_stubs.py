"""Goal: the committed stubs are what protos/ gives, and the protos keep to the style that buf holds."""

from __future__ import annotations

import re
import shutil
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


RELEASED = ROOT / "protos" / "released" / "v0.1.binpb"


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).parent / "buf"
    return subprocess.run(
        [buf, "breaking", "--against", RELEASED], cwd=folder, capture_output=True, text=True, check=False
    )


def test_nothing_that_the_last_release_has_is_taken_away() -> None:
    done = breaking(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("  string session_id = 1;", "", "session_id"),
        ("  string session_id = 1;", "  int64 session_id = 1;", "changed type"),
        ("  string session_id = 1;", "  string session = 1;", "changed name"),
        ("  rpc StreamIterate(", "  rpc Stream(", "StreamIterate"),
    ],
)
def test_a_change_that_breaks_callers_is_found(tmp_path: Path, was: str, becomes: str, says: str) -> None:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    file = tmp_path / "protos" / "lakehouse" / "iterate" / "v1" / "iterate.proto"
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, becomes))
    done = breaking(tmp_path)
    assert done.returncode == 100, done.stdout + done.stderr
    assert says in done.stdout


@pytest.mark.parametrize("file", sorted((ROOT / "protos").rglob("*.proto")), ids=lambda file: file.stem)
def test_every_proto_has_the_names_of_other_languages(file: Path) -> None:
    name = file.stem
    options = dict(re.findall(r"^option (\w+) = \"?([^\";]+(?:;\w+)?)\"?;$", file.read_text(), re.MULTILINE))
    assert options == {
        "csharp_namespace": f"Lakehouse.{name.capitalize()}.V1",
        "go_package": f"lakehouse/{name}/v1;{name}v1",
        "java_multiple_files": "true",
        "java_outer_classname": f"{name.capitalize()}Proto",
        "java_package": f"lakehouse.{name}.v1",
    }
