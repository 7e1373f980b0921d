"""Is every row whole, ours and there once? Reads every line, by the one reading of ``row_lines``."""

from __future__ import annotations

import itertools
import tempfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from lakehouse.sessions.record import RECALL_HOURS, parse_rfc3339
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.row_lines import RowLine, read_row_line
from lakehouse.sessions.row_reading import RowBreach, decode_row
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.days import StandingFile
from lakehouse.sessions.store.lines import Progress, SegmentDamagedError, read_lines
from lakehouse.sessions.store.parquet_rows import connect_bare, stored_lines, stored_segment_lines
from lakehouse.sessions.store.segments import Segment, Snapshot
from lakehouse.sessions.upkeep.content import ContentTally

if TYPE_CHECKING:
    import duckdb

ProblemKind = Literal["blank", "torn", "duplicate", "reused", "foreign", "invalid", "not_canonical", "unreadable"]

OnStart = Callable[[str, int], None]
"""Called before each reading of the log with what it is for and how many bytes it reads."""


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
    """Rows that claim our schema without having its keys; readers pass over them."""
    duplicates: int = 0
    """Rows beyond the first one of their session id and ``try``, ended within ``recall_hours`` of the one before: no
    caller makes such, so that the log is at fault."""
    reused: int = 0
    """The same, ended later than that: a caller used an old id again, and the log is right."""
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
    snapshot: Snapshot,
    *,
    canonical: bool,
    problems_max: int,
    recall_hours: float = RECALL_HOURS,
    progress: Progress | None = None,
    on_start: OnStart = lambda _description, _size_bytes: None,
) -> Verification:
    """Read the whole log line by line, and a second time where ids are repeated.

    ``recall_hours``: how long iterate answers a repeated id with what it has; a row of the same id and ``try`` that
    ended later is no duplicate. Memory: eight bytes a row, and a tuple for each row of a repeated id. Raises OSError.
    """
    result = Verification(not_canonical=0 if canonical else None)
    check = _Check(result, problems_max, canonical=canonical)
    for reason in snapshot.unreadable:
        check.note_unreadable(reason)
    on_start("Reading every line", snapshot.size_bytes)
    for place, data in _lines(snapshot, check, progress):
        check.check(place, data)
    repeated = check.repeated_keys()
    if repeated:
        on_start("Comparing repeated ids", snapshot.size_bytes)
        _count_repeated(snapshot, repeated, check, recall_hours, progress)
    return result


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    line: int
    offset: int | None


def _lines(snapshot: Snapshot, check: _Check | None, progress: Progress | None) -> Iterator[tuple[_Place, bytes]]:
    """Every line that is to be judged; what is known to be wrong with the others is noted, once, by ``check``."""
    for segment in snapshot.segments:
        yield from _segment_lines(segment, check, progress)
    yield from _archived_lines(snapshot, check, progress)


def _segment_lines(segment: Segment, check: _Check | None, progress: Progress | None) -> Iterator[tuple[_Place, bytes]]:
    try:
        for line in read_lines(segment, progress):
            place = _Place(segment.path, line.number, line.offset)
            if segment.live and not line.ended and not segment.quiet:
                if check is not None:
                    check.result.in_flight = True
            elif not line.too_long:
                yield place, line.data
            elif check is not None:
                check.note("torn", place, "longer than any row")
    except SegmentDamagedError as error:
        if check is not None:
            check.note_unreadable(str(error))


