"""The keywords of JSON Schema, and a name in a schema that is nearly one: a schema with it asks less than was meant."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Final

from rapidfuzz.distance import OSA

from lakehouse.strict_json.parser import JsonValue

# By what stands behind them: a schema, an array of schemas, schemas by names, or anything else. Drafts 04 to 2020-12.
_SCHEMA: Final = frozenset(
    (  # noqa: SIM905  a dozen lines otherwise
        "not if then else additionalProperties propertyNames unevaluatedProperties items additionalItems contains "
        "unevaluatedItems contentSchema"
    ).split()
)
_SCHEMAS: Final = frozenset("allOf anyOf oneOf items prefixItems".split())  # noqa: SIM905
_NAMED_SCHEMAS: Final = frozenset(
    "properties patternProperties $defs definitions dependentSchemas dependencies".split()  # noqa: SIM905
)
KEYWORDS: Final = (
    _SCHEMA
    | _SCHEMAS
    | _NAMED_SCHEMAS
    | frozenset(
        (  # noqa: SIM905  forty lines otherwise
            "$schema $id id $ref $anchor $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor $vocabulary "
            "$comment dependentRequired minContains maxContains type enum const multipleOf maximum exclusiveMaximum "
            "minimum exclusiveMinimum maxLength minLength pattern maxItems minItems uniqueItems maxProperties "
            "minProperties required title description default examples deprecated readOnly writeOnly format "
            "contentEncoding contentMediaType"
        ).split()
    )
)
# Names of others that say nothing of what is valid: OpenAPI's, and a comment without its sign.
_OTHERS: Final = frozenset(("example", "comment"))
_LONG_CHARS: Final = 9
_CHARS_MAX: Final = 40
# So many names that are no keywords are looked at: a schema is made of few, and each takes 20 microseconds.
_OTHERS_MAX: Final = 100


def misspelt(schema: JsonValue) -> tuple[str, str] | None:
    """Return a name that stands where a keyword would and is nearly one, and the keyword; None without one."""
    others = dict.fromkeys(name for name in _names(schema) if name not in KEYWORDS and name not in _OTHERS)
    for name in itertools.islice(others, _OTHERS_MAX):
        if near := _near(name):
            return name, near
    return None


def _names(schema: JsonValue) -> Iterator[str]:
    """Give the names of all schemas within `schema`; not those of properties, nor of values."""
    left = [schema]
    while left:
        value = left.pop()
        if not isinstance(value, dict):
            continue
        yield from value
        for name, inner in value.items():
            if name in _NAMED_SCHEMAS and isinstance(inner, dict):
                left += inner.values()
            elif name in _SCHEMAS and isinstance(inner, list):
                left += inner
            elif name in _SCHEMA:
                left.append(inner)


@functools.lru_cache(maxsize=1024)
def _near(name: str) -> str:
    """Return the keyword that differs from `name` in case, signs or a slip of the hand; empty without one."""
    if len(name) > _CHARS_MAX or name.startswith("x-"):
        return ""
    plain = _plain(name)
    for keyword in sorted(KEYWORDS):
        slips = 2 if len(keyword) >= _LONG_CHARS else 1
        # Short ones are near to too many words: a note is no "not".
        if plain == _plain(keyword) or (
            len(keyword) > 3 and OSA.distance(name, keyword, score_cutoff=slips) <= slips  # as many as that, or more
        ):
            return keyword
    return ""


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
