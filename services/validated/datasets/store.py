"""The folder that holds built indexes: one folder each, named by what it was built from.

An index is written beside its place and renamed into it, with a manifest that holds its size and checksum; it never
changes afterwards. Whoever uses one holds a shared lock on its manifest. Those that nobody uses, beyond the newest few,
are swept, so that the disk is bounded; several processes may share the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import os
import secrets
import shutil
import tempfile
import threading
import time
import unicodedata
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import lmdb

KEY_BYTES_MAX: Final = 480
"""LMDB takes 511."""
_KEPT: Final = 3
_MANIFEST: Final = "manifest.json"
_DATA: Final = "data.mdb"
_BUILDING: Final = ".lock"
_BLOCK_BYTES: Final = 1 << 20
_BATCHES: Final = 8
_MAPS_MAX: Final = 16


class StoreError(Exception):
    """The folder cannot be used; the text says why."""


@functools.cache
def engine_digest() -> str:
    """Return a digest of all that decides what an index holds beside its files: this package's sources, the libraries
    that read and hold rows, and Unicode's tables, by which names are folded.

    An index that another state of the program built is never answered from: it could lack what this one looks up, and a
    gate that finds nothing lets all pass.
    """
    digest = hashlib.sha256(f"{metadata.version('duckdb')} {lmdb.version()} {unicodedata.unidata_version}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


class IndexWriter:
    """Writes maps of bytes into one new index."""

    def __init__(self, folder: Path, *, bytes_max: int) -> None:
        self._env = lmdb.open(
            str(folder / _DATA), subdir=False, lock=False, sync=False, map_size=bytes_max, max_dbs=_MAPS_MAX, mode=0o600
        )

    def put(self, name: str, batches: Iterable[Sequence[tuple[bytes, bytes]]]) -> int:
        """Write the items of `batches`, sorted by their distinct keys, as the map `name`; how many there are."""
        into = self._env.open_db(name.encode())
        left = iter(batches)
        count = 0
        while some := list(itertools.islice(left, 1)):
            with self._env.begin(write=True, db=into) as transaction, transaction.cursor() as cursor:
                # A few batches at a time, so that commits are few.
                for items in itertools.chain(some, itertools.islice(left, _BATCHES - 1)):
                    _, added = cursor.putmulti(items, overwrite=False, append=True)
                    if added != len(items):
                        raise ValueError(f"{name}: a key stands twice")
                    count += added
        return count

    def close(self) -> None:
        """Everything is in: let the disk have it."""
        self._env.sync(True)  # noqa: FBT003  lmdb's own signature
        self._env.close()


class IndexReader:
    """The maps of one index, for as long as the object lives. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        """Raise OSError, ValueError, lmdb.Error where there is none. See `open_index`."""
        self._lock = (folder / _MANIFEST).open("rb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            self.manifest: dict[str, Any] = json.load(self._lock)
            self.env = lmdb.open(
                str(folder / _DATA),
                subdir=False,
                readonly=True,
                lock=False,
                max_dbs=_MAPS_MAX,
                max_readers=1,
                readahead=False,
            )
            self.maps = {name: self.env.open_db(name.encode(), create=False) for name in self.manifest["maps"]}
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Let go of the file; nobody may ask any more."""
        self.env.close()
        self._lock.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self.close()


_open_indexes: weakref.WeakValueDictionary[Path, IndexReader] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def open_index(folder: Path) -> IndexReader:
    """Return the index in `folder`. LMDB opens a file once in a process: who asks again gets the same object, and the
    file is closed when the last of them has let go of it. Raises as IndexReader does.
    """
    with _opening:
        reader = _open_indexes.get(folder)
        if reader is None:
            reader = _open_indexes[folder] = IndexReader(folder)
        return reader


class Store:
    """The folder. Made with mode 0700; one of somebody else, or open to others, is refused with StoreError."""

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            stat = root.stat()
        except OSError as error:
            raise StoreError(f"{root}: {error.strerror}") from None
        if stat.st_uid != os.geteuid() or stat.st_mode & 0o077:
            raise StoreError(f"{root}: must belong to this user, with mode 0700")
        self.root = root

    def find(self, key: str) -> Path | None:
        """Return the index `key`, if it is there and whole. One that is not is removed."""
        for folder in sorted(self.root.glob(f"{key}-*")):
            if self._is_whole(folder):
                with contextlib.suppress(OSError):
                    os.utime(folder / _MANIFEST)
                return folder
            self._remove(folder)
        return None

    @staticmethod
    def _is_whole(folder: Path) -> bool:
        try:
            with (folder / _MANIFEST).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                manifest = json.load(file)
                return bool(
                    (manifest["engine"], manifest["size"], manifest["checksum"])
                    == (engine_digest(), *_checksum(folder / _DATA))
                )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @contextlib.contextmanager
    def building(self) -> Iterator[Path]:
        """Yield a new folder to build in, for the time of the block; `place` keeps it."""
        folder = Path(tempfile.mkdtemp(prefix=".building-", dir=self.root))
        with (folder / _BUILDING).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def place(self, folder: Path, key: str, maps: Iterable[str], facts: Mapping[str, Any]) -> Path:
        """Return the index in `folder` is whole: write its manifest and move it to its place, which is returned."""
        size, checksum = _checksum(folder / _DATA)
        manifest = {"engine": engine_digest(), "size": size, "checksum": checksum, "maps": list(maps), **facts}
        descriptor = os.open(folder / _MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
        (folder / _BUILDING).unlink()
        # A name of its own each time: what replaces a broken index is another file, though somebody has that one open.
        place = self.root / f"{key}-{secrets.token_hex(4)}"
        folder.rename(place)
        return place

    def sweep(self) -> None:
        """Remove what nobody uses: half-built indexes whose builders died, and all but the newest few."""
        built: list[tuple[float, Path]] = []
        for folder in list(self.root.iterdir()):
            if folder.name.startswith("."):
                self._remove_unused(folder, _BUILDING)
                continue
            with contextlib.suppress(OSError):
                built.append(((folder / _MANIFEST).stat().st_mtime, folder))
        for _, folder in sorted(built, reverse=True)[_KEPT:]:
            self._remove_unused(folder, _MANIFEST)

    def _remove_unused(self, folder: Path, locked: str) -> None:
        try:
            with (folder / locked).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove(folder)
        except FileNotFoundError:
            # Its builder is about to make the lock, or has sealed it; a folder that stays like that is old.
            with contextlib.suppress(OSError):
                if _age_s(folder) > 3600:
                    self._remove(folder)
        except OSError:
            return

    def _remove(self, folder: Path) -> None:
        grave = Path(tempfile.mkdtemp(prefix=".removed-", dir=self.root))
        with contextlib.suppress(OSError):
            folder.rename(grave / "index")
        shutil.rmtree(grave, ignore_errors=True)


def _checksum(path: Path) -> tuple[int, int]:
    """Size and CRC-32: against disks and torn writes, not against somebody who may write here."""
    # Read, not mapped: of a page that the disk cannot give, reading says so, where a mapping ends the process.
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = zlib.crc32(block, checksum)
            size += len(block)
    return size, checksum


def _age_s(folder: Path) -> float:

    return time.time() - folder.stat().st_mtime
