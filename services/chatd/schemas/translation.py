"""``translate``: a JSON Schema said in a dialect.

The rule: what fits the schema fits what it becomes. A keyword that the dialect lacks is said in others where it can be,
else left out, and what would then mean more (`additionalProperties: false` without its `patternProperties`) goes with
it. Only a restricted schema, which is nobody's own, may become narrower: an object is closed, an alternative that
cannot be spelt is left out of others that can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from chatd.schemas.arrays import EVERY_ARRAY, shape_of, text_of, union_of_slots
from chatd.schemas.dialects import DIALECTS, Dialect, DialectName
from chatd.schemas.keywords import CLOSED_OBJECT, OF_A_KIND, OLDER_DRAFTS, READ, SILENT, STRUCTURE
from chatd.schemas.references import WHOLE, References
from chatd.schemas.scalars import TYPES, bounds_of, is_spelt, kinds_of, of_kinds
from chatd.schemas.sizes import is_within

# Schemas come again with each attempt of a session, and forms with each session.
_KEPT: Final = 16


class NotBorneError(Exception):
    """The dialect has no words for the schema."""


class TooLargeError(Exception):
    """The schema is beyond the dialect's limits."""


class Translated(NamedTuple):
    """A schema as an endpoint gets it."""

    schema_json: str
    enforceable: bool
    """Whether it keeps to what the endpoint can hold an answer to."""
    exact: bool
    """Whether nothing more fits it than fitted before."""


class _NotClosedError(Exception):
    """The dialect wants it closed, typed or required, and the caller's own schema is not."""


class _UnsayableError(Exception):
    """A name or a value of a restricted schema that cannot be spelt."""


@lru_cache(_KEPT)
def translate(schema_json: str, name: DialectName, *, restricted: bool) -> Translated:
    """`schema_json`, a JSON object, in the dialect `name`. Raises NotBorneError, TooLargeError."""
    dialect = DIALECTS[name]
    if not dialect.translates:
        return Translated(schema_json, enforceable=True, exact=True)
    schema = json.loads(schema_json)
    translator = _Translator(dialect, schema, may_narrow=restricted)
    try:
        made = translator.root()
    except (_NotClosedError, _UnsayableError):
        if dialect.else_loose and not restricted:
            return Translated(schema_json, enforceable=False, exact=True)
        raise NotBorneError from None
    if not is_within(made, dialect.limits):
        raise TooLargeError
    return Translated(text_of(made), enforceable=True, exact=translator.exact)


