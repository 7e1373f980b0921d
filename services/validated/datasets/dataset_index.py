"""A declared dataset in one LMDB file, mapped read-only. ``dataset_build`` writes it."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from lakehouse.strict_json.parser import JsonValue
from validated.datasets.dataset import ColumnType
from validated.datasets.index_keys import FIELD, FOLDED_BYTES, ITEM, LIKE_CHARS, folded_key
from validated.datasets.names import name_key
from validated.datasets.store import KEY_BYTES_MAX, open_index

Value = str | int | Decimal | bool | datetime | tuple[str, ...] | None
"""What a row has in a column: text and date as text, an instant as a datetime in UTC; None for no value."""

SCANNED_MAX: Final = 20_000
"""A dataset of more rows is not read to its end for one answer."""
_ROWS_KEPT: Final = 8192
_QUALIFIED_KEPT: Final = 32
_ALIKE_MAX: Final = 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Row:
    """One row. Never changes."""

    __slots__ = ("forms", "key", "values")

    def __init__(self, key: str, values: dict[str, Value]) -> None:
        self.key: Final = key
        """The values of the key's columns as text, parted by U+001F: names the row in its dataset."""
        self.values: Final = values
        self.forms: Final[dict[str, JsonValue]] = {}
        """For those who compare values: the plainest JSON of a column, once it was asked for."""


class DatasetIndex:
    """Reads the maps. Nothing that it answers changes: any thread may ask."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`. Raises OSError, ValueError, KeyError, lmdb.Error where none is."""
        self._reader = open_index(folder)
        self._maps = self._reader.maps
        manifest = self._reader.manifest
        self.row_count: int = manifest["row_count"]
        self.key: tuple[str, ...] = tuple(manifest["key"])
        self._columns = [(name, _READ[ColumnType(type_)]) for name, type_ in manifest["columns"]]
        self._by_thread = threading.local()
        self._kept: dict[str, Row | None] = {}
        self._qualified: OrderedDict[Hashable, Sequence[str]] = OrderedDict()
        self._lock = threading.Lock()

    def row(self, key: str) -> Row | None:
        """Return the row of a key (see Row.key), compared by code points."""
        found = self._kept.get(key)
        if found is None:
            found = self._read(key)
            if found is not None:
                if len(self._kept) >= _ROWS_KEPT:
                    self._kept.clear()
                self._kept[key] = found
        return found

    def rows_folded(self, texts: Sequence[str]) -> list[Row]:
        """Return the rows whose key is `texts` (no lone surrogates) without case, width and spacing; of many the
        first."""
        start = folded_key(texts)
        found: list[Row] = []
        with self._transaction().cursor(self._maps["folded"]) as cursor:
            if not cursor.set_range(start):
                return found
            for entry in cursor.iternext(keys=True, values=False):
                if not entry.startswith(start) or len(found) >= _ALIKE_MAX:
                    break
                row = self.row(entry[FOLDED_BYTES:].decode())
                if row is not None:
                    found.append(row)
        return found

    def like(self, text: str, count: int) -> list[str]:
        """Keys whose letters and digits begin like those of `text`, up to `count` on either side."""
        start = name_key(text[:LIKE_CHARS])[:LIKE_CHARS].encode(errors="replace")[:KEY_BYTES_MAX]
        numbers: list[bytes] = []
        with self._transaction().cursor(self._maps["like"]) as cursor:
            there = cursor.set_range(start)
            if there:
                for entry in cursor.iternext(keys=True, values=False):
                    numbers.append(entry[-4:])
                    if len(numbers) >= count:
                        break
                there = cursor.set_range(start) and cursor.prev()
            else:
                there = cursor.last()
            for _ in range(count):
                if not there:
                    break
                numbers.append(cursor.key()[-4:])
                there = cursor.prev()
        return [key for number in numbers if (key := self._key_at(number)) is not None]

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of their keys."""
        with self._transaction().cursor(self._maps["rows"]) as cursor:
            for key, record in cursor:
                yield self._made(key.decode(), record)

    def kept_qualified(self, conditions: Hashable) -> Sequence[str] | None:
        """Return what `qualified` would give, where it was asked lately."""
        with self._lock:
            return self._qualified.get(conditions)

    def qualified(self, conditions: Hashable, qualifies: Callable[[Row], bool]) -> Sequence[str]:
        """Return the keys of all rows that qualify, in their order; `conditions` names what `qualifies` asks. For
        datasets of at most SCANNED_MAX rows.
        """
        kept = self.kept_qualified(conditions)
        if kept is None:
            kept = [row.key for row in self.rows() if qualifies(row)]
            with self._lock:
                self._qualified[conditions] = kept
                while len(self._qualified) > _QUALIFIED_KEPT:
                    self._qualified.popitem(last=False)
        return kept

    def sample(self, seed: str, qualifies: Callable[[Row], bool], wanted: int) -> Sequence[str]:
        """Keys of rows that qualify, drawn by `seed`: at least `wanted`, where they are found in SCANNED_MAX draws."""
        drawn: dict[str, None] = {}
        draws = random.Random(seed)  # noqa: S311  a fair sample, not a secret
        for _ in range(SCANNED_MAX):
            if len(drawn) >= wanted:
                break
            key = self._key_at(int(draws.random() * self.row_count).to_bytes(4, "big"))
            row = None if key is None or key in drawn else self._read(key)
            if row is not None and qualifies(row):
                drawn[row.key] = None
        return list(drawn)

    def _key_at(self, number: bytes) -> str | None:
        key = self._transaction().get(number, db=self._maps["order"])
        return None if key is None else key.decode()

    def _read(self, key: str) -> Row | None:
        try:
            encoded = key.encode()
        except UnicodeEncodeError:
            # A lone surrogate stands in no file, and must not be taken for what replaces it.
            return None
        if not 0 < len(encoded) <= KEY_BYTES_MAX:
            return None
        record = self._transaction().get(encoded, db=self._maps["rows"])
        return None if record is None else self._made(key, record)

    def _made(self, key: str, record: bytes) -> Row:
        fields = record.decode().split(FIELD)
        return Row(
            key, {name: read(text) if text else None for (name, read), text in zip(self._columns, fields, strict=True)}
        )

    def _transaction(self) -> Any:
        # One for each thread, for as long as it lives: the file never changes.
        transaction = getattr(self._by_thread, "transaction", None)
        if transaction is None:
            transaction = self._by_thread.transaction = self._reader.env.begin()
        return transaction


def _instant(text: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(text))


def _labels(text: str) -> tuple[str, ...]:
    return tuple(text.split(ITEM))


_READ: Final[dict[ColumnType, Callable[[str], Value]]] = {
    ColumnType.ID: str,
    ColumnType.NAME: str,
    ColumnType.TEXT: str,
    ColumnType.DATE: str,
    ColumnType.INTEGER: int,
    ColumnType.DECIMAL: Decimal,
    ColumnType.LATITUDE: Decimal,
    ColumnType.LONGITUDE: Decimal,
    ColumnType.FLAG: "1".__eq__,
    ColumnType.INSTANT: _instant,
    ColumnType.LABELS: _labels,
}
