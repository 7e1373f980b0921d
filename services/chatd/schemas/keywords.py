"""The keywords of JSON Schema by what they are for."""

from __future__ import annotations

from typing import Final

SILENT: Final = frozenset(
    {"$schema", "$id", "id", "$comment", "$anchor", "$defs", "definitions", "$vocabulary", "title", "description"}
    | {"default", "examples", "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType"}
)
"""They say nothing of what fits."""
STRUCTURE: Final = frozenset(
    {"properties", "required", "additionalProperties", "items", "prefixItems", "const", "enum", "minItems", "maxItems"}
)
CLOSED_OBJECT: Final = frozenset({"type", "properties", "required", "additionalProperties"})
OF_A_KIND: Final = frozenset(
    {"type", "const", "enum", "properties", "additionalProperties", "items", "prefixItems", "pattern"}
)
"""They say of what kind a value is."""
READ: Final = STRUCTURE | {"type", "additionalItems", "anyOf", "oneOf", "allOf"}
"""A translation reads them, and says so itself where it loses one."""
OLDER_DRAFTS: Final = ("draft-03", "draft-04", "draft-06", "draft-07", "2019-09")
