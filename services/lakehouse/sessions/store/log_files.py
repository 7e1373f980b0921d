"""The files of a log as they stand now: beside the live file and in the archive, each row's file once.

Readers and iterate's sweep take their files from here, so that what one of them finds the other does not miss.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.disk import identity_of, regular_files
from lakehouse.sessions.store.names import COMPRESSION_SUFFIXES, Compression, LogName, may_be_mistaken, parse_log_name

_PREFERENCE: Final[tuple[Compression, ...]] = ("none", *COMPRESSION_SUFFIXES.values(), "other")


@dataclass(frozen=True, slots=True, order=True)
class FoundFile:
    """One JSONL file of the log; two are equal if path and identity are."""

    path: Path
    identity: tuple[int, int]
    live: bool
    compression: Compression
    status: os.stat_result = field(compare=False)


@dataclass(frozen=True, slots=True)
class LogFiles:
    files: tuple[FoundFile, ...]
    """Whose rows count; by path."""
    doubles: tuple[FoundFile, ...]
    """The rows of one of ``files`` again, in another compression: until gzip and zstd have finished and removed the
    original, that one is the whole file."""
    not_read: tuple[FoundFile, ...]
    """Rotated files in a compression that is not read here: rows of the log that nobody sees."""
    committed: frozenset[str]
    """Segments whose rows stand in Parquet."""
    strangers: tuple[Path, ...] = field(compare=False)
    """What looks like a file of the log and is none: copies, backups. Their rows do not count."""


def list_log_files(log_path: Path) -> LogFiles:
    """List the log whose live file has this path; empty where there is no such folder.

    It looks at places in the order in which rows move: beside the log, claimed, committed. What moves on between two
    looks is seen twice and counted once; what is renamed within one of them may be missed, so that who needs all lists
    until two listings are equal. Raises OSError.
    """
    archive = Archive(log_path)
    found: dict[tuple[int, int], tuple[FoundFile, LogName]] = {}
    strangers: list[Path] = []
    for path, status in sorted(regular_files(log_path.parent), key=lambda entry: entry[0]):
        name = parse_log_name(log_path.name, path.name)
        if name is not None:
            live = path.name == log_path.name
            found[identity_of(status)] = (FoundFile(path, identity_of(status), live, name.compression, status), name)
        elif may_be_mistaken(log_path.name, path.name):
            strangers.append(path)
    claimed = list(_claimed(archive, strangers))
    committed = archive.committed()
    for file, segment, name in claimed:
        found.pop(file.identity, None)
        if segment not in committed:
            found[file.identity] = (file, name)
    files: dict[tuple[Path, str], FoundFile] = {}
    doubles: list[FoundFile] = []
    not_read: list[FoundFile] = []
    for file, name in sorted(found.values(), key=lambda entry: _preference(entry[0])):
        kept = files.setdefault((file.path.parent, name.base), file)
        if kept is not file:
            doubles.append(file)
        elif file.compression == "other":
            not_read.append(file)
    return LogFiles(
        files=tuple(sorted(file for file in files.values() if file.compression != "other")),
        doubles=tuple(sorted(doubles, key=lambda file: file.path)),
        not_read=tuple(not_read),
        committed=committed,
        strangers=tuple(sorted(strangers)),
    )


def _claimed(archive: Archive, strangers: list[Path]) -> Iterator[tuple[FoundFile, str, LogName]]:
    for path, status in regular_files(archive.claimed):
        claim = archive.parse_claimed(path.name)
        if claim is None:
            strangers.append(path)
        else:
            segment, name = claim
            yield FoundFile(path, identity_of(status), False, name.compression, status), segment, name  # noqa: FBT003


def _preference(file: FoundFile) -> tuple[int, Path]:
    return _PREFERENCE.index(file.compression), file.path
