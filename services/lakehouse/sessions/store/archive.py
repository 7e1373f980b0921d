"""The Parquet half of the log: what stands where beside the live file, and what a manifest says.

Beside ``sessions.jsonl`` stands the folder ``sessions.parquet``::

    day=YYYY-MM-DD/<segment>-NNNN.parquet   rows by the UTC day of their timestamp (``day=unknown`` without one)
    _segments/<segment>.json                the manifest that commits a compacted segment
    _claimed/<segment>.jsonl[.gz|.zst]      a rotated file that a compaction took and has not finished
    _building/<segment>/                    Parquet in the making
    _lock                                   held by the running compaction

A Parquet file counts if and only if a manifest names it, and a claimed file counts if and only if its segment has no
manifest: renaming the manifest into place is the one instant in which rows move from JSONL to Parquet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

MANIFEST_SCHEMA: Final = "session.segment.v1"
UNKNOWN_DAY: Final = "unknown"
FILE_MODE: Final = 0o640
FOLDER_MODE: Final = 0o750

# A manifest lists the Parquet files of one segment, some hundred bytes each.
_MANIFEST_BYTES_MAX: Final = 64 * 1024 * 1024


class ArchiveDamagedError(Exception):
    """A manifest cannot be read, or a Parquet file that it names is missing or has another size."""


@dataclass(frozen=True, slots=True)
class ParquetFile:
    path: str
    """Relative to the archive's folder."""
    lines: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What became of one compacted segment."""

    segment: str
    source: str
    """The rotated file's name when it was claimed."""
    source_sha256: str
    """Of the file's bytes, decompressed."""
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
        return self.log_path.with_suffix(".parquet")

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

    def manifest_path(self, segment: str) -> Path:
        return self.manifests / f"{segment}.json"

    def day_folder(self, day: str) -> Path:
        return self.folder / f"day={day}"

    def committed(self) -> frozenset[str]:
        """The segments that have a manifest. Raises OSError."""
        return frozenset(name.removesuffix(".json") for name in _names(self.manifests, ".json"))

    def read_manifest(self, segment: str) -> Manifest:
        """Raises ArchiveDamagedError, OSError."""
        path = self.manifest_path(segment)
        with path.open("rb") as file:
            data = file.read(_MANIFEST_BYTES_MAX)
        try:
            fields: dict[str, Any] = orjson.loads(data)
            if fields.pop("schema") != MANIFEST_SCHEMA:
                raise ArchiveDamagedError(
                    f"{path} has another schema than {MANIFEST_SCHEMA}: a newer lakehouse wrote it"
                )
            files = tuple(ParquetFile(**file) for file in fields.pop("files"))
            return Manifest(files=files, **fields)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveDamagedError(
                f"{path} is no manifest ({error}): restore the folder {self.folder} from a backup"
            ) from None

    def check_files(self, manifest: Manifest) -> None:
        """Raises ArchiveDamagedError unless every Parquet file of a manifest stands with its size."""
        for file in manifest.files:
            path = self.folder / file.path
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                size = -1
            if size != file.size_bytes:
                found = "is missing" if size < 0 else f"has {size} bytes and not {file.size_bytes}"
                raise ArchiveDamagedError(f"{path} {found}: restore it from a backup")


def _names(folder: Path, suffix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffix) and not entry.name.startswith("."):
                    yield entry.name
    except FileNotFoundError:
        return


def fsync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
