"""Reads a roster and its companion files (CSV, TSV, JSONL, Parquet; gzip where DuckDB takes it) and says what is wrong.

Runs in the process that builds an index and in ``validated.roster_tool``, never in the service itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import duckdb

from validated.roster.columns import ASSIGNMENT_COLUMNS, DO_NOT_SEND_COLUMNS, WORKER_COLUMNS

FORMATS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_BATCH_ROWS: Final = 8192
_HASH_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RosterFiles:
    """Which files make a roster."""

    workers: Path
    assignments: Path | None = None
    do_not_send: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name of a worker column to the file's, where they differ."""

    def paths(self) -> tuple[Path, ...]:
        """The files that are set."""
        return tuple(path for path in (self.workers, self.assignments, self.do_not_send) if path is not None)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that makes a roster unusable."""

    file: str
    row: int
    """From 1, the header not counted; 0 for the file as a whole."""
    column: str
    text: str
    """What is wrong and what to do."""

    def __str__(self) -> str:
        place = f"row {self.row}" if self.row else ""
        where = ", ".join(part for part in (place, self.column) if part)
        return f"{self.file}: {where}: {self.text}" if where else f"{self.file}: {self.text}"


class SourceError(Exception):
    """A file cannot be read as a table at all."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Source:
    """The files of one roster, opened for reading. `version` is that of the bytes that the rows come from: a file that
    changes while it is read raises SourceError.
    """

    def __init__(self, files: RosterFiles, *, memory_mb: int) -> None:
        self._files = files
        self._memory_mb = memory_mb
        self._stack = contextlib.ExitStack()
        self.version = ""

    def __enter__(self) -> Self:
        self._signatures = [_signature(path) for path in self._files.paths()]
        self.version = _version(self._files)
        spill = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="roster-"))
        self._db = self._stack.enter_context(
            # One thread: row numbers come in the file's order, and the service keeps the other cores.
            duckdb.connect(
                config={
                    "threads": 1,
                    "memory_limit": f"{self._memory_mb}MB",
                    "temp_directory": spill,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                }
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def workers(self) -> Iterator[list[tuple[Any, ...]]]:
        """Batches of (row, worker_id, name, role, city, state, active, certifications, latitude, longitude, phone), all
        but the row text or None, sorted by the UTF-8 bytes of worker_id.
        """
        columns = {name: self._files.columns.get(name, name) for name in WORKER_COLUMNS}
        return self._rows(self._files.workers, columns, ("worker_id", "name"), order="worker_id")

    def assignments(self) -> Iterator[list[tuple[Any, ...]]]:
        """Batches of (row, worker_id, shift_start, shift_end), sorted by worker_id."""
        names = {name: name for name in ASSIGNMENT_COLUMNS}
        return self._rows(self._files.assignments, names, ASSIGNMENT_COLUMNS, order="worker_id")

    def do_not_send(self) -> Iterator[list[tuple[Any, ...]]]:
        """Batches of (row, client_id, worker_id), sorted by client_id."""
        names = {name: name for name in DO_NOT_SEND_COLUMNS}
        return self._rows(self._files.do_not_send, names, DO_NOT_SEND_COLUMNS, order="client_id")

    def confirm(self) -> None:
        """Raises SourceError where a file is no longer the one whose version was taken."""
        for path, before in zip(self._files.paths(), self._signatures, strict=True):
            if _signature(path) != before:
                raise SourceError(Problem(str(path), 0, "", "changed while it was read; replace it by a rename"))

    def _rows(
        self, path: Path | None, columns: Mapping[str, str], required: tuple[str, ...], *, order: str
    ) -> Iterator[list[tuple[Any, ...]]]:
        if path is None:
            return
        try:
            table = self._table(path, columns)
            types = {row[0]: str(row[1]) for row in self._db.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}  # noqa: S608  built from quoted names
            for name in required:
                if columns[name] not in types:
                    have = ", ".join(sorted(types)[:20])
                    text = f'there is no column "{columns[name]}" but {have}; rename it or map it in roster.columns'
                    raise SourceError(Problem(str(path), 0, name, text))
            picked = [_as_text(columns[name], types.get(columns[name])) + f" AS {name}" for name in columns]
            rows = f"SELECT row_number() OVER () AS row, {', '.join(picked)} FROM {table}"  # noqa: S608  built from quoted names
            result = self._db.execute(f"SELECT * FROM ({rows}) ORDER BY {order}, row")  # noqa: S608  our own column name
            while batch := result.fetchmany(_BATCH_ROWS):
                yield batch
        except duckdb.OutOfMemoryException:
            text = f"does not fit into {self._memory_mb} MB while it is sorted; raise roster.load_memory_mb"
            raise SourceError(Problem(str(path), 0, "", text)) from None
        except duckdb.Error as error:
            raise SourceError(Problem(str(path), 0, "", _first_lines(str(error)))) from None

    def _table(self, path: Path, columns: Mapping[str, str]) -> str:
        suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
        file = _literal(str(path))
        if suffix in (".csv", ".tsv"):
            delimiter = "'\\t'" if suffix == ".tsv" else "','"
            # All text: "007" is an id and no number. Quoting is RFC 4180's, nothing is guessed.
            return (
                f"read_csv({file}, header = true, all_varchar = true, delim = {delimiter}, quote = '\"', "
                "escape = '\"', strict_mode = true, comment = '')"
            )
        if suffix in (".jsonl", ".ndjson"):
            names = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in columns.values())
            return f"read_json({file}, format = 'newline_delimited', columns = {{{names}}})"
        if suffix == ".parquet":
            return f"read_parquet({file})"
        raise SourceError(Problem(str(path), 0, "", f"unknown format; the name must end in {', '.join(FORMATS)}"))


def _as_text(column: str, kind: str | None) -> str:
    if kind is None:
        return "NULL"
    name = '"' + column.replace('"', '""') + '"'
    if kind.endswith("]"):
        return f"CAST(to_json({name}) AS VARCHAR)"
    return f"CAST({name} AS VARCHAR)"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:3])[:400]


def _signature(path: Path) -> tuple[int, int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise SourceError(Problem(str(path), 0, "", f"{error.strerror}; check the path and the permissions")) from None
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _version(files: RosterFiles) -> str:
    digests = [_digest(path) for path in files.paths()]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return f"sha256:{whole[:16]}"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_HASH_BYTES):
                digest.update(block)
    except OSError as error:
        raise SourceError(Problem(str(path), 0, "", f"{error.strerror}; check the path and the permissions")) from None
    return digest.hexdigest()
