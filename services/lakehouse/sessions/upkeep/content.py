"""What a line is, which day it belongs to, and a tally that tells two sets of lines apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from lakehouse.sessions.record import ROW_BYTES_MAX
from lakehouse.sessions.row_reading import ROW_DEPTH_MAX
from lakehouse.sessions.store.archive import UNKNOWN_DAY
from lakehouse.strict_json.parser import parse_json

_MODULUS: Final = 1 << 256


@dataclass(slots=True)
class ContentTally:
    """Counts lines and sums their SHA-256 modulo 2^256: the same for the same lines in any order, and different,
    but for chance, when one is lost, doubled or changed."""

    lines: int = 0
    torn: int = 0
    _sum: int = 0

    def add(self, line: bytes, *, torn: bool) -> None:
        self.lines += 1
        self.torn += torn
        digest = hashlib.sha256(line).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % _MODULUS

    def add_content(self, lines: int, content: str) -> None:
        """Take what another tally has counted. Raises ValueError for a content that is none."""
        self.lines += lines
        self._sum = (self._sum + int(content, 16)) % _MODULUS

    @property
    def content(self) -> str:
        return f"{self._sum:064x}"


def timestamp_of(line: bytes) -> object:
    """Return what a line that is an object, of whatever schema, has as ``timestamp``."""
    value = parse_json(line, bytes_max=ROW_BYTES_MAX, depth_max=ROW_DEPTH_MAX)
    return value.get("timestamp") if isinstance(value, dict) else None


def day_of(timestamp: object) -> str:
    """Return the UTC day (``YYYY-MM-DD``) of a row's timestamp, or ``unknown``."""
    if not isinstance(timestamp, str) or len(timestamp) > 64:
        return UNKNOWN_DAY
    return _day(timestamp[:10]) if timestamp[10:11] == "T" and timestamp.endswith("Z") else _shifted_day(timestamp)


@lru_cache(maxsize=1024)
def _day(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date().isoformat()
    except ValueError:
        return UNKNOWN_DAY


def _shifted_day(timestamp: str) -> str:
    try:
        moment = datetime.fromisoformat(timestamp)
        return moment.astimezone(UTC).date().isoformat() if moment.tzinfo else UNKNOWN_DAY
    except (ValueError, OverflowError):
        return UNKNOWN_DAY
