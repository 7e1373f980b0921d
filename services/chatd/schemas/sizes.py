"""How large a schema is, against the limits of its dialect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatd.schemas.dialects import Limits


def is_within(schema: Any, limits: Limits) -> bool:
    """Whether `schema`, as it is sent, keeps to `limits`."""
    if limits == Limits():
        return True
    values = properties = characters = 0
    for node in _nodes(schema):
        listed = node.get("enum", [node["const"]] if "const" in node else [])
        values += len(listed)
        texts = [each for each in listed if isinstance(each, str)]
        here = sum(map(len, texts))
        if limits.long_enum_characters and len(listed) > limits.long_enum_values and here > limits.long_enum_characters:
            return False
        properties += len(node.get("properties", ()))
        characters += here + sum(len(name) for key in ("properties", "$defs") for name in node.get(key, ()))
    return (
        _holds(values, limits.enum_values)
        and _holds(properties, limits.properties)
        and _holds(characters, limits.characters)
        and _holds(_depth(schema), limits.depth)
    )


def _holds(size: int, limit: int) -> bool:
    return not limit or size <= limit


def _parts(node: dict[str, Any]) -> Iterator[Any]:
    yield from node.get("properties", {}).values()
    yield from node.get("$defs", {}).values()
    yield from node.get("anyOf", ())
    yield from node.get("prefixItems", ())
    yield node.get("items")
    yield node.get("additionalProperties")


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += _parts(node)


def _depth(schema: Any) -> int:
    deepest = 0
    waiting = [(schema, 0)]
    while waiting:
        node, depth = waiting.pop()
        if not isinstance(node, dict):
            continue
        depth += any(key in node for key in ("properties", "items", "prefixItems"))
        deepest = max(deepest, depth)
        waiting += [(part, depth) for part in _parts(node)]
    return deepest
