"""``python -m validated.roster.build FD``: read a roster and pack it into an index, in a process of its own.

The files are named on standard input (JSON), the index goes to the descriptor FD, a report (JSON) to standard output.
So a reload costs the service neither its interpreter lock nor the memory of a parser, and a file that brings the
parser down brings down this process alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from validated.roster.batch import Converter
from validated.roster.columns import CERTIFICATIONS_MAX, TEXT_CHARS_MAX, read_active, read_certifications
from validated.roster.index_writer import IndexWriter
from validated.roster.source import Problem, RosterFiles, Source, SourceError


class Builder:
    """Checks rows and packs them. Each problem is kept up to `problems_max` and counted beyond."""

    def __init__(self, files: RosterFiles, *, rows_max: int, problems_max: int) -> None:
        self._files = files
        self._rows_max = rows_max
        self._problems_max = problems_max
        self.problems: list[Problem] = []
        self.problems_left_out = 0
        self.warnings: list[str] = []
        self.index = IndexWriter()
        self._converter = Converter()
        self._last_row = 0
        self._last_id: str | None = None

    def build(self, source: Source) -> None:
        """Read everything. Raises SourceError where a file is no table."""
        file = str(self._files.workers)
        for batch in source.workers():
            self._workers(file, batch)
        if not self.index.row_count and not self.problems:
            self._problem(file, 0, "", "has no rows: an empty roster would make everybody a phantom")
        if self.problems:
            return
        self.index.seal_workers()
        for batch in source.assignments():
            self._assignments(str(self._files.assignments), batch)
        for batch in source.do_not_send():
            self._do_not_send(str(self._files.do_not_send), batch)
        source.confirm()

    def _problem(self, file: str, row: int, column: str, text: str) -> None:
        if len(self.problems) < self._problems_max:
            self.problems.append(Problem(file, row, column, text))
        else:
            self.problems_left_out += 1

    def _workers(self, file: str, batch: Sequence[tuple[Any, ...]]) -> None:
        if self.index.row_count + len(batch) > self._rows_max:
            raise SourceError(Problem(file, 0, "", f"more than {self._rows_max} rows; raise roster.rows_max"))
        columns = self._converter.columns(batch)
        if columns is None or batch[0][1] == self._last_id:
            for row in batch:
                self._check(file, *row)
        elif not self.problems:
            self.index.add(columns)
        self._last_row, self._last_id = batch[-1][0], batch[-1][1]

    def _check(
        self,
        file: str,
        row: int,
        worker_id: str | None,
        name: str | None,
        role: str | None,
        city: str | None,
        state: str | None,
        active: str | None,
        held: str | None,
        latitude: str | None,
        longitude: str | None,
        phone: str | None,
    ) -> None:
        if self._good_text(file, row, "worker_id", worker_id) and worker_id == self._last_id:
            text = f"{worker_id!r} stands in row {self._last_row} already; keep one"
            self._problem(file, row, "worker_id", text)
        self._last_row, self._last_id = row, worker_id
        self._good_text(file, row, "name", name)
        if read_active(active) is None:
            self._problem(file, row, "active", f"{(active or '')[:40]!r} is neither true nor false")
        certifications = read_certifications(held)
        if certifications is None:
            self._problem(file, row, "certifications", f"{(held or '')[:40]!r} is no list of texts")
        elif len(certifications) > CERTIFICATIONS_MAX:
            self._problem(file, row, "certifications", f"more than {CERTIFICATIONS_MAX}; shorten the list")
        for column, text_ in (("role", role), ("city", city), ("state", state), ("phone", phone)):
            if text_ and len(text_) > TEXT_CHARS_MAX:
                self._problem(file, row, column, f"longer than {TEXT_CHARS_MAX} characters; shorten it")
        self._check_point(file, row, latitude, longitude)

    def _good_text(self, file: str, row: int, column: str, text: str | None) -> bool:
        if text and text.isprintable() and text[0] != " " != text[-1] and len(text) <= TEXT_CHARS_MAX:
            return True
        if not text or not text.strip():
            problem = "is empty; give it a value or remove the row"
        elif len(text) > TEXT_CHARS_MAX:
            problem = f"longer than {TEXT_CHARS_MAX} characters; shorten it"
        elif text.strip() != text:
            problem = f"{text[:80]!r} has spaces around it; trim it"
        else:
            problem = f"{text[:80]!a} holds characters that do not print; remove them"
        self._problem(file, row, column, problem)
        return False

    def _check_point(self, file: str, row: int, latitude: str | None, longitude: str | None) -> None:
        if not latitude and not longitude:
            return
        if not latitude or not longitude:
            self._problem(file, row, "latitude", "latitude and longitude go together; give both or neither")
            return
        try:
            good = -90 <= float(latitude) <= 90 and -180 <= float(longitude) <= 180
        except ValueError:
            good = False
        if not good:
            text = f"{latitude[:40]!r}, {longitude[:40]!r} is no point; degrees from -90 to 90 and from -180 to 180"
            self._problem(file, row, "latitude", text)

    def _assignments(self, file: str, batch: Iterable[tuple[Any, ...]]) -> None:
        for row, worker_id, start_text, end_text in batch:
            start, end = _microseconds(start_text), _microseconds(end_text)
            if start is None or end is None or end <= start:
                text = "shift_start and shift_end must be RFC 3339 with an offset, the end after the start"
                self._problem(file, row, "shift_start", text)
                continue
            if not self.index.add_assignment(worker_id or "", start, end):
                self._unknown(file, row, worker_id)

    def _do_not_send(self, file: str, batch: Iterable[tuple[Any, ...]]) -> None:
        for row, client_id, worker_id in batch:
            if not client_id or len(client_id) > TEXT_CHARS_MAX:
                self._problem(file, row, "client_id", f"must have 1 to {TEXT_CHARS_MAX} characters")
                continue
            if not self.index.add_do_not_send(client_id, worker_id or ""):
                self._unknown(file, row, worker_id)

    def _unknown(self, file: str, row: int, worker_id: str | None) -> None:
        # Not a refusal: people leave, and their past assignments stay in the file for a while.
        if len(self.warnings) < 20:
            self.warnings.append(f"{file}: row {row}: worker {(worker_id or '')[:80]!r} is not in the roster; ignored")


def _microseconds(text: str | None) -> int | None:
    """Microseconds since 1970 of an RFC 3339 text (DuckDB prints a TIMESTAMPTZ with a space and a short offset)."""
    try:
        instant = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if instant.tzinfo is None:
        return None
    return round(instant.timestamp() * 1_000_000)


def build(
    files: RosterFiles, out: BinaryIO | None, *, rows_max: int, memory_mb: int, problems_max: int = 1000
) -> dict[str, Any]:
    """Read `files`; where they are good and `out` is given, write the index there. Returns the report:
    {version, row_count, problems: [{file, row, column, text}], problems_left_out, warnings}.
    """
    builder = Builder(files, rows_max=rows_max, problems_max=problems_max)
    version = ""
    try:
        with Source(files, memory_mb=memory_mb) as source:
            version = source.version
            builder.build(source)
    except SourceError as error:
        builder.problems.append(error.problem)
    report = {
        "version": version,
        "row_count": builder.index.row_count,
        "problems": [asdict(problem) for problem in builder.problems],
        "problems_left_out": builder.problems_left_out,
        "warnings": builder.warnings,
    }
    if out is not None and not builder.problems:
        builder.index.write(out)
    return report


def main() -> None:
    """See the module's docstring."""
    request = json.load(sys.stdin)
    columns = request.pop("columns")
    limits = {name: request.pop(name) for name in ("rows_max", "memory_mb")}
    files = RosterFiles(columns=columns, **{name: Path(path) for name, path in request.items() if path})
    with os.fdopen(int(sys.argv[1]), "wb") as out:
        report = build(files, out, **limits)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
