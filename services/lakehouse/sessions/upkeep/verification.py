"""Is every row whole, ours and there once? Reads every line; what DuckDB skips in silence is counted here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.row_reading import RowBreach, decode_row
from lakehouse.sessions.store.archive import Archive, Manifest
from lakehouse.sessions.store.lines import Progress, SegmentDamagedError, read_lines
from lakehouse.sessions.store.parquet_rows import stored_lines
from lakehouse.sessions.upkeep.content import ContentTally

ProblemKind = Literal["blank", "torn", "duplicate", "foreign", "invalid", "not_canonical", "unreadable"]

# Session ids that have more than one row and are looked for by place; the count is always of all.
DUPLICATE_IDS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One line and its place. ``offset`` is the line's first byte in the decompressed file; None in Parquet, where
    ``line`` counts rows."""

    kind: ProblemKind
    path: str
    line: int
    offset: int | None
    detail: str


@dataclass(slots=True, kw_only=True)
class Verification:
    whole: int = 0
    """Rows of our schema and shape, duplicates among them."""
    torn: int = 0
    """Lines that are no JSON object: cut short by a kill, or damaged."""
    foreign: int = 0
    """Rows of another schema: of other producers, which readers pass over."""
    invalid: int = 0
    """Rows that claim our schema without having its keys; readers show what fits."""
    duplicates: int = 0
    """Rows beyond the first one of their session id."""
    not_canonical: int | None = None
    """Whole rows whose bytes are not the contract's encoding; None where that was not asked."""
    unreadable: int = 0
    """Files, manifests included, that cannot be read to their end."""
    in_flight: bool = False
    """A writer was within the live file's last line, which was passed over."""
    problems: list[Problem] = field(default_factory=list)
    """The first ones, at most as many of each kind as asked."""

    @property
    def passed(self) -> bool:
        """Nothing torn, doubled or unreadable, and every row canonical where that was asked."""
        return not (self.torn or self.duplicates or self.unreadable or self.not_canonical)

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, **asdict(self)}


def verify_log(
    reader: SessionReader, *, canonical: bool, problems_max: int, progress: Progress | None = None
) -> Verification:
    """Reads the whole log, once by DuckDB for session ids that occur twice and once line by line.

    Raises:
        QueryRefusedError: DuckDB cannot read a file.
    """
    result = Verification(not_canonical=0 if canonical else None)
    check = _Check(result, _repeated_ids(reader, result), problems_max, canonical=canonical)
    for reason in reader.snapshot.unreadable:
        check.note_unreadable(reason)
    for segment in reader.snapshot.segments:
        try:
            for line in read_lines(segment, progress):
                if segment.live and not line.ended and not segment.quiet:
                    result.in_flight = True
                elif line.too_long:
                    check.note("torn", segment.path, line.number, line.offset, "longer than any row")
                else:
                    check.check(line.data, segment.path, line.number, line.offset)
        except SegmentDamagedError as error:
            check.note_unreadable(str(error))
    folder = Archive(reader.snapshot.log_path).folder
    for manifest in reader.snapshot.manifests:
        _verify_manifest(reader, folder, manifest, check, progress)
    return result


def _verify_manifest(
    reader: SessionReader, folder: Path, manifest: Manifest, check: _Check, progress: Progress | None
) -> None:
    """Checks a compacted segment's lines, and that they are still those that its manifest was committed for."""
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    tally = ContentTally()
    try:
        for file in manifest.files:
            path = folder / file.path
            for number, (data, torn) in enumerate(stored_lines(reader.connection, [path]), 1):
                tally.add(data, torn=torn)
                if torn:
                    check.note("torn", path, number, None, "it was torn when it was compacted")
                else:
                    check.check(data, path, number, None)
            if progress is not None:
                progress(file.size_bytes)
    except duckdb.Error as error:
        check.note_unreadable(str(error))
        return
    if (tally.lines, tally.content) != (manifest.lines, manifest.content):
        check.note_unreadable(
            f"the Parquet files of segment {manifest.segment} hold other lines than were compacted ({tally.lines} and"
            f" not {manifest.lines}, or another content): restore them from a backup"
        )


def _repeated_ids(reader: SessionReader, result: Verification) -> dict[str, int]:
    """Session ids with more than one row, each with 0 (rows seen so far); counts all duplicates."""
    _, rows = reader.query(
        "SELECT session_id, n, sum(n - 1) OVER ()::BIGINT FROM (SELECT session_id, count(*) AS n FROM facts"
        " WHERE session_id IS NOT NULL GROUP BY session_id HAVING n > 1) ORDER BY session_id LIMIT ?",
        [DUPLICATE_IDS_MAX],
    )
    repeated = {}
    for session_id, _, duplicates in rows:
        repeated[session_id] = 0
        result.duplicates = duplicates
    return repeated


class _Check:
    def __init__(self, result: Verification, repeated: dict[str, int], problems_max: int, *, canonical: bool) -> None:
        self._result = result
        self._repeated = repeated
        self._problems_max = problems_max
        self._canonical = canonical
        self._noted: dict[ProblemKind, int] = {}

    def check(self, data: bytes, path: Path, number: int, offset: int | None) -> None:
        """Counts one line that is not too long; blank ones are legal and not counted."""
        try:
            record = decode_row(data)
        except RowBreach as breach:
            if breach.kind != "blank":
                self.note(breach.kind, path, number, offset, breach.problem)
            return
        self._result.whole += 1
        seen = self._repeated.get(record.session_id)
        if seen is not None:
            self._repeated[record.session_id] = seen + 1
            if seen:
                self._add("duplicate", path, number, offset, f"session {record.session_id} has a row already")
        if self._canonical and encode_row(record) != data + b"\n":
            self.note("not_canonical", path, number, offset, "its bytes are not what our encoding gives")

    def note(self, kind: ProblemKind, path: Path, number: int, offset: int | None, detail: str) -> None:
        setattr(self._result, kind, (getattr(self._result, kind) or 0) + 1)
        self._add(kind, path, number, offset, detail)

    def note_unreadable(self, detail: str) -> None:
        self._result.unreadable += 1
        self._result.problems.append(Problem("unreadable", "", 0, None, detail))

    def _add(self, kind: ProblemKind, path: Path, number: int, offset: int | None, detail: str) -> None:
        self._noted[kind] = self._noted.get(kind, 0) + 1
        if self._noted[kind] <= self._problems_max:
            self._result.problems.append(Problem(kind, str(path), number, offset, detail))
