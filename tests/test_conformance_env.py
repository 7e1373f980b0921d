"""Goal: what takes minutes to compile is compiled once for all checkouts, and a kept wheel is used only when whole."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENTRY = "llama-cpp-python==0.3.36 \\\n    --hash=sha256:aa\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_env", ROOT / "scripts" / "conformance_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Builds:
    def __init__(self) -> None:
        self.entries: list[str] = []

    def __call__(self, entry: str, folder: Path) -> None:
        self.entries.append(entry)
        (folder / "llama_cpp_python-0.3.36-py3-none-any.whl").write_bytes(b"a wheel")


def test_the_lock_parts_into_what_is_compiled_and_the_rest(script: ModuleType) -> None:
    lock = (ROOT / "requirements" / "conformance.txt").read_text(encoding="utf-8")

    entry, others = script.split_lock(lock)

    assert entry.startswith("llama-cpp-python==")
    assert "--hash=sha256:" in entry
    assert "llama-cpp-python" not in others
    assert others.count("==") == lock.count("==") - 1
    assert others.count("--hash=") == lock.count("--hash=") - entry.count("--hash=")


def test_a_wheel_is_built_once(script: ModuleType, tmp_path: Path) -> None:
    builds = Builds()

    wheels = [script.kept_wheel(ENTRY, tmp_path, builds) for _ in range(3)]

    assert builds.entries == [ENTRY]
    assert len(set(wheels)) == 1
    assert wheels[0].read_bytes() == b"a wheel"
    assert not list(tmp_path.glob(".building-*"))


@pytest.mark.parametrize("harm", ["changed", "cut", "without its digest", "gone"])
def test_a_wheel_that_is_not_whole_is_built_again(script: ModuleType, tmp_path: Path, harm: str) -> None:
    builds = Builds()
    wheel = script.kept_wheel(ENTRY, tmp_path, builds)
    if harm == "changed":
        wheel.write_bytes(b"another")
    elif harm == "cut":
        wheel.write_bytes(b"a wh")
    elif harm == "gone":
        wheel.unlink()
    else:
        wheel.with_suffix(".sha256").unlink()

    again = script.kept_wheel(ENTRY, tmp_path, builds)

    assert len(builds.entries) == 2
    assert again.read_bytes() == b"a wheel"


@pytest.mark.parametrize("changed", ["version", "flags", "interpreter"])
def test_another_source_flag_or_interpreter_is_another_wheel(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    builds = Builds()
    first = script.kept_wheel(ENTRY, tmp_path, builds)
    entry = ENTRY
    if changed == "version":
        entry = ENTRY.replace("aa", "bb")
    elif changed == "flags":
        monkeypatch.setenv("CMAKE_ARGS", "-DGGML_NATIVE=OFF")
    else:
        monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-399")

    second = script.kept_wheel(entry, tmp_path, builds)

    assert first.parent != second.parent
    assert len(builds.entries) == 2


def test_a_build_that_fails_leaves_nothing_behind(script: ModuleType, tmp_path: Path) -> None:
    def fail(_: str, folder: Path) -> None:
        (folder / "half.whl").write_bytes(b"x")
        raise RuntimeError("no compiler")

    with pytest.raises(RuntimeError):
        script.kept_wheel(ENTRY, tmp_path, fail)

    assert list(tmp_path.iterdir()) == []
    assert script.kept_wheel(ENTRY, tmp_path, Builds()).exists()
