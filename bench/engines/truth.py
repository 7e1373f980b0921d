"""The same figures and rows out of the JSONL of which the table was made, by Python's own JSON reader and nothing of
the program's: what every engine must answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.engines.questions import DAY, NEXT_DAY, row_digest

Row = dict[str, Any]
Figures = dict[str, list[list[Any]]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEYS = ("session_id", "timestamp", "trace_id", "prompt", "attempts", "final_verdict")


@dataclass(frozen=True, slots=True)
class Written:
    """A rotated file's lines: whose they are and under which name they were compacted."""

    host: str
    segment: str
    data: bytes

    def rows(self) -> Iterator[Row]:
        """Yield the rows with the columns of the table, ``timestamp`` in microseconds."""
        for line in self.data.decode(errors="replace").split("\n"):
            row = _row(line)
            if row is not None:
                yield {**row, "host": self.host, "segment": self.segment}


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or row.get("schema") != "session.iterate.v1" or not all(key in row for key in _KEYS):
        return None
    texts = dict(_members(line))
    for name in ("spec", "artifact"):
        row[name] = texts.get(name)
    row["timestamp"] = _unix_us(row["timestamp"])
    lists = [each.get("findings") for each in (*row["attempts"], row.get("brief") or {})]
    for finding in (finding for findings in lists for finding in findings or ()):
        if "suggestions" in finding:
            finding["suggestions"] = [
                json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in finding["suggestions"]
            ]
    return {"try": None, **row}


def _members(line: str) -> Iterator[tuple[str, str]]:
    """Yield the members of a line's object, which has no spaces: each name, and its value's text to the byte."""
    read = json.JSONDecoder().raw_decode
    place = 1
    while place < len(line) and line[place] != "}":
        name, place = read(line, place)
        _, end = read(line, place + 1)
        yield name, line[place + 1 : end]
        place = end + 1


def _unix_us(timestamp: str) -> int | None:
    try:
        return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)
    except ValueError:
        return None


def digests(rows: Iterable[Row], *, null_lists: bool) -> dict[str, list[str]]:
    """Return the digests of all rows by their keys."""
    found: dict[str, list[str]] = {}
    for row in rows:
        key, digest = row_digest(row, null_lists=null_lists)
        found.setdefault(key, []).append(digest)
    return found


def figures(rows: list[Row]) -> Figures:
    """Return what ``questions`` asks."""
    attempts = [(row, each) for row in rows for each in row["attempts"]]
    findings = [(each, finding) for _, each in attempts for finding in each.get("findings") or ()]
    suggestions = [(finding, each) for _, finding in findings for each in finding.get("suggestions") or ()]
    texts = [[row.get(name) for row in rows] for name in ("prompt", "spec", "artifact")]
    moments = [row["timestamp"] for row in rows if row["timestamp"] is not None]
    day, next_day = (_unix_us(f"{each}T00:00:00+00:00") or 0 for each in (DAY, NEXT_DAY))
    of_day = [row for row in rows if row["timestamp"] is not None and day <= row["timestamp"] < next_day]
    without = [row for row in rows if row["timestamp"] is None]
    tokens = (_sum("input_tokens"), _sum("output_tokens"))
    found: Figures = {
        "rows": [[len(rows), len(moments), _count(rows, "artifact"), _count(rows, "caller")]],
        "keys": [[len({(row["host"], row["session_id"], row["try"] or 1) for row in rows})]],
        "sums": [[of(rows) for of in (*tokens, _sum("duration_ms"), _sum("cost_nano_usd"))]],
        "texts": [[_total(measure, text) for text in texts for measure in (len, _bytes)]],
        "moments": [[min(moments), max(moments)]],
        "by_verdict": _grouped(rows, lambda row: (row["final_verdict"],), len, _sum("duration_ms")),
        "by_model": _grouped(rows, lambda row: (row["provider"], row["model"]), len, tokens[1]),
        "by_day": _grouped(rows, lambda row: (_day(row["timestamp"]),), len, tokens[0]),
        "by_host": _grouped(rows, lambda row: (row["host"],), len, lambda some: len({row["segment"] for row in some})),
        "by_caller": _grouped(rows, lambda row: (row.get("caller"),), len),
        "by_error": _grouped(rows, lambda row: _of(row.get("error"), "code", "reason"), len),
        "briefs": _grouped(
            rows,
            lambda row: _of(row.get("brief"), "grounding"),
            len,
            lambda some: _total(int, [(row.get("brief") or {}).get("candidates") for row in some]),
        ),
        "attempts": _grouped(
            [each for _, each in attempts],
            lambda each: _of(each, "provider", "model", "verdict"),
            *(len, *tokens, _sum("cost_nano_usd")),
            lambda some: _total(_bytes, [each["raw"] for each in some]),
        ),
        "findings": _grouped(
            findings,
            lambda pair: (pair[0]["model"], pair[1]["code"], pair[1]["path"]),
            len,
            lambda some: _total(len, [finding["message"] for _, finding in some]),
        ),
        "suggestions": _grouped(
            suggestions, lambda pair: (pair[0]["code"],), len, lambda some: _total(_bytes, [each for _, each in some])
        ),
        "one_day": [[len(of_day), tokens[0](of_day)]],
        "before_1970": [[sum(moment < 0 for moment in moments)]],
        "no_moment": [[len(without), tokens[0](without)]],
        "one_host": [[sum(row["host"] == "host-1" for row in rows)]],
        "nobody": [[0]],
    }
    return {name: sorted(values, key=repr) for name, values in found.items()}


def _grouped(
    some: list[Any], key: Callable[[Any], tuple[Any, ...]], *of: Callable[[list[Any]], Any]
) -> list[list[Any]]:
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for each in some:
        groups.setdefault(key(each), []).append(each)
    return [[*group, *(measure(members) for measure in of)] for group, members in groups.items()]


def _total(measure: Callable[[Any], int], values: Iterable[Any]) -> int | None:
    """Return a sum as SQL has it: what is null does not count, and of nothing there is none."""
    known = [measure(value) for value in values if value is not None]
    return sum(known) if known else None


def _sum(name: str) -> Callable[[list[Row]], int | None]:
    return lambda some: _total(int, [each.get(name) for each in some])


def _count(rows: list[Row], name: str) -> int:
    return sum(row.get(name) is not None for row in rows)


def _of(values: dict[str, Any] | None, *names: str) -> tuple[Any, ...]:
    return tuple((values or {}).get(name) for name in names)


def _bytes(text: str) -> int:
    return len(text.encode())


def _day(unix_us: int | None) -> str | None:
    return None if unix_us is None else (_EPOCH + timedelta(microseconds=unix_us)).date().isoformat()
