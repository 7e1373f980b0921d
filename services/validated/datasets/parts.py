"""The files behind a path: one, or those of a folder. Each is opened once, and what is hashed is what is read.

A path is taken to the letter: brackets and stars in it are no pattern, and no folder's name says anything of the rows.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

import zstandard

from validated.datasets.dataset import Problem, RefusedError, UnreadableError

FORMATS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_PACKED: Final = (".gz", ".zst")
_BLOCK_BYTES: Final = 1 << 20
_PARTS_MAX: Final = 10_000
_ZSTD_WINDOW_BYTES_MAX: Final = 1 << 27

Signature = tuple[tuple[str, int, int, int, int, int], ...] | None


class Digest(Protocol):
    """What hashlib's digests do; their own type has a private name."""

    def update(self, data: bytes, /) -> None: ...


class Part(NamedTuple):
    """One file."""

    path: Path
    format: str
    """One of FORMATS; case in the name does not matter."""
    packed: str
    """"", ".gz" or ".zst"."""


def parts_of(path: Path) -> list[Part]:
    """Return the files behind `path`, in the order of their names. Raises RefusedError, UnreadableError."""
    try:
        if not path.is_dir():
            path.stat()
            return [_part(path)]
        with os.scandir(path) as entries:
            # Marks of those who write folders (_SUCCESS, .crc) are no parts.
            names = sorted(entry.name for entry in entries if not entry.name.startswith((".", "_")))
    except OSError as error:
        raise _unreadable(path, error) from None
    if not names:
        raise RefusedError(Problem(str(path), 0, "", "is a folder without files"))
    if len(names) > _PARTS_MAX:
        raise RefusedError(Problem(str(path), 0, "", f"holds more than {_PARTS_MAX} files; write fewer"))
    for name in names:
        if (path / name).is_dir():
            text = "is a folder inside of the folder; put all the parts side by side, without partitions by folder"
            raise RefusedError(Problem(str(path / name), 0, "", text))
    parts = [_part(path / name) for name in names]
    for part in parts:
        if part.format != parts[0].format:
            text = f"is {part.format} where {parts[0].path.name} is {parts[0].format}; a folder holds one format"
            raise RefusedError(Problem(str(part.path), 0, "", text))
    return parts


def signature(path: Path) -> Signature:
    """Return what changes when the files do, without reading them; None where there are none."""
    try:
        if not path.is_dir():
            return (_stat(path),)
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith((".", "_")))
        return tuple(_stat(path / name) for name in names[: _PARTS_MAX + 1])
    except OSError:
        return None


def _stat(path: Path) -> tuple[str, int, int, int, int, int]:
    stat = path.stat()
    return (path.name, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def modified_at(path: Path) -> float:
    """When the newest file behind `path` was written, seconds since 1970; 0 where that is not known."""
    try:
        return max((each[4] for each in signature(path) or ()), default=0) / 1e9
    except OSError:
        return 0.0


class OpenPart:
    """A part that is open for reading, for the time of a `with`. Raises RefusedError, UnreadableError."""

    def __init__(self, part: Part) -> None:
        self.part = part
        try:
            self._file: BinaryIO = part.path.open("rb")
            self._before = os.fstat(self._file.fileno())
        except OSError as error:
            raise _unreadable(part.path, error) from None
        self.digest = self._digest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def unpack_to(self, out: BinaryIO) -> None:
        """Write what the file holds to `out`, unpacked. Raises RefusedError where its bytes are no longer those whose
        `digest` was taken.
        """
        digest = hashlib.sha256()
        try:
            out.writelines(self._unpacked(digest))
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            text = f"cannot be unpacked ({error}); write it anew"
            raise RefusedError(Problem(str(self.part.path), 0, "", text)) from None
        if digest.hexdigest() != self.digest:
            raise self._changed()

    def confirm(self) -> None:
        """Raise UnreadableError where the file was written to while it was open."""
        after = os.fstat(self._file.fileno())
        if (after.st_size, after.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise self._changed()

    def _changed(self) -> UnreadableError:
        text = "changed while it was read; replace it by a rename"
        return UnreadableError(Problem(str(self.part.path), 0, "", text))

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()

    def _blocks(self) -> Iterator[bytes]:
        try:
            self._file.seek(0)
            while block := self._file.read(_BLOCK_BYTES):
                yield block
        except OSError as error:
            raise _unreadable(self.part.path, error) from None

    def _unpacked(self, digest: Digest) -> Iterator[bytes]:
        # One decompressor after the other: both formats allow several streams end to end. A stream that lacks its end
        # is refused, where the libraries' own file objects would call the rest of the file its end.
        make = {"": None, ".gz": _gunzip, ".zst": _unzstd}[self.part.packed]
        stream = None
        for block in self._blocks():
            digest.update(block)
            if make is None:
                yield block
                continue
            rest = block
            while rest:
                if stream is None:
                    stream = make()
                yield stream.decompress(rest)
                if not stream.eof:
                    break
                rest, stream = stream.unused_data, None
        if stream is not None:
            raise EOFError("its end is missing")


def _gunzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _unzstd() -> zstandard.ZstdDecompressionObj:
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX).decompressobj()


def _part(path: Path) -> Part:
    name = path.name.lower()
    packed = next((each for each in _PACKED if name.endswith(each)), "")
    bare = name.removesuffix(packed)
    format_ = next((each for each in FORMATS if bare.endswith(each)), "")
    if not format_ or (packed and format_ == ".parquet"):
        text = f"unknown format; the name must end in {', '.join(FORMATS)}, the texts also with .gz or .zst"
        raise RefusedError(Problem(str(path), 0, "", text))
    return Part(path, format_, packed)


def _unreadable(path: Path, error: OSError) -> UnreadableError:
    text = f"{error.strerror or error}; check the path and the permissions"
    return UnreadableError(Problem(str(path), 0, "", text))
