"""Goal: what `pip install` gives is whole, and light for those who only call.

Method: the wheel is built as a release would build it, and its files and metadata are read. `.ci/run` installs it into
a fresh environment as well.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_a_plain_install_needs_grpc_protobuf_and_googleapis_alone(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    requires = Parser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist", [])

    base = {Requirement(line).name for line in requires if Requirement(line).marker is None}

    assert base == {"grpcio", "protobuf", "googleapis-common-protos"}


def test_stubs_protos_types_and_the_example_roster_are_in_it(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())

    for service in ("iterate", "chatd", "validated"):
        assert f"lakehouse/{service}/v1/{service}_pb2_grpc.py" in names
        assert f"lakehouse/{service}/v1/{service}_pb2_grpc.pyi" in names
        assert f"lakehouse/protos/{service}/v1/{service}.proto" in names
        assert f"{service}/__main__.py" in names
    assert "lakehouse/py.typed" in names
    assert "lakehouse/examples/roster/workers.csv" in names
    assert "chatd/providers/default_script.toml" in names
    viewer = "lakehouse/sessions/query/viewer"
    assert {f"{viewer}/templates/base.html", f"{viewer}/assets/page.css", f"{viewer}/assets/live.js"} <= names


def test_nothing_but_the_four_packages_is_installed(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/", 1)[0] for name in wheel.namelist() if ".dist-info/" not in name}

    assert tops == {"lakehouse", "iterate", "chatd", "validated"}
