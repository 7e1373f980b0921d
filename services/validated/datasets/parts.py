"""The files behind a path: one, or those of a folder. Each is opened once, and what is hashed is what is read.

A path is taken to the letter: brackets and stars in it are no pattern, and no folder's name says anything of the rows.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Self

import zstandard

from validated.datasets.dataset import Problem, RefusedError, UnreadableError

FORMATS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_PACKED: Final = (".gz", ".zst")
_BLOCK_BYTES: Final = 1 << 20
_HASHED_BYTES: Final = 1 << 24
_PARTS_MAX: Final = 10_000
_ZSTD_WINDOW_BYTES_MAX: Final = 1 << 27

Signature = tuple[tuple[str, int, int, int, int, int], ...] | None


class _Checksum:
    """CRC-32 of what was read, by which a second reading is known to have read the same: writing to a file meanwhile
    changes its time as well.
    """

    def __init__(self) -> None:
        self.value = 0

    def update(self, block: bytes) -> None:
        """Go on with `block`."""
        self.value = zlib.crc32(block, self.value)


class _Hashed(NamedTuple):
    """What is known of bytes that were read."""

    sha256: str
    checksum: int


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
    is_ = path.stat()
    return (path.name, is_.st_dev, is_.st_ino, is_.st_size, is_.st_mtime_ns, is_.st_ctime_ns)


def modified_at(path: Path) -> float:
    """When the newest file behind `path` was written, seconds since 1970; 0 where that is not known."""
    try:
        return max((each[4] for each in signature(path) or ()), default=0) / 1e9
    except OSError:
        return 0.0


class OpenFiles:
    """The files behind some paths, each opened once, and hashed in threads of their own, for the time of a `with`."""

    def __init__(self) -> None:
        self._hashing = ThreadPoolExecutor(2, "hash")
        self._parts: dict[Path, list[OpenPart]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for parts in self._parts.values():
            for part in parts:
                part.close()
        self._hashing.shutdown()

    def parts(self, path: Path) -> Sequence[OpenPart]:
        """Return the parts behind `path`, open. Raises RefusedError, UnreadableError."""
        opened = self._parts.get(path)
        if opened is None:
            opened = self._parts[path] = []
            try:
                for part in parts_of(path):
                    opened.append(OpenPart(part, self._hashing))
            except BaseException:
                for each in self._parts.pop(path):
                    each.close()
                raise
        return opened


class OpenPart:
    """A part that is open for reading, and is being hashed. Raises RefusedError, UnreadableError."""

    def __init__(self, part: Part, hashing: Executor) -> None:
        self.part = part
        try:
            # Not waiting: nobody may ever write into a pipe.
            self._file: BinaryIO = os.fdopen(os.open(part.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
            self._before = os.fstat(self._file.fileno())
        except OSError as error:
            raise _unreadable(part.path, error) from None
        if not stat.S_ISREG(self._before.st_mode):
            self._file.close()
            raise RefusedError(Problem(str(part.path), 0, "", "is no file but a pipe or a device; give a file"))
        self._is_closing = False
        self._hashed = hashing.submit(self._hash)

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, waited for. Raises UnreadableError."""
        return self._hashed.result().sha256

    def close(self) -> None:
        """Close the file; what is not hashed yet is left."""
        self._is_closing = True
        if not self._hashed.cancel():
            wait([self._hashed])
        self._file.close()

    def unpack_to(self, out: BinaryIO) -> None:
        """Write what the file holds to `out`, unpacked. Raises RefusedError, and UnreadableError where its bytes are no
        longer those whose `digest` was taken.
        """
        again = _Checksum()
        try:
            out.writelines(self._unpacked(again))
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            text = f"cannot be unpacked ({error}); write it anew"
            raise RefusedError(Problem(str(self.part.path), 0, "", text)) from None
        if again.value != self._hashed.result().checksum:
            raise self._changed()

    def confirm(self) -> None:
        """Raise UnreadableError where the file was written to while it was open."""
        after = os.fstat(self._file.fileno())
        if (after.st_size, after.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise self._changed()

    def _changed(self) -> UnreadableError:
        text = "changed while it was read; replace it by a rename"
        return UnreadableError(Problem(str(self.part.path), 0, "", text))

    def _hash(self) -> _Hashed:
        # Long blocks: for each the lock of the interpreter is asked for, which others may hold.
        digest, checksum, at = hashlib.sha256(), _Checksum(), 0
        try:
            while not self._is_closing and (block := os.pread(self._file.fileno(), _HASHED_BYTES, at)):
                digest.update(block)
                checksum.update(block)
                at += len(block)
        except OSError as error:
            raise _unreadable(self.part.path, error) from None
        return _Hashed(digest.hexdigest(), checksum.value)

    def _blocks(self) -> Iterator[bytes]:
        try:
            self._file.seek(0)
            while block := self._file.read(_BLOCK_BYTES):
                yield block
        except OSError as error:
            raise _unreadable(self.part.path, error) from None

    def _unpacked(self, checksum: _Checksum) -> Iterator[bytes]:
        # One decompressor after the other: both formats allow several streams end to end. A stream that lacks its end
        # is refused, where the libraries' own file objects would call the rest of the file its end.
        make = {"": None, ".gz": _gunzip, ".zst": _unzstd}[self.part.packed]
        stream = None
        for block in self._blocks():
            checksum.update(block)
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
