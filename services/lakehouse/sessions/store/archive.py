"""The Parquet half of the log: what stands where beside the live file, and what a manifest says.

Beside ``sessions.jsonl`` stands the folder ``sessions.parquet``::

    day=YYYY-MM-DD/<segment>-NNNN.parquet   rows by the UTC day of their timestamp (``day=unknown`` without one)
    day=YYYY-MM-DD/merged-<name>.parquet    what were several of these; see ``days``
    _segments/<segment>.json                the manifest that commits a compacted segment
    _days/YYYY-MM-DD.json                   which of the day's files stand merged in which
    _claimed/<segment>.jsonl[.gz|.zst]      a rotated file that a compaction took and has not finished
    _building/<segment>/                    Parquet in the making
    _published/                             what of it stands in the table of all replicas; see ``lake.publications``
    _erasing                                there while an erasure works
    _lock, _publish_lock                    held by the running compaction or erasure, and by the running publisher

A Parquet file counts if and only if a manifest names it and no day's manifest says that it stands merged in another,
and a claimed file counts if and only if its segment has no manifest: renaming the manifest into place is the one
instant in which rows move from JSONL to Parquet. A segment's manifest never changes; its name is the segment's
identity.

Readers hold the folder's own lock shared while they look (``days.reading``); files that count no more go while nobody
does.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, TypeVar

import orjson

from lakehouse.sessions.store.disk import regular_files
from lakehouse.sessions.store.names import COMPRESSION_SUFFIXES, LOG_EXTENSION, Compression, LogName, split_compression


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


_T = TypeVar("_T", bound=_Dataclass)

MANIFEST_SCHEMA: Final = "session.segment.v1"
UNKNOWN_DAY: Final = "unknown"
RETENTION: Final = b"retention"
"""The text of ``Archive.erasing`` while days are dropped."""

_PARQUET: Final = ".parquet"
_MANIFEST: Final = ".json"
# As `new_segment` makes them: a copy of a manifest or of a claimed file has another name.
_SEGMENT: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}")

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|unknown")
_MERGED: Final = re.compile(r"merged-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}\.parquet")

# A manifest lists Parquet files, some hundred bytes each.
_MANIFEST_BYTES_MAX: Final = 64 * 1024 * 1024


class ArchiveDamagedError(Exception):
    """A manifest cannot be read, or a Parquet file that it names is missing or has another size."""


@dataclass(frozen=True, slots=True)
class ParquetFile:
    path: str
    """Relative to the archive's folder."""
    lines: int
    size_bytes: int
    content: str = ""
    """As ``Manifest.content``, of this file's lines; empty in manifests of before it was noted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What became of one compacted segment."""

    segment: str
    source: str
    """The rotated file's name when it was claimed."""
    source_bytes: int
    """Decompressed."""
    lines: int
    """Every line but blank ones: whole, foreign and torn."""
    torn: int
    content: str
    """Hex: the sum modulo 2^256 of the SHA-256 of every line, so that their order does not matter."""
    files: tuple[ParquetFile, ...]

    def to_json(self) -> bytes:
        return orjson.dumps({"schema": MANIFEST_SCHEMA, **asdict(self)}, option=orjson.OPT_INDENT_2) + b"\n"


