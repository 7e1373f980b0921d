"""``python -m validated.roster_tool``: looks at roster files for a person; ``lakehouse roster`` runs it.

Prints one JSON object. It reads files exactly as the service does: what passes here is loaded there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from validated.config import RosterTable
from validated.datasets.build import build
from validated.datasets.columns import WORKER_COLUMNS
from validated.datasets.index import RosterIndex
from validated.datasets.near import near_rows
from validated.datasets.source import RosterFiles
from validated.datasets.texts import fold
from validated.datasets.worker import Wanted

_FIND_S = 5.0
_COUNTS_MAX = 20


def main() -> None:
    """See the module's docstring. Exits with 1 where the roster has problems; they are then what is printed."""
    arguments = _arguments()
    files = RosterFiles(arguments.file, arguments.assignments, arguments.do_not_send, json.loads(arguments.columns))
    limits = RosterTable()
    started = time.monotonic()
    with tempfile.TemporaryFile() as out:
        report = build(
            files,
            out,
            rows_max=limits.rows_max,
            memory_mb=limits.load_memory_mb,
            problems_max=arguments.problems_max,
        )
        report = {"source": str(arguments.file), **report, "load_ms": int((time.monotonic() - started) * 1000)}
        if report["problems"] or arguments.action == "check":
            json.dump(report, sys.stdout)
            sys.exit(1 if report["problems"] else 0)
        out.flush()
        index = RosterIndex(out.fileno())
    if arguments.action == "info":
        json.dump({**report, **_info(index)}, sys.stdout)
    else:
        json.dump({"source": str(arguments.file), **_find(index, arguments.text, arguments.limit)}, sys.stdout)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m validated.roster_tool")
    parser.add_argument("action", choices=("check", "info", "find"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--text", default="", help="for find: an id, a name, or a part of either")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--problems-max", type=int, default=1000)
    parser.add_argument("--assignments", type=Path)
    parser.add_argument("--do-not-send", type=Path)
    parser.add_argument("--columns", default="{}", help="JSON: our column names to the file's")
    return parser.parse_args()


def _info(index: RosterIndex) -> dict[str, Any]:
    roles, places, active = Counter[str](), Counter[str](), 0
    for row in range(index.row_count):
        worker = index.worker(row)
        active += worker.active
        roles[worker.role] += 1
        places[", ".join(filter(None, (worker.city, worker.state)))] += 1
    return {
        "active": active,
        "roles": dict(roles.most_common(_COUNTS_MAX)),
        "places": dict(places.most_common(_COUNTS_MAX)),
    }


def _find(index: RosterIndex, text: str, limit: int) -> dict[str, Any]:
    exact = index.row(text)
    rows = list(dict.fromkeys(itertools.islice(_holding(index, exact, fold(text)), limit)))
    found = {"exact": exact is not None, "workers": [_told(index, row) for row in rows], "near": []}
    if not rows:
        wanted = (Wanted(text, text),)
        near = near_rows(index, wanted, index.pool("", ()), ends_at=time.monotonic() + _FIND_S)
        found["near"] = [_told(index, row) for row in near[:limit]]
    return found


def _holding(index: RosterIndex, exact: int | None, folded: str) -> Iterator[int]:
    if exact is not None:
        yield exact
    for row in range(index.row_count):
        if folded in fold(index.name(row)) or folded in fold(index.worker_id(row)):
            yield row


def _told(index: RosterIndex, row: int) -> dict[str, Any]:
    worker = index.worker(row)
    return {name: value for name in WORKER_COLUMNS if (value := getattr(worker, name)) not in ("", None, ())}


if __name__ == "__main__":
    main()
