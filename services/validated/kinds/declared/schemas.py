"""The JSON Schemas of a declaration. Unlike those of a request they are checked in this process: so they must be of a
sort whose check is bounded, which is looked at once, when the declaration is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lakehouse.strict_json.parser import JsonBreach, JsonValue, parse_json, print_canonical
from validated.findings import Findings, pointer
from validated.kinds.json_schema_process import Schemas, check

_NODES_MAX: Final = 500
_DEPTH_MAX: Final = 40
_TEXT_BYTES_MAX: Final = 64 * 1024
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# Keywords that hold one schema, several by name, or several in a row.
_ONE: Final = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_NAMED: Final = ("properties", "$defs", "dependentSchemas")
_ROW: Final = ("prefixItems", "allOf", "anyOf", "oneOf")
_PLAIN: Final = frozenset(
    (  # noqa: SIM905  a column of forty lines otherwise
        "$schema $ref $comment title description default examples deprecated readOnly writeOnly format type enum const "
        "multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minLength maxLength pattern minItems maxItems "
        "uniqueItems minContains maxContains minProperties maxProperties required dependentRequired"
    ).split()
)


class SchemaError(ValueError):
    """A schema cannot be used; the text says why and what to do."""


class DeclaredSchema:
    """One schema, compiled."""

    def __init__(self, given: str | dict[str, Any]) -> None:
        """Raise SchemaError."""
        try:
            text = given if isinstance(given, str) else print_canonical(given)
            value = parse_json(text, bytes_max=_TEXT_BYTES_MAX, depth_max=90)
        except JsonBreach as breach:
            raise SchemaError(f"is no JSON ({breach.problem}); mend it") from None
        except (TypeError, ValueError, RecursionError):
            raise SchemaError("holds what JSON does not have, such as a date; write it as JSON text") from None
        if not isinstance(value, dict) or not value:
            raise SchemaError('must be a JSON Schema with at least one keyword: an object such as {"type": "object"}')
        if value.get("$schema", _DIALECT) != _DIALECT:
            raise SchemaError(f"$schema must be left out or {_DIALECT}")
        self.value: Final[dict[str, Any]] = value
        self.text: Final = print_canonical(value)
        self._count(value, 0, (), [0])
        self._schemas = Schemas(1)
        try:
            self._compiled = self._schemas.compiled(value)
        except ValueError as error:
            raise SchemaError(f"{error}; mend it") from None

    def accepts(self, artifact: JsonValue) -> bool:
        """Whether `artifact` fits."""
        return bool(self._compiled.is_valid(artifact))

    def find(self, artifact: JsonValue, findings: Findings) -> None:
        """Add what is wrong with `artifact`."""
        if self._compiled.is_valid(artifact):
            return
        for path, message in self.problems(artifact, findings.findings_max):
            findings.add("SCHEMA", pointer(path), message)
        if not findings.any:
            findings.add("SCHEMA", "", "does not fit the schema")

    def problems(self, artifact: JsonValue, problems_max: int) -> list[tuple[Sequence[str | int], str]]:
        """Return what is wrong with `artifact`, each with its path."""
        request = {"spec": {"schema": self.value}, "artifact": artifact, "errors_max": problems_max}
        errors: list[tuple[Sequence[str | int], str]] = check(self._schemas, request)["errors"]
        return errors

    def resolved(self, node: Any) -> dict[str, Any] | None:
        """Return a node of this schema with its own reference followed; None where it is no object, or has more than
        the reference.
        """
        for _ in range(_DEPTH_MAX):
            if not isinstance(node, dict):
                return None
            if "$ref" not in node:
                return node
            if len(node) > 1:
                return None
            node = self.target(node["$ref"])
        return None

    def sub_schema(self, node: dict[str, Any]) -> DeclaredSchema | None:
        """Return a node of this schema as one of its own."""
        defs = {"$defs": self.value["$defs"]} if "$defs" in self.value else {}
        return DeclaredSchema({**defs, **node}) if node else None

    def target(self, reference: Any) -> Any:
        """Return the node that a reference names. Raises SchemaError."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise SchemaError(f"$ref {str(reference)[:80]!r} leads outside the schema; put what it names into $defs")
        node: Any = self.value
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or name not in node:
                raise SchemaError(f"$ref {reference[:80]!r} leads nowhere; mend it")
            node = node[name]
        return node

    def _count(self, node: Any, depth: int, within: tuple[str, ...], counted: list[int]) -> None:
        counted[0] += 1
        if counted[0] > _NODES_MAX:
            raise SchemaError(f"is more than {_NODES_MAX} schemas, each reference followed; make it simpler")
        if depth > _DEPTH_MAX:
            raise SchemaError(f"is nested more than {_DEPTH_MAX} deep; make it flatter")
        if isinstance(node, bool):
            return
        if not isinstance(node, dict):
            raise SchemaError("holds something that is no schema where one belongs")
        reference = node.get("$ref")
        if reference is not None:
            if reference in within:
                raise SchemaError(f"$ref {str(reference)[:80]!r} leads back to itself; write it without recursion")
            self._count(self.target(reference), depth + 1, (*within, reference), counted)
        for each in _inner(node):
            self._count(each, depth + 1, within, counted)


def _inner(node: Mapping[str, Any]) -> Iterator[Any]:
    for name, value in node.items():
        if name in _ONE:
            yield value
        elif name in _NAMED:
            if not isinstance(value, dict):
                raise SchemaError(f"{name} must be an object of schemas")
            # A definition counts where it is used.
            yield from () if name == "$defs" else value.values()
        elif name in _ROW:
            if not isinstance(value, list):
                raise SchemaError(f"{name} must be a list of schemas")
            yield from value
        elif name not in _PLAIN:
            raise SchemaError(f"{name[:80]!r} is no keyword that a declared schema may have; write it in another way")
