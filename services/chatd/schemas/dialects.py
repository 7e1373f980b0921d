"""The dialects of JSON Schema that endpoints bear: one table. What the keys mean is written at ``Dialect``.

Sources: the vendors' own references of November 2026, llama.cpp's and llama-cpp-python's converters to grammars, vLLM's
checks before it hands a schema to xgrammar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

DialectName = Literal["openai", "vllm", "llama_cpp", "llama_cpp_python", "ollama", "anthropic", "gemini", "plain"]
DIALECT_NAMES: Final[tuple[DialectName, ...]] = get_args(DialectName)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a schema may be; 0 is no limit."""

    enum_values: int = 0
    """Values of all `enum` and `const` together."""
    long_enum_values: int = 0
    """An enum of more strings than this ..."""
    long_enum_characters: int = 0
    """... may have so many characters."""
    properties: int = 0
    depth: int = 0
    """Objects and arrays within each other."""
    characters: int = 0
    """Of the names of properties and definitions and the values of `enum` and `const`, together."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an endpoint bears of a schema. A keyword that it does not bear is said otherwise or left out, never so that
    something would no longer fit."""

    beside_json_object: bool = False
    """The schema stands in `response_format.schema` beside the type json_object, not in its `json_schema`."""
    keywords: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    """Values of `format`."""
    patterns: Literal["any", "anchored"] = "any"
    """`anchored`: a `pattern` from `^` to `$` without groups that capture nothing and without escapes."""
    tuples: Literal["full", "exact", "none"] = "none"
    """Of `prefixItems`. `exact`: as many items as it has, without `items`; `none`: said as `items.anyOf`."""
    min_items_max: int | None = None
    """The largest `minItems`."""
    closed: bool = False
    """Every object has `additionalProperties: false`."""
    all_required: bool = False
    """Every object requires all of its properties."""
    typed: bool = False
    """Every schema has a `type`, `anyOf` or `$ref`; arrays have `items`; the root is an object."""
    scalar_values: bool = False
    """Values of `enum` and `const` are neither objects nor arrays."""
    grammar: bool = False
    """The schema becomes a grammar: a list of types has nothing beside it, values stand without a type, and every
    schema says of what kind it is."""
    root_refs: bool = True
    """`$ref` may be `#`."""
    recursion: bool = True
    bad_characters: str = ""
    """What names, constants and enum values must not hold."""
    else_loose: bool = False
    """What is not closed or typed as the dialect wants it goes as it is, and need not be enforced, where that is the
    caller's own schema: the endpoint may take it, and its refusal is remembered."""
    restricted: bool = True
    """Whether a restricted schema is sent."""
    limits: Limits = field(default_factory=Limits)
    translates: bool = True


_CORE: Final = frozenset({"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf", "$ref"})
_COUNTS: Final = frozenset({"minItems", "maxItems"})
_RANGES: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_LENGTHS: Final = frozenset({"minLength", "maxLength"})
_WORDS: Final = frozenset({"title", "description"})
_TIMES: Final = frozenset({"date", "time", "date-time"})
# Refs work by their table of definitions; `$defs` and `definitions` go along with `$ref`.
_LLAMA_CPP: Final = Dialect(
    keywords=_CORE | _COUNTS | _LENGTHS | _RANGES | _WORDS | {"const", "pattern", "format"},
    formats=_TIMES | {"uuid"},
    patterns="anchored",
    tuples="exact",
    grammar=True,
    root_refs=False,
)

DIALECTS: Final[Mapping[DialectName, Dialect]] = {
    "openai": Dialect(
        keywords=_CORE | _COUNTS | _RANGES | _WORDS | {"const", "pattern", "format", "multipleOf"},
        formats=_TIMES | {"duration", "email", "hostname", "ipv4", "ipv6", "uuid"},
        closed=True,
        all_required=True,
        typed=True,
        scalar_values=True,
        else_loose=True,
        limits=Limits(
            enum_values=1_000,
            long_enum_values=250,
            long_enum_characters=15_000,
            properties=5_000,
            depth=10,
            characters=120_000,
        ),
    ),
    "vllm": Dialect(
        keywords=_CORE | _COUNTS | _LENGTHS | _RANGES | _WORDS | {"const", "pattern", "format"},
        formats=_TIMES | {"duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"},
        tuples="full",
    ),
    "llama_cpp": _LLAMA_CPP,
    "llama_cpp_python": Dialect(
        beside_json_object=True,
        keywords=_LLAMA_CPP.keywords - _RANGES,
        formats=_LLAMA_CPP.formats,
        patterns="anchored",
        tuples="exact",
        grammar=True,
        root_refs=False,
        bad_characters='"\\',
    ),
    "ollama": _LLAMA_CPP,
    "anthropic": Dialect(
        keywords=_CORE | _WORDS | {"const", "minItems", "format"},
        formats=_TIMES | {"duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
        min_items_max=1,
        closed=True,
        scalar_values=True,
        else_loose=True,
        recursion=False,
        restricted=False,
    ),
    "gemini": Dialect(
        keywords=_CORE | _COUNTS | _WORDS | {"minimum", "maximum", "format"},
        formats=_TIMES,
        tuples="full",
        restricted=False,
    ),
    "plain": Dialect(translates=False),
}
