"""A caller's JSON Schema as endpoints with strict structured output want it, where that takes nothing from it."""

from __future__ import annotations

import json
from typing import Any, Final


def close_schema(schema_json: str) -> str:
    """The schema as strict endpoints want it: each object closed, all of its properties required. "" where it cannot
    be.

    Closing takes nothing from an object whose author has listed its properties and requires them all. One with optional
    properties, or with names of the answer's own, would be narrowed: such a schema is not closed.
    """
    try:
        schema = json.loads(schema_json)
        _close(schema)
    except (ValueError, RecursionError):
        return ""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


# Keywords whose value is a schema, a list of schemas, or a table of schemas.
_ONE: Final = ("items", "contains")
_LISTS: Final = ("anyOf", "prefixItems")
_TABLES: Final = ("properties", "$defs", "definitions")
# What a closed object would mean something else to.
_CONDITIONS: Final = frozenset(
    {"not", "if", "then", "else", "allOf", "oneOf", "patternProperties", "propertyNames", "dependentSchemas"}
)


def _close(schema: Any) -> None:
    """Raises ValueError where closing would narrow."""
    if not isinstance(schema, dict):
        return
    if not _CONDITIONS.isdisjoint(schema):
        raise ValueError("conditions")
    kind = schema.get("type")
    if "properties" in schema or kind == "object" or (isinstance(kind, list) and "object" in kind):
        properties = schema.get("properties")
        if not properties or not isinstance(properties, dict):
            raise ValueError("an object of any names")
        if schema.get("additionalProperties", False) is not False:
            raise ValueError("further names are allowed")
        if set(properties) != set(schema.get("required", ())):
            raise ValueError("optional properties")
        schema["additionalProperties"] = False
    for key in _ONE:
        _close(schema.get(key))
    for key in _LISTS:
        for each in schema.get(key, ()):
            _close(each)
    for key in _TABLES:
        table = schema.get(key)
        for each in table.values() if isinstance(table, dict) else ():
            _close(each)
