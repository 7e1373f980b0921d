"""What a schema says of arrays, and tuples for dialects that have no `prefixItems`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson


class Shape(NamedTuple):
    """What a schema says of arrays."""

    slots: Sequence[Any]
    """Schemas of the first items."""
    rest: Any
    """The schema of the items behind them."""
    least: int
    most: int | None


EVERY_ARRAY: Final = Shape((), rest=True, least=0, most=None)


def shape_of(schema: Mapping[str, Any], *, older: bool) -> Shape:
    """Return the arrays that `schema` allows. `older` drafts, and whoever still writes so, have tuples in `items`."""
    slots, rest = schema.get("prefixItems", ()), schema.get("items", True)
    if isinstance(rest, list):
        slots, rest = rest, schema.get("additionalItems", True)
    elif older:
        slots = ()
    slots = tuple(slots) if isinstance(slots, list) else ()
    least, most = _count(schema.get("minItems")) or 0, _count(schema.get("maxItems"))
    if rest is False:
        most = len(slots) if most is None else min(most, len(slots))
    if most is not None:
        slots = slots[:most]
        rest = False if len(slots) == most else rest
    return Shape(slots, rest, least, most)


def union_of_slots(slots: Sequence[Any], rest: Any) -> tuple[Any, bool]:
    """One schema for every item of a tuple, and whether more fits it than fitted the tuple.

    Alternatives within slots become alternatives of the one schema, each once.
    """
    if rest is True:
        # Anything may follow, so anything may stand anywhere.
        return True, True
    alternatives: dict[str, Any] = {}
    for slot in [*slots, *([] if rest is False else [rest])]:
        inner = slot.get("anyOf") if isinstance(slot, dict) and slot.keys() == {"anyOf"} else None
        for each in inner if isinstance(inner, list) else [slot]:
            alternatives[text_of(each, sort=True)] = each
    # Slots that say the same lose nothing.
    lost = len({text_of(each, sort=True) for each in slots}) > 1 or rest is not False
    found = [*alternatives.values()]
    return (found[0] if len(found) == 1 else {"anyOf": found}), lost


def text_of(schema: Any, *, sort: bool = False) -> str:
    """Print `schema`; with `sort`, so that equal ones have one text."""
    try:
        return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS if sort else None).decode()
    except TypeError:
        # An integer of more than 64 bits, or a lone surrogate.
        return json.dumps(schema, ensure_ascii=False, separators=(",", ":"), sort_keys=sort)


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
