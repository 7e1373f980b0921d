"""Which file names belong to a log. Who reads the log and who looks for a row in it ask here, and nowhere else.

Beside ``sessions.jsonl`` these hold rows of it:

- ``sessions.jsonl``: the live file, always plain;
- ``sessions.jsonl.7``: rotated, a dot and a number;
- ``sessions.jsonl-20261124``, ``sessions.jsonl.2026-11-24T10:00:00Z``, ``sessions.jsonl_20261124-1795478400``: rotated,
  ``.``, ``-`` or ``_`` and a date, which begins with six digits or with ``YYYY-MM``; what follows of it are digits with
  single separators between them;
- ``sessions.7.jsonl``, ``sessions-20261124.jsonl``: the same before the extension (logrotate's ``extension``);
- each of them with ``.gz`` or ``.zst`` behind it, once.

That is what logrotate makes (numbers, ``dateext`` and its formats, ``compress``, ``delaycompress``), and what people
type who rename by hand. Nothing else counts: ``.bak``, ``~``, ``.tmp``, ``.orig``, ``_old``, ``-copy``, `` (1)`` and
``-2`` are how copies are called, and the rows of a copy would count twice. ``may_be_mistaken`` names them, so that
readers can warn. A rotated file in a compression that is not read here (``.xz``) belongs to the log: its rows are
missing, and whoever reads says so.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

LOG_EXTENSION: Final = ".jsonl"
LOG_NAME: Final = f"sessions{LOG_EXTENSION}"
DEFAULT_LOG_PATH: Final = f"/var/lib/lakehouse/gateway/{LOG_NAME}"

Compression = Literal["none", "gzip", "zstd", "other"]
"""``other``: one that is not read here."""

COMPRESSION_SUFFIXES: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}
"""In the order in which one of two that hold the same rows is preferred."""
_SUFFIXES_NOT_READ: Final = (".xz", ".bz2", ".lz4", ".lzma", ".Z")

_ROTATION: Final = r"(?:\.[0-9]+|[.\-_](?:[0-9]{6,}|[0-9]{4}-[0-9]{2})(?:[T_:.+\-]?[0-9]+)*Z?)"


@dataclass(frozen=True, slots=True)
class LogName:
    """What its name says of a file that belongs to a log."""

    base: str
    """The name without the compression's suffix: files of one base hold the same rows."""
    compression: Compression


def parse_log_name(log_name: str, name: str) -> LogName | None:
    """None for what does not belong to the log whose live file is called ``log_name``."""
    if name == log_name:
        return LogName(name, "none")
    base, compression = split_compression(name)
    if not _rotated(log_name).fullmatch(base):
        return None
    return LogName(base, compression)


def may_be_mistaken(log_name: str, name: str) -> bool:
    """Return True for what does not belong to the log and looks as if: a copy, a backup, another way of rotating."""
    if parse_log_name(log_name, name) is not None:
        return False
    stem, extension = os.path.splitext(log_name)  # noqa: PTH122  string work, no file
    rest = name.removeprefix(stem)
    return log_name in name or (rest != name and extension in rest and not rest[:1].isalnum())


def split_compression(name: str) -> tuple[str, Compression]:
    """Return the name without its compression's suffix, and the compression."""
    base, suffix = os.path.splitext(name)  # noqa: PTH122  string work, no file
    if suffix in COMPRESSION_SUFFIXES:
        return base, COMPRESSION_SUFFIXES[suffix]
    return (base, "other") if suffix in _SUFFIXES_NOT_READ else (name, "none")


def names_of_same_rows(name: str) -> list[str]:
    """Return what a file would be called whose rows are this one's, in another compression or in none."""
    base, _ = split_compression(name)
    return [other for suffix in ("", *COMPRESSION_SUFFIXES, *_SUFFIXES_NOT_READ) if (other := base + suffix) != name]


@lru_cache(maxsize=64)
def _rotated(log_name: str) -> re.Pattern[str]:
    """Of names without compression. The live file's own name is among them: ``gzip sessions.jsonl`` by hand."""
    stem, extension = map(re.escape, os.path.splitext(log_name))  # noqa: PTH122  string work, no file
    return re.compile(f"{stem}(?:{extension}{_ROTATION}?|{_ROTATION}{extension})", re.ASCII)
