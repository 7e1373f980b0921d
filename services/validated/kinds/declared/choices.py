"""The declared schema, narrowed so that whatever fits it is accepted: a choice among rows where they are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.strict_json.parser import JsonValue
from validated.datasets.dataset_index import Row
from validated.kinds.declared.schemas import DeclaredSchema, SchemaError
from validated.kinds.declared.terms import BoundReference, Terms
from validated.kinds.declared.values import written

Node = dict[str, Any]


class Choices:
    """The choices of one reference. Each step replaces a part of the schema by one that accepts less: what fits the
    result fits the declared schema as well.
    """

    def __init__(self, schema: DeclaredSchema, reference: BoundReference) -> None:
        self._schema = schema
        self._reference = reference
        self._parts: dict[str, DeclaredSchema | None] = {}
        self.element: Node | None = self._element(schema.value, reference.steps)
        """The schema of an element; None where the declared one does not say it plainly: then there are no choices."""

    def of(self, row: Row) -> Node | None:
        """Return the schema of an element that names `row`; None where no artifact can."""
        element = self.element
        if element is None:
            return None
        if self._reference.key_path == () and self._reference.key[0][0] == "":
            value = self._written("", element, row, self._reference.declared.key[""])
            return None if value is _NOTHING else {"const": value}
        properties: dict[str, JsonValue] = {}
        for name, column in self._reference.declared.key.items():
            value = self._constant(name, row, column)
            if value is _NOTHING:
                return None
            properties[name] = {"const": value}
        required = dict.fromkeys([*element.get("required", ()), *self._reference.declared.key])
        for name, (agreement, _) in self._reference.agree.items():
            declared = element.get("properties", {})
            if name not in declared and element.get("additionalProperties") is False:
                continue
            value = self._constant(name, row, agreement.column)
            if value is not _NOTHING:
                properties[name] = {"const": value}
            elif name in required:
                return None
            else:
                # It may be left out and cannot be right.
                properties[name] = False
        return {**element, "properties": {**element.get("properties", {}), **properties}, "required": list(required)}

    def schema(self, choices: Sequence[Node], terms: Terms, *, named: int) -> Node | None:
        """Return the whole schema with these choices, of which the prompt names the first `named`."""
        return self._narrowed(self._schema.value, self._reference.steps, choices, terms, named)

    def _element(self, node: Any, steps: Sequence[str | None]) -> Node | None:
        found = self._typed(node, "array" if steps and steps[0] is None else "object") if steps else None
        if not steps:
            resolved = self._schema.resolved(node)
            if resolved is not None and self._reference.key[0][0]:
                resolved = self._typed(node, "object")
            return resolved
        if found is None:
            return None
        if steps[0] is None:
            return None if "prefixItems" in found else self._element(found.get("items", {}), steps[1:])
        below = found.get("properties", {}).get(steps[0])
        return None if below is None else self._element(below, steps[1:])

    def _typed(self, node: Any, wanted: str) -> Node | None:
        """Return a node that only objects (or arrays) fit."""
        found = self._schema.resolved(node)
        if found is None:
            return None
        allowed = found.get("type", wanted)
        if wanted != allowed and wanted not in (allowed if isinstance(allowed, list) else ()):
            return None
        return {**found, "type": wanted}

    def _narrowed(
        self, node: Any, steps: Sequence[str | None], choices: Sequence[Node], terms: Terms, named: int
    ) -> Node | None:
        if not steps:
            return {"anyOf": list(choices)}
        found = self._typed(node, "array" if steps[0] is None else "object")
        if found is None:
            return None
        if steps[0] is not None:
            below = self._narrowed(found["properties"][steps[0]], steps[1:], choices, terms, named)
            if below is None:
                return None
            required = list(dict.fromkeys([*found.get("required", ()), steps[0]]))
            return {**found, "properties": {**found["properties"], steps[0]: below}, "required": required}
        count = terms.needed
        if count is not None:
            if found.get("minItems", 0) > count or found.get("maxItems", count) < count:
                return None
            found |= {"minItems": count, "maxItems": count}
        is_last = len(steps) == 1
        if count and is_last and self._reference.declared.unique and len(choices) >= 2 * count and named <= count:
            slots = [{"anyOf": list(choices[at::count])} for at in range(count)]
            return {**found, "prefixItems": slots, "items": False}
        below = self._narrowed(found.get("items", {}), steps[1:], choices, terms, named)
        return None if below is None else {**found, "items": below}

    def _constant(self, name: str, row: Row, column: str) -> Any:
        element = self.element or {}
        declared = element.get("properties", {})
        if name in declared:
            return self._written(name, declared[name], row, column)
        if element.get("additionalProperties") is False:
            return _NOTHING
        return self._written(name, element.get("additionalProperties", True), row, column)

    def _written(self, name: str, node: Any, row: Row, column: str) -> Any:
        """Return the value of a column in a form that its schema accepts."""
        held = row.values[column]
        none: Sequence[JsonValue] = (None, []) if self._reference.types[column] == "labels" else (None,)
        for value in none if held is None else written(held):
            if node is True or node == {} or (node is not False and self._accepts(name, node, value)):
                return value
        return _NOTHING

    def _accepts(self, name: str, node: Mapping[str, Any], value: JsonValue) -> bool:
        if name not in self._parts:
            try:
                self._parts[name] = self._schema.sub_schema(dict(node))
            except SchemaError:
                self._parts[name] = None
        part = self._parts[name]
        return part is not None and part.accepts(value)


_NOTHING: Any = object()
