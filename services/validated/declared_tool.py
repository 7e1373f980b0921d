"""``python -m validated.declared_tool``: looks at datasets and declared kinds for a person; ``lakehouse dataset`` and
``lakehouse kinds`` run it.

Prints one JSON object. It reads as the service does, by the same configuration: what passes here is loaded there.
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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakehouse.errors import Fault
from lakehouse.server.config import CONFIG_FILE_VARIABLE, load
from lakehouse.settings import ConfigError
from lakehouse.strict_json.parser import JsonBreach, JsonValue, print_canonical, read_canonical
from validated.config import ROSTER_DATASET, DatasetTable, RosterTable, ValidatedTable
from validated.datasets.build import build
from validated.datasets.dataset_build import DatasetFiles
from validated.datasets.dataset_index import DatasetIndex, Row
from validated.datasets.index_keys import FIELD
from validated.datasets.loaded_dataset import ROSTER_SHAPE, Datasets, request_of_dataset, source_of
from validated.datasets.store import Store
from validated.datasets.texts import fold
from validated.datasets.worker import RosterUnavailable
from validated.findings import Finding, Findings
from validated.kinds.declared.declaration import DeclarationError
from validated.kinds.declared.kind import DeclaredKind
from validated.kinds.declared.registry import check_kinds, declared_names
from validated.kinds.declared.shown import People
from validated.kinds.declared.values import written
from validated.kinds.spec import Spec
from validated.roster_tool import look_at_roster

_NEAR = 5
_ARTIFACT_BYTES_MAX = 64 * 1024 * 1024


class UsageError(Exception):
    """What was asked for is not there; the text says what is."""


def main() -> None:
    """See the module's docstring. Exits with 1 where there are problems or findings, which are then what is printed;
    with 2 where the configuration or what was asked for cannot be used.
    """
    arguments = _arguments()
    named = os.environ.get(CONFIG_FILE_VARIABLE)
    try:
        file = arguments.config or (Path(named) if named else None)
        config = load("validated", ValidatedTable, file=file, environ=os.environ)
        report = _look(config, arguments)
    except (ConfigError, UsageError, DeclarationError, RosterUnavailable) as error:
        report = {"usage": str(error)[:2000]}
    json.dump(report, sys.stdout)
    sys.stdout.flush()
    sys.exit(2 if "usage" in report else 1 if report.get("problems") or report.get("findings") else 0)


def _look(config: ValidatedTable, arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.action == "kinds-check":
        if config.kinds_dir is None:
            raise UsageError("validated.kinds_dir is not configured: name the folder of declared kinds there")
        names = [path.stem for path in declared_names(config.kinds_dir)]
        datasets, people = Datasets(config.datasets, config.roster), _people(config)
        problems = list(check_kinds(config.kinds_dir, datasets, config.limits, people))
        return {"kinds_dir": str(config.kinds_dir), "kinds": names, "problems": problems}
    if arguments.action == "kinds-try":
        return asyncio.run(_try(config, arguments.name, sys.stdin.read(_ARTIFACT_BYTES_MAX), arguments.text))
    tables: dict[str, DatasetTable | RosterTable] = {**config.datasets, ROSTER_DATASET: config.roster}
    if arguments.name not in tables:
        known = ", ".join(tables)
        raise UsageError(f'"{arguments.name}" is no dataset of the configuration (there are {known})')
    return _look_at_dataset(arguments, tables[arguments.name])


def _look_at_dataset(arguments: argparse.Namespace, table: DatasetTable | RosterTable) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dataset-") as folder:
        files = DatasetFiles.read(request_of_dataset(arguments.name, table))
        report = build(files, Store(Path(folder)), rows_max=table.rows_max, memory_mb=table.load_memory_mb)
        place = report.pop("index")
        shown = {name: report[name] for name in ("version", "row_count", "problems", "problems_left_out", "warnings")}
        shown |= {
            "dataset": arguments.name,
            "source": source_of(table),
            "columns": dict(table.columns if isinstance(table, DatasetTable) else ROSTER_SHAPE.columns),
            "key": table.key if isinstance(table, DatasetTable) else ROSTER_SHAPE.key,
        }
        if isinstance(table, RosterTable):
            # Its other tables count as well: what passes here is loaded there.
            whole = look_at_roster(table, "check")
            more = [each for each in whole["problems"] if each not in shown["problems"]]
            shown |= {"problems": [*shown["problems"], *more], "warnings": whole["warnings"]}
            shown["problems_left_out"] = max(shown["problems_left_out"], whole["problems_left_out"])
        if shown["problems"] or arguments.action == "dataset-check":
            return shown
        index = DatasetIndex(Path(place))
        if arguments.action == "dataset-info":
            return shown | {"first": [_as_json(row.values, table) for row in itertools.islice(index.rows(), _NEAR)]}
        found = _find(index, arguments.text, arguments.limit)
        rows = {name: [_as_json(row.values, table) for row in found[name]] for name in ("rows", "near")}
        return {"dataset": arguments.name, "exact": found["exact"], **rows}


def _find(index: DatasetIndex, text: str, limit: int) -> dict[str, Any]:
    exact = index.row(FIELD.join(part.strip() for part in text.split(","))) or index.row(text)
    folded = fold(text)
    holding = (row for row in index.rows() if row.key != (exact.key if exact else None) and _holds(row, folded))
    rows = list(itertools.islice(itertools.chain((exact,) if exact else (), holding), limit))
    near = [] if rows else [row for key in index.like(text, _NEAR) if (row := index.row(key)) is not None]
    return {"exact": exact is not None, "rows": rows, "near": near}


def _holds(row: Row, folded: str) -> bool:
    return any(folded in fold(value) for value in row.values.values() if isinstance(value, str))


def _as_json(values: Mapping[str, Any], table: DatasetTable | RosterTable) -> dict[str, JsonValue]:
    known = table.columns if isinstance(table, DatasetTable) else ROSTER_SHAPE.columns
    return {name: written(value)[0] for name, value in values.items() if value is not None and name in known}


async def _try(config: ValidatedTable, name: str, artifact: str, spec: str) -> dict[str, Any]:
    """Return the verdict on one artifact by one declared kind, whose datasets are loaded for it."""
    if config.kinds_dir is None:
        raise UsageError("validated.kinds_dir is not configured: name the folder of declared kinds there")
    paths = {path.stem: path for path in declared_names(config.kinds_dir)}
    if name not in paths:
        raise UsageError(f'"{name}" is not declared in {config.kinds_dir} ({", ".join(paths) or "nothing is"})')
    try:
        value, _ = read_canonical(artifact, bytes_max=config.limits.artifact_bytes_max)
        asked = read_canonical(spec)[0] if spec else {}
    except JsonBreach as breach:
        raise UsageError(f"the artifact or the spec cannot be read: {breach.problem}") from None
    findings = Findings(config.limits.findings_max)
    datasets = Datasets(config.datasets, config.roster)
    kind = DeclaredKind(paths[name], datasets, config.limits, _people(config))
    datasets.use(kind.datasets)
    async with datasets.open():
        try:
            ground = await kind.validate(value, Spec(name, None, print_canonical(asked)), findings)
        except Fault as fault:
            said = "; ".join(f"{each.field}: {each.description}" for each in fault.violations)
            raise UsageError(said or fault.message) from None
    return {
        "kind": name,
        "passed": not findings.any,
        "findings": [_finding(each) for each in findings.kept],
        "findings_left_out": findings.left_out,
        "datasets": [each._asdict() for each in ground.datasets] if ground is not None else [],
    }


def _people(config: ValidatedTable) -> People:
    return People(config.candidate_facts, config.roster.region)


def _finding(finding: Finding) -> dict[str, Any]:
    suggestions = [json.loads(each.facts_json) for each in finding.suggestions]
    return {"code": finding.code, "path": finding.path, "message": finding.message, "suggestions": suggestions}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m validated.declared_tool")
    actions = ("dataset-check", "dataset-info", "dataset-find", "kinds-check", "kinds-try")
    parser.add_argument("action", choices=actions)
    parser.add_argument("name", nargs="?", default="", help="the dataset, or the kind")
    parser.add_argument("--config", type=Path, help="the configuration; else the one that the environment names")
    parser.add_argument("--text", default="", help="for find: a key or a part of a text; for try: the spec's JSON")
    parser.add_argument("--limit", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
