"""The index's file: SQLite in a hidden folder beside the log, ``.sessions.jsonl.index/rows.sqlite``.

``texts`` has one row for each file of the log: how much of it is covered, from ``begin`` to ``end``, both at the
beginning of a line. ``rows`` says where the rows of a session id stand, ``lines`` holds some of them (zstd), and
``compressed`` remembers the texts of compressed files. A transaction covers a piece of a file and says so, so that a
kill leaves no piece that is covered and not there. Nothing is fsynced: what a power cut may have broken is not read
again, since an index belongs to one boot of the machine. No write-ahead log: whoever closes the last connection to a
deleted file would delete that of the file which stands there now.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

import zstandard

from lakehouse.sessions.record import ROW_BYTES_MAX

_FILE: Final = "rows.sqlite"
_VERSION: Final = 1
_CACHE_KIB: Final = 32 * 1024
_READ_CACHE_KIB: Final = 2 * 1024
_BUSY_S: Final = 1.0
_FOLDER_MODE: Final = 0o750
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_TABLES: Final = """
CREATE TABLE made (boot TEXT NOT NULL);
CREATE TABLE texts (number INTEGER PRIMARY KEY, head BLOB NOT NULL UNIQUE, begin INTEGER NOT NULL,
    end INTEGER NOT NULL, tail BLOB NOT NULL, since_us INTEGER NOT NULL, source TEXT NOT NULL);
