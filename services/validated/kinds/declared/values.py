"""Values of artifacts and specs beside those of columns: what is equal, and in which form an artifact would hold it."""

from __future__ import annotations

import decimal
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from lakehouse.strict_json.parser import JsonValue
from validated.datasets.dataset_index import Value
from validated.datasets.index_keys import FIELD
from validated.datasets.texts import fold

_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Wide enough for the exact difference of any two doubles.
_EXACT: Final = decimal.Context(prec=1100, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
_NUMBER_CHARS_MAX: Final = 40
_INSTANT_CHARS_MAX: Final = 40


def typed(column_type: str, value: object) -> Value:
    """`value` of JSON or TOML as a column of this type has it; None where it is nothing of the sort."""
    if column_type == "text":
        return value if isinstance(value, str) else None
    if column_type == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if column_type == "integer":
        # 1.0 is 1 in canonical JSON.
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) else None
    if column_type == "decimal":
        return _decimal(value)
    if column_type == "labels":
        return (
            tuple(value) if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value) else None
        )
    if not isinstance(value, str):
        return None
    return _day(value) if column_type == "date" else _instant(value)


def equal(value: Value, held: Value, *, folded: bool = False, tolerance: Decimal | None = None) -> bool:
    """Whether two values of one type are equal."""
    if value is None or held is None:
        return False
    if value == held:
        return True
    if tolerance and isinstance(value, (int, Decimal)) and isinstance(held, (int, Decimal)):
        return _EXACT.compare(abs(_EXACT.subtract(Decimal(value), Decimal(held))), tolerance) <= 0
    if isinstance(value, tuple) and isinstance(held, tuple):
        return sorted(map(fold, value) if folded else value) == sorted(map(fold, held) if folded else held)
    if folded and isinstance(value, str) and isinstance(held, str):
        return fold(value) == fold(held)
    return False


def key_text(column_type: str, value: object) -> str | None:
    """Return the text by which an index knows a value of a key; None where no row can have it."""
    read = typed(column_type, value)
    if isinstance(read, int):
        return str(read) if abs(read) < 10**18 else None
    if not isinstance(read, str) or not read or FIELD in read or not _is_encodable(read):
        return None
    return read


def written(value: Value) -> Sequence[JsonValue]:
    """Return the forms in which JSON can hold a column's value without loss, the plainest first."""
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return (int(value), str(value))
        double = float(value)
        return (double, str(value)) if Decimal(repr(double)) == value else (str(value),)
    if isinstance(value, datetime):
        return (value.isoformat().replace("+00:00", "Z"),)
    if isinstance(value, tuple):
        return (list(value),)
    return (value,)


def _is_encodable(text: str) -> bool:
    """Whether `text` holds no lone surrogate, which UTF-8 has not."""
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        # The shortest text that means this double, as canonical JSON prints it.
        return Decimal(repr(value))
    if isinstance(value, str) and len(value) <= _NUMBER_CHARS_MAX and _DECIMAL.fullmatch(value):
        return Decimal(value)
    return None


def _day(text: str) -> str | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        date.fromisoformat(text)
    except ValueError:
        return None
    return text


def _instant(text: str) -> datetime | None:
    if len(text) > _INSTANT_CHARS_MAX:
        return None
    try:
        instant = datetime.fromisoformat(text)
        return None if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
