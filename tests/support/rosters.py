"""Rosters for tests: the example, and small ones written out of rows."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lakehouse.strict_json.parser import parse_json
from lakehouse.validated.v1.validated_pb2 import ValidateRequest
from validated.config import LimitsTable, RosterTable
from validated.datasets.build import RosterFiles, build
from validated.datasets.index import RosterIndex
from validated.datasets.store import Store
from validated.findings import Findings
from validated.kinds import KINDS
from validated.kinds.spec import Spec, read_spec
from validated.kinds.validator import Ground, Validator

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples" / "roster"

# Four forklift operators of whom two may be sent to Toledo without a second look, and who is wrong in one way each.
PEOPLE: list[dict[str, str]] = [
    {"worker_id": "W-000001", "name": "Ana Silva", "certifications": "forklift;OSHA-10"},
    {"worker_id": "W-000002", "name": "Łukasz Żak", "certifications": "OSHA-10"},
    {"worker_id": "W-000003", "name": "Omar Khan", "active": "false"},
    {"worker_id": "W-000004", "name": "Mia Wong", "role": "welder"},
    {
        "worker_id": "W-000005",
        "name": "José Núñez",
        "city": "Perrysburg",
        "latitude": "41.5570",
        "longitude": "-83.6272",
    },
    {"worker_id": "W-000006", "name": "Emma Clark", "city": "Detroit", "state": "MI"},
    {"worker_id": "W-000007", "name": "Ana Silva", "latitude": "", "longitude": "", "phone": "+1-419-555-0107"},
    {"worker_id": "w-000001", "name": "Ida Lower"},
]
# Ids and names of nobody, each of whom was meant to be an Ana Silva: W-000001 or W-000007.
MISSPELT_ANA = [
    ("W-000010", "Anna Silva"),
    ("W-00001", "Somebody Else"),
    ("\u051c-000001", "Somebody Else"),
    ("W-0000\u200b01", "Somebody Else"),
    ("W\u2011000001", "Somebody Else"),
    ("\uff37-000001", "Somebody Else"),
    ("W-000001 ", "Somebody Else"),
    ("X-777777", "ana  SILVA"),
]
_DEFAULTS = {
    "role": "Forklift operator",
    "city": "Toledo",
    "state": "OH",
    "active": "true",
    "certifications": "",
    "latitude": "41.6528",
    "longitude": "-83.5379",
    "phone": "+1-419-555-0100",
}
ASSIGNMENTS = [
    {"worker_id": "W-000002", "shift_start": "2026-12-05T06:00:00-05:00", "shift_end": "2026-12-05T14:00:00-05:00"}
]
DO_NOT_SEND = [{"client_id": "acme", "worker_id": "W-000001"}]


def people() -> list[dict[str, str]]:
    """Return the small roster with all its columns."""
    return [{"worker_id": "", "name": "", **_DEFAULTS, **person} for person in PEOPLE]


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write `rows` so that a reader sees the old file or the new one, never a part."""
    rows = list(rows)
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    new.rename(path)
    return path


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def example_rows() -> list[dict[str, str]]:
    with (EXAMPLES / "workers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def small_table(folder: Path, **changes: Any) -> RosterTable:
    """Return the small roster with its companions, in `folder`."""
    given = {
        "path": write_csv(folder / "workers.csv", people()),
        "assignments_path": write_csv(folder / "assignments.csv", ASSIGNMENTS),
        "do_not_send_path": write_csv(folder / "do_not_send.csv", DO_NOT_SEND),
        "poll_ms": 50,
        "index_dir": folder / "indexes",
    }
    return RosterTable(**{**given, **changes})


def load_files(files: RosterFiles, **limits: Any) -> tuple[dict[str, Any], RosterIndex | None]:
    """Return what the reader reports of `files`, and the index where it is good."""
    # The index lives in its open file, whatever becomes of the folder.
    with tempfile.TemporaryDirectory() as folder:
        report = build(files, Store(Path(folder)), **{"rows_max": 100_000, "memory_mb": 64, **limits})
        return report, RosterIndex(Path(report["index"])) if report["index"] else None


async def judge(
    validator: Validator, artifact: Any, *, kind: str = "fill", findings_max: int = 100, **spec: Any
) -> tuple[Findings, Ground | None]:
    """Return the verdict of `validator` on `artifact` (JSON text, or a value), held against a spec of `kind`."""
    text = artifact if isinstance(artifact, str) else json.dumps(artifact)
    findings = Findings(findings_max)
    ground = await validator.validate(parse_json(text), read(kind, **spec), findings)
    return findings, ground


def read(kind: str, **spec: Any) -> Spec:
    member: Any = {kind: spec}
    return read_spec(ValidateRequest(kind=kind, **member), KINDS)


async def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "it did not come to be in time"
        await asyncio.sleep(0.01)


LIMITS = LimitsTable(suggestions_ms=5000)
POSTGRES = os.environ.get("LAKEHOUSE_TEST_POSTGRES", "")
