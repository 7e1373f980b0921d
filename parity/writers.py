"""The three writers of session rows: how each is built, and how it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / ".work" / "parity"
BUILD_TIMEOUT_S = 600
RUN_TIMEOUT_S = 120

# What cargo says where the crates are neither cached nor to be had: no fault of the code.
_OFFLINE = ("failed to download", "failed to get", "Could not resolve host", "spurious network error")


class WriterAbsentError(Exception):
    """This machine cannot build the writer; the message is the reason."""


class WriterFailedError(Exception):
    """A writer did not build or ended with an error."""


@dataclass(frozen=True)
class Writer:
    """A writer that is ready to run; ``daemon`` is what it stamps on its rows."""

    language: str
    daemon: str
    command: tuple[str, ...]

    def run(self, *arguments: str | Path) -> bytes:
        """Its standard output.

        Raises:
            WriterFailedError: it ended with an error, or not within ``RUN_TIMEOUT_S`` seconds.
        """
        with self.start(*arguments) as process:
            try:
                out, told = process.communicate(timeout=RUN_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise WriterFailedError(f"{self.language}: no end after {RUN_TIMEOUT_S} s") from None
        if process.returncode != 0:
            last = told.decode(errors="replace").strip()[-300:]
            raise WriterFailedError(f"{self.language}: exit status {process.returncode}: {last}")
        return out

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Return the running process, its output piped."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "services")))}
        command = [*self.command, *map(str, arguments)]
        return subprocess.Popen(  # noqa: S603 - our own writers, built from this tree
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment
        )


def python() -> Writer:
    return Writer("python", "iterate-python", (sys.executable, "-m", "parity.python.main"))


def go() -> Writer:
    binary = BUILD / "parity-go"
    _build("go", ["build", "-o", str(binary), "."], HERE / "go", {})
    return Writer("go", "iterate-go", (str(binary),))


def rust() -> Writer:
    target = BUILD / "rust"
    _build("cargo", ["build", "--release", "--quiet"], HERE / "rust", {"CARGO_TARGET_DIR": str(target)})
    return Writer("rust", "iterate-rust", (str(target / "release" / "parity"),))


LANGUAGES = {"python": python, "go": go, "rust": rust}


def _build(tool: str, arguments: Sequence[str], folder: Path, extra: dict[str, str]) -> None:
    path = shutil.which(tool)
    if path is None:
        raise WriterAbsentError(f"{tool} not found")
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        built = subprocess.run(  # noqa: S603 - the toolchain that the machine's owner put on PATH
            [path, *arguments],
            cwd=folder,
            env=os.environ | extra,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WriterFailedError(f"{tool}: no build after {BUILD_TIMEOUT_S} s") from None
    if built.returncode != 0:
        if any(sign in built.stderr for sign in _OFFLINE):
            raise WriterAbsentError(f"{tool} cannot fetch its packages")
        raise WriterFailedError(f"{tool} {' '.join(arguments)}:\n{built.stderr.strip()[-3000:]}")
