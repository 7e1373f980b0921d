"""Candidates as a JSON Schema: a choice among (id, name) pairs, in slots of their own where there are enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from lakehouse.strict_json.parser import JsonValue, print_canonical

CANDIDATES_DEFAULT: Final = 50
CANDIDATES_MAX: Final = 200
_RAISED_MAX: Final = 400

Facts = dict[str, JsonValue]


def limit_of(candidates_max: int, needed: int) -> int:
    """How many candidates to give where `needed` are needed; 0: too many for a choice."""
    if needed <= candidates_max:
        return candidates_max
    return min(2 * needed, _RAISED_MAX) if needed <= _RAISED_MAX else 0


def fitting(candidates: Iterable[Facts], bytes_max: int) -> tuple[list[Facts], str]:
    """Return as many of `candidates` as have room in `bytes_max` of JSON, and that JSON: no artifact of them is
    larger.
    """
    kept = list(candidates)
    text = candidates_json(kept)
    size = len(text.encode())
    while size > bytes_max:
        size -= len(print_canonical(kept.pop()).encode()) + 1
        text = ""
    return kept, text or candidates_json(kept)


def candidates_json(candidates: Sequence[Facts]) -> str:
    """Return the candidates as canonical JSON; empty where there are none."""
    return print_canonical(list(candidates)) if candidates else ""


def worker_list(items: dict[str, JsonValue], needed: int) -> str:
    """Return the schema (2020-12, canonical JSON) of `{"workers": […]}` with `needed` elements; `items` says of which
    sort."""
    workers: dict[str, JsonValue] = {"type": "array", **items, "minItems": needed, "maxItems": needed}
    return print_canonical(exact_object({"workers": workers}, ("workers",)))


def exact_object(properties: dict[str, JsonValue], required: Sequence[str]) -> dict[str, JsonValue]:
    """Return the schema of an object with no other properties than these."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def choice(candidates: Sequence[Facts], named: int, needed: int) -> dict[str, JsonValue]:
    """Return what `worker_list` takes: `needed` of `candidates`, of whom the first `named` are those whom the prompt
    names.

    In slots nobody can be chosen twice, and no two who are named exclude each other. They need twice as many candidates
    as slots: a slot of one is no choice. Nothing but id and name may be said: what fits is right.
    """
    pairs: list[JsonValue] = [
        exact_object({name: {"const": facts[name]} for name in ("worker_id", "name")}, ("worker_id", "name"))
        for facts in candidates
    ]
    if len(pairs) < 2 * needed or named > needed:
        return {"items": {"anyOf": pairs}}
    slots: list[JsonValue] = [{"anyOf": pairs[at::needed]} for at in range(needed)]
    return {"prefixItems": slots, "items": False}
