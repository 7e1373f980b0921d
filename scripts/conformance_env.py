"""Make .tools/conformance, the environment of tests/conformance and bench/acceptance: servers and SDKs that others
wrote, and a small model.

    python scripts/conformance_env.py

llama-cpp-python comes as source and is compiled, which takes a C++ compiler and some minutes. Its wheel is kept under
$LAKEHOUSE_WHEELS (default: lakehouse/wheels in $XDG_CACHE_HOME or ~/.cache) for every later checkout, in a folder named
by all that decides what is built; beside it stands its SHA-256, and a wheel that does not have it is built again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".tools" / "conformance"
COMPILED = "llama-cpp-python"

Build = Callable[[str, Path], None]


def main() -> None:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        sys.exit("uv is missing: run `make setup`, or pip install -r requirements/uv.txt")
    entry, others = split_lock((ROOT / "requirements" / "conformance.txt").read_text(encoding="utf-8"))
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(FOLDER)], check=True)
    environ = {**os.environ, "VIRTUAL_ENV": str(FOLDER)}
    wheel = kept_wheel(entry, wheels_folder(environ), build)
    with tempfile.TemporaryDirectory() as scratch:
        lock = Path(scratch) / "others.txt"
        lock.write_text(others, encoding="utf-8")
        # The lock is whole. Left to look for dependencies, uv finds llama-cpp-python among them: it has no hash here.
        locked = ["--no-deps", "--require-hashes", "-r", str(lock)]
        # Compiled here once, and not by each server that a test starts.
        subprocess.run([uv, "pip", "install", "--compile-bytecode", *locked], check=True, env=environ)
    subprocess.run([uv, "pip", "install", "--no-deps", str(wheel)], check=True, env=environ)
    subprocess.run([uv, "pip", "check", "--quiet"], check=True, env=environ)
    print(f"{FOLDER.relative_to(ROOT)} is ready: pytest tests/conformance, python -m bench.acceptance")


def split_lock(lock: str) -> tuple[str, str]:
    """Return the locked entry of what is compiled, hashes and all, and the entries of all others."""
    entries = re.split(r"\n(?=[^\s#])", "\n" + lock)
    compiled = [entry for entry in entries if entry.startswith(f"{COMPILED}==")]
    if len(compiled) != 1:
        raise ValueError(f"the lock has {len(compiled)} entries of {COMPILED}: one is needed")
    return compiled[0] + "\n", "\n".join(entry for entry in entries if entry is not compiled[0]) + "\n"


def wheels_folder(environ: dict[str, str]) -> Path:
    """Where built wheels are kept."""
    if named := environ.get("LAKEHOUSE_WHEELS"):
        return Path(named).absolute()
    cache = environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(cache) / "lakehouse" / "wheels"


def kept_wheel(entry: str, folder: Path, build: Build) -> Path:
    """Return the wheel of `entry`: the kept one where it is whole, else one that `build` makes into the folder it is
    given."""
    # The version and the source's hashes, who compiles, for which interpreter and machine, and how it was asked to.
    decides = [entry, sysconfig.get_platform(), sys.implementation.cache_tag, os.environ.get("CMAKE_ARGS", "")]
    kept = folder / f"{COMPILED}-{hashlib.sha256(repr(decides).encode()).hexdigest()[:24]}"
    if (wheel := _whole(kept)) is not None:
        return wheel
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
        made = Path(scratch) / "wheel"
        made.mkdir()
        build(entry, made)
        (wheel,) = made.glob("*.whl")
        wheel.with_suffix(".sha256").write_text(_digest(wheel), encoding="utf-8")
        shutil.rmtree(kept, ignore_errors=True)
        try:
            # Whole or not at all, and another checkout may have been quicker.
            made.rename(kept)
        except OSError:
            if _whole(kept) is None:
                raise
    wheel = kept / wheel.name
    return wheel if wheel.exists() else next(kept.glob("*.whl"))


def build(entry: str, folder: Path) -> None:
    """Compile the source that the lock's hashes name, by pip."""
    requirement = folder.parent / "requirement.txt"
    requirement.write_text(entry, encoding="utf-8")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--require-hashes", "-r", str(requirement), "-w", str(folder)),
        ],
        check=True,
    )


def _whole(kept: Path) -> Path | None:
    for wheel in kept.glob("*.whl"):
        try:
            if wheel.with_suffix(".sha256").read_text(encoding="utf-8") == _digest(wheel):
                return wheel
        except OSError:
            continue
    return None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
