"""``least_artifact``: the first value, and the least, that fits a JSON Schema. What the scripted provider answers with
where its script says `from_schema`: a stand-in for a model that keeps to what it is shown, and chooses nothing.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import jsonschema_rs

# Bounds of hostile schemas.
_STEPS_MAX: Final = 100_000
_DEPTH_MAX: Final = 100
_ITEMS_MAX: Final = 1_000
_CHARS_MAX: Final = 100_000
_REGEX: Final = jsonschema_rs.RegexOptions(size_limit=100_000, dfa_size_limit=100_000)
# Elements of an array are chosen from so many before one is repeated.
_CHOICES_MAX: Final = 1_000


class NoArtifactError(Exception):
    """The schema has none, or none that is found here (a `pattern`, a `not`)."""


def least_artifact(schema_json: str) -> str:
    """Compact JSON text that fits `schema_json`: of `const`, `enum`, `anyOf`, `oneOf`, `prefixItems` the first that can
    be, of properties the required ones, of items as many as there must be, each another one as long as there are any.

    Raises NoArtifactError. What is given fits: it is held against the schema at the end.
    """
    schema = json.loads(schema_json)
    try:
        artifact = next(_Maker(schema).values(schema, 0))
        fits = jsonschema_rs.validator_for(schema, retriever=_nothing, pattern_options=_REGEX).is_valid(artifact)
    except Exception as error:  # a schema that is none: there is no end to the ways
        raise NoArtifactError from error
    if not fits:
        raise NoArtifactError
    return _printed(artifact)


def _printed(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _nothing(uri: str) -> Any:
    """Nobody's schema is fetched from anywhere."""
    raise NoArtifactError(uri)


class _Maker:
    """Values of a schema and of its parts, each in order, made as they are asked for."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0

    def values(self, schema: Any, depth: int) -> Iterator[Any]:
        self._steps += 1
        if self._steps > _STEPS_MAX or depth > _DEPTH_MAX:
            raise NoArtifactError
        if schema is False:
            return
        if not isinstance(schema, dict):
            schema = {}
        if "const" in schema:
            yield schema["const"]
        elif "enum" in schema:
            yield from schema["enum"]
        elif "$ref" in schema:
            yield from self.values(self._resolved(schema["$ref"]), depth + 1)
        elif "allOf" in schema:
            merged = _merged([{key: schema[key] for key in schema if key != "allOf"}, *schema["allOf"]])
            yield from self.values(merged, depth + 1)
        elif "anyOf" in schema or "oneOf" in schema:
            shared = {key: schema[key] for key in schema if key not in {"anyOf", "oneOf"}}
            for each in schema.get("anyOf") or schema["oneOf"]:
                yield from self.values(_merged([shared, each]) if shared else each, depth + 1)
        else:
            yield from self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Iterator[Any]:
        kinds = schema.get("type", _kind_of(schema))
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            if kind == "object":
                properties = schema.get("properties", {})
                required = schema.get("required", [])
                names = [name for name in properties if name in required]
                names += [name for name in required if name not in properties]
                yield from self._objects({name: properties.get(name, {}) for name in names}, names, depth)
            elif kind == "array":
                yield self._array(schema, depth)
            elif kind == "string":
                yield "x" * min(schema.get("minLength", 0), _CHARS_MAX)
            elif kind in {"integer", "number"}:
                yield from _numbers(schema, whole=kind == "integer")
            else:
                yield {"boolean": False, "null": None}[kind]

    def _objects(self, properties: Mapping[str, Any], names: Sequence[str], depth: int) -> Iterator[dict[str, Any]]:
        if not names:
            yield {}
            return
        for value in self.values(properties[names[0]], depth + 1):
            for rest in self._objects(properties, names[1:], depth + 1):
                yield {names[0]: value, **rest}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        count = schema.get("minItems", 0)
        if count > _ITEMS_MAX:
            raise NoArtifactError
        slots = schema.get("prefixItems", [])
        made: list[Any] = []
        used: set[str] = set()
        for number in range(count):
            slot = slots[number] if number < len(slots) else schema.get("items", {})
            values = itertools.islice(self.values(slot, depth + 1), _CHOICES_MAX)
            first = next(values, _NONE)
            if first is _NONE:
                raise NoArtifactError
            made.append(next((each for each in itertools.chain([first], values) if _printed(each) not in used), first))
            used.add(_printed(made[-1]))
        return made

    def _resolved(self, ref: str) -> Any:
        if not ref.startswith("#"):
            raise NoArtifactError
        found = self._root
        for step in ref[1:].split("/")[1:]:
            found = found[int(step) if isinstance(found, list) else step.replace("~1", "/").replace("~0", "~")]
        return found


_NONE: Final = object()


def _kind_of(schema: Mapping[str, Any]) -> str:
    if any(key in schema for key in ("items", "prefixItems", "minItems")):
        return "array"
    if any(key in schema for key in ("minLength", "maxLength", "pattern", "format")):
        return "string"
    return "number" if any(key.lower().endswith(("minimum", "maximum")) for key in schema) else "object"


def _numbers(schema: Mapping[str, Any], *, whole: bool) -> Iterator[float]:
    """Nought, else what is nearest to the lower bound, else to the upper one."""
    step = schema.get("multipleOf", 1 if whole else 0)
    low = schema.get("minimum", -math.inf)
    above = schema.get("exclusiveMinimum", -math.inf)
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    if low <= 0 <= high and above < 0 and schema.get("exclusiveMaximum") != 0:
        yield 0
        return
    if max(low, above) > -math.inf:
        first = max(low, above)
        if step:
            first = math.ceil(first / step) * step
        yield first if first > above else first + (step or 1)
    else:
        yield math.floor(high / step) * step - step if step else high - 1


def _merged(schemas: Sequence[Any]) -> Any:
    """One schema in the place of all: enough for what people write, and what it gets wrong does not fit at the end."""
    merged: dict[str, Any] = {}
    for schema in schemas:
        if schema is False:
            return False
        for key, value in schema.items() if isinstance(schema, dict) else ():
            known = merged.get(key)
            if key == "properties" and known:
                merged[key] = {**known, **value}
            elif key in {"required", "allOf"} and known:
                merged[key] = [*known, *(each for each in value if each not in known)]
            else:
                merged[key] = value
    return merged
