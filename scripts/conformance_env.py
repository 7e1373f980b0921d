"""Make .tools/conformance, the environment of tests/conformance: servers and SDKs that others wrote.

    python scripts/conformance_env.py

llama-cpp-python comes as source and is compiled: that takes a C++ compiler and some minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".tools" / "conformance"


def main() -> None:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        sys.exit("uv is missing: run `make setup`, or pip install -r requirements/uv.txt")
    lock = ROOT / "requirements" / "conformance.txt"
    wanted = ["--require-hashes", "-r", str(lock)] if lock.exists() else ["-r", str(lock.with_suffix(".in"))]
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(FOLDER)], check=True)
    environ = {**os.environ, "VIRTUAL_ENV": str(FOLDER)}
    subprocess.run([uv, "pip", "install", *wanted], check=True, env=environ)
    print(f"{FOLDER.relative_to(ROOT)} is ready: pytest tests/conformance")


if __name__ == "__main__":
    main()
