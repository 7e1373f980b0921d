"""``python -m iterate.session_log.settle LOG [--spill-dir DIR]``: give the sessions of dead processes their rows now.

What iterate does at its start and each minute, for who works on the log while no iterate runs. Prints one JSON object:
``recovered``, the number of rows that were written.
"""

from __future__ import annotations

import argparse
import json

from iterate.session_log.counts import MinuteWarning, SessionLogCounts
from iterate.session_log.sweep import sweep


def main() -> None:
    parser = argparse.ArgumentParser(description="Give the sessions of dead processes their rows.")
    parser.add_argument("log", help="the live session log")
    parser.add_argument("--spill-dir", default="", help="iterate's spill_dir")
    arguments = parser.parse_args()
    recovered = sweep(arguments.log, spill_dir=arguments.spill_dir, counts=SessionLogCounts(), warning=MinuteWarning())
    print(json.dumps({"recovered": recovered}))  # noqa: T201  its answer


if __name__ == "__main__":
    main()
