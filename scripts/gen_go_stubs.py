"""Generate the Go stubs of examples/clients/go from protos/. The only way they are made.

    python scripts/gen_go_stubs.py [--out DIR]

protoc comes with grpcio-tools, its plugins are those that the example's go.mod locks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "clients" / "go"
MODULE = "lakehouse"
PLUGINS = ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc")


def generate(out: Path) -> None:
    """Write the stubs below `out`. Raises CalledProcessError where go or protoc fails."""
    protos = sorted(path.relative_to(ROOT / "protos").as_posix() for path in (ROOT / "protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as plugins:
        command = ["go", "build", "-o", f"{plugins}/", *PLUGINS]
        subprocess.run(command, cwd=EXAMPLE, check=True)
        outputs = [f"--{kind}_{key}" for kind in ("go", "go-grpc") for key in (f"out={out}", f"opt=module={MODULE}")]
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}", *outputs, *protos],
            env={**os.environ, "PATH": f"{plugins}{os.pathsep}{os.environ.get('PATH', '')}"},
            check=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Generate the example's Go stubs.")
    parser.add_argument("--out", type=Path, default=EXAMPLE, help="folder to write to (examples/clients/go)")
    generate(parser.parse_args().out)


if __name__ == "__main__":
    main()
