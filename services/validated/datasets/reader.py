"""``python -m validated.datasets.reader``: read a roster or a dataset and build its index, in a process of its own.

The files are named on standard input (JSON), a report (JSON) goes to standard output. So a reload costs the service
neither its interpreter lock nor the memory of a parser, and a file that brings the parser down brings down this process
alone.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from validated.datasets.dataset import RefusedError, UnreadableError
from validated.datasets.parts import OpenFiles


def main() -> None:
    """See the module's docstring."""
    request = json.load(sys.stdin)
    with OpenFiles() as opened:
        for path in request["paths"]:
            # Whoever reads it will say so.
            with contextlib.suppress(RefusedError, UnreadableError):
                opened.parts(Path(path))
        # The files are hashed while the engine is imported, which takes as long for 100 MB.
        from validated.datasets.build import answer  # noqa: PLC0415

        json.dump(answer(request, opened), sys.stdout)


if __name__ == "__main__":
    main()
