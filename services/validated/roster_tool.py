"""``python -m validated.roster_tool``: looks at a roster for a person; ``lakehouse roster`` runs it.

Prints one JSON object. It reads a roster exactly as the service does, by the rules of the same configuration: what
passes here is loaded there.
"""

from __future__ import annotations

from lakehouse.server.process import import_structlog

if __name__ == "__main__":
    import_structlog()  # before the imports below bring it

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lakehouse.server.config import CONFIG_FILE_VARIABLE, load
from lakehouse.settings import ConfigError
from validated.config import RosterTable, ValidatedTable
from validated.datasets.build import RosterFiles, build
from validated.datasets.columns import WORKER_COLUMNS
from validated.datasets.index import RosterIndex
from validated.datasets.loader import request_of
from validated.datasets.near import near_workers
from validated.datasets.report import Likeness
from validated.datasets.store import Store
from validated.datasets.texts import fold
from validated.datasets.worker import Wanted, Worker

_FIND_S = 5.0
_COUNTS_MAX = 20


def main() -> None:
    """See the module's docstring. Exits with 1 where the roster has problems, which are then what is printed; with 2
    where the configuration cannot be used.
    """
    arguments = _arguments()
    try:
        table = _table(arguments)
    except (ConfigError, ValueError) as error:
        print(json.dumps({"usage": str(error)[:2000]}))  # noqa: T201  a command's answer
        sys.exit(2)
    if table.backend == "postgres" and arguments.action != "check":
        print(json.dumps({"usage": "a roster in PostgreSQL can be checked; ask the database for the rest"}))  # noqa: T201
        sys.exit(2)
    text, limit, problems_max = arguments.text, arguments.limit, arguments.problems_max
    _answer(look_at_roster(table, arguments.action, text=text, limit=limit, problems_max=problems_max))


def look_at_roster(
    table: RosterTable, action: str, *, text: str = "", limit: int = 20, problems_max: int = 1000
) -> dict[str, Any]:
    """Return the report of `check`, `info` or `find`; of a roster in PostgreSQL there is the first alone."""
    if table.backend == "postgres":
        from validated.datasets.postgres_check import check_postgres  # noqa: PLC0415  the driver is for those who need it

        return asyncio.run(check_postgres(table))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="roster-") as folder:
        report = build(
            RosterFiles.read(request_of(table)),
            Store(Path(folder)),
            rows_max=table.rows_max,
            memory_mb=table.load_memory_mb,
            problems_max=problems_max,
        )
        took_ms = int((time.monotonic() - started) * 1000)
        report = {"source": str(table.path), "backend": "file", **report, "load_ms": took_ms}
        place = report.pop("index")
        if report["problems"]:
            return report
        index = RosterIndex(Path(place))
        if action == "info":
            return {**report, **_info(index)}
        if action == "find":
            return {"source": str(table.path), **_find(index, text, limit)}
        likeness = Likeness()
        for worker in index.workers():
            likeness.add(worker)
        return {**report, **likeness.report()}


def _answer(report: dict[str, Any]) -> None:
    json.dump(report, sys.stdout)
    sys.stdout.flush()
    sys.exit(1 if report.get("problems") else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m validated.roster_tool")
    parser.add_argument("action", choices=("check", "info", "find"))
    parser.add_argument("file", type=Path, nargs="?", help="a file or folder; without it, what is configured")
    parser.add_argument("--config", type=Path, help="the configuration whose table [validated.roster] holds the rules")
    parser.add_argument("--text", default="", help="for find: an id, a name, or a part of either")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--problems-max", type=int, default=1000)
    parser.add_argument("--rules", default="{}", help="JSON: keys of the table to set")
    return parser.parse_args()


def _table(arguments: argparse.Namespace) -> RosterTable:
    """Return the configured table, or for a named file the defaults; the given rules over it."""
    rules: dict[str, Any] = json.loads(arguments.rules)
    named = os.environ.get(CONFIG_FILE_VARIABLE)
    file = arguments.config or (Path(named) if named and arguments.file is None else None)
    given: dict[str, Any] = {}
    if file is not None or arguments.file is None:
        configured = load("validated", ValidatedTable, file=file, environ=os.environ).roster
        given = {name: getattr(configured, name) for name in configured.model_fields_set}
    if arguments.file is not None:
        given |= {"path": arguments.file, "backend": "file"}
    return RosterTable(**{**given, **rules})


def _info(index: RosterIndex) -> dict[str, Any]:
    roles, places, active = Counter[str](), Counter[str](), 0
    for worker in index.workers():
        active += worker.active
        roles[worker.role] += 1
        places[", ".join(filter(None, (worker.city, worker.state)))] += 1
    return {
        "active": active,
        "roles": dict(roles.most_common(_COUNTS_MAX)),
        "places": dict(places.most_common(_COUNTS_MAX)),
    }


def _find(index: RosterIndex, text: str, limit: int) -> dict[str, Any]:
    exact = index.worker(text)
    workers = {worker.worker_id: worker for worker in itertools.islice(_holding(index, exact, fold(text)), limit)}
    found: dict[str, Any] = {
        "exact": exact is not None,
        "workers": [_as_json(each) for each in workers.values()],
        "near": [],
    }
    if not workers:
        wanted = (Wanted(text, text),)
        near = near_workers(index, wanted, index.pool("", ()), ends_at=time.monotonic() + _FIND_S)
        found["near"] = [_as_json(worker) for each in near[:limit] if (worker := index.worker(each)) is not None]
    return found


def _holding(index: RosterIndex, exact: Worker | None, folded: str) -> Iterator[Worker]:
    if exact is not None:
        yield exact
    for worker in index.workers():
        if worker != exact and (folded in fold(worker.name) or folded in fold(worker.worker_id)):
            yield worker


def _as_json(worker: Worker) -> dict[str, Any]:
    return {name: value for name in WORKER_COLUMNS if (value := getattr(worker, name)) not in ("", None, ())}


if __name__ == "__main__":
    main()
