"""What a log knows of its publications, in the archive's folder ``_published``.

    <segment>.json     the segment stands in the table: which table, how many rows
    writes.json        names of the files that were begun in the table's folder and may be nobody's

A mark saves a look into the table and decides nothing alone: the table says what stands in it. So a mark may be lost.
``_publish_lock`` is held by who publishes or erases; a compaction never waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

from lakehouse.sessions.lake.errors import PublishRefusedError
from lakehouse.sessions.store.archive import Archive, ArchiveDamagedError, known
from lakehouse.sessions.store.disk import FILE_MODE, FOLDER_MODE, regular_files, replace_file

MARK_SCHEMA: Final = "session.published.v1"
WRITES_SCHEMA: Final = "session.writes.v1"

_MARK: Final = ".json"
_WRITES: Final = "writes.json"
_WRITES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A segment whose rows stand in a table."""

    segment: str
    table_uuid: str
    rows: int


class Publications:
    """The marks and begun writes of one log. Whoever changes them holds the lock."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._folder = archive.folder / "_published"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock for the time of the block. Raises PublishRefusedError where another process has it, OSError."""
        path = self._archive.folder / "_publish_lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PublishRefusedError(
                    f"{self._archive.log_path} is being published or erased from by another process: run again when"
                    " that is done"
                ) from None
            self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            yield
        finally:
            os.close(fd)

    def published(self, table_uuid: str) -> set[str]:
        """Return the segments that are marked as standing in this table. Raises OSError."""
        found = set()
        for path, _ in regular_files(self._folder):
            if path.name == _WRITES or path.suffix != _MARK:
                continue
            # A mark that cannot be read is one that is not there.
            with contextlib.suppress(ArchiveDamagedError), self._archive.parsed(path, MARK_SCHEMA) as values:
                mark = known(Mark, values)
                if mark.table_uuid == table_uuid and mark.segment == path.stem:
                    found.add(mark.segment)
        return found

    def mark(self, mark: Mark) -> None:
        """Note that a segment stands in the table. Raises OSError."""
        replace_file(self._path(mark.segment), _json({"schema": MARK_SCHEMA, **asdict(mark)}))

    def unmark(self, segment: str) -> None:
        """Forget a segment. Raises OSError."""
        self._path(segment).unlink(missing_ok=True)

    def writes(self) -> set[str]:
        """Return the names by which begun files in the table's folder are known. Raises OSError."""
        with (
            contextlib.suppress(FileNotFoundError, ArchiveDamagedError),
            self._archive.parsed(self._folder / _WRITES, WRITES_SCHEMA) as values,
        ):
            return {str(each) for each in values["writes"]}
        return set()

    def note_writes(self, writes: Iterable[str]) -> None:
        """Put these names in the place of those noted; before the first of their files is written. Raises OSError."""
        kept = sorted(writes)[-_WRITES_MAX:]
        replace_file(self._folder / _WRITES, _json({"schema": WRITES_SCHEMA, "writes": kept}))

    def _path(self, segment: str) -> Path:
        return self._folder / f"{segment}{_MARK}"


def _json(values: dict[str, object]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"
