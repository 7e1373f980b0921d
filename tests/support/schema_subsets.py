"""What vendors' documentation says that they take of a response format, and how they refuse the rest.

Written from the documentation and the converters, not from chatd's table: a slip in one is seen by the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Refusal = str | None
"""The words of a 400; None where the request is taken."""

_ANNOTATIONS: Final = {"title", "description"}
_RANGES: Final = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


def openai(body: Mapping[str, Any]) -> Refusal:  # noqa: PLR0912  one after the other, as the page lists them
    """OpenAI: Structured Outputs, supported schemas."""
    wanted = body.get("response_format", {"type": "text"})
    if wanted["type"] != "json_schema":
        return None
    named = wanted["json_schema"]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", named["name"]):
        return "Invalid 'response_format.json_schema.name'"
    if not named.get("strict"):
        return None
    schema, words = named["schema"], f"Invalid schema for response_format '{named['name']}': "
    if schema.get("type") != "object" or "anyOf" in schema:
        return words + "schema must be a JSON Schema of 'type: \"object\"', got something else"
    allowed = (
        _ANNOTATIONS | _RANGES | {"type", "properties", "required", "additionalProperties", "items", "enum", "const"}
    )
    allowed |= {"anyOf", "$ref", "$defs", "multipleOf", "pattern", "format", "minItems", "maxItems"}
    formats = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
    values = properties = characters = 0
    for node, depth in _walk(schema):
        if not isinstance(node, dict) or not node.keys() <= allowed:
            return words + f"{node if isinstance(node, bool) else sorted(node.keys() - allowed)} is not permitted"
        if "$ref" in node and node.keys() - {"$ref", "$defs"}:
            return words + "$ref cannot have keywords beside it"
        if not {"type", "anyOf", "$ref"} & node.keys():
            return words + "schema must have a 'type' key"
        if depth > 10:
            return words + f"{depth} levels of nesting exceeds limit of 10"
        types = node.get("type", [])
        types = [types] if isinstance(types, str) else types
        if "object" in types:
            if node.get("additionalProperties") is not False:
                return words + "'additionalProperties' is required to be supplied and to be false."
            if set(node.get("required", ())) != node.get("properties", {}).keys():
                return words + "'required' is required to be supplied and to be an array including every key"
        if "array" in types and "items" not in node:
            return words + "array schema missing items"
        if node.get("format", "date") not in formats:
            return words + f"{node['format']!r} is not a valid format"
        listed = node.get("enum", [])
        texts = [each for each in listed if isinstance(each, str)]
        if any(isinstance(each, dict | list) for each in [*listed, node.get("const")]):
            return words + "enum value is not a scalar"
        if len(texts) > 250 and sum(map(len, texts)) > 15_000:
            return words + "enum with more than 250 values: string length exceeds 15000 characters"
        values += len(listed) + ("const" in node)
        properties += len(node.get("properties", ()))
        characters += sum(map(len, [*texts, *node.get("properties", ()), *node.get("$defs", ())]))
        characters += len(node["const"]) if isinstance(node.get("const"), str) else 0
    if values > 1000:
        return words + f"Expected at most 1000 enum values in total within a single schema, but received {values}."
    if properties > 5000 or characters > 120_000:
        return words + "Too many properties or characters"
    return None


def vllm(body: Mapping[str, Any]) -> Refusal:
    """vLLM before a schema goes to xgrammar."""
    wanted = body.get("response_format", {"type": "text"})
    if wanted["type"] != "json_schema":
        return None
    refused = {"multipleOf", "uniqueItems", "contains", "minContains", "maxContains", "patternProperties"}
    refused |= {"propertyNames", "minProperties", "maxProperties"}
    formats = {"email", "date", "time", "date-time", "duration", "ipv4", "ipv6", "hostname", "uuid", "uri"}
    for node, _ in _walk(wanted["json_schema"]["schema"]):
        if isinstance(node, dict) and (refused & node.keys() or node.get("format", "date") not in formats):
            return "The provided JSON schema contains features not supported by xgrammar."
    return None


def llama_cpp(body: Mapping[str, Any]) -> Refusal:
    """llama.cpp's server: the schema as a grammar."""
    wanted = body.get("response_format", {"type": "text"})
    if wanted["type"] == "text":
        return None
    if wanted["type"] not in {"json_object", "json_schema"}:
        return f'response_format type must be one of "text" or "json_object", but got: {wanted["type"]}'
    schema = wanted["json_schema"]["schema"] if wanted["type"] == "json_schema" else wanted.get("schema")
    return None if schema is None else _as_grammar(schema, unspelt="")


def llama_cpp_python(body: Mapping[str, Any]) -> Refusal:
    """llama-cpp-python's server. It answers without the grammar where it can make none; here that is a refusal."""
    wanted = body.get("response_format", {"type": "text"})
    if wanted["type"] not in {"text", "json_object"}:
        return "response_format.type: Input should be 'text' or 'json_object'"
    return _as_grammar(wanted["schema"], unspelt='"\\') if "schema" in wanted else None


