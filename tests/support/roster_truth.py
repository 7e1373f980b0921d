"""Rosters with a known truth, written as people write them, with one thing or none changed: what a reader may make of
each is known, so that a PASS which the truth forbids is seen.
"""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

NAMES = ("Ana Silva", "Łukasz Żak", "Omar Khan", "李娜", "O'Neil, Pat", 'Jo "JJ" Jay', "Mary B. Jones")
COLUMNS = ("worker_id", "name", "role", "city", "state", "active", "phone")
FORMATS = ("csv", "csv", "tsv", "jsonl", "parquet")


@dataclass
class Case:
    """One roster on disk."""

    files: dict[str, Any]
    """What `RosterFiles.read` takes."""
    change: str
    active: dict[str, str] = field(default_factory=dict)
    """Ids and names of those who are active: nobody else may pass."""
    refused: set[tuple[str, str]] = field(default_factory=set)
    """(client, worker id) who may not pass together."""
    must_load: bool = False
    """Whether nothing is wrong with it."""


def make(seed: int, folder: Path) -> Case:
    """Return the roster of `seed`, in `folder`."""
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = [
        {
            "worker_id": f"{number:04d}",
            "name": draw.choice(NAMES),
            "role": draw.choice(("welder", "picker", "")),
            "city": draw.choice(("Toledo", "Fort Wayne")),
            "state": "OH",
            "active": draw.random() < 0.6,
            "phone": f"+1-419-555-{number:04d}",
        }
        for number in range(draw.randrange(2, 40))
    ]
    refused = {(draw.choice(("acme", "Big Box")), draw.choice(rows)["worker_id"]) for _ in range(draw.randrange(6))}
    case = Case({}, "", {row["worker_id"]: row["name"] for row in rows if row["active"]}, refused)
    form = draw.choice(FORMATS)
    spelling = draw.choice((("true", "false"), ("yes", "no"), ("1", "0"), ("T", "F"), ("Active", "Inactive")))
    _write(case, draw, rows, form, spelling, folder)
    _write_companion(case, draw, folder)
    return case


def _write(case: Case, draw: random.Random, rows: list[dict[str, Any]], form: str, spelling: Any, folder: Path) -> None:
    header = list(COLUMNS)
    draw.shuffle(header)
    path = folder / f"workers.{form}"
    case.files["workers"] = str(path)
    change = draw.choice(CHANGES)
    case.change = f"{form}: {change}"
    renamed = {name: name for name in header}
    if change == "rename active":
        renamed["active"] = draw.choice(("Active", "is_active", "status", "IsActive", "employment status", "activ"))
    elif change == "mapped to a typo":
        case.files["columns"] = {draw.choice(COLUMNS): "typo"}
    elif change == "a second active":
        header.append("status")
        renamed["status"] = "status"
    case.must_load = change == "nothing" or renamed["active"] == "Active"
    if form == "parquet":
        _write_parquet(draw, rows, header, renamed, change, path)
    elif form == "jsonl":
        _write_jsonl(draw, rows, header, renamed, change, path)
    else:
        _write_csv(draw, rows, header, renamed, change, path, spelling, "\t" if form == "tsv" else ",")
    if change in ("duplicate with another truth", "swap types"):
        case.must_load = False


CHANGES = (
    "nothing", "nothing", "rename active", "mapped to a typo", "a second active", "cut in a row", "cut at a row",
    "second header", "second header, wider", "footer", "drop a field", "add a field", "empty active", "odd active",
    "duplicate with another truth", "mixed line ends", "swap types", "encoding", "stray quote", "NUL", "blank line",
)  # fmt: skip


def _cells(row: dict[str, Any], header: list[str], spelling: Any) -> list[str]:
    cells = {**row, "active": spelling[0] if row["active"] else spelling[1], "status": "terminated"}
    return [cells[name] for name in header]


def _write_csv(  # noqa: PLR0912  a branch for each change
    draw: random.Random, rows: list[dict[str, Any]], header: list[str], renamed: dict[str, str], change: str,
    path: Path, spelling: Any, delimiter: str,
) -> None:  # fmt: skip
    lines = [_cells(row, header, spelling) for row in rows]
    at = draw.randrange(len(lines))
    if change == "empty active":
        lines[at][header.index("active")] = ""
    elif change == "odd active":
        lines[at][header.index("active")] = draw.choice(("ja", "?", "2026-01-01", "on leave", "terminated"))
    elif change == "duplicate with another truth":
        twin = dict(rows[at], active=not rows[at]["active"])
        lines.insert(draw.randrange(len(lines)), _cells(twin, header, spelling))
    elif change == "second header":
        lines.insert(at, [renamed[name] for name in header])
    elif change == "second header, wider":
        lines.insert(at, [*(renamed[name] for name in header), "extra"])
    elif change == "footer":
        lines.append([f"Total: {len(rows)}"])
    elif change == "drop a field":
        del lines[at][draw.randrange(len(header))]
    elif change == "add a field":
        lines[at].insert(draw.randrange(len(header)), "x")
    elif change == "blank line":
        lines.insert(at, [])
    elif change == "NUL":
        lines[at][header.index("name")] += "\x00"
    elif change == "swap types":
        first, second = header.index("worker_id"), header.index("active")
        for line in lines:
            line[first], line[second] = line[second], line[first]
    out = io.StringIO()
    end = draw.choice(("\n", "\r\n"))
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerow([renamed[name] for name in header])
    writer.writerows(lines)
    text = out.getvalue()
    if change == "mixed line ends" and len(lines) > 1:
        other = "\n" if end == "\r\n" else "\r\n"
        text = text[: -len(end)] + other
    elif change == "stray quote":
        place = draw.randrange(len(text))
        text = text[:place] + '"' + text[place:]
    elif change == "cut in a row":
        # Before a row's last delimiter: what is cut behind it cannot be told from a file without a last line end.
        text = text[: draw.randrange(len(text))].rpartition(delimiter)[0]
    data = text.encode("utf-16" if change == "encoding" else "utf-8")
    path.write_bytes(data)