def _archived_lines(
    snapshot: Snapshot, check: _Check | None, progress: Progress | None
) -> Iterator[tuple[_Place, bytes]]:
    """Yield the lines of the Parquet files; note the segments of which they are no longer what was compacted."""
    if not snapshot.parquet:
        return
    import duckdb  # noqa: PLC0415  80 ms that `--help` need not wait for

    folder = Archive(snapshot.log_path).folder
    tallies: dict[str, ContentTally] = {}
    damaged: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="lakehouse-sessions-") as spill_folder:
        connection = connect_bare(spill_folder)
        try:
            for file in snapshot.parquet:
                path = folder / file.path
                try:
                    for number, (data, torn, segment) in enumerate(_stored(connection, file, path), 1):
                        tallies.setdefault(segment, ContentTally()).add(data, torn=torn)
                        yield _Place(path, number, None), data
                except duckdb.Error as error:
                    damaged.update(part.segment for part in file.parts)
                    if check is not None:
                        check.note_unreadable(str(error))
                if progress is not None:
                    progress(file.size_bytes)
        finally:
            connection.close()
    if check is None:
        return
    for manifest in snapshot.manifests:
        tally = tallies.get(manifest.segment, ContentTally())
        if manifest.segment not in damaged and (tally.lines, tally.content) != (manifest.lines, manifest.content):
            check.note_unreadable(
                f"the Parquet files of segment {manifest.segment} hold other lines than were compacted ({tally.lines}"
                f" and not {manifest.lines}, or another content): restore them from a backup"
            )


def _stored(connection: duckdb.DuckDBPyConnection, file: StandingFile, path: Path) -> Iterator[tuple[bytes, bool, str]]:
    if file.merged:
        yield from stored_segment_lines(connection, path)
    else:
        for data, torn in stored_lines(connection, [path]):
            yield data, torn, file.parts[0].segment


def _count_repeated(
    snapshot: Snapshot, repeated: frozenset[int], check: _Check, recall_hours: float, progress: Progress | None
) -> None:
    found: dict[tuple[str, int], list[tuple[int | None, _Place]]] = {}
    for place, data in _lines(snapshot, None, progress):
        try:
            row = read_row_line(data)
        except RowBreach:
            continue
        if _key(row) in repeated:
            found.setdefault((row.session_id, row.try_number), []).append((_ended_unix_us(row), place))
    for (session_id, try_number), rows in found.items():
        # A row without a time that can be compared is a duplicate wherever it stands.
        rows.sort(key=lambda row: (row[0] is None, row[0] or 0))
        for (before_us, _), (after_us, place) in itertools.pairwise(rows):
            apart = before_us is not None and after_us is not None and after_us - before_us > recall_hours * 3.6e9
            named = f"session {session_id}" + (f", try {try_number}," if try_number > 1 else "")
            if apart:
                check.note("reused", place, f"{named} was used again, more than {recall_hours:g} h later")
            else:
                check.note("duplicate", place, f"{named} has a row already")


def _key(row: RowLine) -> int:
    """Equal for equal ids and tries; where others are equal by chance, the second reading tells them apart."""
    return hash((row.session_id, row.try_number))


def _ended_unix_us(row: RowLine) -> int | None:
    try:
        return parse_rfc3339(row.timestamp)
    except (ValueError, OverflowError):
        return None


_COUNTERS: Final[dict[ProblemKind, str]] = {"duplicate": "duplicates"}


class _Check:
    def __init__(self, result: Verification, problems_max: int, *, canonical: bool) -> None:
        self.result = result
        self._problems_max = problems_max
        self._canonical = canonical
        self._noted: dict[ProblemKind, int] = {}
        self._keys = array("q")

    def check(self, place: _Place, data: bytes) -> None:
        """Count one line that is not too long; blank ones are legal and not counted."""
        try:
            row = read_row_line(data)
        except RowBreach as breach:
            if breach.kind != "blank":
                self.note(breach.kind, place, breach.problem)
            return
        self.result.whole += 1
        self._keys.append(_key(row))
        if self._canonical and encode_row(decode_row(data)) != data + b"\n":
            self.note("not_canonical", place, "its bytes are not what our encoding gives")

    def repeated_keys(self) -> frozenset[int]:
        keys = sorted(self._keys)
        return frozenset(key for key, following in itertools.pairwise(keys) if key == following)

    def note(self, kind: ProblemKind, place: _Place, detail: str) -> None:
        counter = _COUNTERS.get(kind, kind)
        setattr(self.result, counter, (getattr(self.result, counter) or 0) + 1)
        self._noted[kind] = self._noted.get(kind, 0) + 1
        if self._noted[kind] <= self._problems_max:
            self.result.problems.append(Problem(kind, str(place.path), place.line, place.offset, detail))

    def note_unreadable(self, detail: str) -> None:
        self.result.unreadable += 1
        self.result.problems.append(Problem("unreadable", "", 0, None, detail))