def anthropic(body: Mapping[str, Any]) -> Refusal:
    """Anthropic: structured outputs, JSON Schema limitations."""
    form = body.get("output_config", {}).get("format")
    if "response_format" in body:
        return "response_format: Extra inputs are not permitted"
    if form is None:
        return None
    allowed = _ANNOTATIONS | {"type", "properties", "required", "additionalProperties", "items", "enum", "const"}
    allowed |= {"anyOf", "allOf", "$ref", "$defs", "default", "format", "minItems"}
    schema, words = form["schema"], "output_config.format.schema: "
    for node, _ in _walk(schema):
        if not isinstance(node, dict) or not node.keys() <= allowed:
            return words + "For this type, some properties are not supported"
        if node.get("minItems", 0) > 1:
            return words + "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
        if node.get("type") == "object" and node.get("additionalProperties") is not False:
            return words + "For 'object' type, 'additionalProperties' must be explicitly set to false"
        if any(isinstance(each, dict | list) for each in node.get("enum", ())):
            return words + "complex types within enums are not supported"
        ref = node.get("$ref", "")
        if ref == "#" or (ref and ref in json.dumps(schema["$defs"][ref.removeprefix("#/$defs/")])):
            return words + "recursive schemas are not supported"
    return None


def gemini(body: Mapping[str, Any]) -> Refusal:
    """Gemini: the subset of JSON Schema in structured outputs."""
    wanted = body.get("response_format", {"type": "text"})
    if wanted["type"] != "json_schema":
        return None
    allowed = _ANNOTATIONS | {"type", "properties", "required", "additionalProperties", "enum", "format", "minimum"}
    allowed |= {"maximum", "items", "prefixItems", "minItems", "maxItems", "anyOf", "$ref", "$defs"}
    for node, _ in _walk(wanted["json_schema"]["schema"]):
        if isinstance(node, dict) and not node.keys() <= allowed:
            return f"Invalid JSON payload received. Unknown name {min(node.keys() - allowed)!r} at 'response_schema'"
    return None


SUBSETS: Final[Mapping[str, Callable[[Mapping[str, Any]], Refusal]]] = {
    "openai": openai,
    "vllm": vllm,
    "llama_cpp": llama_cpp,
    "llama_cpp_python": llama_cpp_python,
    "ollama": llama_cpp,
    "anthropic": anthropic,
    "gemini": gemini,
    "plain": lambda body: None,
}


def schema_of(body: Mapping[str, Any]) -> Any:
    """Return the schema that a request holds, wherever it stands; None for none."""
    form = body.get("output_config", {}).get("format") or body.get("response_format") or {}
    return form.get("schema") or form.get("json_schema", {}).get("schema")


def _as_grammar(schema: Any, *, unspelt: str) -> Refusal:
    for node, _ in _walk(schema):
        if not isinstance(node, dict):
            return "JSON schema conversion failed: a boolean is no schema here"
        known = {
            "type",
            "$ref",
            "anyOf",
            "oneOf",
            "const",
            "enum",
            "properties",
            "items",
            "prefixItems",
            "pattern",
            "allOf",
        }
        if node and not known & node.keys() and node.keys() - {"required"} and "additionalProperties" not in node:
            return f"JSON schema conversion failed: Unrecognized schema: {json.dumps(node)}"
        if "prefixItems" in node and "items" in node:
            return "JSON schema conversion failed: items and prefixItems"
        if "pattern" in node and not (node["pattern"].startswith("^") and node["pattern"].endswith("$")):
            return 'failed to parse grammar: Pattern must start with "^" and end with "$"'
        ref = node.get("$ref", "#/")
        if not ref.startswith("#/") or (ref != "#/" and ref.removeprefix("#/$defs/") not in schema.get("$defs", {})):
            return f"JSON schema conversion failed: Error resolving ref {ref}"
        words = [*node.get("properties", ()), *node.get("enum", ()), *([node["const"]] if "const" in node else [])]
        if any(character in word for word in words if isinstance(word, str) for character in unspelt):
            return "failed to parse grammar"
    return None


def _walk(schema: Any, depth: int = 0) -> Iterator[tuple[Any, int]]:
    """Every schema within `schema`, and within how many objects and arrays it stands, itself included."""
    if not isinstance(schema, dict):
        yield schema, depth
        return
    depth += any(key in schema for key in ("properties", "items", "prefixItems"))
    yield schema, depth
    for key, value in schema.items():
        if key in {"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"}:
            for each in value.values():
                yield from _walk(each, depth)
        elif key in {"anyOf", "oneOf", "allOf", "prefixItems"}:
            for each in value:
                yield from _walk(each, depth)
        elif key in {"not", "if", "then", "else", "contains", "propertyNames", "items", "additionalProperties"}:
            is_allowed_boolean = key == "additionalProperties" or "prefixItems" in schema
            if not (isinstance(value, bool) and is_allowed_boolean):
                yield from _walk(value, depth)