@dataclass(frozen=True, slots=True)
class Archive:
    """The folder of one log; nothing need exist."""

    log_path: Path

    @property
    def folder(self) -> Path:
        return self.log_path.with_suffix(_PARQUET)

    @property
    def claimed(self) -> Path:
        return self.folder / "_claimed"

    @property
    def building(self) -> Path:
        return self.folder / "_building"

    @property
    def manifests(self) -> Path:
        return self.folder / "_segments"

    @property
    def lock(self) -> Path:
        return self.folder / "_lock"

    @property
    def erasing(self) -> Path:
        """There while an erasure or a retention works, or after one that was interrupted; its text says which."""
        return self.folder / "_erasing"

    @property
    def erasure_interrupted(self) -> bool:
        """Whether rows may stand here that somebody wants erased. What a retention has left, the next one ends."""
        return self.erasing.exists() and self.erasing.read_bytes() != RETENTION

    def manifest_path(self, segment: str) -> Path:
        return self.manifests / f"{segment}{_MANIFEST}"

    @property
    def days(self) -> Path:
        return self.folder / "_days"

    def day_path(self, day: str) -> Path:
        return self.days / f"{day}{_MANIFEST}"

    def merged_days(self) -> list[str]:
        """Return the days that have a manifest. Raises OSError."""
        paths = (path for path, _ in regular_files(self.days))
        return sorted(path.stem for path in paths if path.suffix == _MANIFEST and _DAY.fullmatch(path.stem))

    def merged_files(self) -> Iterator[Path]:
        """Every merged file, relative to the folder, named by a manifest or not."""
        for path in self.folder.glob(f"day=*/merged-*{_PARQUET}"):
            if _MERGED.fullmatch(path.name):
                yield path.relative_to(self.folder)

    def files_of_days(self) -> list[Path]:
        """Return every file in the days' folders, named by a manifest or not, sorted."""
        return sorted(self.folder.glob(f"day=*/*{_PARQUET}"))

    def claimed_path(self, segment: str, compression: Compression) -> Path:
        suffix = next((suffix for suffix, kind in COMPRESSION_SUFFIXES.items() if kind == compression), "")
        return self.claimed / f"{segment}{LOG_EXTENSION}{suffix}"

    def parse_claimed(self, name: str) -> tuple[str, LogName] | None:
        """Return the segment of a file in ``claimed``; None for a name that ``claimed_path`` does not make."""
        base, compression = split_compression(name)
        segment = base.removesuffix(LOG_EXTENSION)
        if compression == "other" or segment == base or not _SEGMENT.fullmatch(segment):
            return None
        return segment, LogName(base, compression)

    def claimed_files(self) -> Iterator[tuple[str, Path]]:
        """Each claimed file with its segment. Raises OSError."""
        for path, _ in regular_files(self.claimed):
            claim = self.parse_claimed(path.name)
            if claim is not None:
                yield claim[0], path

    def placed_files(self, segment: str) -> Iterator[Path]:
        """Return the Parquet files of a segment, named by a manifest or not."""
        return self.folder.glob(f"day=*/{segment}-*{_PARQUET}")

    def committed(self) -> frozenset[str]:
        """Return the segments that have a manifest. Raises OSError."""
        paths = (path for path, _ in regular_files(self.manifests))
        return frozenset(path.stem for path in paths if path.suffix == _MANIFEST and _SEGMENT.fullmatch(path.stem))

    def read_manifest(self, segment: str) -> Manifest:
        """Raise ArchiveDamagedError, OSError."""
        path = self.manifest_path(segment)
        with self.parsed(path, MANIFEST_SCHEMA) as values:
            files = tuple(known(ParquetFile, file) for file in values.pop("files"))
            manifest = known(Manifest, {**values, "files": files})
        if manifest.segment != segment:
            raise ArchiveDamagedError(f"{path} is the manifest of {manifest.segment}: remove this copy of it")
        return manifest

    @contextmanager
    def parsed(self, path: Path, schema: str) -> Iterator[dict[str, Any]]:
        """Yield what a manifest holds, without its schema. Raises OSError, and ArchiveDamagedError, also for what does
        not fit within the block."""
        with path.open("rb") as file:
            data = file.read(_MANIFEST_BYTES_MAX)
        try:
            values: dict[str, Any] = orjson.loads(data)
            if values.pop("schema") != schema:
                raise ArchiveDamagedError(f"{path} has another schema than {schema}: a newer lakehouse wrote it")
            yield values
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveDamagedError(
                f"{path} is no manifest ({error}): restore the folder {self.folder} from a backup"
            ) from None

    def committed_unix_s(self, segment: str) -> float:
        """When the segment got its manifest. Raises OSError."""
        return self.manifest_path(segment).stat().st_mtime

    def check_file(self, path: str, size_bytes: int) -> None:
        """Raise ArchiveDamagedError unless a Parquet file stands with its size."""
        try:
            size = (self.folder / path).stat().st_size
        except FileNotFoundError:
            size = -1
        if size != size_bytes:
            found = "is missing" if size < 0 else f"has {size} bytes and not {size_bytes}"
            raise ArchiveDamagedError(f"{self.folder / path} {found}: restore it from a backup")


def known(kind: type[_T], values: dict[str, Any]) -> _T:
    """Return a dataclass of the keys that it knows; later versions may write more. Raises TypeError where one is
    missing."""
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})


def new_segment() -> str:
    """Return a name for the next segment: when it was taken, and what no other one has."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:12]}"


def parquet_name(day: str, segment: str, number: int) -> str:
    """Relative to the archive's folder, and to the one in which it is built."""
    return f"day={day}/{segment}-{number:04d}{_PARQUET}"


def merged_name(day: str) -> str:
    """Relative to the archive's folder: a name that no other merged file has."""
    return f"day={day}/merged-{new_segment()}{_PARQUET}"


def day_of_path(path: str) -> str:
    """Return the day in whose folder a Parquet file stands, of its path relative to the archive's folder."""
    return path.partition("/")[0].removeprefix("day=")
