"""Resolve the locks in requirements/: versions and hashes, no addresses.

python scripts/lock.py [--upgrade] [LOCK...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# lock -> what it is made from
LOCKS = {
    "uv.txt": ["requirements/uv.in"],
    "server.txt": ["pyproject.toml", "--extra", "server"],
    "lake.txt": ["pyproject.toml", "--extra", "server", "--extra", "lake"],
    "dev.txt": ["pyproject.toml", "--extra", "server", "--extra", "page", "--extra", "lake", "--group", "dev"],
    # The lowest releases that pyproject.toml allows: `make test-lowest` shows that the floors are true.
    "lowest.txt": [
        "pyproject.toml",
        "--extra",
        "server",
        "--extra",
        "page",
        "--extra",
        "lake",
        "--resolution",
        "lowest-direct",
    ],
    "conformance.txt": ["requirements/conformance.in"],
    "bench.txt": ["requirements/bench.in"],
    # Engines that others wrote, for bench/lake_engines.py and tests/sessions/test_other_engines.py.
    "engines.txt": ["requirements/engines.in"],
    # The schemas of Kubernetes, for tests/test_kubernetes.py: in an environment of their own, .tools/kubernetes.
    "kubernetes.txt": ["requirements/kubernetes.in"],
}

CONSTRAINED = ("dev.txt", "server.txt", "lake.txt", "lowest.txt")


def main() -> None:
    parser = argparse.ArgumentParser(description="Resolve the locks in requirements/.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases instead of the locked ones")
    parser.add_argument("locks", nargs="*", choices=[[], *LOCKS], help="which ones; all without a name")
    arguments = parser.parse_args()
    for lock, sources in LOCKS.items():
        if arguments.locks and lock not in arguments.locks:
            continue
        command = [
            str(Path(sys.executable).parent / "uv"),
            *("pip", "compile", "--quiet", "--generate-hashes", "--universal", "--python-version", "3.11"),
            *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
            *(("--upgrade",) if arguments.upgrade else ()),
            *(("-c", "requirements/constraints.in") if lock in CONSTRAINED else ()),
            *sources,
            *("-o", f"requirements/{lock}"),
        ]
        subprocess.run(command, check=True, cwd=ROOT)
        print(f"requirements/{lock}")


if __name__ == "__main__":
    main()