def _write_jsonl(
    draw: random.Random, rows: list[dict[str, Any]], header: list[str], renamed: dict[str, str], change: str, path: Path
) -> None:  # fmt: skip
    lines = []
    at = draw.randrange(len(rows))
    for number, row in enumerate(rows):
        each: dict[str, Any] = {renamed[name]: {**row, "status": "terminated"}[name] for name in header}
        if number == at and change == "drop a field":
            del each[draw.choice(("worker_id", "name", "active"))]
        elif number == at and change == "empty active":
            each[renamed["active"]] = draw.choice((None, ""))
        elif number == at and change in ("odd active", "swap types"):
            each[draw.choice((renamed["active"], "name", "worker_id"))] = draw.choice(({"a": 1}, [1], 1.5))
        lines.append(json.dumps(each, ensure_ascii=False))
    if change == "add a field":
        lines[at] = lines[at][:-1] + f', "{renamed["active"]}": true}}'
    elif change == "duplicate with another truth":
        lines.append(json.dumps({**rows[at], "active": not rows[at]["active"]}))
    elif change == "footer":
        lines.append(json.dumps({"total": len(rows)}))
    elif change == "blank line":
        lines.insert(at, "")
    text = "\n".join(lines) + "\n"
    if change == "cut in a row":
        text = text[: draw.randrange(len(text))]
    path.write_bytes(text.encode("utf-16" if change == "encoding" else "utf-8"))


def _write_parquet(
    draw: random.Random, rows: list[dict[str, Any]], header: list[str], renamed: dict[str, str], change: str, path: Path
) -> None:  # fmt: skip
    kinds = dict.fromkeys(header, "VARCHAR") | {"active": "BOOLEAN"}
    if change == "swap types":
        kinds[draw.choice(("worker_id", "name", "active"))] = draw.choice(("BLOB", "DOUBLE"))
    source = path.with_suffix(".source")
    source.write_text("".join(json.dumps({**row, "status": "terminated"}) + "\n" for row in rows), encoding="utf-8")
    picked = ", ".join(f'TRY_CAST({name} AS {kinds[name]}) AS "{renamed[name]}"' for name in header)
    if change == "empty active":
        picked = picked.replace(
            "TRY_CAST(active AS BOOLEAN)",
            f"CASE WHEN worker_id <> '{rows[0]['worker_id']}' THEN TRY_CAST(active AS BOOLEAN) END",
        )
    types = ", ".join(f"{name}: 'VARCHAR'" for name in {**kinds, "status": ""})
    with duckdb.connect() as db:
        db.execute(
            f"COPY (SELECT {picked} FROM read_json('{source}', columns = {{{types}}})) TO '{path}' (FORMAT parquet)"
        )
    source.unlink()
    if change == "cut in a row":
        path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def _write_companion(case: Case, draw: random.Random, folder: Path) -> None:
    path = folder / "do_not_send.csv"
    lines = [f"{client},{worker_id}" for client, worker_id in sorted(case.refused)]
    change = draw.choice((*["nothing"] * 6, "space", "zeros", "second header", "short", "gone", "case"))
    if lines and change == "space":
        lines[-1] = lines[-1].replace(",", " ,")
    elif lines and change == "zeros":
        lines = [f"{client},{int(worker_id)}" for client, worker_id in sorted(case.refused)]
    elif lines and change == "second header":
        lines.insert(0, "client_id,worker_id,why")
    elif lines and change == "short":
        lines.append("acme")
    elif lines and change == "gone":
        lines.append("acme,nobody")
    elif change == "case":
        lines = [line.upper() for line in lines]
    path.write_text("\n".join(["client_id,worker_id", *lines]) + "\n", encoding="utf-8")
    case.files["do_not_send"] = str(path)
    case.change += f"; companion: {change}"
    case.must_load = case.must_load and (not lines or change in ("nothing", "case"))


def judge(case: Case, report: dict[str, Any], index: Any) -> list[str]:
    """Return what is wrong with what a reader made of `case`: `report` and `index` as `load_files` gives them."""
    wrong = []
    if index is None:
        if case.must_load:
            wrong.append(f"refused, and nothing is wrong: {report['problems'][:1]}")
        placed = [each["file"] and Path(each["file"]).exists() and each["text"] for each in report["problems"]]
        return wrong if placed and all(placed) else [*wrong, f"a refusal without its place: {report['problems']}"]
    wrong += [
        f"{worker.worker_id} {worker.name} may pass"
        for worker in index.workers()
        if worker.active and case.active.get(worker.worker_id) != worker.name
    ]
    for client, worker_id in case.refused:
        found = index.found([worker_id], None, client.swapcase()).get(worker_id)
        if found is not None and not found.do_not_send:
            wrong.append(f"{client} would be sent {worker_id}")
    if case.must_load and report["row_count"] < len(case.active):
        wrong.append("people are missing")
    return wrong
