"""Whether there can be anything at a place that a declaration names: a name that its schema shuts out is misspelt, and
what nobody can write is never compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from validated.findings import pointer, quoted
from validated.kinds.declared.declaration import Declaration, Rule
from validated.kinds.declared.expression_tree import Node
from validated.kinds.declared.schemas import DeclaredSchema
from validated.kinds.declared.terms import BoundReference

Steps = tuple[str | None, ...]
"""The way to a place; None is each element of an array."""

_Where = tuple[str | int, ...]
_Wrong = tuple[_Where, str]

_PLACE: Final = re.compile(r"\{((?:spec|artifact|item)(?:\.[A-Za-z_][A-Za-z0-9_]*)+)\}")


def can_be(schema: DeclaredSchema, steps: Sequence[str | None]) -> bool:
    """Whether anything that fits `schema` can have a value there. True where that cannot be known."""
    return _can_be(schema, schema.value, steps)


def misnamed(
    declared: Declaration,
    references: Sequence[BoundReference],
    conditions: Sequence[Node],
    artifact: DeclaredSchema,
    spec: DeclaredSchema | None,
) -> Iterator[_Wrong]:
    """Yield each key that names what its schema shuts out, with what is wrong. `conditions` are those of the rules."""
    schemas = {"artifact": artifact} | ({} if spec is None else {"spec": spec})
    for place in _places(declared.instructions):
        yield from _wrong(("instructions",), schemas, *place)
    for at, reference in enumerate(references):
        yield from _of_reference(("references", at), reference, schemas)
    for at, (rule, condition) in enumerate(zip(declared.rules, conditions, strict=True)):
        known: dict[str, tuple[str, Steps]] = {name: (name, ()) for name in schemas}
        if rule.reference is not None:
            known["item"] = ("artifact", references[rule.reference].steps)
        for place in _named(condition, schemas, known):
            yield from _wrong(("rules", at, "check"), schemas, *place)
        yield from _of_words(("rules", at), rule, schemas, known)


def path_steps(path: str) -> list[str]:
    """Return the steps of a JSON pointer."""
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _of_reference(where: _Where, reference: BoundReference, schemas: Mapping[str, DeclaredSchema]) -> Iterator[_Wrong]:
    given = reference.declared
    misplaced = list(_wrong((*where, "at"), schemas, "artifact", reference.steps))
    yield from misplaced
    if misplaced:
        return
    for setting, names in (("key", given.key), ("agree", given.agree)):
        for name in filter(None, names):
            yield from _wrong((*where, setting, name), schemas, "artifact", (*reference.steps, name))
    for condition in given.require:
        if condition.spec is not None:
            yield from _wrong((*where, "require"), schemas, *_dotted(condition.spec))
    if isinstance(given.count, str):
        yield from _wrong((*where, "count"), schemas, *_dotted(given.count))


def _of_words(
    where: _Where, rule: Rule, schemas: Mapping[str, DeclaredSchema], known: Mapping[str, tuple[str, Steps]]
) -> Iterator[_Wrong]:
    for variable, steps in _places(rule.message):
        if variable in known:
            start, before = known[variable]
            yield from _wrong((*where, "message"), schemas, start, (*before, *steps))
    start, before = known.get("item", ("artifact", ()))
    way = path_steps(rule.path)
    # A number is an element's, or a name.
    elements = [None if step.isdecimal() else step for step in way]
    if not can_be(schemas[start], (*before, *elements)):
        yield from _wrong((*where, "path"), schemas, start, (*before, *way))


def _wrong(where: _Where, schemas: Mapping[str, DeclaredSchema], variable: str, steps: Steps) -> Iterator[_Wrong]:
    schema = schemas.get(variable)
    if schema is not None and not can_be(schema, steps):
        setting = "schema" if variable == "artifact" else "spec_schema"
        at = quoted(pointer("*" if step is None else step for step in steps))
        yield where, f"{setting} lets nothing stand at {at}, so it would never be looked at; mend the name or {setting}"


def _dotted(path: str) -> tuple[str, Steps]:
    variable, *steps = path.split(".")
    return variable, tuple(steps)


def _places(text: str) -> Iterator[tuple[str, Steps]]:
    return (_dotted(place) for place in _PLACE.findall(text))


def _named(
    node: Node, schemas: Mapping[str, DeclaredSchema], known: Mapping[str, tuple[str, Steps]]
) -> Iterator[tuple[str, Steps]]:
    if node.what == "comprehension":
        over, *parts = node.inner
        yield from _named(over, schemas, known)
        place = _place(over, known)
        inner = {name: each for name, each in known.items() if name != node.text}
        # Over an object a variable is a name, over a list that was made it is anything.
        if place is not None and can_be(schemas[place[0]], (*place[1], None)):
            inner[node.text] = (place[0], (*place[1], None))
        for part in parts:
            yield from _named(part, schemas, inner)
        return
    place = _place(node, known)
    if place is not None:
        yield place
    for each in node.inner:
        yield from _named(each, schemas, known)


def _place(node: Node, known: Mapping[str, tuple[str, Steps]]) -> tuple[str, Steps] | None:
    if node.what == "name":
        return known.get(node.text)
    if node.what == "select":
        before = _place(node.inner[0], known)
        return None if before is None else (before[0], (*before[1], node.text))
    if node.what == "call" and node.text == "_[_]" and node.inner[1].what == "literal":
        before, at = _place(node.inner[0], known), node.inner[1]
        step = at.text if at.type == "string" else None
        return None if before is None else (before[0], (*before[1], step))
    return None


def _can_be(schema: DeclaredSchema, node: Any, steps: Sequence[str | None]) -> bool:
    if not isinstance(node, dict):
        return node is not False
    # Everything that a node says holds at once: one thing that shuts the place out is enough.
    if "$ref" in node and not _can_be(schema, schema.target(node["$ref"]), steps):
        return False
    if not all(_can_be(schema, each, steps) for each in node.get("allOf", ())):
        return False
    for name in ("anyOf", "oneOf"):
        if name in node and not any(_can_be(schema, each, steps) for each in node[name]):
            return False
    if not steps:
        return True
    wanted = "array" if steps[0] is None else "object"
    types = node.get("type", wanted)
    if wanted not in (types if isinstance(types, list) else (types,)):
        return False
    if steps[0] is None:
        elements = [*node.get("prefixItems", ()), node.get("items", True)]
        return node.get("maxItems", 1) > 0 and any(_can_be(schema, each, steps[1:]) for each in elements)
    properties = node.get("properties", {})
    below = properties[steps[0]] if steps[0] in properties else node.get("additionalProperties", True)
    return _can_be(schema, below, steps[1:])
