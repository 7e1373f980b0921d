"""Values and their kinds, and what a converter to grammars can read of patterns and texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from chatd.schemas.dialects import Dialect

TYPES: Final = ("object", "array", "string", "number", "boolean", "null")
_BOUNDS: Final = frozenset(
    {"minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
# Between the anchors: no escapes, no groups that do more than group, no anchors again, no quotation marks, and no
# alternatives, over which an anchor would bind to one end alone.
_ANCHORED: Final = re.compile(r"\^(?:[^\\^$\"(|]|\((?!\?))*\$")


def bounds_of(schema: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Return what `schema` says of numbers and texts, as far as the dialect bears it."""
    # A draft had booleans there.
    made = {key: value for key, value in schema.items() if key in _BOUNDS & dialect.keywords and _is_number(value)}
    pattern, form = schema.get("pattern"), schema.get("format")
    takes = "pattern" in dialect.keywords and isinstance(pattern, str)
    if takes and (dialect.patterns == "any" or _ANCHORED.fullmatch(str(pattern))):
        made["pattern"] = pattern
    if isinstance(form, str) and form in dialect.formats:
        made["format"] = form
    return made


def kinds_of(values: Sequence[Any]) -> list[str]:
    """Return the types of values, each once, in order."""
    return [*dict.fromkeys(_kind(each) for each in values)]


def of_kinds(values: Sequence[Any], types: str | Sequence[str]) -> list[Any]:
    """Those of `values` that one of `types` allows."""
    allowed = {types} if isinstance(types, str) else set(types)
    return [each for each in values if _kind(each) in allowed or (_kind(each) == "integer" and "number" in allowed)]


def is_spelt(value: Any, bad: str) -> bool:
    """Whether a name or a value can be spelt where a text must hold none of the characters in `bad`, none below U+0020
    and none above U+FFFF; where `bad` is "" everything can be."""
    if not bad:
        return True
    if isinstance(value, str):
        return _unspelt(bad).search(value) is None
    if isinstance(value, dict):
        return all(is_spelt(each, bad) for pair in value.items() for each in pair)
    return not isinstance(value, list) or all(is_spelt(each, bad) for each in value)


@cache
def _unspelt(bad: str) -> re.Pattern[str]:
    return re.compile(f"[{re.escape(bad)}]|[^ -\uffff]")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
