"""What a line is, which day it belongs to, and a tally that tells two sets of lines apart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import orjson

from lakehouse.sessions.store.archive import UNKNOWN_DAY

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

    @property
    def content(self) -> str:
        return f"{self._sum:064x}"


def parse_line(line: bytes) -> object:
    """The value of a line's JSON, numbers beyond 64 bits being rounded. Raises ValueError for a torn line."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # orjson refuses what is valid JSON and not torn: numbers beyond a double, lone surrogates in escapes.
        try:
            return json.loads(line.decode())
        except RecursionError:
            raise ValueError("nested too deeply") from None


def day_of(value: object) -> str:
    """The UTC day (``YYYY-MM-DD``) of a parsed line's timestamp, or ``unknown``."""
    timestamp = value.get("timestamp") if isinstance(value, dict) else None
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
