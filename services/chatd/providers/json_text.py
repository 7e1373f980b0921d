"""JSON from a model endpoint: fast where it is sound, forgiving in one thing, the half of a surrogate pair."""

from __future__ import annotations

import json
from typing import Any

import orjson

from lakehouse.strict_json.rules import replace_surrogates_within


class NotJsonError(ValueError):
    """The bytes are not a JSON object in UTF-8; the text says why, without quoting them."""


def read_object(body: bytes) -> dict[str, Any]:
    r"""The object in `body`. A lone surrogate escape (`\ud83d`, an emoji that was cut in two) becomes U+FFFD.

    Raises NotJsonError, for broken UTF-8 too: replacing it could turn a wrong answer into another wrong one unseen.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"\\ud" not in body.lower():
            raise NotJsonError("not JSON" if body.strip() else "empty") from error
        value = _read_with_surrogates(body)
    if not isinstance(value, dict):
        raise NotJsonError("not a JSON object")
    return value


def _read_with_surrogates(body: bytes) -> Any:
    try:
        return replace_surrogates_within(json.loads(body.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise NotJsonError("not JSON") from error
