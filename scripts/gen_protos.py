"""Generate the stubs under services/lakehouse from protos/. The only way they are made.

    python scripts/gen_protos.py [--out DIR]

The pinned grpcio-tools decides the oldest grpcio and protobuf that can load the stubs (a stub refuses a runtime older
than its generator), so its version is the floor in pyproject.toml: raise it on purpose or not at all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS_VERSION = "1.80.1"


def generate(out: Path) -> list[Path]:
    """Write all stubs below `out` and return their paths, relative to it.

    Raises SystemExit where grpcio-tools is not the pinned release or protoc fails.
    """
    installed = metadata.version("grpcio-tools")
    if installed != TOOLS_VERSION:
        sys.exit(f"grpcio-tools is {installed}, the stubs are made with {TOOLS_VERSION}: run `make setup`")
    protos = sorted(path.relative_to(ROOT / "protos").as_posix() for path in (ROOT / "protos").rglob("*.proto"))
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{ROOT / 'protos'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
        *protos,
    ]
    # protoc finds the mypy plugin on PATH, beside the interpreter that runs this script.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})
    return sorted(path.relative_to(out) for path in out.glob("lakehouse/*/v1/*_pb2*.py*"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Generate the gRPC stubs.")
    parser.add_argument("--out", type=Path, default=ROOT / "services", help="folder to write to (services)")
    arguments = parser.parse_args()
    for path in generate(arguments.out):
        print(path)


if __name__ == "__main__":
    main()