class _Translator:
    def __init__(self, dialect: Dialect, schema: dict[str, Any], *, may_narrow: bool) -> None:
        self._dialect = dialect
        self._schema = schema
        self._may_narrow = may_narrow
        self._older = any(each in str(schema.get("$schema", "")) for each in OLDER_DRAFTS)
        self._references = References(schema)
        self._within = WHOLE
        self.exact = True

    def root(self) -> dict[str, Any]:
        """Return the whole schema."""
        dialect, references = self._dialect, self._references
        schema: Any = self._schema
        target = references.name_of(schema.get("$ref"))
        if dialect.typed and target in references.definitions:
            self._lost(bool(schema.keys() - SILENT - {"$ref"}))
            schema = references.definitions[target]
        made = self._node(schema, at_root=True)
        if dialect.typed and made.get("type") != "object":
            raise _NotClosedError
        definitions: dict[str, Any] = {}
        while missing := [name for name in references.noted if name not in definitions]:
            for name in missing:
                self._within = name
                definitions[name] = self._node(references.definitions[name])
        if not dialect.recursion and references.are_recursive:
            raise NotBorneError
        return {**made, "$defs": definitions} if definitions else made

    def _node(self, schema: Any, *, at_root: bool = False) -> dict[str, Any]:
        if not isinstance(schema, dict) or (not at_root and ("$id" in schema or "$dynamicAnchor" in schema)):
            self.exact = self.exact and schema is True
            return self._anything()
        short = self._short_way(schema)
        if short is not None:
            return short
        if "$ref" in schema:
            made = self._reference(schema)
            if made is not None:
                return made
        alternatives = self._alternatives(schema)
        if alternatives is not None:
            return alternatives
        types: Any = schema.get("type")
        listed = isinstance(types, list) and self._dialect.grammar and "enum" not in schema and "const" not in schema
        if listed and _says_more(schema):
            return self._any_of([{**schema, "type": each} for each in types])
        return self._plain_node(schema)

    def _short_way(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what schemas of a brief are made of, by hundreds: texts that are constants, and closed objects of
        them. None for every other schema; what it gives, the long way gives too."""
        if schema.keys() == {"const"}:
            value = schema["const"]
            if type(value) is not str or "const" not in self._dialect.keywords or not self._is_spelt(value):
                return None
            return {"const": value, "type": "string"} if self._dialect.typed else {"const": value}
        if schema.keys() != CLOSED_OBJECT or schema["type"] != "object" or schema["additionalProperties"] is not False:
            return None
        properties, required = schema["properties"], schema["required"]
        if type(properties) is not dict or type(required) is not list or len(required) != len(properties):
            return None
        if not all(name in properties and self._is_spelt(name) for name in required if type(name) is str):
            return None
        if False in properties.values() or len({name for name in required if type(name) is str}) != len(properties):
            return None
        return {**schema, "properties": {name: self._node(each) for name, each in properties.items()}}

    def _is_spelt(self, value: Any) -> bool:
        return is_spelt(value, self._dialect.bad_characters)

    def _plain_node(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        types = schema.get("type")
        if isinstance(types, str | list):
            made["type"] = types
        else:
            self._lost("type" in schema)
        self._values(schema, made)
        self._object(schema, made)
        self._array(schema, made)
        made |= bounds_of(schema, self._dialect)
        left = schema.keys() - SILENT - made.keys() - READ
        self._lost(bool(left - {"$ref"}))
        if self._dialect.grammar and not made.keys() & OF_A_KIND:
            self._lost(bool(made))
            return self._anything()
        if not made:
            return self._anything()
        if self._dialect.typed and "type" not in made:
            # What says nothing of its type takes values of every other type.
            if not (self._may_narrow and made.keys() & {"properties", "items"}):
                raise _NotClosedError
            made["type"] = "object" if "properties" in made else "array"
        return {**{key: schema[key] for key in ("title", "description") if isinstance(schema.get(key), str)}, **made}

    def _anything(self) -> dict[str, Any]:
        if self._dialect.typed:
            raise _NotClosedError
        # A converter to grammars makes an object of {}.
        return {"type": list(TYPES)} if self._dialect.grammar else {}

    def _lost(self, condition: bool) -> None:  # noqa: FBT001  what it says stands at each call
        self.exact = self.exact and not condition

    # References and alternatives ---------------------------------------------------------------------------------

    def _reference(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        """None: it leads somewhere where no definition is; all else that the schema says stands."""
        name = self._references.name_of(schema["$ref"])
        if not name or (name == WHOLE and not self._dialect.root_refs):
            self.exact = False
            return None
        # Older drafts ignore what stands beside a reference, some endpoints refuse it.
        self._lost(bool(schema.keys() - SILENT - {"$ref"}))
        self._references.note(name, within=self._within)
        return {"$ref": WHOLE if name == WHOLE else f"#/$defs/{name}"}

    def _alternatives(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what `anyOf`, `oneOf` and `allOf` become; None where they become nothing."""
        every = schema.get("allOf")
        others = schema.keys() - SILENT
        if isinstance(every, list) and len(every) == 1 and others == {"allOf"}:
            return self._node(every[0])
        self._lost("allOf" in schema)
        found = schema.get("anyOf") if isinstance(schema.get("anyOf"), list) else schema.get("oneOf")
        if not isinstance(found, list) or not found:
            return None
        if STRUCTURE & others:
            # Endpoints read either the alternatives or what stands beside them.
            self.exact = False
            return None
        # One of them exactly, or more than one: only the schemas' meaning tells.
        self._lost(found is not schema.get("anyOf") or bool(others - {"anyOf"}))
        return self._any_of([each for each in found if each is not False])

    def _any_of(self, schemas: Sequence[Any]) -> dict[str, Any]:
        made: list[dict[str, Any]] = []
        for each in schemas:
            try:
                made.append(self._node(each))
            except _UnsayableError:
                continue
        if not made:
            if self._may_narrow:
                raise _UnsayableError
            self.exact = False
            return self._anything()
        return made[0] if len(made) == 1 else {"anyOf": made}

    # Values ------------------------------------------------------------------------------------------------------

    def _values(self, schema: Mapping[str, Any], made: dict[str, Any]) -> None:
        key = "const" if "const" in schema else "enum"
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if not isinstance(values, list) or not values:
            self._lost(values is not None)
            return
        self._lost("const" in schema and "enum" in schema)
        if "type" in made:
            values = of_kinds(values, made["type"]) or values
        sayable = [each for each in values if self._is_spelt(each)]
        if len(sayable) < len(values) and self._may_narrow:
            if not sayable:
                raise _UnsayableError
            values = sayable
        kinds = kinds_of(values)
        if len(sayable) < len(values) or (self._dialect.scalar_values and not {"object", "array"}.isdisjoint(kinds)):
            # Its kind is all that can be said of it.
            self.exact = False
            made["type"] = _type_of(kinds)
            return
        if key == "const" and "const" in self._dialect.keywords:
            made["const"] = values[0]
        else:
            made["enum"] = values
        if self._dialect.typed:
            made.setdefault("type", _type_of(kinds))
        elif self._dialect.grammar:
            # The values say it, and a list of types would be read in their place.
            made.pop("type", None)

    # Objects and arrays ------------------------------------------------------------------------------------------

    def _object(self, schema: Mapping[str, Any], made: dict[str, Any]) -> None:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        listed = schema.get("required")
        required = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
        further = schema.get("additionalProperties", True)
        is_object = bool(properties or required) or "additionalProperties" in schema or "object" in _types(made)
        if not is_object or "const" in made or "enum" in made or not _may_be("object", made):
            return
        if "patternProperties" in schema:
            further = True
        unspelt = {name for name in (*properties, *required) if not self._is_spelt(name)}
        forbidden = {name for name, each in properties.items() if each is False and further is False}
        if unspelt:
            if self._may_narrow:
                raise _UnsayableError
            self.exact = False
            further = True
            required = [name for name in required if name not in unspelt]
        kept = {name: self._node(each) for name, each in properties.items() if name not in unspelt | forbidden}
        if self._dialect.closed:
            further, required = self._closed(kept, required, further)
        if kept:
            made["properties"] = kept
        if required:
            made["required"] = required
        if isinstance(further, dict):
            made["additionalProperties"] = self._node(further)
        elif further is False or schema.get("additionalProperties") is True:
            made["additionalProperties"] = further

    def _closed(self, kept: Mapping[str, Any], required: list[str], further: Any) -> tuple[bool, list[str]]:
        everything = self._dialect.all_required
        as_it_is = further is False and not (everything and len({*required}) < len(kept))
        if not (as_it_is or self._may_narrow) or not set(required) <= kept.keys():
            raise _NotClosedError
        return False, [*kept] if everything and len({*required}) < len(kept) else required

    def _array(self, schema: Mapping[str, Any], made: dict[str, Any]) -> None:
        slots, rest, least, most = shape = shape_of(schema, older=self._older)
        if shape == EVERY_ARRAY and "array" not in _types(made):
            return
        if "const" in made or "enum" in made or not _may_be("array", made):
            return
        tuples = self._dialect.tuples
        if slots and (tuples == "full" or (tuples == "exact" and least == most == len(slots))):
            made["prefixItems"] = [self._node(each) for each in slots]
            if tuples == "full" and rest is not True:
                made["items"] = rest if rest is False else self._node(rest)
        else:
            if slots:
                rest, joined = union_of_slots(slots, rest)
                self._lost(joined)
            if not isinstance(rest, bool):
                made["items"] = self._node(rest)
            elif self._dialect.typed:
                raise _NotClosedError
        self._count_items(least, most, made)

    def _count_items(self, least: int, most: int | None, made: dict[str, Any]) -> None:
        limit = self._dialect.min_items_max
        if limit is not None and least > limit:
            self.exact = False
            least = limit
        if least:
            made["minItems"] = least
        if most is not None and "maxItems" in self._dialect.keywords:
            made["maxItems"] = most
        else:
            self._lost(most is not None)


def _says_more(schema: Mapping[str, Any]) -> bool:
    return bool(schema.keys() - SILENT - {"type"})


def _types(made: Mapping[str, Any]) -> Sequence[str]:
    types = made.get("type", ())
    return [types] if isinstance(types, str) else types


def _type_of(kinds: list[str]) -> str | list[str]:
    return kinds[0] if len(kinds) == 1 else kinds


def _may_be(kind: str, made: Mapping[str, Any]) -> bool:
    return "type" not in made or kind in _types(made)