CREATE TABLE compressed (version TEXT PRIMARY KEY, head BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (session_id TEXT NOT NULL, text INTEGER NOT NULL, offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, try INTEGER NOT NULL, ended_us INTEGER NOT NULL,
    PRIMARY KEY (session_id, text, offset)) WITHOUT ROWID;
CREATE TABLE lines (text INTEGER NOT NULL, offset INTEGER NOT NULL, line BLOB NOT NULL,
    PRIMARY KEY (text, offset)) WITHOUT ROWID;
"""

IndexDamagedError = sqlite3.DatabaseError
"""The index cannot be read or written: delete it, and it is made again."""


class Place(NamedTuple):
    """Where one row stands."""

    session_id: str
    offset: int
    """Of its first byte, decompressed."""
    size_bytes: int
    """Without LF."""
    try_number: int
    ended_unix_us: int


class FoundPlace(NamedTuple):
    place: Place
    head: bytes
    """Of the text in which it stands."""
    line: bytes | None
    """The row itself, where the index holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveredText:
    """One file's text, as far as it is covered."""

    number: int
    head: bytes
    begin: int
    end: int
    tail: bytes
    """``texts.tail_hash`` of ``end``; empty where the file is compressed and was read whole."""
    since_unix_us: int
    """What stands before ``begin`` ended before that."""
    source: str
    """The file that it was read from last."""

    def covers_since(self, unix_us: int) -> bool:
        """Whether all that ended since then and stands before ``end`` is covered."""
        return self.begin == 0 or self.since_unix_us <= unix_us


def index_folder(log_path: str | os.PathLike[str]) -> Path:
    """Where the index of a log stands. The folder may be deleted at any time, whole."""
    path = Path(log_path)
    return path.with_name(f".{path.name}.index")


class RowIndex:
    """One connection, of one thread. Every method may raise IndexDamagedError."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self._file = file
        self._identity = _identity(file)

    @classmethod
    def open_to_read(cls, folder: Path) -> Self | None:
        """Open it; None where there is none, or one of another version or boot."""
        file = folder / _FILE
        try:
            # Not `mode=ro`: what a killed writer left half done is taken back by whoever comes next.
            connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)
        except sqlite3.OperationalError:
            return None
        try:
            connection.execute(f"PRAGMA cache_size = -{_READ_CACHE_KIB}")
            connection.execute("PRAGMA query_only = 1")
            if _is_of_this_boot(connection):
                return cls(connection, file)
        except sqlite3.OperationalError:
            pass
        connection.close()
        return None

    @classmethod
    def open_to_write(cls, folder: Path) -> Self:
        """Make it where there is none. Raises OSError, and IndexDamagedError for one of another version or boot."""
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        file = folder / _FILE
        connection = sqlite3.connect(file, isolation_level=None, timeout=_BUSY_S)
        try:
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute(f"PRAGMA synchronous = {'OFF' if _boot() else 'NORMAL'}")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
                connection.execute("INSERT INTO made VALUES (?)", (_boot(),))
            elif not _is_of_this_boot(connection):
                raise sqlite3.DatabaseError("it is of another version, or of another boot")  # noqa: TRY301
        except BaseException:
            connection.close()
            raise
        return cls(connection, file)

    def close(self) -> None:
        self._connection.close()

    @property
    def is_in_place(self) -> bool:
        """False once its file was deleted or replaced."""
        return self._identity is not None and _identity(self._file) == self._identity

    # Reading.

    def text(self, head: bytes) -> CoveredText | None:
        found = self._connection.execute(
            "SELECT number, head, begin, end, tail, since_us, source FROM texts WHERE head = ?", (head,)
        ).fetchone()
        if found is None:
            return None
        number, head, begin, end, tail, since_us, source = found
        return CoveredText(
            number=number, head=head, begin=begin, end=end, tail=tail, since_unix_us=since_us, source=source
        )

    def head_of_compressed(self, version: str) -> bytes | None:
        """Return the head of a compressed file that was read whole, by ``texts.version_of``."""
        found = self._connection.execute("SELECT head FROM compressed WHERE version = ?", (version,)).fetchone()
        return None if found is None else found[0]

    def places(self, session_id: str, since_unix_us: int) -> list[FoundPlace]:
        """Where rows of this id stand that ended since then, the last try first."""
        found = self._connection.execute(
            "SELECT offset, size_bytes, try, ended_us, head, line FROM rows JOIN texts ON texts.number = rows.text"
            " LEFT JOIN lines USING (text, offset) WHERE session_id = ? AND ended_us >= ?"
            " ORDER BY try DESC, ended_us DESC",
            (session_id, since_unix_us),
        ).fetchall()
        return [
            FoundPlace(Place(session_id, offset, size_bytes, try_number, ended_us), head, _unpacked(line))
            for offset, size_bytes, try_number, ended_us, head, line in found
        ]

    # Writing.

    def add(self, text: CoveredText, places: Iterable[Place], lines: Iterable[tuple[int, bytes]] = ()) -> None:
        """Cover a piece: its places, and the text as it is covered with it. ``lines``: (offset, row) to hold."""
        with _transaction(self._connection) as connection:
            number = text.number
            connection.execute(
                "INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET"
                " begin = excluded.begin, end = excluded.end, tail = excluded.tail, since_us = excluded.since_us,"
                " source = excluded.source",
                (number, text.head, text.begin, text.end, text.tail, text.since_unix_us, text.source),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)",
                ((each[0], number, each[1], each[2], each[3], each[4]) for each in places),
            )
            pack = zstandard.ZstdCompressor(level=1).compress
            connection.executemany(
                "INSERT OR REPLACE INTO lines VALUES (?, ?, ?)",
                ((number, offset, pack(line)) for offset, line in lines),
            )

    def new_number(self) -> int:
        """For a text that is not known yet."""
        return int(self._connection.execute("SELECT coalesce(max(number), 0) + 1 FROM texts").fetchone()[0])

    def note_compressed(self, version: str, head: bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO compressed VALUES (?, ?)", (version, head))

    def forget_text(self, head: bytes) -> None:
        """Forget what was covered of a text: it is not its text any more."""
        with _transaction(self._connection) as connection:
            found = connection.execute("SELECT number FROM texts WHERE head = ?", (head,)).fetchone()
            if found is not None:
                connection.execute("DELETE FROM rows WHERE text = ?", found)
                connection.execute("DELETE FROM lines WHERE text = ?", found)
                connection.execute("DELETE FROM texts WHERE number = ?", found)
            connection.execute("DELETE FROM compressed WHERE head = ?", (head,))

    def keep_texts(self, heads: Sequence[bytes], versions: Sequence[str]) -> None:
        """Forget all others: their files are gone, or of too long ago."""
        stored = {head for (head,) in self._connection.execute("SELECT head FROM texts").fetchall()}
        for head in stored.difference(heads):
            self.forget_text(head)
        known = {version for (version,) in self._connection.execute("SELECT version FROM compressed").fetchall()}
        for version in known.difference(versions):
            self._connection.execute("DELETE FROM compressed WHERE version = ?", (version,))


class _transaction:  # noqa: N801  used as a function
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: object, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def remove_index(log_path: str | os.PathLike[str]) -> None:
    """Delete what the index holds. Whoever has it open sees that it is gone. Raises OSError."""
    folder = index_folder(log_path)
    for suffix in ("", "-journal"):
        (folder / f"{_FILE}{suffix}").unlink(missing_ok=True)


def _is_of_this_boot(connection: sqlite3.Connection) -> bool:
    if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        return False
    return connection.execute("SELECT boot FROM made").fetchall() == [(_boot(),)]


def _boot() -> str:
    """Empty where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unpacked(line: bytes | None) -> bytes | None:
    if line is None:
        return None
    try:
        return zstandard.ZstdDecompressor().decompress(line, max_output_size=ROW_BYTES_MAX)
    except zstandard.ZstdError:
        return None
